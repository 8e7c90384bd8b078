//! The configuration of this node's parts, derived from the resources as plain data: RIB, peers,
//! paths, tunnels, firewall, and network configuration of pods.

pub(crate) mod dynamic_neighbors;
pub(crate) mod password;
pub mod peering;
pub(crate) mod policy;

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use api::view::PeerType;
use bgp::bfd::BfdSessionConfig;
use bgp::net::{BfdPeer, Hops, Md5Key, PeerAddress, Protection};
use bgp::session::{PeerConfig, RestartConfig};
use bgp::wire::capability::AddPath;
use bgp::{Asn, Families, RouterId};
use resource::{
    AddPathMode, EncapsulationKind, EncapsulationMode, FallbackSetting, Node, PeerRange, RoutedSettings,
    Security, Snapshot,
};
use routing::{ClusterPolicy, PeerPolicy, RibConfig};
use tunnel::{Firewall, LocalNode, Pool, ProbeConfig};

use crate::cni::CniNetwork;
use crate::config::DaemonConfig;
use crate::host::tunnel_address;
use crate::node_config::peering::{NeighborRange, Peering, peerings, ranges};

/// The delay before the first connection attempt to another node of the mesh. Nodes that start
/// together do not listen yet, and a refused connection costs as much as a session.
const FIRST_CONNECT_DELAY: Duration = Duration::from_millis(250);
/// The delay of the node with the higher address. Without it both nodes would often connect at the
/// same time and cause a connection collision (RFC 4271 §6.8). If only one of the two can connect,
/// the session still comes up.
const SECOND_CONNECT_DELAY: Duration = Duration::from_secs(2);

/// The settings of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// The peer's identity and the resource it comes from.
    pub peering: Peering,
    /// The parameters of the session.
    pub config: PeerConfig,
    /// The addresses and the protection of the connection.
    pub address: PeerAddress,
    /// The BFD session, if BFD is configured.
    pub bfd: Option<BfdPeer>,
    /// The import and export policy.
    pub policy: PeerPolicy,
    /// The time for which the session stays down after too many prefixes; `None`: until the
    /// configuration changes.
    pub restart_after: Option<Duration>,
}

impl PeerSettings {
    /// Returns the parameters for the first session. After a restart of this node the other nodes
    /// already listen, so that the first connection needs no delay.
    pub(crate) fn initial_config(&self, restarted: bool) -> PeerConfig {
        let mut config = self.config.clone();
        if restarted && config.connect_delay <= FIRST_CONNECT_DELAY {
            config.connect_delay = Duration::ZERO;
        }
        config
    }
}

/// The settings of the dynamic neighbors of one range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSettings {
    /// The range, with the maximum number of neighbors.
    pub range: PeerRange,
    /// The settings that all neighbors of the range share; see [`RangeSettings::for_neighbor`].
    pub template: PeerSettings,
}

impl RangeSettings {
    /// Returns the settings of one neighbor.
    pub fn for_neighbor(&self, address: IpAddr) -> PeerSettings {
        let mut settings = self.template.clone();
        settings.peering.name = format!("{}-{address}", settings.peering.name);
        settings.peering.address = address;
        settings.address.remote.set_ip(address);
        if let Some(bfd) = &mut settings.bfd {
            bfd.remote = address;
        }
        settings
    }
}

/// The blocks of a node in the static peer table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticPaths {
    /// The node's name.
    pub node: String,
    /// The blocks, each with the node's address as next hop.
    pub paths: Vec<(IpNet, IpAddr)>,
}

/// The configuration of all parts of this node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The RIB's configuration.
    pub rib: RibConfig,
    /// The policy that applies to all peers, without the links.
    pub policy: ClusterPolicy,
    /// True if a filter matches on interfaces, so that the policy needs the links.
    pub needs_links: bool,
    /// The port to listen on; `None`: BGP is disabled.
    pub listen_port: Option<u16>,
    /// The configured peers.
    pub peers: Vec<PeerSettings>,
    /// The ranges of dynamic neighbors, the narrowest first.
    pub ranges: Vec<RangeSettings>,
    /// This node's blocks that are advertised, with their next hops.
    pub local: Vec<(IpNet, IpAddr)>,
    /// The other nodes' blocks; empty without fallback.
    pub static_paths: Vec<StaticPaths>,
    /// The tunnels' configuration, without the key of the probes.
    pub tunnel: tunnel::Config,
    /// The file with the key of the probes.
    pub probe_key_file: Option<PathBuf>,
    /// The desired nftables table: accepted tunnel sources, and masqueraded pools.
    pub firewall: Firewall,
    /// The network configuration for container runtimes, if it is requested.
    pub(crate) network: Option<CniNetwork>,
}

