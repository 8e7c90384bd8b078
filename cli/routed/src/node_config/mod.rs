//! What follows from the resources for this node: sessions, paths and tunnels, as data.

pub(crate) mod dynamic_neighbors;
pub(crate) mod password;
pub mod peering;
pub(crate) mod policy;

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::time::Duration;

use bgp::bfd::BfdSessionConfig;
use bgp::net::{BfdPeer, Hops, Md5Key, PeerAddress, Protection};
use bgp::session::{PeerConfig, RestartConfig};
use bgp::wire::capability::AddPath;
use bgp::{Asn, Families, RouterId};
use ipnet::IpNet;
use routing::{ClusterPolicy, PeerPolicy, RibConfig};
use tunnel::{Firewall, LocalNode, Pool, ProbeConfig};

use crate::cni::Network;
use crate::config::DaemonConfig;
use crate::host::tunnel_address;
use crate::node_config::peering::{NeighbourRange, Peering, peerings, ranges};
use api::view::PeerType;
use resource::{
    AddPathMode, EncapsulationKind, EncapsulationMode, FallbackSetting, Node, PeerRange, RoutedSettings,
    Security, Snapshot,
};

/// A node waits this long before it calls another one for the first time: nodes that are started together don't
/// listen yet, and each call that is refused costs both of them as much as a session.
const FIRST_CALLER_WAITS: Duration = Duration::from_millis(250);
/// Of two nodes the one with the higher address calls this much later, so that they rarely call
/// each other at once; a connection that only one of them can make is made all the same.
const SECOND_CALLER_WAITS: Duration = Duration::from_secs(2);

/// A session as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPlan {
    /// Who and why.
    pub peering: Peering,
    /// What the session is opened with.
    pub config: PeerConfig,
    /// Where it is.
    pub address: PeerAddress,
    /// How the way to it is watched.
    pub bfd: Option<BfdPeer>,
    /// What is exchanged.
    pub policy: PeerPolicy,
    /// How long the session stays down after too many prefixes; `None`: until the configuration changes.
    pub restart_after: Option<Duration>,
}

impl PeerPlan {
    /// What the first session is opened with: after a restart of this node the others are there and wait to be called.
    pub(crate) fn opened_with(&self, restarted: bool) -> PeerConfig {
        let mut config = self.config.clone();
        if restarted && config.connect_delay <= FIRST_CALLER_WAITS {
            config.connect_delay = Duration::ZERO;
        }
        config
    }
}

/// Neighbours that are not configured one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangePlan {
    /// Where they are, and how many there may be.
    pub range: PeerRange,
    /// A session as each of them has it; see [`RangePlan::neighbour`].
    pub template: PeerPlan,
}

impl RangePlan {
    /// The session with a neighbour.
    pub fn neighbour(&self, address: IpAddr) -> PeerPlan {
        let mut plan = self.template.clone();
        plan.peering.name = format!("{}-{address}", plan.peering.name);
        plan.peering.address = address;
        plan.address.remote.set_ip(address);
        if let Some(bfd) = &mut plan.bfd {
            bfd.remote = address;
        }
        plan
    }
}

/// A node's blocks as the static peer table has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticPaths {
    /// The node.
    pub node: String,
    /// Its blocks, each with the node's address.
    pub paths: Vec<(IpNet, IpAddr)>,
}

/// All that this node has to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the RIB is configured with.
    pub rib: RibConfig,
    /// What holds for all peers; the links are to be filled in.
    pub policy: ClusterPolicy,
    /// Whether a filter asks for the links.
    pub needs_links: bool,
    /// The port to listen on; `None`: BGP is off.
    pub listen_port: Option<u16>,
    /// The sessions.
    pub peers: Vec<PeerPlan>,
    /// Where further neighbours may call from, the narrowest range first.
    pub ranges: Vec<RangePlan>,
    /// This node's blocks, as they are announced.
    pub local: Vec<(IpNet, IpAddr)>,
    /// The other nodes' blocks; empty where there is no fallback.
    pub statics: Vec<StaticPaths>,
    /// What the kernel's state depends on; the probes' key is to be filled in.
    pub tunnel: tunnel::Config,
    /// Where that key is.
    pub probe_key_file: Option<PathBuf>,
    /// What the kernel lets in and whose addresses it changes.
    pub firewall: Firewall,
    /// The network configuration for container runtimes, where it is asked for.
    pub(crate) network: Option<Network>,
}

