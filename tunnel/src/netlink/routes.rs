//! Routes of table main: `RTM_*ROUTE`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    socket::{KernelError, Socket},
    wire::{
        AF_INET, AF_INET6, Batch, Message, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Received, address,
        attributes, family, u32_at,
    },
};
use crate::{desired::RouteKey, fib::Verb, observed::Via, resolve::Reach};

/// `RTM_NEWROUTE`
pub const RTM_NEWROUTE: u16 = 24;
/// `RTM_DELROUTE`
pub const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const RTMSG_LEN: usize = 12;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_NH_ID: u16 = 30;
const RT_TABLE_MAIN: u8 = 254;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNSPEC: u8 = 0;
const RTN_UNICAST: u8 = 1;
const RTN_BLACKHOLE: u8 = 6;
const RTNH_F_ONLINK: u32 = 0x4;

/// A route of table main.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRecord {
    /// `rtm_protocol`
    pub protocol: u8,
    /// Destination and metric.
    pub key: RouteKey,
    /// Where it leads.
    pub via: Via,
    /// `NLM_F_REPLACE`, in an event: whatever had the key before is gone.
    pub replaced: bool,
}

fn rtmsg(family: u8, prefix_len: u8, protocol: u8, scope: u8, kind: u8, flags: u32) -> [u8; RTMSG_LEN] {
    let mut header = [0; RTMSG_LEN];
    header[0] = family;
    header[1] = prefix_len;
    header[4] = RT_TABLE_MAIN;
    header[5] = protocol;
    header[6] = scope;
    header[7] = kind;
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// Hands on the routes of table main with this protocol number, each at least once.
///
/// # Errors
/// The kernel's.
pub fn list_routes(
    socket: &mut Socket,
    protocol: u8,
    mut each: impl FnMut(RouteRecord),
) -> Result<(), KernelError> {
    list(socket, protocol, |route| {
        if route.protocol == protocol {
            each(route);
        }
    })
}

/// Hands on all routes of table main, each at least once.
///
/// # Errors
/// The kernel's.
pub fn list_all(socket: &mut Socket, each: impl FnMut(RouteRecord)) -> Result<(), KernelError> {
    const RTPROT_UNSPEC: u8 = 0;
    list(socket, RTPROT_UNSPEC, each)
}

/// The kernel may leave out those of other protocols.
fn list(socket: &mut Socket, protocol: u8, mut each: impl FnMut(RouteRecord)) -> Result<(), KernelError> {
    for family in [AF_INET, AF_INET6] {
        let header = rtmsg(family, 0, protocol, RT_SCOPE_UNIVERSE, RTN_UNSPEC, 0);
        let request = Message::new(RTM_GETROUTE, 0, &header).u32(RTA_TABLE, RT_TABLE_MAIN.into());
        let listed = socket.dump_each(&request, |received| {
            if let Some(route) = parse_route(received) {
                each(route);
            }
        });
        match listed {
            Ok(()) => {}
            // IPv6 is off, or the table has never had a route.
            Err(error) if matches!(error.errno, super::socket::ENOENT | super::socket::EOPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads an `RTM_NEWROUTE` or `RTM_DELROUTE` message; `None` for other tables and cloned routes.
pub fn parse_route(received: &Received<'_>) -> Option<RouteRecord> {
    const RTM_F_CLONED: u32 = 0x200;
    if !matches!(received.kind, RTM_NEWROUTE | RTM_DELROUTE) {
        return None;
    }
    let header = received.payload.first_chunk::<RTMSG_LEN>()?;
    let [family, prefix_len, _, _, table, protocol, _, kind, ..] = *header;
    let flags = u32_at(received.payload, 8)?;
    let mut table = u32::from(table);
    let (mut destination, mut gateway, mut index, mut nexthop) = (None, None, None, None);
    let (mut metric, mut multipath) = (0, false);
    for (attribute, value) in attributes(received.payload.get(RTMSG_LEN..)?) {
        match attribute {
            RTA_TABLE => table = u32_at(value, 0)?,
            RTA_DST => destination = address(value),
            RTA_GATEWAY => gateway = address(value),
            RTA_OIF => index = u32_at(value, 0),
            RTA_PRIORITY => metric = u32_at(value, 0)?,
            RTA_NH_ID => nexthop = u32_at(value, 0),
            RTA_MULTIPATH => multipath = true,
            _ => {}
        }
    }
    if table != u32::from(RT_TABLE_MAIN) || flags & RTM_F_CLONED != 0 {
        return None;
    }
    let any = match family {
        AF_INET => IpAddr::from([0; 4]),
        AF_INET6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let prefix = IpNet::new(destination.unwrap_or(any), prefix_len).ok()?;
    let via = match (kind, nexthop, gateway, index) {
        (RTN_BLACKHOLE, ..) => Via::Blackhole,
        (RTN_UNICAST, Some(id), ..) => Via::Nexthop(id),
        (RTN_UNICAST, None, Some(gateway), Some(index)) if !multipath => Via::Gateway { gateway, index },
        (RTN_UNICAST, None, None, Some(index)) if !multipath => Via::Link(index),
        _ => Via::Other,
    };
    let replaced = received.flags & NLM_F_REPLACE != 0;
    Some(RouteRecord { protocol, key: RouteKey { prefix, metric }, via, replaced })
}

/// Writes the message of one change. A route is deleted only if it has this protocol number.
pub fn write_route(batch: &mut Batch, key: &RouteKey, verb: &Verb, protocol: u8) {
    const RT_SCOPE_NOWHERE: u8 = 255;
    let address = key.prefix.network();
    let (family, length) = (family(address), key.prefix.prefix_len());
    let (message, flags, via) = match verb {
        Verb::Add(via) => (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, Some(via)),
        Verb::Replace(via) => (RTM_NEWROUTE, NLM_F_REPLACE, Some(via)),
        Verb::Delete => (RTM_DELROUTE, 0, None),
    };
    let (scope, kind, route_flags) = match via {
        None => (RT_SCOPE_NOWHERE, RTN_UNSPEC, 0),
        Some(Via::Blackhole | Via::Other) => (RT_SCOPE_UNIVERSE, RTN_BLACKHOLE, 0),
        Some(Via::Nexthop(_)) => (RT_SCOPE_UNIVERSE, RTN_UNICAST, 0),
        Some(Via::Gateway { .. }) => (RT_SCOPE_UNIVERSE, RTN_UNICAST, RTNH_F_ONLINK),
        Some(Via::Link(_)) => (RT_SCOPE_LINK, RTN_UNICAST, 0),
    };
    batch.begin(message, flags, rtmsg(family, length, protocol, scope, kind, route_flags));
    batch.address(RTA_DST, address);
    batch.attribute(RTA_PRIORITY, key.metric.to_ne_bytes());
    match via {
        Some(Via::Nexthop(id)) => batch.attribute(RTA_NH_ID, id.to_ne_bytes()),
        Some(Via::Gateway { gateway, index }) => {
            batch.address(RTA_GATEWAY, *gateway);
            batch.attribute(RTA_OIF, index.to_ne_bytes());
        }
        Some(Via::Link(index)) => batch.attribute(RTA_OIF, index.to_ne_bytes()),
        Some(Via::Blackhole | Via::Other) | None => {}
    }
    batch.end();
}

/// How the kernel reaches `destination` now; never answers [`Reach::Tunnel`], which is the caller's to tell by the index.
///
/// # Errors
/// The kernel's, but not "no route", which is [`Reach::Unreachable`].
pub fn query_reach(socket: &mut Socket, destination: IpAddr) -> Result<Reach, KernelError> {
    let prefix_len = if destination.is_ipv4() { 32 } else { 128 };
    let mut header = rtmsg(family(destination), prefix_len, 0, 0, 0, 0);
    header[4] = 0;
    let request = Message::new(RTM_GETROUTE, 0, &header).address(RTA_DST, destination);
    let mut reach = Reach::Unreachable;
    let answer = socket.query(request, |received| {
        if received.kind != RTM_NEWROUTE || received.payload.get(7) != Some(&RTN_UNICAST) {
            return;
        }
        let (mut gateway, mut index) = (None, None);
        for (attribute, value) in attributes(received.payload.get(RTMSG_LEN..).unwrap_or_default()) {
            match attribute {
                RTA_GATEWAY => gateway = address(value),
                RTA_OIF => index = u32_at(value, 0),
                _ => {}
            }
        }
        reach = match (gateway, index) {
            (Some(gateway), Some(index)) => Reach::Via { gateway, index },
            (None, Some(index)) => Reach::OnLink { index },
            (_, None) => Reach::Unreachable,
        };
    });
    match answer {
        Ok(()) => Ok(reach),
        // ENETUNREACH, EHOSTUNREACH, EACCES and EINVAL: no route, unreachable, prohibit and blackhole routes.
        Err(error) if matches!(error.errno, 101 | 113 | 13 | 22) => Ok(Reach::Unreachable),
        Err(error) => Err(error),
    }
}
