//! What is wrong with a node and its cluster, each with the evidence and the command that mends it: pure, from what was
//! gathered.

mod cluster;
mod host;
mod ruleset;
mod wire;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tunnel::netlink::links::LinkRecord;
use tunnel::netlink::routes::RouteRecord;
use tunnel::netlink::rules::RuleRecord;
use tunnel::report::FailureReport;
use tunnel::sysctl::Sysctl;

use crate::control::view::{PeerView, StatusView, TunnelView};
use crate::resource::Snapshot;

#[cfg(test)]
mod tests;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The daemon does not do all it should.
    NotReady,
    /// Resources are wrong, and do not run.
    Resources,
    /// Two nodes have one tunnel address, or one Ethernet address.
    DuplicateTunnelAddress,
    /// A node's subnet is a /32, while a pool is cross-subnet.
    NodeSubnet,
    /// Of two nodes one is in the other's subnet, but not the other way round.
    SubnetAsymmetry,
    /// The datastore is out of reach.
    Store,
    /// A session is not Established.
    Session,
    /// Nobody can call this node.
    NotListening,
    /// A tunnel is not answered.
    Tunnel,
    /// The clock differs from another node's.
    Clock,
    /// The kernel lacks a module.
    Module,
    /// The kernel refuses what it is told.
    Kernel,
    /// A sysctl is not as it must be.
    Sysctl,
    /// The kernel drops what arrives by another way than answers leave by.
    RpFilter,
    /// A firewall drops what nodes send each other.
    Firewall,
    /// Another program's route is used instead of routed's.
    ForeignRoute,
    /// A rule of policy routing comes before table main.
    ForeignRule,
    /// Packets are longer than what fits.
    Mtu,
    /// Anything else that somebody should know of.
    Warning,
}

impl Code {
    /// Every one.
    pub const ALL: [Code; 19] = [
        Code::NotReady,
        Code::Resources,
        Code::DuplicateTunnelAddress,
        Code::NodeSubnet,
        Code::SubnetAsymmetry,
        Code::Store,
        Code::Session,
        Code::NotListening,
        Code::Tunnel,
        Code::Clock,
        Code::Module,
        Code::Kernel,
        Code::Sysctl,
        Code::RpFilter,
        Code::Firewall,
        Code::ForeignRoute,
        Code::ForeignRule,
        Code::Mtu,
        Code::Warning,
    ];
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Packets are lost, or will be.
    Error,
    /// It works, but not as it is meant to, or it may stop to.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What it is.
    pub code: Code,
    /// It in words, one line.
    pub text: String,
    /// What it was seen by, one line.
    pub evidence: String,
    /// The command that mends it, or what to do.
    pub remedy: String,
}

impl Finding {
    fn error(
        code: Code,
        text: impl Into<String>,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Finding {
            level: Level::Error,
            code,
            text: text.into(),
            evidence: evidence.into(),
            remedy: remedy.into(),
        }
    }

    fn warning(
        code: Code,
        text: impl Into<String>,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Finding { level: Level::Warning, ..Finding::error(code, text, evidence, remedy) }
    }
}

/// What was found, and how much was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The node that was looked at.
    pub node: String,
    /// How many things were looked at.
    pub checks: usize,
    /// What could not be looked at, one line each.
    pub not_seen: Vec<String>,
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
}

/// What is known of the node.
#[derive(Clone, Debug)]
pub struct Facts {
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
    pub host: Option<Host>,
}

/// What is known of the node's kernel.
#[derive(Clone, Debug)]
pub struct Host {
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
    pub ruleset: Result<serde_json::Value, String>,
}

/// One thing that is looked at.
type Check = fn(&Facts) -> Vec<Finding>;

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
pub fn examine(facts: &Facts) -> Diagnosis {
    let mut findings: Vec<Finding> = CHECKS.iter().flat_map(|check| check(facts)).collect();
    findings.sort_by_key(|finding| finding.level);
    let mut not_seen = Vec::new();
    match &facts.host {
        None => not_seen.push("the kernel: this daemon runs without a dataplane".to_owned()),
        Some(Host { ruleset: Err(error), .. }) => not_seen.push(format!("the firewall: {error}")),
        Some(_) => {}
    }
    Diagnosis { node: facts.status.node.clone(), checks: CHECKS.len(), not_seen, findings }
}

/// Few names in full, many by their number.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.get(..SHOWN) {
        Some(first) if names.len() > SHOWN => {
            format!("{} and {} more", first.join(", "), names.len() - SHOWN)
        }
        _ => names.join(", "),
    }
}

/// Whether an address is of one of the cluster's nodes.
fn node_named(facts: &Facts, address: IpAddr) -> Option<&str> {
    let has = |node: &&crate::resource::Node| {
        node.ipv4.is_some_and(|net| IpAddr::V4(net.addr()) == address)
            || node.ipv6.is_some_and(|net| IpAddr::V6(net.addr()) == address)
    };
    facts.snapshot.nodes.iter().find(has).map(|node| node.name.as_str())
}