/// The resources say nothing of this node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    /// There is no Node resource of its name.
    #[error(
        "there is no Node resource named {0:?}: apply one, or set `node` in routed.yaml to the name that it has"
    )]
    Unknown(String),
    /// Its Node resource has no address.
    #[error("Node {0:?} has no address: set spec.bgp.ipv4Address or ipv6Address")]
    NoAddress(String),
}

/// Derives the plan.
///
/// # Errors
/// [`NoPlan`].
pub fn plan(config: &DaemonConfig, snapshot: &Snapshot) -> Result<Plan, NoPlan> {
    let me = snapshot
        .nodes
        .iter()
        .find(|node| node.name == config.node)
        .ok_or_else(|| NoPlan::Unknown(config.node.clone()))?;
    let addresses = addresses(me);
    if addresses.is_empty() {
        return Err(NoPlan::NoAddress(config.node.clone()));
    }
    let settings = &snapshot.configuration.routed;
    let rib = RibConfig {
        local_as: Asn(snapshot.as_number_of(me)),
        router_id: router_id(me),
        cluster_id: me.cluster_id,
        local_addresses: addresses.clone(),
        multipath: settings.multipath.into(),
    };
    let all_blocks = snapshot.blocks();
    let blocks_of = |node: &str| all_blocks.get(node).cloned().unwrap_or_default();
    let blocks = blocks_of(&me.name);
    let exported = |block: &IpNet| snapshot.pool_of(block).is_none_or(|pool| !pool.disable_bgp_export);
    let local = with_next_hop(blocks.iter().copied().filter(exported), &addresses, false);
    let others = || snapshot.nodes.iter().filter(|node| node.name != me.name);
    let statics = match settings.fallback {
        FallbackSetting::Vxlan => others()
            .map(|node| StaticPaths {
                node: node.name.clone(),
                paths: with_next_hop(blocks_of(&node.name), &self::addresses(node), true),
            })
            .collect(),
        FallbackSetting::None => Vec::new(),
    };
    let nodes = others()
        .map(|node| {
            let blocks = blocks_of(&node.name);
            tunnel::RemoteNode {
                name: node.name.clone(),
                ipv4: node.ipv4,
                ipv6: node.ipv6,
                vtep: node.vxlan_tunnel_address.or_else(|| tunnel_address::stated(node, &blocks)),
                vtep_ipv6: node.vxlan_tunnel_address_v6,
                mac: node.vxlan_mac,
                blocks,
            }
        })
        .collect();
    let pools = snapshot
        .pools
        .iter()
        .map(|pool| {
            let (encapsulation, mode) = pool.effective(settings.encapsulation);
            Pool { cidr: pool.cidr, encapsulation: encapsulation_of(encapsulation), mode: mode_of(mode) }
        })
        .collect();
    let tunnel = tunnel::Config {
        local: LocalNode {
            name: me.name.clone(),
            ipv4: me.ipv4,
            ipv6: me.ipv6,
            tunnel_address: tunnel_address::choose(&config.state_dir, me, &blocks),
            tunnel_ipv6: me.vxlan_tunnel_address_v6,
            vtep_mac: me.vxlan_mac,
            blocks,
        },
        nodes,
        pools,
        encapsulation: encapsulation_of(settings.encapsulation),
        fallback: match settings.fallback {
            FallbackSetting::Vxlan => tunnel::FallbackMode::Vxlan,
            FallbackSetting::None => tunnel::FallbackMode::None,
        },
        route_protocol: config.route_protocol,
        route_metric: settings.route_metric,
        nexthop_compat_keep: settings.nexthop_compat_keep,
        probing: ProbeConfig {
            enabled: true,
            port: settings.probe_port,
            key: None,
            recover_after: settings.recover_after,
            doubted: config.in_azure,
            direct: settings.direct_probe,
        },
        device_linger: tunnel::node::DEFAULT_DEVICE_LINGER,
    };
    let masqueraded: Vec<IpNet> =
        snapshot.pools.iter().filter(|pool| pool.nat_outgoing).map(|pool| pool.cidr).collect();
    let firewall = Firewall::of(&tunnel, settings.accept_tunnels_from, &masqueraded);
    let tunnel_addresses = tunnel.local.tunnel_address.map(IpAddr::V4).into_iter();
    let network = settings.cni.clone().map(|settings| Network {
        settings,
        blocks: tunnel.local.blocks.clone(),
        taken: tunnel_addresses.chain(tunnel.local.vtep_ipv6().map(IpAddr::V6)).collect(),
    });
    let peers = peerings(snapshot, me)
        .into_iter()
        .map(|peering| peer_plan(snapshot, me, &rib, settings, &addresses, peering))
        .collect();
    let ranges = ranges(snapshot, me)
        .into_iter()
        .map(|NeighbourRange { range, peering }| {
            let mut template = peer_plan(snapshot, me, &rib, settings, &addresses, peering);
            template.config.passive = true;
            RangePlan { range, template }
        })
        .collect();
    let policy =
        ClusterPolicy { encapsulation: policy::encapsulation(snapshot, me), ..policy::of_cluster(snapshot) };
    let needs_links = policy::needs_links(snapshot);
    let probe_key_file = settings.probe_key_file.clone();
    let listen_port = (!settings.bgp_disabled).then_some(snapshot.configuration.listen_port);
    Ok(Plan {
        rib,
        policy,
        needs_links,
        listen_port,
        peers,
        ranges,
        local,
        statics,
        tunnel,
        probe_key_file,
        firewall,
        network,
    })
}

