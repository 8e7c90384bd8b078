//! Policy routing of probes: one rule and one table for each tunnel path.

use std::net::{IpAddr, Ipv4Addr};

use crate::{
    netlink::{
        KernelError, Socket,
        numbers::AF_INET,
        routes::{self, RouteRecord, RouteVia},
        rules::{self, FirewallMark, RuleRecord},
        wire::Message,
    },
    probe::{RULE_PRIORITY, Way},
};

/// A route of a probe table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProbeRoute {
    /// Tunnel path of the table.
    pub(super) way: Way,
    /// Tunnel address of the other node.
    pub(super) address: Ipv4Addr,
    /// Gateway and interface index; `None` if the route is not one that this program writes.
    pub(super) via: Option<(IpAddr, u32)>,
}

/// Builds the request for the rule by which packets with a path's mark use the path's table.
pub(super) fn add_rule(way: Way, protocol: u8) -> Message {
    rules::add_mark_rule(RULE_PRIORITY, way.table(), way.table(), protocol)
}

pub(super) fn delete_rule(way: Way) -> Message {
    rules::delete_mark_rule(RULE_PRIORITY, way.table(), way.table())
}

/// Returns the path whose rule this is, if it is exactly the rule that [`add_rule`] makes.
pub(super) fn rule_path(rule: &RuleRecord) -> Option<Way> {
    let mark = FirewallMark { value: rule.table, mask: u32::MAX };
    let ours = rule.family == AF_INET && rule.priority == RULE_PRIORITY && rule.mark == Some(mark);
    Way::of_table(rule.table).filter(|_| ours)
}

/// Returns the paths whose rules exist.
///
/// # Errors
/// The kernel's.
pub(super) fn dump_rules(socket: &mut Socket) -> Result<Vec<Way>, KernelError> {
    Ok(rules::dump_rules(socket)?.iter().filter_map(rule_path).collect())
}

/// Builds the request for the route of probes to a node by a path.
pub(super) fn set_route(way: Way, to: Ipv4Addr, gateway: IpAddr, index: u32, protocol: u8) -> Message {
    routes::set_host_route(way.table(), to.into(), gateway, index, protocol)
}

pub(super) fn delete_route(way: Way, to: Ipv4Addr) -> Message {
    routes::delete_host_route(way.table(), to.into())
}

/// Returns the route as one of a probe table, if it is in one.
pub(super) fn probe_route(record: &RouteRecord) -> Option<ProbeRoute> {
    let way = Way::of_table(record.table)?;
    let IpAddr::V4(address) = record.prefix.addr() else { return None };
    let via = match (record.prefix.prefix_len(), record.via) {
        (0, _) => return None,
        (32, RouteVia::Gateway { gateway, index }) => Some((gateway, index)),
        _ => None,
    };
    Some(ProbeRoute { way, address, via })
}

/// Returns the routes of all probe tables.
///
/// # Errors
/// The kernel's.
pub(super) fn dump_routes(socket: &mut Socket) -> Result<Vec<ProbeRoute>, KernelError> {
    let mut all = Vec::new();
    for way in Way::ALL {
        all.extend(routes::dump_table(socket, way.table())?.iter().filter_map(probe_route));
    }
    Ok(all)
}
