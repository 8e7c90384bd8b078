//! The peers of a node: the mesh, the BGPPeer resources, and their reverse peerings.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use api::view::PeerType;
use resource::{
    AddPathMode, BfdSettings, BgpPeer, Node, PeerPolicyFields, PeerRange, ReversePeering, Security, Snapshot,
    SourceAddress,
};

/// The port of a BGPPeer without a port.
const BGP_PORT: u16 = 179;

/// A peer of this node and the settings of its resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peering {
    /// The name of the peer's node, or of the BGPPeer.
    pub name: String,
    /// The peer's address; no two peerings share one.
    pub address: IpAddr,
    /// The peer's port.
    pub port: u16,
    /// The peer's AS.
    pub as_number: u32,
    /// The kind of resource that the peering comes from.
    pub kind: PeerType,
    /// True if the peer is a client of this route reflector (RFC 4456).
    pub client: bool,
    /// True if the local address of the session is this node's address.
    pub from_node_address: bool,
    /// The protection of the session.
    pub security: Security,
    /// The BFD settings, if BFD is configured.
    pub bfd: Option<BfdSettings>,
    /// The time for which the peer is asked to retain this node's routes while it restarts.
    pub restart_time: Duration,
    /// The policy fields of the BGPPeer.
    pub policy: PeerPolicyFields,
}

/// Returns the peers of `me`, in the order of their addresses.
///
/// If several resources cause a session with one address, the first of these is used: a global
/// BGPPeer, a BGPPeer of some nodes, the reverse peering of a BGPPeer, the mesh.
pub fn peerings(snapshot: &Snapshot, me: &Node) -> Vec<Peering> {
    let mut by_address = BTreeMap::new();
    if snapshot.configuration.routed.bgp_disabled {
        return Vec::new();
    }
    add_mesh(snapshot, me, &mut by_address);
    for peer in &snapshot.peers {
        add_reverse(snapshot, me, peer, &mut by_address);
    }
    for kind in [PeerType::Node, PeerType::Global] {
        for peer in snapshot.peers.iter().filter(|peer| kind_of(peer) == kind && applies(peer, me)) {
            add_explicit(snapshot, me, peer, &mut by_address);
        }
    }
    by_address.into_values().collect()
}

type PeeringMap = BTreeMap<IpAddr, Peering>;

/// The settings that a peering with a node takes from its resource.
#[derive(Clone)]
struct PeeringOptions {
    kind: PeerType,
    policy: PeerPolicyFields,
    restart_time: Duration,
    security: Security,
    bfd: Option<BfdSettings>,
}

impl PeeringOptions {
    fn of(peer: &BgpPeer, policy: PeerPolicyFields) -> PeeringOptions {
        PeeringOptions {
            kind: kind_of(peer),
            policy,
            restart_time: peer.max_restart_time,
            security: peer.security.clone(),
            bfd: peer.bfd,
        }
    }
}

/// Adds the node-to-node mesh. Route reflectors are not part of it, as in Calico.
fn add_mesh(snapshot: &Snapshot, me: &Node, by_address: &mut PeeringMap) {
    if !snapshot.configuration.node_to_node_mesh || me.cluster_id.is_some() {
        return;
    }
    let settings = &snapshot.configuration.routed;
    let options = PeeringOptions {
        kind: PeerType::Mesh,
        policy: PeerPolicyFields::default(),
        restart_time: snapshot.configuration.restart_time,
        security: Security { password_file: settings.password_file.clone(), ..Security::default() },
        bfd: settings.bfd,
    };
    for node in snapshot.nodes.iter().filter(|node| node.cluster_id.is_none()) {
        add_node(snapshot, me, node, options.clone(), by_address);
    }
}

/// Adds the reverse peerings of a BGPPeer that selects `me` as the peer of other nodes.
fn add_reverse(snapshot: &Snapshot, me: &Node, peer: &BgpPeer, by_address: &mut PeeringMap) {
    let selects_me = peer.peer_selector.as_ref().is_some_and(|selector| selector.matches(&me.labels));
    if !selects_me || peer.reverse_peering != ReversePeering::Auto {
        return;
    }
    // One end sends what the other end receives.
    let add_path = peer.policy.add_path.map(|mode| match mode {
        AddPathMode::Receive => AddPathMode::Send,
        AddPathMode::Send => AddPathMode::Receive,
        AddPathMode::Disabled | AddPathMode::Both => mode,
    });
    for node in snapshot.nodes.iter().filter(|node| applies(peer, node)) {
        let policy = PeerPolicyFields { add_path, ..PeerPolicyFields::default() };
        add_node(snapshot, me, node, PeeringOptions::of(peer, policy), by_address);
    }
}

