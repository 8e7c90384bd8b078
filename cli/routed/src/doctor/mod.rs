//! What is wrong with a node and its cluster, each with the evidence and the command that mends it: pure, from what was
//! gathered.

pub(crate) mod facts;

mod cluster;
mod host;
mod ruleset;
mod wire;

use std::net::IpAddr;

use ipnet::IpNet;
use tunnel::netlink::links::LinkRecord;
use tunnel::netlink::routes::RouteRecord;
use tunnel::netlink::rules::RuleRecord;
use tunnel::report::FailureReport;
use tunnel::sysctl::Sysctl;

use api::view::{Code, Diagnosis, Finding, PeerView, StatusView, TunnelView};
use resource::Snapshot;

#[cfg(test)]
mod tests;

/// What is known of the node.
#[derive(Debug)]
pub(crate) struct DoctorFacts {
    /// What `show status` says.
    pub status: StatusView,
    /// What `show peers` says.
    pub peers: Vec<PeerView>,
    /// What `show tunnels` says.
    pub tunnels: Vec<TunnelView>,
    /// The resources that run.
    pub snapshot: Snapshot,
    /// Whether some packets go by IP-in-IP.
    pub uses_ipip: bool,
    /// Whether some go by VXLAN, or would as the fallback.
    pub uses_vxlan: bool,
    /// The dataplane's own view; `None` without one.
    pub host: Option<HostFacts>,
}

/// What is known of the node's kernel.
#[derive(Debug)]
pub(crate) struct HostFacts {
    /// The sysctls that matter.
    pub sysctls: Vec<Sysctl>,
    /// What the kernel refused.
    pub failures: Vec<FailureReport>,
    /// What the dataplane complains of, one line each.
    pub problems: Vec<String>,
    /// The network interfaces.
    pub links: Vec<LinkRecord>,
    /// Index of the interface that has the node's address.
    pub parent: Option<u32>,
    /// Routes of table main that are not routed's, below the pools' ranges.
    pub foreign: Vec<RouteRecord>,
    /// The metric of routed's.
    pub metric: u32,
    /// Interfaces that pods are behind, by index, each with one of their addresses.
    pub pods: Vec<(u32, IpNet)>,
    /// Rules of policy routing, all of them.
    pub rules: Vec<RuleRecord>,
    /// What `nft -j list ruleset` says, or why it says nothing.
    pub(crate) ruleset: Result<serde_json::Value, RulesetError>,
}

/// Why the nftables ruleset is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RulesetError {
    /// `nft` can't be started.
    #[error("nft can't be run ({0}): install nftables")]
    NotStarted(#[source] std::io::Error),
    /// `nft` can't be read.
    #[error("nft: {0}")]
    Io(#[from] std::io::Error),
    /// The listing is too long.
    #[error("its listing is longer than 64 MiB")]
    TooLong,
    /// `nft` reports an error.
    #[error("nft -j list ruleset: {0}; it needs CAP_NET_ADMIN and a kernel with nf_tables")]
    Failed(std::process::ExitStatus),
    /// The listing is not JSON.
    #[error("nft wrote no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// `nft` takes too long.
    #[error("nft did not end within 10 s")]
    TimedOut,
}

/// One thing that is looked at.
type Check = fn(&DoctorFacts) -> Vec<Finding>;

/// All that is looked at, in the order of a packet's needs.
const CHECKS: &[Check] = &[
    cluster::readiness,
    cluster::resources,
    cluster::node_subnets,
    cluster::subnet_asymmetry,
    cluster::store,
    wire::listening,
    wire::sessions,
    wire::tunnels,
    wire::clocks,
    host::modules,
    host::refusals,
    host::sysctls,
    host::firewall,
    host::foreign_routes,
    host::foreign_rules,
    host::mtu,
    cluster::warnings,
];

/// Looks at everything.
pub(crate) fn run_checks(facts: &DoctorFacts) -> Diagnosis {
    let mut findings: Vec<Finding> = CHECKS.iter().flat_map(|check| check(facts)).collect();
    findings.sort_by_key(|finding| finding.level);
    let mut not_seen = Vec::new();
    match &facts.host {
        None => not_seen.push("the kernel: this daemon runs without a dataplane".to_owned()),
        Some(HostFacts { ruleset: Err(error), .. }) => not_seen.push(format!("the firewall: {error}")),
        Some(_) => {}
    }
    Diagnosis { node: facts.status.node.clone(), checks: CHECKS.len(), not_seen, findings }
}

/// Few names in full, many by their number.
fn join_names(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.get(..SHOWN) {
        Some(first) if names.len() > SHOWN => {
            format!("{} and {} more", first.join(", "), names.len() - SHOWN)
        }
        _ => names.join(", "),
    }
}

/// Whether an address is of one of the cluster's nodes.
fn node_named(facts: &DoctorFacts, address: IpAddr) -> Option<&str> {
    let has = |node: &&resource::Node| {
        node.ipv4.is_some_and(|net| IpAddr::V4(net.addr()) == address)
            || node.ipv6.is_some_and(|net| IpAddr::V6(net.addr()) == address)
    };
    facts.snapshot.nodes.iter().find(has).map(|node| node.name.as_str())
}