/// The reason why there is no configuration for this node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeConfigError {
    /// There is no Node resource with this node's name.
    #[error(
        "there is no Node resource named {0:?}: apply one, or set `node` in routed.yaml to the name that it has"
    )]
    Unknown(String),
    /// The Node resource has no address.
    #[error("Node {0:?} has no address: set spec.bgp.ipv4Address or ipv6Address")]
    NoAddress(String),
}

/// Derives the configuration of this node from the resources.
///
/// # Errors
/// [`NodeConfigError`].
pub fn derive(config: &DaemonConfig, snapshot: &Snapshot) -> Result<NodeConfig, NodeConfigError> {
    let me = snapshot
        .nodes
        .iter()
        .find(|node| node.name == config.node)
        .ok_or_else(|| NodeConfigError::Unknown(config.node.clone()))?;
    let addresses = addresses(me);
    if addresses.is_empty() {
        return Err(NodeConfigError::NoAddress(config.node.clone()));
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
    let static_paths = match settings.fallback {
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
                vtep: node
                    .vxlan_tunnel_address
                    .or_else(|| tunnel_address::configured_or_default(node, &blocks)),
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
    let network = settings.cni.clone().map(|settings| CniNetwork {
        settings,
        blocks: tunnel.local.blocks.clone(),
        taken: tunnel_addresses.chain(tunnel.local.vtep_ipv6().map(IpAddr::V6)).collect(),
    });
    let peers = peerings(snapshot, me)
        .into_iter()
        .map(|peering| peer_settings(snapshot, me, &rib, settings, &addresses, peering))
        .collect();
    let ranges = ranges(snapshot, me)
        .into_iter()
        .map(|NeighborRange { range, peering }| {
            let mut template = peer_settings(snapshot, me, &rib, settings, &addresses, peering);
            template.config.passive = true;
            RangeSettings { range, template }
        })
        .collect();
    let policy = ClusterPolicy {
        encapsulation: policy::encapsulation(snapshot, me),
        ..policy::cluster_policy(snapshot)
    };
    let needs_links = policy::needs_links(snapshot);
    let probe_key_file = settings.probe_key_file.clone();
    let listen_port = (!settings.bgp_disabled).then_some(snapshot.configuration.listen_port);
    Ok(NodeConfig {
        rib,
        policy,
        needs_links,
        listen_port,
        peers,
        ranges,
        local,
        static_paths,
        tunnel,
        probe_key_file,
        firewall,
        network,
    })
}

fn peer_settings(
    snapshot: &Snapshot,
    me: &Node,
    rib: &RibConfig,
    settings: &RoutedSettings,
    own: &[IpAddr],
    peering: Peering,
) -> PeerSettings {
    let restart = settings.graceful_restart.then(|| RestartConfig {
        restart_time: seconds(peering.restart_time),
        long_lived_stale_time: u32::try_from(settings.long_lived_stale_time.as_secs()).unwrap_or(0),
    });
    let (policy, restart_after) = policy::peer_policy(snapshot, &peering);
    let local = own.iter().copied().find(|address| address.is_ipv4() == peering.address.is_ipv4());
    let second = local.is_some_and(|local| local > peering.address);
    PeerSettings {
        config: PeerConfig {
            local_as: policy.import.local_as.unwrap_or(rib.local_as),
            router_id: rib.router_id,
            peer_as: Asn(peering.as_number),
            hold_time: seconds(settings.hold_time),
            families: Families::BOTH,
            passive: false,
            connect_delay: match second {
                true => SECOND_CONNECT_DELAY,
                false if peering.kind == PeerType::Mesh => FIRST_CONNECT_DELAY,
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

/// Returns the permitted distance of a peer. A peer in another AS and in this node's own subnet is
/// one hop away (RFC 4271 §5.1.3). Calico's sessions are multihop, so other peers may be anywhere
/// unless the resource limits the hops.
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

/// Returns whether an address is in this node's own subnet.
fn is_near(me: &Node, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => me.ipv4.is_some_and(|net| net.contains(&address)),
        IpAddr::V6(address) => me.ipv6.is_some_and(|net| net.contains(&address)),
    }
}

/// Returns the BFD session of a peer: single-hop if the peer is one hop away, else multihop (RFC
/// 5882 §4.1).
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

/// Pairs blocks with the node's address of their family. An IPv4 block of a node without an IPv4
/// address gets its IPv6 address (RFC 8950); with `any`, an IPv6 block gets an IPv4 address too.
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

/// Returns the node's IPv4 address as router ID. A node without one gets a number derived from its
/// name, which is unique in the AS as RFC 6286 requires.
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
