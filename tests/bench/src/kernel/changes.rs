//! What the kernel tells of changes: how many messages there were, by their type.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};
use tunnel::netlink::{nexthops::RTM_NEWNEXTHOP, routes::RTM_NEWROUTE, wire::messages};

/// Multicast groups of `linux/rtnetlink.h`: ipv4-route and nexthop.
const GROUPS: u32 = 1 << (7 - 1) | 1 << (32 - 1);

/// Listens to changes of routes and next-hop objects in the calling thread's namespace.
pub(super) struct Changes {
    socket: OwnedFd,
}

impl Changes {
    /// Begins to listen.
    pub(super) fn listen() -> Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkRoute,
        )
        .context("can't open a netlink socket")?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Self { socket })
    }

    /// Waits until there is a message, but not beyond `deadline`, and takes all that there are.
    pub(super) fn wait(&self, deadline: Instant) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout)?;
        let mut buffer = [0; 4096];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                // Too many of them are news as well.
                Ok(_) | Err(Errno::ENOBUFS) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(error).context("netlink events can't be read"),
            }
        }
    }

    /// How many messages of each type came so far.
    pub(super) fn count(&self) -> Result<Counted> {
        let mut kinds: BTreeMap<u16, u32> = BTreeMap::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    for message in messages(buffer.get(..length).unwrap_or_default()) {
                        *kinds.entry(message.kind).or_default() += 1;
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(error).context("netlink events are lost: they were too many"),
            }
        }
        let take = |kind| kinds.get(&kind).copied().unwrap_or(0);
        Ok(Counted { nexthops: take(RTM_NEWNEXTHOP), routes: take(RTM_NEWROUTE) })
    }
}

/// How many changes there were.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    /// `RTM_NEWNEXTHOP`
    pub(super) nexthops: u32,
    /// `RTM_NEWROUTE`
    pub(super) routes: u32,
}
