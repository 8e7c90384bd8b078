//! Policy routing of probes: one rule and one table for each tunnel path.

use std::net::{IpAddr, Ipv4Addr};

use crate::{
    netlink::{
        KernelError, RequestSocket,
        numbers::AF_INET,
        routes::{self, RouteRecord, RouteVia},
        rules::{self, FirewallMark, RuleRecord},
        wire::RequestMessage,
    },
    probe::{RULE_PRIORITY, TunnelPath},
};

/// A route of a probe table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProbeRoute {
    /// Tunnel path of the table.
    pub(super) path: TunnelPath,
    /// Tunnel address of the other node.
    pub(super) address: Ipv4Addr,
    /// Gateway and interface index; `None` if the route is not one that this program writes.
    pub(super) via: Option<(IpAddr, u32)>,
}

/// Builds the request for the rule by which packets with a path's mark use the path's table.
pub(super) fn add_rule(path: TunnelPath, protocol: u8) -> RequestMessage {
    rules::add_mark_rule(RULE_PRIORITY, path.table(), path.table(), protocol)
}

pub(super) fn delete_rule(path: TunnelPath) -> RequestMessage {
    rules::delete_mark_rule(RULE_PRIORITY, path.table(), path.table())
}

/// Returns the path whose rule this is, if it is exactly the rule that [`add_rule`] makes.
pub(super) fn rule_path(rule: &RuleRecord) -> Option<TunnelPath> {
    let mark = FirewallMark { value: rule.table, mask: u32::MAX };
    let ours = rule.family == AF_INET && rule.priority == RULE_PRIORITY && rule.mark == Some(mark);
    TunnelPath::of_table(rule.table).filter(|_| ours)
}

/// Returns the paths whose rules exist.
///
/// # Errors
/// The kernel's.
pub(super) fn dump_rules(socket: &mut RequestSocket) -> Result<Vec<TunnelPath>, KernelError> {
    Ok(rules::dump_rules(socket)?.iter().filter_map(rule_path).collect())
}

/// Builds the request for the route of probes to a node by a path.
pub(super) fn set_route(
    path: TunnelPath,
    to: Ipv4Addr,
    gateway: IpAddr,
    index: u32,
    protocol: u8,
) -> RequestMessage {
    routes::set_host_route(path.table(), to.into(), gateway, index, protocol)
}

pub(super) fn delete_route(path: TunnelPath, to: Ipv4Addr) -> RequestMessage {
    routes::delete_host_route(path.table(), to.into())
}

/// Returns the route as one of a probe table, if it is in one.
pub(super) fn probe_route(record: &RouteRecord) -> Option<ProbeRoute> {
    let path = TunnelPath::of_table(record.table)?;
    let IpAddr::V4(address) = record.prefix.addr() else { return None };
    let via = match (record.prefix.prefix_len(), record.via) {
        (0, _) => return None,
        (32, RouteVia::Gateway { gateway, index }) => Some((gateway, index)),
        _ => None,
    };
    Some(ProbeRoute { path, address, via })
}

/// Returns the routes of all probe tables.
///
/// # Errors
/// The kernel's.
pub(super) fn dump_routes(socket: &mut RequestSocket) -> Result<Vec<ProbeRoute>, KernelError> {
    let mut all = Vec::new();
    for path in TunnelPath::ALL {
        all.extend(routes::dump_table(socket, path.table())?.iter().filter_map(probe_route));
    }
    Ok(all)
}
