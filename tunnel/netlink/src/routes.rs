//! Routes: `RTM_*ROUTE`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    numbers::{
        AF_INET, AF_INET6, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE,
        RT_SCOPE_UNIVERSE, RT_TABLE_MAIN, RTA_DST, RTA_GATEWAY, RTA_METRICS, RTA_MULTIPATH, RTA_NH_ID,
        RTA_OIF, RTA_PREFSRC, RTA_PRIORITY, RTA_TABLE, RTAX_MTU, RTM_DELROUTE, RTM_F_CLONED, RTM_GETROUTE,
        RTM_NEWROUTE, RTN_BLACKHOLE, RTN_UNICAST, RTN_UNSPEC, RTNH_F_ONLINK, RTPROT_UNSPEC,
    },
    socket::{KernelError, RequestSocket, empty_if_unsupported},
    wire::{Batch, ReceivedMessage, RequestMessage, address, attributes, family, u32_at},
};

/// Length of `struct rtmsg` in octets.
pub(crate) const RTMSG_LEN: usize = 12;

/// The number of table main.
const MAIN: u32 = RT_TABLE_MAIN as u32;

/// The next hop of a route, as far as it is one of those that are written here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteVia {
    /// A next-hop object.
    Nexthop(u32),
    /// A gateway.
    Gateway {
        /// Gateway.
        gateway: IpAddr,
        /// Interface index.
        index: u32,
    },
    /// `RTN_BLACKHOLE`.
    Blackhole,
    /// An interface, without a gateway.
    Link(u32),
    /// Anything else.
    Other,
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRecord {
    /// Table.
    pub table: u32,
    /// `rtm_protocol`.
    pub protocol: u8,
    /// Destination.
    pub prefix: IpNet,
    /// Metric (`RTA_PRIORITY`).
    pub metric: u32,
    /// Next hop.
    pub via: RouteVia,
    /// `NLM_F_REPLACE`, in an event: the route replaced the one that had the key before.
    pub replaced: bool,
}

/// The contents of an `RTM_NEWROUTE` or `RTM_DELROUTE` message.
pub(crate) struct RouteAttributes {
    pub(crate) prefix: IpNet,
    pub(crate) table: u32,
    pub(crate) protocol: u8,
    /// `rtm_type`.
    pub(crate) kind: u8,
    /// `rtm_flags`.
    pub(crate) flags: u32,
    pub(crate) metric: u32,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) index: Option<u32>,
    pub(crate) source: Option<IpAddr>,
    /// MTU of the route itself, in octets.
    pub(crate) mtu: Option<u32>,
    nexthop: Option<u32>,
    multipath: bool,
}

impl RouteAttributes {
    pub(crate) fn parse(received: &ReceivedMessage<'_>) -> Option<Self> {
        if !matches!(received.kind, RTM_NEWROUTE | RTM_DELROUTE) {
            return None;
        }
        let header = received.payload.first_chunk::<RTMSG_LEN>()?;
        let [family, prefix_len, _, _, table, protocol, _, kind, ..] = *header;
        let mut destination = match family {
            AF_INET => IpAddr::from([0; 4]),
            AF_INET6 => IpAddr::from([0; 16]),
            _ => return None,
        };
        let flags = u32_at(received.payload, 8)?;
        let (mut table, mut metric, mut multipath) = (u32::from(table), 0, false);
        let (mut gateway, mut index, mut nexthop) = (None, None, None);
        let (mut source, mut mtu) = (None, None);
        for (attribute, value) in attributes(received.payload.get(RTMSG_LEN..)?) {
            match attribute {
                RTA_TABLE => table = u32_at(value, 0)?,
                RTA_DST => destination = address(value)?,
                RTA_GATEWAY => gateway = address(value),
                RTA_OIF => index = u32_at(value, 0),
                RTA_PRIORITY => metric = u32_at(value, 0)?,
                RTA_NH_ID => nexthop = u32_at(value, 0),
                RTA_MULTIPATH => multipath = true,
                RTA_PREFSRC => source = address(value),
                RTA_METRICS => {
                    mtu = attributes(value)
                        .find(|(metric, _)| *metric == RTAX_MTU)
                        .and_then(|(_, value)| u32_at(value, 0));
                }
                _ => {}
            }
        }
        let prefix = IpNet::new(destination, prefix_len).ok()?;
        let record = Self {
            prefix,
            table,
            protocol,
            kind,
            flags,
            metric,
            gateway,
            index,
            source,
            mtu,
            nexthop,
            multipath,
        };
        Some(record)
    }

    fn via(&self) -> RouteVia {
        match (self.kind, self.nexthop, self.gateway, self.index) {
            (RTN_BLACKHOLE, ..) => RouteVia::Blackhole,
            (RTN_UNICAST, Some(id), ..) => RouteVia::Nexthop(id),
            (RTN_UNICAST, None, Some(gateway), Some(index)) if !self.multipath => {
                RouteVia::Gateway { gateway, index }
            }
            (RTN_UNICAST, None, None, Some(index)) if !self.multipath => RouteVia::Link(index),
            _ => RouteVia::Other,
        }
    }
}

/// Builds a `struct rtmsg` of table main.
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

/// Passes the routes of table main with this protocol number to `each`, each at least once.
///
/// # Errors
/// The kernel's.
pub fn list_routes(
    socket: &mut RequestSocket,
    protocol: u8,
    mut each: impl FnMut(RouteRecord),
) -> Result<(), KernelError> {
    list_main(socket, protocol, |route| {
        if route.protocol == protocol {
            each(route);
        }
    })
}

/// Passes all routes of table main to `each`, each at least once.
///
/// # Errors
/// The kernel's.
pub fn list_all(socket: &mut RequestSocket, each: impl FnMut(RouteRecord)) -> Result<(), KernelError> {
    list_main(socket, RTPROT_UNSPEC, each)
}

