//! The event socket: what others do to links, addresses, neighbours, next hops and routes.

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
    links::{RTM_DELADDR, RTM_DELLINK, RTM_NEWADDR, RTM_NEWLINK, parse_address, parse_link},
    neighbours::{RTM_DELNEIGH, RTM_NEWNEIGH, parse_neighbour},
    nexthops::{RTM_DELNEXTHOP, RTM_NEWNEXTHOP, parse_nexthop},
    routes::{RTM_DELROUTE, RTM_NEWROUTE, parse_route},
    rules::{self, RTM_DELRULE, RTM_NEWRULE},
    socket::ENOBUFS,
    wire::{Received, messages},
};
use crate::{dataplane::Event, diff::NEXTHOP_IDS};

/// Multicast groups of `linux/rtnetlink.h`: link, neigh, ipv4-ifaddr, ipv4-route, ipv4-rule, ipv6-ifaddr, ipv6-route,
/// ipv4-netconf, ipv6-netconf, nexthop.
/// A kernel without next-hop objects has no such group, and joining it harms nothing.
const GROUPS: [u32; 10] = [1, 3, 5, 7, 8, 9, 11, 24, 25, 32];
/// `RTM_NEWNETCONF`: a sysctl of an interface, or of all, has another value.
const RTM_NEWNETCONF: u16 = 80;
/// Events kept of one wake-up; more than that are answered by taking the whole picture.
const MAX_EVENTS: usize = 4096;
/// Octets of one receive: larger than any event.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// Receive buffer asked for, beyond `net.core.rmem_max` where we may: some ten thousand events.
const SOCKET_BUFFER: usize = 8 * 1024 * 1024;

/// The event socket.
pub struct Monitor {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
    /// The request sockets' ports: events caused through them are no news.
    own_ports: Vec<u32>,
    /// The interface whose neighbours alone are of interest, 0 for none; `None`: those of all.
    neighbours_of: Option<u32>,
}

impl Monitor {
    /// Opens one in the calling thread's network namespace, inside a tokio runtime. Events caused through the
    /// sockets with these ports, a handful, are left out, as far as the kernel says who caused them.
    ///
    /// # Errors
    /// Those of `socket`, `bind` and `setsockopt`.
    pub fn open(own_ports: &[u32]) -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        if setsockopt(&socket, RcvBufForce, &SOCKET_BUFFER).is_err() {
            setsockopt(&socket, RcvBuf, &SOCKET_BUFFER)?;
        }
        if !own_ports.is_empty() {
            SockRef::from(&socket).attach_filter(&filter(own_ports, None))?;
        }
        let groups = GROUPS.iter().fold(0, |mask, group| mask | 1 << (group - 1));
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        // What `new` is deprecated for, a type whose descriptor changes, an OwnedFd is not; its successor is unsafe.
        #[allow(deprecated)]
        let socket = AsyncFd::new(socket)?;
        Ok(Self {
            socket,
            buffer: vec![0; RECEIVE_BUFFER],
            own_ports: own_ports.to_vec(),
            neighbours_of: None,
        })
    }

    /// From now on tells of the neighbours of the interface with this index (0: of none), and of no others: what a
    /// node talks to comes and goes by the minute.
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn watch_neighbours(&mut self, index: u32) -> io::Result<()> {
        if self.neighbours_of != Some(index) {
            SockRef::from(self.socket.get_ref()).attach_filter(&filter(&self.own_ports, Some(index)))?;
            self.neighbours_of = Some(index);
        }
        Ok(())
    }

    /// Waits for events and returns all that are queued. Safe to cancel: what is not returned stays queued.
    pub async fn events(&mut self, protocol: u8) -> Vec<Event> {
        let mut events = Vec::new();
        while events.is_empty() {
            let mut ready = match self.socket.readable().await {
                Ok(ready) => ready,
                Err(error) => return broken(&error),
            };
            loop {
                let received = ready
                    .try_io(|fd| Ok(recvfrom::<NetlinkAddr>(fd.get_ref().as_raw_fd(), &mut self.buffer)?));
                match received {
                    // Nothing more is queued.
                    Err(_would_block) => break,
                    // Only the kernel is believed.
                    Ok(Ok((length, Some(from)))) if from.pid() == 0 => {
                        let datagram = self.buffer.get(..length).unwrap_or_default();
                        events
                            .extend(messages(datagram).filter_map(|r| parse(&r, protocol, &self.own_ports)));
                    }
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) if error.raw_os_error() == Some(ENOBUFS) => events.push(Event::Overrun),
                    Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(Err(error)) => return broken(&error),
                }
                if events.len() > MAX_EVENTS {
                    events.clear();
                    events.push(Event::Overrun);
                }
            }
        }
        events
    }
}

fn broken(error: &io::Error) -> Vec<Event> {
    tracing::warn!(%error, "netlink events cannot be read; taking the whole picture");
    vec![Event::Overrun]
}

/// A socket filter that drops messages whose `nlmsg_pid` is one of `ports`, since a thousand routes of our own would
/// only fill the queue, and neighbours of other interfaces than the one with index `neighbours_of`.
fn filter(ports: &[u32], neighbours_of: Option<u32>) -> Vec<SockFilter> {
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
    // The filter's machine loads big-endian; the fields are in host order.
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

fn parse(received: &Received<'_>, protocol: u8, own_ports: &[u32]) -> Option<Event> {
    let own = own_ports.contains(&received.port);
    match received.kind {
        RTM_NEWLINK | RTM_DELLINK => {
            let link = parse_link(received)?;
            Some(Event::Link { index: link.index, name: link.name })
        }
        RTM_NEWADDR | RTM_DELADDR if !own => {
            Some(Event::Address { index: parse_address(received)?.index, gone: received.kind == RTM_DELADDR })
        }
        RTM_NEWNEIGH | RTM_DELNEIGH if !own => {
            let neighbour = parse_neighbour(received)?;
            Some(Event::Neighbour { index: neighbour.index, permanent: neighbour.permanent })
        }
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP if !own => {
            let (id, nexthop) = parse_nexthop(received, protocol)?;
            // Who replaces one of ours may not give it our protocol number.
            Some(Event::Nexthop { ours: nexthop.ours || NEXTHOP_IDS.contains(&id) })
        }
        RTM_NEWNETCONF => Some(Event::Sysctl),
        RTM_NEWRULE | RTM_DELRULE if !own => rules::parse_rule(received).map(|_| Event::Probing),
        RTM_NEWROUTE | RTM_DELROUTE if !own => {
            if rules::parse_route(received).is_some() {
                return Some(Event::Probing);
            }
            let route = parse_route(received)?;
            let present = received.kind == RTM_NEWROUTE;
            let ours = route.protocol == protocol;
            Some(Event::Route {
                key: route.key,
                via: (present && ours).then_some(route.via),
                // A foreign route that replaced something at this key may have replaced ours.
                ours: ours || present && route.replaced,
            })
        }
        _ => None,
    }
}
