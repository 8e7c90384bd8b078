//! The answers of the control API. Their names and values are public JSON.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

mod diagnosis;
mod event;
mod explain;
mod kernel;
mod latency;
mod peer;
mod plan;
mod session;
mod tunnel;

pub use diagnosis::*;
pub use event::*;
pub use explain::*;
pub use kernel::*;
pub use latency::*;
pub use peer::*;
pub use plan::*;
pub use session::*;
pub use tunnel::*;

/// The kind of resource that a session comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerType {
    /// The node-to-node mesh.
    Mesh,
    /// A BGPPeer of every node.
    Global,
    /// A BGPPeer of some nodes.
    Node,
}

/// One BGP session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerView {
    /// The name of the node or of the BGPPeer.
    pub name: String,
    /// The peer's address.
    pub address: IpAddr,
    /// The peer's TCP port.
    pub port: u16,
    /// The peer's AS number.
    pub asn: u32,
    /// The kind of resource that the session comes from.
    pub r#type: PeerType,
    /// The state of the session.
    pub state: SessionState,
    /// The time at which the session entered this state.
    pub since: Timestamp,
    /// Seconds Established; 0 in other states.
    pub uptime_s: u64,
    /// Prefixes received and now held, before import policy.
    pub received: u64,
    /// Prefixes that import policy accepted.
    pub accepted: u64,
    /// Prefixes that are retained after the end of the session and were not received again.
    pub stale: u64,
    /// The time until which stale prefixes are retained, unless the peer returns.
    pub stale_until: Option<Timestamp>,
    /// Prefixes advertised now.
    pub advertised: u64,
    /// The negotiated hold time in seconds, while Established.
    pub hold_time_s: Option<u16>,
    /// The peer's BGP identifier, once known.
    pub router_id: Option<Ipv4Addr>,
    /// The error that last ended the session or kept it from coming up.
    pub last_error: Option<String>,
    /// The BFD session; `null` without BFD.
    #[serde(default)]
    pub bfd: Option<BfdView>,
    /// UPDATEs with an error since the peer was configured (RFC 7606).
    #[serde(default)]
    pub update_errors: u64,
    /// UPDATEs of these that were treated as withdraw.
    #[serde(default)]
    pub treated_as_withdraw: u64,
    /// UPDATEs of these whose attribute was discarded.
    #[serde(default)]
    pub discarded: u64,
    /// The last of these errors.
    #[serde(default)]
    pub last_update_error: Option<UpdateErrorView>,
    /// UPDATE messages received since the peer was configured.
    #[serde(default)]
    pub updates_received: u64,
    /// UPDATE messages sent.
    #[serde(default)]
    pub updates_sent: u64,
    /// The counts of prefixes by family, for families with any.
    #[serde(default)]
    pub families: Vec<FamilyView>,
}

/// The prefixes of one family in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyView {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// See [`PeerView::received`].
    pub received: u64,
    /// See [`PeerView::accepted`].
    pub accepted: u64,
    /// See [`PeerView::advertised`].
    pub advertised: u64,
    /// See [`PeerView::stale`].
    pub stale: u64,
}

/// A BFD session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BfdView {
    /// `up`, `init`, `down` or `admin_down`.
    pub state: BfdState,
    /// The time at which the session entered this state.
    pub since: Timestamp,
    /// The reason for which the session last left Up.
    pub diagnostic: String,
    /// The time without packets after which the session goes down, in milliseconds.
    pub detection_time_ms: u64,
}

/// An UPDATE with an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateErrorView {
    /// The time at which the message was received.
    pub at: Timestamp,
    /// The type code of the attribute; `null` if the error is not in an attribute.
    pub attribute: Option<u8>,
    /// The name of the attribute, if the type is known.
    pub name: Option<String>,
    /// The broken rule.
    pub rule: String,
    /// The consequence: `discard`, `treat_as_withdraw` or `session_reset`.
    pub verdict: String,
    /// The attribute with its flags, in hexadecimal; the first 64 octets.
    pub hex: String,
}

/// The origin of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteSource {
    /// A block of this node.
    Local,
    /// The static peer table.
    Static,
    /// A peer in this AS.
    Ibgp,
    /// A peer in another AS.
    Ebgp,
    /// A client of this route reflector.
    Client,
}

impl fmt::Display for RouteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RouteSource::Local => "local",
            RouteSource::Static => "static",
            RouteSource::Ibgp => "ibgp",
            RouteSource::Ebgp => "ebgp",
            RouteSource::Client => "client",
        })
    }
}

