//! The answer to `routectl explain`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{RouteSource, RouteView, TunnelView};

/// The path of packets to an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainView {
    /// The facts about the path.
    #[serde(flatten)]
    pub facts: ExplainFacts,
    /// The first problem, or that there is none.
    pub verdict: VerdictView,
}

/// The facts about the path to an address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExplainFacts {
    /// The requested address or prefix.
    pub target: String,
    /// The source of the packets, if requested.
    #[serde(default)]
    pub from: Option<FromView>,
    /// The pool that contains the target.
    #[serde(default)]
    pub pool: Option<PoolView>,
    /// The owner of the block that contains the target.
    #[serde(default)]
    pub owner: Option<OwnerView>,
    /// The longest matching prefix with a path; `null` without one.
    pub prefix: Option<IpNet>,
    /// The route in use, if there is one.
    pub route: Option<RouteView>,
    /// The paths, the best first.
    pub paths: Vec<PathView>,
    /// The tunnel to the node that the route leads to.
    #[serde(default)]
    pub tunnel: Option<TunnelView>,
    /// The outer header of the packets.
    #[serde(default)]
    pub outer: Option<OuterView>,
    /// The kernel's route lookup; `null` without a dataplane.
    #[serde(default)]
    pub kernel: Option<LookupView>,
    /// The neighbor entry of the next hop on the wire.
    #[serde(default)]
    pub neighbour: Option<NeighborView>,
}

/// The source of packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromView {
    /// The pod's address.
    pub address: IpAddr,
    /// The owner of the block that contains the address.
    pub node: Option<String>,
    /// True if the owner is this node.
    pub local: bool,
    /// The interface of the pod on this node; `null` if there is none.
    pub device: Option<String>,
    /// The MTU of the interface, in octets.
    pub mtu: Option<u32>,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolView {
    /// The name; `null`: there are no pools, and the cluster's setting applies.
    pub name: Option<String>,
    /// The range.
    pub cidr: Option<IpNet>,
    /// `ipip`, `vxlan` or `none`.
    pub encapsulation: resource::EncapsulationKind,
    /// `always`, `cross-subnet` or `never`.
    pub mode: resource::EncapsulationMode,
    /// True if its blocks are not advertised to BGP peers.
    pub disable_bgp_export: bool,
}

/// The owner of a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnerView {
    /// The node's name.
    pub node: String,
    /// The block.
    pub block: IpNet,
    /// True if it is this node.
    pub local: bool,
    /// The node's address; `null` without a Node resource or without an address in it.
    pub address: Option<IpAddr>,
    /// The state of the session with the node, if one is configured: `Established`, `Active` ...
    pub session: Option<String>,
    /// The error that last ended the session or kept it from coming up.
    pub last_error: Option<String>,
}

/// The outer header of encapsulated packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OuterView {
    /// This node's address.
    pub source: Option<IpAddr>,
    /// The other node's address.
    pub destination: IpAddr,
    /// `IP protocol 4`, or `UDP port 4789, VNI 4096`.
    pub protocol: String,
    /// The destination MAC address of frames, with VXLAN.
    pub mac: Option<String>,
    /// The maximum length of inner packets, in octets.
    pub mtu: Option<u32>,
}

/// The kernel's answer to `ip route get`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupView {
    /// `unicast`, `local`, `blackhole` ..., or `refused`.
    pub outcome: String,
    /// The error of a refused lookup.
    pub error: Option<String>,
    /// The number of the error.
    #[serde(default)]
    pub errno: Option<i32>,
    /// The interface of the route.
    pub device: Option<String>,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// The preferred source address.
    pub source: Option<IpAddr>,
    /// The destination of the matching route.
    pub prefix: Option<IpNet>,
    /// The metric of the route.
    pub metric: Option<u32>,
    /// The protocol number of the route (`rtm_protocol`); routed's is 179 unless configured.
    pub protocol: Option<u8>,
    /// The table of the route; 254 is main.
    pub table: Option<u32>,
    /// True if the route is routed's.
    pub ours: bool,
}

