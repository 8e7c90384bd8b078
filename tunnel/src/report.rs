//! The report of the tunnel task.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::{
    desired::BLACKHOLE_METRIC,
    diff::Object,
    latency::Latency,
    node::{Encapsulation, Mac, PathKind},
    probe::PathState,
    sysctl::Sysctl,
};

/// Problem line for a missing privilege.
pub const PERMISSION_DENIED: &str = "no CAP_NET_ADMIN: the kernel refuses to change links and routes, BGP runs on; \
     run routed as root or grant it (systemd: AmbientCapabilities=CAP_NET_ADMIN; container: add NET_ADMIN)";

/// The state of the dataplane.
#[derive(Debug, Clone, PartialEq)]
pub struct DataplaneReport {
    /// True if all routes are known and leftovers were swept.
    pub in_sync: bool,
    /// Form of the next hops of routes.
    pub next_hops: NextHops,
    /// Number of our entries that other programs changed, since the start.
    pub drift: u64,
    /// Work since the start.
    pub work: Work,
    /// Durations of that work in the kernel.
    pub latency: KernelLatency,
    /// The tunnel devices.
    pub devices: Vec<DeviceReport>,
    /// Sysctls that forwarding depends on.
    pub sysctls: Vec<Sysctl>,
    /// Failures, at most 200.
    pub failures: Vec<FailureReport>,
    /// Number of all failures.
    pub failures_total: usize,
    /// Problems that need intervention, one line each.
    pub problems: Vec<String>,
    /// Number of learned prefixes and own blocks whose route is installed as desired.
    pub routes_installed: usize,
    /// Number of changes of routes that wait to be written.
    pub routes_waiting: usize,
    /// Learned prefixes and own blocks, by prefix; empty in a summary.
    pub routes: Vec<RouteReport>,
    /// The other nodes.
    pub tunnels: Vec<TunnelReport>,
}

/// Durations of the kernel's work since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KernelLatency {
    /// Durations of batches of routes, at most 256 each.
    pub routes: Latency,
    /// Durations of batches of other objects.
    pub objects: Latency,
}

/// Work since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Number of routes added, replaced or deleted.
    pub routes: u64,
    /// Number of other objects added, replaced or deleted.
    pub objects: u64,
    /// Number of refused changes of both kinds.
    pub refused: u64,
    /// Number of nodes that moved to the fallback because IP-in-IP did not pass.
    pub fallbacks_ipip: u64,
    /// Number of nodes that moved to the fallback because BGP was lost or never came up.
    pub fallbacks_bgp: u64,
    /// Number of probes sent.
    pub probes: u64,
    /// Number of probes without an answer.
    pub probes_lost: u64,
}

/// The form of the next hops of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHops {
    /// Ids of next-hop objects.
    Objects,
    /// Plain gateways: the kernel has no next-hop objects.
    Gateways,
    /// Unknown: there was no observation yet.
    Unknown,
}

/// A tunnel device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceReport {
    /// Interface name.
    pub name: String,
    /// Encapsulation.
    pub encapsulation: Encapsulation,
    /// True if a pool uses the device, or the fallback may.
    pub wanted: bool,
    /// Up, down or missing.
    pub state: DeviceState,
    /// MTU in octets.
    pub mtu: Option<u32>,
    /// Addresses.
    pub addresses: Vec<IpNet>,
    /// Ethernet address, of VXLAN devices.
    pub mac: Option<String>,
}

/// The state of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceState {
    /// Administratively up.
    Up,
    /// Administratively down.
    Down,
    /// Missing.
    Missing,
}

/// An object that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureReport {
    /// Description of the object.
    pub object: String,
    /// `errno`.
    pub errno: i32,
    /// The kernel's message.
    pub text: String,
    /// Number of attempts.
    pub attempts: u32,
}