fn peer_plan(
    snapshot: &Snapshot,
    me: &Node,
    rib: &RibConfig,
    settings: &RoutedSettings,
    own: &[IpAddr],
    peering: Peering,
) -> PeerPlan {
    let restart = settings.graceful_restart.then(|| RestartConfig {
        restart_time: seconds(peering.restart_time),
        long_lived_stale_time: u32::try_from(settings.long_lived_stale_time.as_secs()).unwrap_or(0),
    });
    let (policy, restart_after) = policy::of_peer(snapshot, &peering);
    let local = own.iter().copied().find(|address| address.is_ipv4() == peering.address.is_ipv4());
    let second = local.is_some_and(|local| local > peering.address);
    PeerPlan {
        config: PeerConfig {
            local_as: policy.import.local_as.unwrap_or(rib.local_as),
            router_id: rib.router_id,
            peer_as: Asn(peering.as_number),
            hold_time: seconds(settings.hold_time),
            families: Families::BOTH,
            passive: false,
            connect_delay: match second {
                true => SECOND_CALLER_WAITS,
                false if peering.kind == PeerType::Mesh => FIRST_CALLER_WAITS,
                false => Duration::ZERO,
            },
            send_hold_time: seconds(settings.send_hold_time),
            add_path: add_path(peering.policy.add_path.unwrap_or(settings.add_path)),
            extended_next_hop: own.iter().any(IpAddr::is_ipv6),
            role: peering.policy.role,
            restart,
        },
        address: PeerAddress {
            remote: (peering.address, peering.port).into(),
            local: local.filter(|_| peering.from_node_address),
            protection: Protection { key: Md5Key::None, hops: hops(me, rib, &peering) },
        },
        bfd: bfd(me, local.filter(|_| peering.from_node_address), &peering),
        policy,
        restart_after,
        peering,
    }
}

fn add_path(mode: AddPathMode) -> AddPath {
    let (receive, send) = match mode {
        AddPathMode::Disabled => (Families::NONE, Families::NONE),
        AddPathMode::Receive => (Families::BOTH, Families::NONE),
        AddPathMode::Send => (Families::NONE, Families::BOTH),
        AddPathMode::Both => (Families::BOTH, Families::BOTH),
    };
    AddPath { receive, send }
}