/// The neighbor entry of the next hop on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborView {
    /// The address: the other node or the router to it.
    pub address: IpAddr,
    /// The interface of the entry.
    pub device: String,
    /// `permanent`, `known`, `asked for`, `failed` or `not asked yet`.
    pub state: String,
    /// The MAC address.
    pub mac: Option<String>,
    /// With VXLAN, whether the neighbor entry of the gateway exists; `null` with other exits.
    pub gateway_entry: Option<bool>,
    /// With VXLAN, the destination in the forwarding entry; `null` without an entry, or with
    /// another exit.
    pub forwarded_to: Option<IpAddr>,
}

/// The verdict about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Packets leave the node, and no problem is known.
    Reached,
    /// The address belongs to a pod of this node.
    LocalPod,
    /// The address belongs to no pod; this node's other routes apply.
    OutsideCluster,
    /// The source is a pod of another node, which has to be asked.
    AskThere,
    /// No pod of this node has the source.
    NoSuchSource,
    /// The address is in a pool, but in no block.
    NoOwner,
    /// The block's owner has no Node resource, or no address in it.
    OwnerUnknown,
    /// There is no path, and no session with the owner.
    NoSession,
    /// There is no path although the owner's session is Established.
    NotAnnounced,
    /// Every path is rejected.
    Rejected,
    /// There is a path, but no exit point.
    NoExit,
    /// The path has the BLACKHOLE community (RFC 7999).
    Discarded,
    /// The kernel does not have the route.
    NotInstalled,
    /// No pod of this node has the address.
    NoSuchPod,
    /// A route of another program precedes routed's route.
    Shadowed,
    /// The kernel does not forward packets of the interface.
    NotForwarded,
    /// The kernel has no route.
    NoRoute,
    /// The VXLAN device has no entry for the other node.
    NoVtepEntry,
    /// The next hop on the wire does not answer.
    NoNeighbour,
    /// Probes through the tunnel are not answered.
    Unanswered,
    /// The MTU of the pod is larger than that of the tunnel.
    MtuTooLarge,
}

impl Verdict {
    /// All verdicts.
    pub const ALL: [Verdict; 21] = [
        Verdict::Reached,
        Verdict::LocalPod,
        Verdict::OutsideCluster,
        Verdict::AskThere,
        Verdict::NoSuchSource,
        Verdict::NoOwner,
        Verdict::OwnerUnknown,
        Verdict::NoSession,
        Verdict::NotAnnounced,
        Verdict::Rejected,
        Verdict::NoExit,
        Verdict::Discarded,
        Verdict::NotInstalled,
        Verdict::NoSuchPod,
        Verdict::Shadowed,
        Verdict::NotForwarded,
        Verdict::NoRoute,
        Verdict::NoVtepEntry,
        Verdict::NoNeighbour,
        Verdict::Unanswered,
        Verdict::MtuTooLarge,
    ];

    /// Returns whether packets arrive, as far as this node knows.
    pub fn is_ok(self) -> bool {
        matches!(self, Verdict::Reached | Verdict::LocalPod | Verdict::OutsideCluster)
    }
}

/// The verdict with its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictView {
    /// True if packets arrive, as far as this node knows.
    pub ok: bool,
    /// The verdict.
    pub code: Verdict,
    /// The verdict as text.
    pub text: String,
    /// The remedy.
    pub remedy: Option<String>,
}

/// A path, and the reason why it is the best or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathView {
    /// The origin of the path.
    pub source: RouteSource,
    /// The name of the peer that sent the path.
    pub peer: Option<String>,
    /// The BGP next hop.
    pub next_hop: Option<IpAddr>,
    /// The AS path as text; empty inside the AS.
    pub as_path: String,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// True if the path is the best.
    pub best: bool,
    /// True if the path is used for multipath although it is not the best.
    #[serde(default)]
    pub shares: bool,
    /// The decision step at which the path won or lost.
    pub reason: String,
}