/// The best route of a prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteView {
    /// The prefix.
    pub prefix: IpNet,
    /// The BGP next hop or the owner's address; `null` for this node's own.
    pub next_hop: Option<IpAddr>,
    /// The origin of the route.
    pub source: RouteSource,
    /// The name of the peer that sent the route.
    pub peer: Option<String>,
    /// The exit of packets; `null` if unknown.
    pub exit: Option<ExitKind>,
    /// The device of the exit.
    pub device: Option<String>,
    /// True if the kernel has the route as desired.
    pub installed: bool,
    /// The reason why the route is the best, or why it is not installed.
    pub reason: String,
    /// The exits of a multipath route; `exit` and `device` are those of the first.
    #[serde(default)]
    pub legs: Vec<RouteMemberView>,
}

/// A node of the static peer table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// The node's name.
    pub name: String,
    /// True if it is this node.
    pub local: bool,
    /// The IPv4 address with the length of its subnet.
    pub ipv4: Option<String>,
    /// The IPv6 address with the length of its subnet.
    pub ipv6: Option<String>,
    /// The AS number.
    pub asn: u32,
    /// True if the AS number is the cluster's default.
    pub asn_inherited: bool,
    /// The cluster ID of a route reflector.
    pub cluster_id: Option<Ipv4Addr>,
    /// The tunnel address on the VXLAN.
    pub vtep: Option<IpAddr>,
    /// The MAC address on the VXLAN, as `66:..`.
    pub vtep_mac: Option<String>,
    /// The node's blocks.
    pub blocks: Vec<IpNet>,
}

/// The state of the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// This node's name.
    pub node: String,
    /// The daemon's version.
    pub version: String,
    /// The time of the start.
    pub started: Timestamp,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// True if the daemon is ready.
    pub ready: bool,
    /// The reasons why the daemon is not ready, one line each.
    pub not_ready: Vec<String>,
    /// This node's AS number.
    pub asn: u32,
    /// This node's BGP identifier.
    pub router_id: Option<Ipv4Addr>,
    /// The TCP port that BGP listens on; `null` if it does not listen.
    pub listen_port: Option<u16>,
    /// Sessions that are Established.
    pub peers_established: u64,
    /// Configured sessions.
    pub peers_total: u64,
    /// Prefixes with a best route.
    pub routes: u64,
    /// Paths of these prefixes.
    #[serde(default)]
    pub paths: u64,
    /// Different attribute sets of these paths.
    #[serde(default)]
    pub attribute_sets: u64,
    /// Static paths that are not used because their owner has withdrawn the block.
    #[serde(default)]
    pub suppressed: u64,
    /// Routes that the kernel has as desired.
    pub routes_installed: u64,
    /// Kernel changes that failed and are retried.
    pub kernel_failures: u64,
    /// `kernel` or `none`.
    pub dataplane: String,
    /// True if stale kernel routes were removed once after all peers had sent their routes.
    pub in_sync: bool,
    /// The source of the resources.
    pub datastore: String,
    /// The state of a shared datastore; `null` for files.
    #[serde(default)]
    pub store: Option<StoreView>,
    /// The revision of the resources in use.
    pub revision: Option<String>,
    /// The mistakes in resources that are not used, one line each.
    pub mistakes: Vec<String>,
    /// Warnings, one line each.
    pub warnings: Vec<String>,
    /// The delay of the daemon's loop, measured once a second.
    #[serde(default, rename = "lateness")]
    pub loop_latency: LatencyView,
    /// The state of the kernel; `null` without a dataplane.
    pub kernel: Option<KernelView>,
    /// The state of this node's nftables table; `null` without a dataplane.
    #[serde(default)]
    pub firewall: Option<FirewallView>,
    /// The files for container runtimes; `null` without a dataplane.
    #[serde(default)]
    pub cni: Option<CniView>,
}

/// The state of a shared datastore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreView {
    /// True if the resources in use are the current ones of the store.
    pub connected: bool,
    /// The etcd member that is connected, or was tried last.
    pub endpoint: String,
    /// The time since which the connection is in this state.
    pub since: Timestamp,
    /// Seconds for which the resources in use may be outdated; 0 while connected.
    pub lag_s: u64,
    /// The reason why the store is not connected.
    pub problem: Option<String>,
    /// True if the resources in use are the snapshot in the state directory.
    pub from_snapshot: bool,
    /// The number of full reads since the start.
    pub relists: u64,
    /// Mistakes in the store's resources that are refused for them.
    pub refused: u64,
}

/// The files for container runtimes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CniView {
    /// The MTU of pods, in octets; also in the file `mtu` of the state directory.
    pub pod_mtu: Option<u32>,
    /// The written network configuration.
    pub file: Option<std::path::PathBuf>,
    /// Errors of writing, one line each.
    pub problems: Vec<String>,
}
