//! The kernel's state: work done, latencies, devices, and the nftables table.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::LatencyView;

/// The kernel as it was last observed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelView {
    /// The form in which routes refer to their exits: `objects`, `gateways` or `unknown`.
    pub next_hops: String,
    /// Kernel objects of routed that other programs changed, since the start.
    pub drift: u64,
    /// Changes made since the start.
    #[serde(default)]
    pub work: WorkView,
    /// The time that the kernel took for them.
    #[serde(default)]
    pub latency: KernelLatencyView,
    /// The tunnel devices, one line each.
    pub devices: Vec<String>,
    /// The sysctls that forwarding depends on, one line each.
    pub sysctls: Vec<String>,
    /// Changes that the kernel refused, one line each; the first 200.
    pub failures: Vec<String>,
}

/// The time that the kernel took, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelLatencyView {
    /// For each batch of routes, at most 256.
    pub routes: LatencyView,
    /// For each batch of other objects.
    pub objects: LatencyView,
}

/// Changes made since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkView {
    /// Routes added, replaced or deleted.
    pub routes: u64,
    /// Other objects added, replaced or deleted.
    pub objects: u64,
    /// Changes of both that the kernel refused.
    pub refused: u64,
    /// Nodes that moved to the fallback because IP-in-IP did not pass.
    pub fallbacks_ipip: u64,
    /// Nodes that moved to the fallback because BGP was lost or never came up.
    pub fallbacks_bgp: u64,
    /// Probes sent.
    pub probes: u64,
    /// Probes that were not answered.
    pub probes_lost: u64,
}

/// This node's nftables table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct FirewallView {
    /// True if the table has a purpose.
    pub wanted: bool,
    /// True if the kernel has the table as desired.
    pub installed: bool,
    /// True if IP-in-IP packets are accepted from known nodes alone.
    pub guards_ipip: bool,
    /// True if VXLAN packets are accepted from known nodes alone.
    pub guards_vxlan: bool,
    /// The number of accepted source addresses.
    pub nodes: usize,
    /// Pools whose packets to the outside get this node's address.
    pub masqueraded: Vec<IpNet>,
    /// The number of times the table was restored after another program changed it, since the start.
    pub drift: u64,
    /// IP-in-IP packets dropped since the table was created; `null` if unknown.
    pub dropped_ipip: Option<u64>,
    /// VXLAN packets dropped since the table was created; `null` if unknown.
    pub dropped_vxlan: Option<u64>,
    /// Why the table is not as desired, and what to do.
    pub problem: Option<String>,
}