/// Adds the peers of a BGPPeer that applies to `me`: the selected nodes, and the address it names.
fn add_explicit(snapshot: &Snapshot, me: &Node, peer: &BgpPeer, by_address: &mut PeeringMap) {
    if let Some(selector) = &peer.peer_selector {
        for node in snapshot.nodes.iter().filter(|node| selector.matches(&node.labels)) {
            add_node(snapshot, me, node, PeeringOptions::of(peer, peer.policy.clone()), by_address);
        }
    }
    let Some((address, port)) = peer.peer_ip else { return };
    if addresses(me).any(|own| own == address) {
        return;
    }
    let node = snapshot.nodes.iter().find(|node| addresses(node).any(|own| own == address));
    let known = node.map(|node| snapshot.as_number_of(node));
    let as_number = peer.as_number.or(known).unwrap_or(snapshot.configuration.as_number);
    let peering = Peering {
        name: node.map_or_else(|| peer.name.clone(), |node| node.name.clone()),
        address,
        port: port.unwrap_or(if node.is_some() { snapshot.configuration.listen_port } else { BGP_PORT }),
        as_number,
        kind: kind_of(peer),
        client: is_client(snapshot, me, as_number, node),
        from_node_address: peer.source_address == SourceAddress::UseNodeIp,
        security: peer.security.clone(),
        bfd: peer.bfd,
        restart_time: peer.max_restart_time,
        policy: peer.policy.clone(),
    };
    by_address.insert(address, peering);
}

/// Adds a peering with a node, if it has an address of a family that `me` has too.
fn add_node(
    snapshot: &Snapshot,
    me: &Node,
    node: &Node,
    options: PeeringOptions,
    by_address: &mut PeeringMap,
) {
    let v4 = node.ipv4.map(|net| IpAddr::V4(net.addr())).filter(|_| me.ipv4.is_some());
    let v6 = node.ipv6.map(|net| IpAddr::V6(net.addr())).filter(|_| me.ipv6.is_some());
    let Some(address) = v4.or(v6).filter(|_| node.name != me.name) else { return };
    let as_number = snapshot.as_number_of(node);
    let peering = Peering {
        name: node.name.clone(),
        address,
        port: snapshot.configuration.listen_port,
        as_number,
        kind: options.kind,
        client: is_client(snapshot, me, as_number, Some(node)),
        from_node_address: true,
        security: options.security,
        bfd: options.bfd,
        restart_time: options.restart_time,
        policy: options.policy,
    };
    by_address.insert(address, peering);
}

/// A range of addresses from which dynamic neighbors may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighborRange {
    /// The range, with the maximum number of neighbors.
    pub range: PeerRange,
    /// The peering of a neighbor of the range; its address is a placeholder.
    pub peering: Peering,
}

/// Returns the ranges of `me`, the narrowest first.
pub fn ranges(snapshot: &Snapshot, me: &Node) -> Vec<NeighborRange> {
    if snapshot.configuration.routed.bgp_disabled {
        return Vec::new();
    }
    let of = |peer: &BgpPeer| {
        let range = peer.policy.range.filter(|_| applies(peer, me))?;
        let as_number = peer.as_number.unwrap_or(snapshot.configuration.as_number);
        let peering = Peering {
            name: peer.name.clone(),
            address: range.net.addr(),
            port: BGP_PORT,
            as_number,
            kind: kind_of(peer),
            client: is_client(snapshot, me, as_number, None),
            from_node_address: peer.source_address == SourceAddress::UseNodeIp,
            policy: peer.policy.clone(),
            security: peer.security.clone(),
            bfd: peer.bfd,
            restart_time: peer.max_restart_time,
        };
        Some(NeighborRange { range, peering })
    };
    let mut ranges: Vec<NeighborRange> = snapshot.peers.iter().filter_map(of).collect();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.range.net.prefix_len()));
    ranges
}

/// Returns whether a peer is a client: `me` is a reflector, and the peer is in the same AS and not
/// a reflector of the same cluster.
fn is_client(snapshot: &Snapshot, me: &Node, as_number: u32, node: Option<&Node>) -> bool {
    let theirs = node.and_then(|node| node.cluster_id);
    me.cluster_id.is_some() && as_number == snapshot.as_number_of(me) && theirs != me.cluster_id
}

