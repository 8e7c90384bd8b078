//! What `routectl explain` is answered.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{RouteSource, RouteView, TunnelView};

/// Why packets to an address go where they go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainView {
    /// All that is known.
    #[serde(flatten)]
    pub facts: ExplainFacts,
    /// The first thing that is wrong, or that nothing is.
    pub verdict: VerdictView,
}

/// What is known of the way to an address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExplainFacts {
    /// What was asked for.
    pub target: String,
    /// Where the packets come from, if that was asked for.
    #[serde(default)]
    pub from: Option<FromView>,
    /// The pool that it lies in.
    #[serde(default)]
    pub pool: Option<PoolView>,
    /// Whose block it lies in.
    #[serde(default)]
    pub owner: Option<OwnerView>,
    /// The longest matching prefix that there is a path to; `null`: there is none.
    pub prefix: Option<IpNet>,
    /// The route that is used, if there is one.
    pub route: Option<RouteView>,
    /// The paths, the best first.
    pub paths: Vec<PathView>,
    /// How the node that the route leads to is reached.
    #[serde(default)]
    pub tunnel: Option<TunnelView>,
    /// What the packet is wrapped in.
    #[serde(default)]
    pub outer: Option<OuterView>,
    /// What the kernel does; `null` without a dataplane.
    #[serde(default)]
    pub kernel: Option<LookupView>,
    /// What this node knows of the next station on the wire.
    #[serde(default)]
    pub neighbour: Option<NeighbourView>,
}

/// Where packets come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromView {
    /// The pod's address.
    pub address: IpAddr,
    /// The node in whose block it is.
    pub node: Option<String>,
    /// Whether that is this node.
    pub local: bool,
    /// The interface that this node's kernel has the pod behind; `null`: none.
    pub device: Option<String>,
    /// That interface's MTU, in octets.
    pub mtu: Option<u32>,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolView {
    /// Its name; `null`: there are no pools, and the cluster's setting holds.
    pub name: Option<String>,
    /// Its range.
    pub cidr: Option<IpNet>,
    /// `ipip`, `vxlan` or `none`.
    pub encapsulation: resource::EncapsulationKind,
    /// `always`, `cross-subnet` or `never`.
    pub mode: resource::EncapsulationMode,
    /// Whether its blocks are kept from BGP peers.
    pub disable_bgp_export: bool,
}

/// The node that has a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnerView {
    /// Its name.
    pub node: String,
    /// The block.
    pub block: IpNet,
    /// Whether it is this node.
    pub local: bool,
    /// Its address; `null`: it has no Node resource, or that has no address.
    pub address: Option<IpAddr>,
    /// This node's session with it, if there is to be one: `Established`, `Active` ...
    pub session: Option<String>,
    /// Why that went down or did not come up.
    pub last_error: Option<String>,
}

/// What packets are wrapped in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OuterView {
    /// This node's address.
    pub source: Option<IpAddr>,
    /// The other node's.
    pub destination: IpAddr,
    /// `IP protocol 4`, or `UDP port 4789, VNI 4096`.
    pub protocol: String,
    /// With VXLAN, the Ethernet address that frames are for.
    pub mac: Option<String>,
    /// The longest packet that fits, in octets.
    pub mtu: Option<u32>,
}

/// What the kernel answers to `ip route get`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupView {
    /// `unicast`, `local`, `blackhole` ..., or `refused`.
    pub outcome: String,
    /// Why it refuses.
    pub error: Option<String>,
    /// The number of that error.
    #[serde(default)]
    pub errno: Option<i32>,
    /// The interface that packets leave by.
    pub device: Option<String>,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// The source of this node's own packets.
    pub source: Option<IpAddr>,
    /// The destination of the route that it follows from.
    pub prefix: Option<IpNet>,
    /// That route's metric.
    pub metric: Option<u32>,
    /// Its protocol number (`rtm_protocol`); 179: routed's, unless configured.
    pub protocol: Option<u8>,
    /// Its table; 254 is main.
    pub table: Option<u32>,
    /// Whether it is routed's.
    pub ours: bool,
}

/// What this node knows of the next station on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourView {
    /// The station: the other node, or the router to it.
    pub address: IpAddr,
    /// The interface that it is on.
    pub device: String,
    /// `permanent`, `known`, `asked for`, `failed` or `not asked yet`.
    pub state: String,
    /// Its Ethernet address.
    pub mac: Option<String>,
    /// With VXLAN, whether the entry that maps the gateway to its Ethernet address is there; `null` with other exits.
    pub gateway_entry: Option<bool>,
    /// With VXLAN, where frames for that Ethernet address are sent (the forwarding entry); `null`: nowhere, or
    /// another exit.
    pub forwarded_to: Option<IpAddr>,
}

/// What is said of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Packets leave as they should, and nothing is known that keeps them from arriving.
    Reached,
    /// The address is a pod's of this node.
    LocalPod,
    /// The address is no pod's: this node's own routing decides.
    OutsideCluster,
    /// The source is another node's pod.
    AskThere,
    /// No pod of this node has the source.
    NoSuchSource,
    /// The address is in a pool, but in nobody's block.
    NoOwner,
    /// The block's node has no Node resource, or that has no address.
    OwnerUnknown,
    /// There is no path, and no session with the owner.
    NoSession,
    /// There is no path although the owner's session is Established.
    NotAnnounced,
    /// Every path is rejected.
    Rejected,
    /// There is a path, but no exit point.
    NoExit,
    /// The path says that packets are to go nowhere.
    Discarded,
    /// The kernel does not have the route.
    NotInstalled,
    /// No pod of this node has the address.
    NoSuchPod,
    /// Another route is used than routed's.
    Shadowed,
    /// The kernel does not forward.
    NotForwarded,
    /// The kernel has no way.
    NoRoute,
    /// The VXLAN device lacks what leads to the other node.
    NoVtepEntry,
    /// The next station on the wire does not answer.
    NoNeighbour,
    /// Nothing that is sent through the tunnel is answered.
    Unanswered,
    /// The pod sends longer packets than fit.
    MtuTooLarge,
}

impl Verdict {
    /// Every verdict.
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

    /// Whether packets arrive, as far as can be seen.
    pub fn is_ok(self) -> bool {
        matches!(self, Verdict::Reached | Verdict::LocalPod | Verdict::OutsideCluster)
    }
}

/// The first thing that is wrong, or that nothing is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictView {
    /// Whether packets arrive, as far as this node can see.
    pub ok: bool,
    /// Which verdict it is.
    pub code: Verdict,
    /// It in words.
    pub text: String,
    /// What to do next.
    pub remedy: Option<String>,
}

/// One path and why it was chosen or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathView {
    /// Where it comes from.
    pub source: RouteSource,
    /// The peer it was learned from, by name.
    pub peer: Option<String>,
    /// The BGP next hop.
    pub next_hop: Option<IpAddr>,
    /// The AS path as text; empty inside the AS.
    pub as_path: String,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Whether it is the best.
    pub best: bool,
    /// Whether packets go its way too, though it is not the best: only ties told it apart.
    #[serde(default)]
    pub shares: bool,
    /// The step of the decision that it won or lost at.
    pub reason: String,
}
