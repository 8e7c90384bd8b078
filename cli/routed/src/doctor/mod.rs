//! `routectl doctor`: finds problems of a node and its cluster, each with the evidence and a
//! remedy. The checks have no I/O; `facts` gathers their input.

pub(crate) mod facts;

mod cluster;
mod host;
mod ruleset;
mod wire;

use std::net::IpAddr;

use ipnet::IpNet;

use api::view::{Diagnosis, Finding, FindingCode, PeerView, StatusView, TunnelView};
use resource::Snapshot;
use tunnel::netlink::links::LinkRecord;
use tunnel::netlink::routes::RouteRecord;
use tunnel::netlink::rules::RuleRecord;
use tunnel::report::FailureReport;
use tunnel::sysctl::Sysctl;

#[cfg(test)]
mod tests;

/// The facts about the node.
#[derive(Debug)]
pub(crate) struct DoctorFacts {
    /// The answer to `show status`.
    pub status: StatusView,
    /// The answer to `show peers`.
    pub peers: Vec<PeerView>,
    /// The answer to `show tunnels`.
    pub tunnels: Vec<TunnelView>,
    /// The resources in use.
    pub snapshot: Snapshot,
    /// True if a pool may use IP-in-IP.
    pub uses_ipip: bool,
    /// True if a pool or the fallback may use VXLAN.
    pub uses_vxlan: bool,
    /// The facts about the kernel; `None` without a dataplane.
    pub host: Option<HostFacts>,
}

/// The facts about the node's kernel.
#[derive(Debug)]
pub(crate) struct HostFacts {
    /// The sysctls that forwarding depends on.
    pub sysctls: Vec<Sysctl>,
    /// The objects that the kernel refused.
    pub failures: Vec<FailureReport>,
    /// The problems that the dataplane reports, one line each.
    pub problems: Vec<String>,
    /// The network interfaces.
    pub links: Vec<LinkRecord>,
    /// The index of the interface with the node's address.
    pub parent: Option<u32>,
    /// Routes of other programs in table main, inside the nodes' blocks.
    pub foreign: Vec<RouteRecord>,
    /// The metric of routed's routes.
    pub metric: u32,
    /// The indexes of interfaces with pods, each with a pod's address.
    pub pods: Vec<(u32, IpNet)>,
    /// All policy routing rules.
    pub rules: Vec<RuleRecord>,
    /// The output of `nft -j list ruleset`, or its error.
    pub(crate) ruleset: Result<serde_json::Value, RulesetError>,
}

/// An error of listing the nftables ruleset.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RulesetError {
    /// `nft` could not be started.
    #[error("nft can't be run ({0}): install nftables")]
    NotStarted(#[source] std::io::Error),
    /// The output of `nft` could not be read.
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
    /// `nft` did not end in time.
    #[error("nft did not end within 10 s")]
    TimedOut,
}

/// A check of one aspect.
type Check = fn(&DoctorFacts) -> Vec<Finding>;

/// All checks, in the order in which a packet depends on them.
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

/// Runs all checks.
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

/// Joins names. Of many names only the first are included, and the others are counted.
fn join_names(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.get(..SHOWN) {
        Some(first) if names.len() > SHOWN => {
            format!("{} and {} more", first.join(", "), names.len() - SHOWN)
        }
        _ => names.join(", "),
    }
}

/// Returns the name of the cluster's node that has an address.
fn node_named(facts: &DoctorFacts, address: IpAddr) -> Option<&str> {
    let has = |node: &&resource::Node| {
        node.ipv4.is_some_and(|net| IpAddr::V4(net.addr()) == address)
            || node.ipv6.is_some_and(|net| IpAddr::V6(net.addr()) == address)
    };
    facts.snapshot.nodes.iter().find(has).map(|node| node.name.as_str())
}