fn addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    let v4 = node.ipv4.map(|net| IpAddr::V4(net.addr()));
    let v6 = node.ipv6.map(|net| IpAddr::V6(net.addr()));
    v4.into_iter().chain(v6)
}

/// Returns whether a BGPPeer applies to `node`.
fn applies(peer: &BgpPeer, node: &Node) -> bool {
    match (&peer.node, &peer.node_selector) {
        (Some(name), _) => *name == node.name,
        (None, Some(selector)) => selector.matches(&node.labels),
        (None, None) => true,
    }
}

fn kind_of(peer: &BgpPeer) -> PeerType {
    if peer.node.is_none() && peer.node_selector.is_none() { PeerType::Global } else { PeerType::Node }
}

#[cfg(test)]
mod tests {
    use resource::{assemble, parse_file};

    use super::*;

    fn snapshot(extra: &str) -> Snapshot {
        let mut text = String::new();
        for (host, name, more, label) in
            [(1, "a", "", "x"), (2, "b", "", "x"), (3, "rr", ", routeReflectorClusterID: 10.0.0.1", "yes")]
        {
            text += &format!(
                "---\napiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{ name: {name}, labels: {{ rr: \"{label}\" }} }}\n\
                 spec: {{ bgp: {{ ipv4Address: 192.168.0.{host}/24{more} }} }}\n"
            );
        }
        let parsed = parse_file("test", &(text + extra));
        assert!(parsed.mistakes.is_empty(), "{:?}", parsed.mistakes);
        let assembled = assemble(&parsed.documents);
        assert!(assembled.mistakes.is_empty(), "{:?}", assembled.mistakes);
        assembled.snapshot
    }

    fn names(snapshot: &Snapshot, of: &str) -> Vec<String> {
        let me = snapshot.nodes.iter().find(|node| node.name == of).expect("a node");
        peerings(snapshot, me)
            .into_iter()
            .map(|peering| {
                let client = if peering.client { " client" } else { "" };
                format!("{} {:?}{client}", peering.name, peering.kind)
            })
            .collect()
    }

    const REFLECTED: &str = "---\napiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: { name: p }\n\
                             spec: { nodeSelector: all(), peerSelector: \"rr == 'yes'\" }\n";

    #[test]
    fn reflectors_are_not_part_of_the_mesh() {
        let snapshot = snapshot("");
        assert_eq!(names(&snapshot, "a"), ["b Mesh"]);
        assert_eq!(names(&snapshot, "rr"), Vec::<String>::new());
    }

    #[test]
    fn a_selected_peer_gets_the_reverse_peering() {
        let snapshot = snapshot(REFLECTED);
        assert_eq!(names(&snapshot, "a"), ["b Mesh", "rr Node"]);
        assert_eq!(names(&snapshot, "rr"), ["a Node client", "b Node client"]);
    }

    #[test]
    fn an_explicit_peer_replaces_the_mesh_one_and_an_external_one_is_no_client() {
        let snapshot = snapshot(
            "---\napiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: { name: g }\n\
             spec: { peerIP: \"192.168.0.2\", asNumber: 64512 }\n\
             ---\napiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: { name: tor }\n\
             spec: { node: rr, peerIP: \"192.168.0.254:1790\", asNumber: 65000 }\n",
        );
        assert_eq!(names(&snapshot, "a"), ["b Global"]);
        assert_eq!(names(&snapshot, "rr"), ["b Global client", "tor Node"]);
    }

    #[test]
    fn the_meshs_password_is_for_the_mesh_and_a_peers_for_both_ends() {
        let snapshot = snapshot(
            "---\napiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: { name: default }\n\
             spec: { routed: { passwordFile: /mesh } }\n\
             ---\napiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: { name: p }\n\
             spec: { nodeSelector: \"rr == 'x'\", peerSelector: \"rr == 'yes'\", routed: { passwordFile: /peer } }\n",
        );
        let files = |of: &str| {
            let me = snapshot.nodes.iter().find(|node| node.name == of).expect("a node");
            let file =
                |peering: Peering| peering.security.password_file.unwrap_or_default().display().to_string();
            peerings(&snapshot, me).into_iter().map(file).collect::<Vec<_>>()
        };
        assert_eq!(files("a"), ["/mesh", "/peer"]);
        assert_eq!(files("rr"), ["/peer", "/peer"]);
    }

    #[test]
    fn without_bgp_there_are_no_sessions() {
        let snapshot = snapshot(
            "---\napiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: { name: default }\n\
             spec: { routed: { bgp: disabled } }\n",
        );
        assert_eq!(names(&snapshot, "a"), Vec::<String>::new());
    }
}