/// A prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteReport {
    /// Destination.
    pub prefix: IpNet,
    /// Next hop of the path; none for own blocks.
    pub next_hop: Option<IpAddr>,
    /// Origin of the path; none for own blocks.
    pub kind: Option<PathKind>,
    /// Kind of the exit.
    pub exit: Option<ExitKind>,
    /// Interface name.
    pub device: Option<String>,
    /// True if the kernel has the route as desired.
    pub installed: bool,
    /// Reason for this exit, or for none.
    pub reason: String,
    /// Exits that share the packets; empty for a single exit.
    pub legs: Vec<MemberReport>,
}

/// One of the exits that share a prefix's packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberReport {
    /// Kind of the exit.
    pub exit: ExitKind,
    /// Gateway on the device: the node or a router to it, or with VXLAN the node's VTEP.
    pub gateway: IpAddr,
    /// Interface name.
    pub device: Option<String>,
}

/// The kind of an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitKind {
    /// Plain.
    Direct,
    /// IP in IP.
    Ipip,
    /// VXLAN.
    Vxlan,
    /// Discard.
    Blackhole,
}

/// The tunnel to another node.
#[derive(Debug, Clone, PartialEq)]
pub struct TunnelReport {
    /// Name.
    pub node: String,
    /// Address.
    pub address: Option<IpAddr>,
    /// Exit of its first block with a BGP path.
    pub preferred: Option<ExitKind>,
    /// Exit in use.
    pub in_use: Option<ExitKind>,
    /// Time since when it is in use.
    pub since: Option<Timestamp>,
    /// Reason.
    pub reason: String,
    /// Round-trip time of the last probe, in milliseconds; `None` if none was answered.
    pub last_probe_ms: Option<f64>,
    /// MTU of the device in use, in octets.
    pub mtu: Option<u32>,
    /// Measurements of the tunnel paths.
    pub ways: Vec<PathReport>,
    /// Difference of its clock to this node's at the last answer to a probe, in milliseconds;
    /// positive if its clock is ahead.
    pub clock_ahead_ms: Option<f64>,
    /// Blocks.
    pub blocks: Vec<IpNet>,
}

impl From<Encapsulation> for ExitKind {
    fn from(encapsulation: Encapsulation) -> Self {
        match encapsulation {
            Encapsulation::None => ExitKind::Direct,
            Encapsulation::Ipip => ExitKind::Ipip,
            Encapsulation::Vxlan => ExitKind::Vxlan,
        }
    }
}

/// The measurements of one tunnel path to a node.
#[derive(Debug, Clone, PartialEq)]
pub struct PathReport {
    /// Exit kind of the path.
    pub exit: ExitKind,
    /// State.
    pub state: PathState,
    /// Number of probes without an answer since the last answer.
    pub lost_in_row: u32,
    /// Round-trip time of the last answer, in milliseconds; `None` before the first.
    pub last_ms: Option<f64>,
}

/// Describes an object of the kernel in a few words.
pub(crate) fn describe(object: &Object) -> String {
    match object {
        Object::Link(device) => format!("link {}", device.name()),
        Object::Address(device, address) => format!("address {address} on {}", device.name()),
        Object::Fdb(mac) => format!("forwarding entry {}", mac_text(mac)),
        Object::Neighbour(address) => format!("neighbour {address}"),
        Object::Nexthop(gateway, index) => format!("next hop {gateway} on interface {index}"),
        Object::Group(members) => format!("group of {} next hops", members.ids().len()),
        Object::UnwantedNexthop(id) => format!("next-hop object {id}"),
        Object::Rule(path) => format!("rule for {path} probes"),
        Object::ProbeRoute(path, address) => format!("route for {path} probes to {address}"),
        Object::Route(key) if key.metric == BLACKHOLE_METRIC => format!("blackhole {}", key.prefix),
        Object::Route(key) => format!("route {} metric {}", key.prefix, key.metric),
    }
}

/// Formats an Ethernet address.
pub(crate) fn mac_text(mac: &Mac) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}
