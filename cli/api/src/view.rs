//! What the control API answers. Scripts lean on these names and values.

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

/// Why a node has a session.
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
    /// The node's name, or the BGPPeer's.
    pub name: String,
    /// The peer's address.
    pub address: IpAddr,
    /// The peer's TCP port.
    pub port: u16,
    /// The peer's AS number.
    pub asn: u32,
    /// Why the session exists.
    pub r#type: PeerType,
    /// Its state.
    pub state: SessionState,
    /// When it entered this state.
    pub since: Timestamp,
    /// Seconds Established; 0 in other states.
    pub uptime_s: u64,
    /// Prefixes received and now held, before import policy.
    pub received: u64,
    /// Prefixes of those that import policy let in.
    pub accepted: u64,
    /// Prefixes of the received ones that are kept though the peer has not sent them again since its
    /// session ended.
    pub stale: u64,
    /// Until when they are kept, unless the peer is back.
    pub stale_until: Option<Timestamp>,
    /// Prefixes advertised now.
    pub advertised: u64,
    /// The negotiated hold time in seconds, while Established.
    pub hold_time_s: Option<u16>,
    /// The peer's BGP identifier, once known.
    pub router_id: Option<Ipv4Addr>,
    /// Why the session last went down or failed to come up.
    pub last_error: Option<String>,
    /// BFD beside the session; `null`: there is none.
    #[serde(default)]
    pub bfd: Option<BfdView>,
    /// UPDATEs with an error since the peer was configured (RFC 7606).
    #[serde(default)]
    pub update_errors: u64,
    /// Those whose routes were withdrawn for it.
    #[serde(default)]
    pub treated_as_withdraw: u64,
    /// Those whose routes were taken without the attribute.
    #[serde(default)]
    pub discarded: u64,
    /// The last of them.
    #[serde(default)]
    pub last_update_error: Option<UpdateErrorView>,
    /// UPDATE messages from it since it was configured.
    #[serde(default)]
    pub updates_received: u64,
    /// UPDATE messages to it.
    #[serde(default)]
    pub updates_sent: u64,
    /// The counts of prefixes by family, of those that there are any of.
    #[serde(default)]
    pub families: Vec<FamilyView>,
}

/// What a session carries of one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyView {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// As of all families together.
    pub received: u64,
    /// See there.
    pub accepted: u64,
    /// See there.
    pub advertised: u64,
    /// See there.
    pub stale: u64,
}

/// A BFD session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BfdView {
    /// `up`, `init`, `down` or `admin_down`.
    pub state: BfdState,
    /// When it entered this state.
    pub since: Timestamp,
    /// Why it last left Up.
    pub diagnostic: String,
    /// How long the peer may be silent, in milliseconds.
    pub detection_time_ms: u64,
}

/// An UPDATE with an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateErrorView {
    /// When it came.
    pub at: Timestamp,
    /// The attribute's type code; `null`: the error is the message's.
    pub attribute: Option<u8>,
    /// The attribute's name, where the type is known.
    pub name: Option<String>,
    /// The rule that it breaks.
    pub rule: String,
    /// What that cost: `discard`, `treat_as_withdraw` or `session_reset`.
    pub verdict: String,
    /// The attribute as it stood, flags first; the first 64 octets.
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
    /// Where it comes from.
    pub source: RouteSource,
    /// The peer it was learned from, by name.
    pub peer: Option<String>,
    /// How packets leave; `null` if that is not known.
    pub exit: Option<ExitKind>,
    /// The device they leave through.
    pub device: Option<String>,
    /// Whether the kernel has it as wanted.
    pub installed: bool,
    /// Why it is the best, or why it is not installed.
    pub reason: String,
    /// The exits that share its packets, where they are several; `exit` and `device` are the first's then.
    #[serde(default)]
    pub legs: Vec<LegView>,
}

