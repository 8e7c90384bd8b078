//! The event socket: what others do to links, addresses, neighbours, next hops and routes.

use std::io;

use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};

use super::{
    links::{RTM_DELADDR, RTM_DELLINK, RTM_NEWADDR, RTM_NEWLINK, parse_address, parse_link},
    neighbours::{RTM_DELNEIGH, RTM_NEWNEIGH, parse_neighbour},
    nexthops::{RTM_DELNEXTHOP, RTM_NEWNEXTHOP, parse_nexthop},
    routes::{RTM_DELROUTE, RTM_NEWROUTE, parse_route},
    socket::ENOBUFS,
    wire::{Received, messages},
};
use crate::dataplane::Event;

/// Multicast groups of `linux/rtnetlink.h`: link, neigh, ipv4-ifaddr, ipv4-route, ipv6-ifaddr, ipv6-route.
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];
/// `RTNLGRP_NEXTHOP`, from Linux 5.3.
const NEXTHOP_GROUP: u32 = 32;
/// Events kept of one wake-up; more than that are answered by taking the whole picture.
const MAX_EVENTS: usize = 4096;
const RECEIVE_BUFFER: usize = 64 * 1024;
/// Receive buffer asked for; the kernel caps it at `net.core.rmem_max`.
const SOCKET_BUFFER: u32 = 8 * 1024 * 1024;
const MSG_DONTWAIT: i32 = 0x40;

/// The event socket.
pub struct Monitor {
    socket: TokioSocket,
    /// The request socket's port: its own events are no news.
    own_port: u32,
}

impl Monitor {
    /// Opens one in the calling thread's network namespace, inside a tokio runtime.
    ///
    /// # Errors
    /// Those of `socket` and `bind`.
    pub fn open(own_port: u32) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let groups = GROUPS.iter().fold(0, |mask, group| mask | 1 << (group - 1));
        socket.socket_ref().set_rx_buf_sz(SOCKET_BUFFER)?;
        socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
        // A kernel without next-hop objects has no such group either.
        let _ = socket.socket_ref().add_membership(NEXTHOP_GROUP);
        Ok(Self { socket, own_port })
    }

    /// Waits for events and returns all that are queued. Safe to cancel: what is not returned stays queued.
    pub async fn events(&mut self, protocol: u8) -> Vec<Event> {
        let mut events = Vec::new();
        let mut buffer: Vec<u8> = Vec::with_capacity(RECEIVE_BUFFER);
        let mut outcome = self.socket.recv_from(&mut buffer).await;
        loop {
            match outcome {
                // Only the kernel is believed.
                Ok(from) if from.port_number() == 0 => {
                    let parsed = messages(&buffer).filter_map(|r| parse(&r, protocol, self.own_port));
                    events.extend(parsed);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    if error.raw_os_error() != Some(ENOBUFS) {
                        tracing::warn!(%error, "netlink events cannot be read; taking the whole picture");
                    }
                    events.push(Event::Overrun);
                    break;
                }
            }
            if events.len() > MAX_EVENTS {
                events.clear();
                events.push(Event::Overrun);
            }
            buffer.clear();
            outcome = self.socket.socket_ref().recv_from(&mut buffer, MSG_DONTWAIT).map(|(_, from)| from);
        }
        events
    }
}

fn parse(received: &Received<'_>, protocol: u8, own_port: u32) -> Option<Event> {
    let own = received.port == own_port;
    match received.kind {
        RTM_NEWLINK | RTM_DELLINK => {
            let link = parse_link(received)?;
            Some(Event::Link { index: link.index, name: link.name })
        }
        RTM_NEWADDR | RTM_DELADDR if !own => Some(Event::Address { index: parse_address(received)?.index }),
        RTM_NEWNEIGH | RTM_DELNEIGH if !own => {
            let neighbour = parse_neighbour(received)?;
            Some(Event::Neighbour { index: neighbour.index, permanent: neighbour.permanent })
        }
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP if !own => {
            let (_, nexthop) = parse_nexthop(received, protocol)?;
            Some(Event::Nexthop { ours: nexthop.ours })
        }
        RTM_NEWROUTE | RTM_DELROUTE if !own => {
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