/// Lists table main; the kernel may leave out the routes of other protocols.
fn list_main(
    socket: &mut RequestSocket,
    protocol: u8,
    mut each: impl FnMut(RouteRecord),
) -> Result<(), KernelError> {
    for family in [AF_INET, AF_INET6] {
        let header = rtmsg(family, 0, protocol, RT_SCOPE_UNIVERSE, RTN_UNSPEC, 0);
        let request = RequestMessage::new(RTM_GETROUTE, 0, &header).u32(RTA_TABLE, MAIN);
        let listed = socket.dump_each(&request, |received| {
            if let Some(route) = parse_route(received).filter(|route| route.table == MAIN) {
                each(route);
            }
        });
        // IPv6 is off, or the table has never had a route.
        empty_if_unsupported(listed)?;
    }
    Ok(())
}

/// Returns the IPv4 routes of a table; none if it never had one.
///
/// # Errors
/// The kernel's.
pub fn dump_table(socket: &mut RequestSocket, table: u32) -> Result<Vec<RouteRecord>, KernelError> {
    let mut header = rtmsg(AF_INET, 0, 0, 0, RTN_UNSPEC, 0);
    header[4] = 0;
    let request = RequestMessage::new(RTM_GETROUTE, 0, &header).u32(RTA_TABLE, table);
    let of_table =
        |received: &ReceivedMessage<'_>| parse_route(received).filter(|route| route.table == table);
    empty_if_unsupported(socket.dump(&request, of_table))
}

/// Parses an `RTM_NEWROUTE` or `RTM_DELROUTE` message; `None` for cloned routes.
pub fn parse_route(received: &ReceivedMessage<'_>) -> Option<RouteRecord> {
    let route = RouteAttributes::parse(received)?;
    if route.flags & RTM_F_CLONED != 0 {
        return None;
    }
    Some(RouteRecord {
        table: route.table,
        protocol: route.protocol,
        prefix: route.prefix,
        metric: route.metric,
        via: route.via(),
        replaced: received.flags & NLM_F_REPLACE != 0,
    })
}

impl RouteRecord {
    /// Returns whether the route is in table main.
    pub fn is_in_main(&self) -> bool {
        self.table == MAIN
    }
}

/// A change of a route of table main.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteEdit {
    /// Creates the route; refused with `EEXIST` if the key is taken.
    Add(RouteVia),
    /// Replaces a route.
    Replace(RouteVia),
    /// Deletes the route.
    Delete,
}

/// Writes the request for one change. A route is deleted only if it has this protocol number.
pub fn write_route(batch: &mut Batch, prefix: IpNet, metric: u32, edit: &RouteEdit, protocol: u8) {
    let address = prefix.network();
    let (family, length) = (family(address), prefix.prefix_len());
    let (message, flags, via) = match edit {
        RouteEdit::Add(via) => (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, Some(via)),
        RouteEdit::Replace(via) => (RTM_NEWROUTE, NLM_F_REPLACE, Some(via)),
        RouteEdit::Delete => (RTM_DELROUTE, 0, None),
    };
    let (scope, kind, route_flags) = match via {
        None => (RT_SCOPE_NOWHERE, RTN_UNSPEC, 0),
        Some(RouteVia::Blackhole | RouteVia::Other) => (RT_SCOPE_UNIVERSE, RTN_BLACKHOLE, 0),
        Some(RouteVia::Nexthop(_)) => (RT_SCOPE_UNIVERSE, RTN_UNICAST, 0),
        Some(RouteVia::Gateway { .. }) => (RT_SCOPE_UNIVERSE, RTN_UNICAST, RTNH_F_ONLINK),
        Some(RouteVia::Link(_)) => (RT_SCOPE_LINK, RTN_UNICAST, 0),
    };
    batch.begin(message, flags, rtmsg(family, length, protocol, scope, kind, route_flags));
    batch.address(RTA_DST, address);
    batch.attribute(RTA_PRIORITY, metric.to_ne_bytes());
    match via {
        Some(RouteVia::Nexthop(id)) => batch.attribute(RTA_NH_ID, id.to_ne_bytes()),
        Some(RouteVia::Gateway { gateway, index }) => {
            batch.address(RTA_GATEWAY, *gateway);
            batch.attribute(RTA_OIF, index.to_ne_bytes());
        }
        Some(RouteVia::Link(index)) => batch.attribute(RTA_OIF, index.to_ne_bytes()),
        Some(RouteVia::Blackhole | RouteVia::Other) | None => {}
    }
    batch.end();
}

/// Builds the request that adds or replaces an IPv4 or IPv6 host route by an on-link gateway in
/// a table.
pub fn set_host_route(table: u32, to: IpAddr, gateway: IpAddr, index: u32, protocol: u8) -> RequestMessage {
    let prefix_len = IpNet::from(to).prefix_len();
    let mut header = rtmsg(family(to), prefix_len, protocol, RT_SCOPE_UNIVERSE, RTN_UNICAST, RTNH_F_ONLINK);
    header[4] = 0;
    RequestMessage::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &header)
        .u32(RTA_TABLE, table)
        .address(RTA_DST, to)
        .address(RTA_GATEWAY, gateway)
        .u32(RTA_OIF, index)
}

/// Builds the request that deletes a host route from a table.
pub fn delete_host_route(table: u32, to: IpAddr) -> RequestMessage {
    let mut header = rtmsg(family(to), IpNet::from(to).prefix_len(), 0, RT_SCOPE_NOWHERE, RTN_UNSPEC, 0);
    header[4] = 0;
    RequestMessage::new(RTM_DELROUTE, 0, &header).u32(RTA_TABLE, table).address(RTA_DST, to)
}
