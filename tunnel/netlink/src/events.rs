//! The event socket: multicast messages of the kernel.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, setsockopt, socket,
    sockopt::{RcvBuf, RcvBufForce},
};
use socket2::{SockFilter, SockRef};
use tokio::io::unix::AsyncFd;

use super::{
    numbers::{ENOBUFS, RTM_DELNEIGH, RTM_NEWNEIGH},
    wire::{ReceivedMessage, messages},
};

/// Octets of one receive: larger than any rtnetlink event; of a longer message the head is enough.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// The kernel subsystem that sends the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subsystem {
    /// rtnetlink.
    Route,
    /// nfnetlink.
    Netfilter,
}

/// One input to the consumer of an event socket.
#[derive(Debug, Clone, Copy)]
pub enum SocketEvent<'a> {
    /// A message of the kernel.
    RequestMessage(ReceivedMessage<'a>),
    /// Events were lost, or are more than the consumer keeps.
    Overrun,
}

/// A socket that receives the events of multicast groups.
pub struct EventSocket {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
}

impl EventSocket {
    /// Opens a socket in the calling thread's network namespace, inside a tokio runtime, and joins
    /// `groups`, numbers from 1 to 32. Joining a group that the kernel does not have is harmless.
    /// `receive_buffer` is the receive buffer in octets to ask for, beyond `net.core.rmem_max`
    /// where that is permitted; `filter` is in place before the first event.
    ///
    /// # Errors
    /// Those of `socket`, `bind` and `setsockopt`: for nfnetlink `EPERM` without CAP_NET_ADMIN,
    /// `EPROTONOSUPPORT` without the subsystem.
    pub fn open(
        subsystem: Subsystem,
        groups: &[u32],
        receive_buffer: Option<usize>,
        filter: &[SockFilter],
    ) -> io::Result<Self> {
        let protocol = match subsystem {
            Subsystem::Route => SockProtocol::NetlinkRoute,
            Subsystem::Netfilter => SockProtocol::NetlinkNetFilter,
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        if let Some(octets) = receive_buffer
            && setsockopt(&socket, RcvBufForce, &octets).is_err()
        {
            setsockopt(&socket, RcvBuf, &octets)?;
        }
        if !filter.is_empty() {
            SockRef::from(&socket).attach_filter(filter)?;
        }
        let groups = groups.iter().fold(0, |mask, group| mask | 1 << (group - 1));
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        // `new` is deprecated for types whose descriptor changes, which an OwnedFd's does not; its successor is unsafe.
        #[allow(deprecated)]
        let socket = AsyncFd::new(socket)?;
        Ok(Self { socket, buffer: vec![0; RECEIVE_BUFFER] })
    }

    /// Replaces the socket filter.
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn attach_filter(&self, filter: &[SockFilter]) -> io::Result<()> {
        SockRef::from(self.socket.get_ref()).attach_filter(filter)
    }

    /// Waits until `parse` yields a value and returns the values of all queued events. If there are
    /// more than `limit`, those so far are dropped and replaced by an [`SocketEvent::Overrun`].
    /// Safe to cancel: events that were not returned stay queued.
    ///
    /// # Errors
    /// Those of the socket, which is unusable then.
    pub async fn receive<T>(
        &mut self,
        limit: usize,
        mut parse: impl FnMut(SocketEvent<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut events = Vec::new();
        while events.is_empty() {
            let mut ready = self.socket.readable().await?;
            loop {
                let received = ready
                    .try_io(|fd| Ok(recvfrom::<NetlinkAddr>(fd.get_ref().as_raw_fd(), &mut self.buffer)?));
                match received {
                    // The queue is empty.
                    Err(_would_block) => break,
                    // Only messages of the kernel are trusted.
                    Ok(Ok((length, Some(from)))) if from.pid() == 0 => {
                        let datagram = self.buffer.get(..length).unwrap_or_default();
                        events
                            .extend(messages(datagram).filter_map(|r| parse(SocketEvent::RequestMessage(r))));
                    }
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) if error.raw_os_error() == Some(ENOBUFS) => {
                        events.extend(parse(SocketEvent::Overrun));
                    }
                    Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(Err(error)) => return Err(error),
                }
                if events.len() > limit {
                    events.clear();
                    events.extend(parse(SocketEvent::Overrun));
                }
            }
        }
        Ok(events)
    }
}

/// Returns a socket filter that drops rtnetlink messages whose `nlmsg_pid` is one of `ports`, and
/// with `neighbours_of` the neighbors of all interfaces but the one with that index.
///
/// A thousand routes of the process's own would only fill the queue.
pub fn filter(ports: &[u32], neighbours_of: Option<u32>) -> Vec<SockFilter> {
    const LOAD_WORD: u16 = 0x20;
    const LOAD_HALF: u16 = 0x28;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const NLMSG_TYPE: u32 = 4;
    const NLMSG_PID: u32 = 12;
    // `struct ndmsg` follows the header.
    const NDM_IFINDEX: u32 = 16 + 4;
    const KEEP: u32 = u32::MAX;
    const DROP: u32 = 0;
    // The filter machine loads big-endian; the fields are in host order.
    let word = |value: u32| u32::from_be_bytes(value.to_ne_bytes());
    let half = |value: u16| u32::from(u16::from_be_bytes(value.to_ne_bytes()));
    let mut filter = vec![SockFilter::new(LOAD_WORD, 0, 0, NLMSG_PID)];
    for port in ports {
        filter.push(SockFilter::new(JUMP_IF_EQUAL, 0, 1, word(*port)));
        filter.push(SockFilter::new(RETURN, 0, 0, DROP));
    }
    if let Some(index) = neighbours_of {
        filter.extend([
            SockFilter::new(LOAD_HALF, 0, 0, NLMSG_TYPE),
            SockFilter::new(JUMP_IF_EQUAL, 1, 0, half(RTM_NEWNEIGH)),
            SockFilter::new(JUMP_IF_EQUAL, 0, 3, half(RTM_DELNEIGH)),
            SockFilter::new(LOAD_WORD, 0, 0, NDM_IFINDEX),
            SockFilter::new(JUMP_IF_EQUAL, 1, 0, word(index)),
            SockFilter::new(RETURN, 0, 0, DROP),
        ]);
    }
    filter.push(SockFilter::new(RETURN, 0, 0, KEEP));
    filter
}