/// A node of the static peer table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// The node's name.
    pub name: String,
    /// Whether it is this one.
    pub local: bool,
    /// Its IPv4 address with its subnet's length.
    pub ipv4: Option<String>,
    /// Its IPv6 address with its subnet's length.
    pub ipv6: Option<String>,
    /// Its AS number.
    pub asn: u32,
    /// Whether that is the cluster's default.
    pub asn_inherited: bool,
    /// Its cluster ID, if it reflects routes.
    pub cluster_id: Option<Ipv4Addr>,
    /// Its address on the VXLAN.
    pub vtep: Option<IpAddr>,
    /// Its MAC address on the VXLAN, as `66:..`.
    pub vtep_mac: Option<String>,
    /// Its blocks.
    pub blocks: Vec<IpNet>,
}

/// The daemon as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// This node's name.
    pub node: String,
    /// The daemon's version.
    pub version: String,
    /// When it started.
    pub started: Timestamp,
    /// Seconds since.
    pub uptime_s: u64,
    /// Whether it does all it should.
    pub ready: bool,
    /// Why it is not ready, one line each.
    pub not_ready: Vec<String>,
    /// This node's AS number.
    pub asn: u32,
    /// Its BGP identifier.
    pub router_id: Option<Ipv4Addr>,
    /// The TCP port BGP listens on; `null` while it doesn't.
    pub listen_port: Option<u16>,
    /// Sessions that are Established.
    pub peers_established: u64,
    /// Sessions there should be.
    pub peers_total: u64,
    /// Prefixes with a best route.
    pub routes: u64,
    /// Paths to them.
    #[serde(default)]
    pub paths: u64,
    /// Different sets of attributes that they have.
    #[serde(default)]
    pub attribute_sets: u64,
    /// Static paths that do not count because their owner has withdrawn the block.
    #[serde(default)]
    pub suppressed: u64,
    /// Routes that the kernel has as wanted.
    pub routes_installed: u64,
    /// Kernel changes that failed and are retried.
    pub kernel_failures: u64,
    /// `kernel` or `none`.
    pub dataplane: String,
    /// Whether the kernel was swept once after all peers had sent their routes.
    pub in_sync: bool,
    /// Where resources come from.
    pub datastore: String,
    /// How a shared datastore is reached; `null` where it is files.
    #[serde(default)]
    pub store: Option<StoreView>,
    /// The revision that runs.
    pub revision: Option<String>,
    /// What is wrong with the resources that are not running, one line each.
    pub mistakes: Vec<String>,
    /// What the user should know of, one line each.
    pub warnings: Vec<String>,
    /// How late the daemon's loop gave everybody their turn, once a second.
    #[serde(default, rename = "lateness")]
    pub loop_latency: LatencyView,
    /// The kernel's part; `null` without a dataplane.
    pub kernel: Option<KernelView>,
    /// This node's own nftables table; `null` without a dataplane.
    #[serde(default)]
    pub firewall: Option<FirewallView>,
    /// What container runtimes are given; `null` without a dataplane.
    #[serde(default)]
    pub cni: Option<CniView>,
}

/// How a shared datastore is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreView {
    /// Whether what runs is what it says now.
    pub connected: bool,
    /// The member that is spoken to, or was tried last.
    pub endpoint: String,
    /// Since when it has been so, or has not.
    pub since: Timestamp,
    /// Seconds for which what runs may differ from what it says; 0 while connected.
    pub lag_s: u64,
    /// Why it is not connected.
    pub problem: Option<String>,
    /// Whether what runs is the snapshot in the state directory.
    pub from_snapshot: bool,
    /// How often everything was read anew since the start.
    pub relists: u64,
    /// Mistakes in its resources that don't run for it.
    pub refused: u64,
}

/// What container runtimes are given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CniView {
    /// How large pods' packets may be, in octets; also in the file `mtu` of the state directory.
    pub pod_mtu: Option<u32>,
    /// The network configuration that was written.
    pub file: Option<std::path::PathBuf>,
    /// What can't be written, one line each.
    pub problems: Vec<String>,
}
