//! The number of the kernel's change events, by message type.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};
use tunnel::netlink::{
    numbers::{RTM_NEWNEXTHOP, RTM_NEWROUTE, RTNLGRP_IPV4_ROUTE, RTNLGRP_NEXTHOP},
    wire::messages,
};

/// Multicast groups of routes and next-hop objects, as a mask.
const GROUPS: u32 = 1 << (RTNLGRP_IPV4_ROUTE - 1) | 1 << (RTNLGRP_NEXTHOP - 1);

/// Listens to changes of routes and next-hop objects in the calling thread's namespace.
pub(super) struct Changes {
    socket: OwnedFd,
    /// Messages of each type so far.
    kinds: BTreeMap<u16, u32>,
    lost: bool,
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
        Ok(Self { socket, kinds: BTreeMap::new(), lost: false })
    }

    /// Waits until there is a message, but no longer than `patience`, which counts as a millisecond at least.
    pub(super) fn wait(&mut self, patience: Duration) -> Result<()> {
        let timeout =
            PollTimeout::try_from(patience.max(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX);
        poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout)?;
        self.take()
    }

    /// Takes all messages that there are.
    fn take(&mut self) -> Result<()> {
        let mut buffer = [0; 8 * 1024];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    for message in messages(buffer.get(..length).unwrap_or_default()) {
                        *self.kinds.entry(message.kind).or_default() += 1;
                    }
                }
                // A loss does not matter to a caller that only waits.
                Err(Errno::ENOBUFS) => self.lost = true,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(error).context("netlink events can't be read"),
            }
        }
    }

    /// The number of messages of each type so far.
    pub(super) fn count(&mut self) -> Result<ChangeCounts> {
        self.take()?;
        if self.lost {
            bail!("netlink events are lost: they were too many");
        }
        let count = |kind| self.kinds.get(&kind).copied().unwrap_or(0);
        Ok(ChangeCounts { nexthops: count(RTM_NEWNEXTHOP), routes: count(RTM_NEWROUTE) })
    }
}

/// Numbers of changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChangeCounts {
    /// `RTM_NEWNEXTHOP`
    pub(super) nexthops: u32,
    /// `RTM_NEWROUTE`
    pub(super) routes: u32,
}