/// How far a peer may be. Of another AS it is one hop away if it is in this node's own subnet (RFC 4271
/// §5.1.3); Calico's sessions are multihop, so others may be anywhere unless the resource says.
fn hops(me: &Node, rib: &RibConfig, peering: &Peering) -> Hops {
    let Security { ttl_security, multihop, .. } = &peering.security;
    if let Some(hops) = ttl_security {
        return Hops::Secured(*hops);
    }
    if let Some(hops) = multihop {
        return Hops::AtMost(*hops);
    }
    let external = peering.kind != PeerType::Mesh && peering.as_number != rib.local_as.0;
    if external && is_near(me, peering.address) { Hops::AtMost(NonZeroU8::MIN) } else { Hops::Any }
}

/// Whether an address is in this node's own subnet.
fn is_near(me: &Node, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => me.ipv4.is_some_and(|net| net.contains(&address)),
        IpAddr::V6(address) => me.ipv6.is_some_and(|net| net.contains(&address)),
    }
}

/// How the way to a peer is watched: over one hop if that is how far it is (RFC 5882 §4.1).
fn bfd(me: &Node, local: Option<IpAddr>, peering: &Peering) -> Option<BfdPeer> {
    let settings = peering.bfd?;
    let Security { ttl_security, multihop, .. } = &peering.security;
    let stated = ttl_security.or(*multihop).map(|hops| hops.get() > 1);
    Some(BfdPeer {
        remote: peering.address,
        local,
        multihop: stated.unwrap_or(!is_near(me, peering.address)),
        config: BfdSessionConfig { min_interval: settings.min_interval, multiplier: settings.multiplier },
    })
}

fn seconds(time: Duration) -> u16 {
    u16::try_from(time.as_secs()).unwrap_or(u16::MAX)
}

fn addresses(node: &Node) -> Vec<IpAddr> {
    let v4 = node.ipv4.map(|net| IpAddr::V4(net.addr()));
    let v6 = node.ipv6.map(|net| IpAddr::V6(net.addr()));
    v4.into_iter().chain(v6).collect()
}

/// Pairs blocks with the address of their family, IPv4 ones else with an IPv6 address (RFC 8950); with
/// `any`, all of them else with the other one.
fn with_next_hop(
    blocks: impl IntoIterator<Item = IpNet>,
    addresses: &[IpAddr],
    any: bool,
) -> Vec<(IpNet, IpAddr)> {
    let of = |block: &IpNet| {
        let same = addresses.iter().find(|address| address.is_ipv4() == block.addr().is_ipv4());
        same.or_else(|| addresses.first().filter(|_| any || block.addr().is_ipv4())).copied()
    };
    blocks.into_iter().filter_map(|block| Some((block, of(&block)?))).collect()
}

/// The IPv4 address; of a node without one, a number made of its name (RFC 6286: any that is
/// unique in the AS).
fn router_id(node: &Node) -> RouterId {
    if let Some(net) = node.ipv4 {
        return RouterId(net.addr());
    }
    let mac = tunnel::node::vtep_mac(&node.name);
    RouterId(Ipv4Addr::new(mac[1] | 1, mac[2], mac[3], mac[4]))
}

fn encapsulation_of(encapsulation: EncapsulationKind) -> tunnel::Encapsulation {
    match encapsulation {
        EncapsulationKind::Ipip => tunnel::Encapsulation::Ipip,
        EncapsulationKind::Vxlan => tunnel::Encapsulation::Vxlan,
        EncapsulationKind::None => tunnel::Encapsulation::None,
    }
}

fn mode_of(mode: EncapsulationMode) -> tunnel::PoolMode {
    match mode {
        EncapsulationMode::Always => tunnel::PoolMode::Always,
        EncapsulationMode::CrossSubnet => tunnel::PoolMode::CrossSubnet,
        EncapsulationMode::Never => tunnel::PoolMode::Never,
    }
}
