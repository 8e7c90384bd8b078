//! Changes that other programs make to links, addresses, neighbors, next hops, rules and routes.

use std::io;

use super::{probe_routing, translation};
use crate::{
    dataplane::KernelEvent,
    diff::NEXTHOP_IDS,
    netlink::{
        events::{EventSocket, SocketEvent, Subsystem, filter},
        links::{parse_address, parse_link},
        neighbours::parse_neighbour,
        nexthops::parse_nexthop,
        numbers::{
            RTM_DELADDR, RTM_DELLINK, RTM_DELNEIGH, RTM_DELNEXTHOP, RTM_DELROUTE, RTM_DELRULE, RTM_NEWADDR,
            RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWNETCONF, RTM_NEWNEXTHOP, RTM_NEWROUTE, RTM_NEWRULE,
            RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE,
            RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_NETCONF, RTNLGRP_IPV6_ROUTE, RTNLGRP_LINK, RTNLGRP_NEIGH,
            RTNLGRP_NEXTHOP,
        },
        routes::parse_route,
        rules::parse_rule,
        wire::ReceivedMessage,
    },
};

/// Multicast groups. A kernel without next-hop objects has no such group; joining it is harmless.
const GROUPS: [u32; 10] = [
    RTNLGRP_LINK,
    RTNLGRP_NEIGH,
    RTNLGRP_IPV4_IFADDR,
    RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV4_RULE,
    RTNLGRP_IPV6_IFADDR,
    RTNLGRP_IPV6_ROUTE,
    RTNLGRP_IPV4_NETCONF,
    RTNLGRP_IPV6_NETCONF,
    RTNLGRP_NEXTHOP,
];
/// Events kept of one wake-up; more of them lead to a full resync.
const MAX_EVENTS: usize = 4096;
/// Receive buffer in octets: some ten thousand events.
const SOCKET_BUFFER: usize = 8 * 1024 * 1024;

/// The event socket of the dataplane.
pub struct KernelMonitor {
    socket: EventSocket,
    /// Ports of the request sockets: events caused through them are not reported.
    own_ports: Vec<u32>,
    /// Index of the interface whose neighbors are reported, 0 for none; `None`: those of all.
    neighbours_of: Option<u32>,
}

impl KernelMonitor {
    /// Opens the socket in the calling thread's network namespace, inside a tokio runtime. Events
    /// caused through the sockets with these ports, a handful, are left out where the kernel
    /// reports the cause.
    ///
    /// # Errors
    /// Those of `socket`, `bind` and `setsockopt`.
    pub fn open(own_ports: &[u32]) -> io::Result<Self> {
        let filter = if own_ports.is_empty() { Vec::new() } else { filter(own_ports, None) };
        let socket = EventSocket::open(Subsystem::Route, &GROUPS, Some(SOCKET_BUFFER), &filter)?;
        Ok(Self { socket, own_ports: own_ports.to_vec(), neighbours_of: None })
    }

    /// Restricts neighbor events to the interface with this index (0: none): the entries of
    /// a node's own peers change every minute.
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn watch_neighbours(&mut self, index: u32) -> io::Result<()> {
        if self.neighbours_of != Some(index) {
            self.socket.attach_filter(&filter(&self.own_ports, Some(index)))?;
            self.neighbours_of = Some(index);
        }
        Ok(())
    }

    /// Waits for events and returns all that are queued. Safe to cancel: events that were not
    /// returned stay queued.
    pub async fn events(&mut self, protocol: u8) -> Vec<KernelEvent> {
        let (socket, own_ports) = (&mut self.socket, &self.own_ports);
        let received = socket.receive(MAX_EVENTS, |notification| match notification {
            SocketEvent::RequestMessage(received) => translate(&received, protocol, own_ports),
            SocketEvent::Overrun => Some(KernelEvent::Overrun),
        });
        received.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "netlink events cannot be read; starting a full resync");
            vec![KernelEvent::Overrun]
        })
    }
}

fn translate(received: &ReceivedMessage<'_>, protocol: u8, own_ports: &[u32]) -> Option<KernelEvent> {
    let own = own_ports.contains(&received.port);
    match received.kind {
        RTM_NEWLINK | RTM_DELLINK => {
            let link = parse_link(received)?;
            Some(KernelEvent::Link { index: link.index, name: link.name })
        }
        RTM_NEWADDR | RTM_DELADDR if !own => Some(KernelEvent::Address {
            index: parse_address(received)?.index,
            gone: received.kind == RTM_DELADDR,
        }),
        RTM_NEWNEIGH | RTM_DELNEIGH if !own => {
            let neighbour = parse_neighbour(received)?;
            Some(KernelEvent::Neighbour { index: neighbour.index, permanent: neighbour.permanent })
        }
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP if !own => {
            let record = parse_nexthop(received)?;
            // A program that replaces one of our objects may not give it our protocol number.
            let ours = translation::nexthop(&record, protocol).ours || NEXTHOP_IDS.contains(&record.id);
            Some(KernelEvent::Nexthop { ours })
        }
        RTM_NEWNETCONF => Some(KernelEvent::Sysctl),
        RTM_NEWRULE | RTM_DELRULE if !own => {
            probe_routing::rule_path(&parse_rule(received)?).map(|_| KernelEvent::ProbeRouting)
        }
        RTM_NEWROUTE | RTM_DELROUTE if !own => {
            let route = parse_route(received)?;
            if !route.is_in_main() {
                return probe_routing::probe_route(&route).map(|_| KernelEvent::ProbeRouting);
            }
            let present = received.kind == RTM_NEWROUTE;
            let ours = route.protocol == protocol;
            Some(KernelEvent::Route {
                key: translation::route_key(&route),
                via: (present && ours).then(|| translation::via(route.via)),
                // A foreign route that replaced something at this key may have replaced ours.
                ours: ours || present && route.replaced,
            })
        }
        _ => None,
    }
}
