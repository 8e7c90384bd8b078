//! Exits of routes, and the paths to other nodes.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The exit of packets from the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitKind {
    /// Without encapsulation.
    Direct,
    /// IP-in-IP.
    Ipip,
    /// VXLAN.
    Vxlan,
    /// Dropped.
    Blackhole,
}

/// One of the exits that share a prefix's packets (ECMP).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMemberView {
    /// The exit of packets.
    pub exit: ExitKind,
    /// The gateway on the device: the node or a router to it; with VXLAN, the node's VTEP.
    pub gateway: IpAddr,
    /// Interface name.
    pub device: Option<String>,
}

/// The path to another node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TunnelView {
    /// The node's name.
    pub node: String,
    /// The node's address.
    pub address: Option<IpAddr>,
    /// The exit of its first block while there is a BGP path.
    pub preferred: Option<ExitKind>,
    /// The exit in use.
    pub in_use: Option<ExitKind>,
    /// When that exit came into use.
    pub since: Option<Timestamp>,
    /// Why that exit is in use.
    pub reason: String,
    /// Round-trip time of the last probe, in milliseconds; `null` without probes.
    pub last_probe_ms: Option<f64>,
    /// MTU of the device in use, in octets.
    pub mtu: Option<u32>,
    /// Results of the probes, by exit.
    #[serde(default)]
    pub ways: Vec<ProbeView>,
    /// The time by which the node's clock was ahead of this node's at the last answer to a probe, in
    /// milliseconds; negative: behind.
    #[serde(default)]
    pub clock_ahead_ms: Option<f64>,
    /// The node's blocks.
    pub blocks: Vec<IpNet>,
}

/// Results of the probes to a node by one exit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeView {
    /// The exit.
    pub exit: ExitKind,
    /// The conclusion from the probes.
    pub state: ProbeState,
    /// Probes lost since the last answer.
    pub lost_in_row: u32,
    /// Round-trip time of the last answer, in milliseconds; `null` before the first answer.
    pub last_ms: Option<f64>,
}

/// The reachability of a node by one exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeState {
    /// No probe was answered yet, and nothing proved that packets are lost.
    #[default]
    Unknown,
    /// Probes are answered.
    Passes,
    /// Probes are not answered by any exit: the node may be down.
    Unanswered,
    /// Probes are not answered by this exit, while another exit works.
    Blocked,
    /// Probes are answered again, but not yet for long enough.
    Returning,
}
