//! Policy that follows from the resources: named filters become chains of rules; pools and the node
//! table become the policy of the cluster.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;

use bgp::Asn;
use resource::{EncapsulationKind, Node, Snapshot};
use routing::ownership::Owners;
use routing::policy::{Chain, ExportPolicy, Filter, FilterRule, ImportPolicy};
use routing::{ClusterPolicy, PeerPolicy};

use crate::node_config::peering::Peering;

/// Returns the policy that applies to all peers, without the links.
pub(crate) fn cluster_policy(snapshot: &Snapshot) -> ClusterPolicy {
    let blocks = snapshot.blocks();
    let nodes: Vec<(Vec<IpAddr>, Vec<IpNet>)> = snapshot
        .nodes
        .iter()
        .map(|node| {
            let v4 = node.ipv4.map(|net| IpAddr::V4(net.addr()));
            let v6 = node.ipv6.map(|net| IpAddr::V6(net.addr()));
            let blocks = blocks.get(node.name.as_str()).cloned().unwrap_or_default();
            (v4.into_iter().chain(v6).collect(), blocks)
        })
        .collect();
    let all = || nodes.iter().map(|(addresses, blocks)| (&addresses[..], &blocks[..]));
    let mut pools: Vec<IpNet> =
        snapshot.pools.iter().filter(|pool| !pool.disable_bgp_export).map(|pool| pool.cidr).collect();
    if snapshot.pools.is_empty() {
        // Without any pool every block of a node is exported.
        pools.extend(all().flat_map(|(_, blocks)| blocks));
    }
    ClusterPolicy {
        pools: IpNet::aggregate(&pools),
        advertisements: snapshot.configuration.advertisements.clone(),
        links: Vec::new(),
        encapsulation: None,
        owners: Owners::new(snapshot.configuration.routed.ownership, all()),
        draining: false,
    }
}

/// Returns the encapsulation that other nodes should use for packets to the blocks of `me`.
pub(crate) fn encapsulation(snapshot: &Snapshot, me: &Node) -> Option<routing::TunnelEncapsulation> {
    match snapshot.configuration.routed.encapsulation {
        EncapsulationKind::Ipip => Some(routing::TunnelEncapsulation::Ipip),
        EncapsulationKind::Vxlan => Some(routing::TunnelEncapsulation::Vxlan {
            vni: tunnel::VXLAN_VNI,
            mac: me.vxlan_mac.unwrap_or_else(|| tunnel::node::vtep_mac(&me.name)),
        }),
        EncapsulationKind::None => None,
    }
}

/// Returns whether a rule of any filter matches on an interface.
pub(crate) fn needs_links(snapshot: &Snapshot) -> bool {
    let names = |rules: &[FilterRule]| rules.iter().any(|rule| rule.interface.is_some());
    snapshot.filters.iter().any(|filter| {
        let Filter { export_v4, import_v4, export_v6, import_v6 } = &filter.filter;
        names(export_v4) || names(import_v4) || names(export_v6) || names(import_v6)
    })
}

/// Returns the subnets of this node's links, with the links' names.
pub(crate) fn links() -> Vec<(IpNet, String)> {
    let Ok(all) = getifaddrs() else { return Vec::new() };
    let subnet = |link: nix::ifaddrs::InterfaceAddress| {
        let (address, mask) = (link.address?, link.netmask?);
        let net = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(address), _) => {
                let mask = mask.as_sockaddr_in()?.ip();
                IpNet::with_netmask(address.ip().into(), mask.into()).ok()?
            }
            (None, Some(address)) => {
                let mask = mask.as_sockaddr_in6()?.ip();
                IpNet::with_netmask(address.ip().into(), mask.into()).ok()?
            }
            (None, None) => return None,
        };
        Some((net.trunc(), link.interface_name))
    };
    let mut links: Vec<_> = all.filter_map(subnet).collect();
    links.sort();
    links.dedup();
    links
}

/// Returns the policy of one peer, and the time for which its session stays down after too many
/// prefixes.
pub(crate) fn peer_policy(snapshot: &Snapshot, peering: &Peering) -> (PeerPolicy, Option<Duration>) {
    let fields = &peering.policy;
    let outside = !snapshot.is_own_as(peering.as_number);
    // Roles have no meaning inside an AS (RFC 9234 §4).
    let role = fields.role.filter(|_| outside);
    let local_as = fields.local_as_number.map(Asn);
    let filters: Vec<Option<&Filter>> =
        fields.filters.iter().map(|name| snapshot.filter(name).map(|resource| &resource.filter)).collect();
    let (import_chain, export_chain) = match filters.iter().copied().collect::<Option<Vec<&Filter>>>() {
        Some(filters) => (Chain::import(filters.iter().copied()), Chain::export(filters.iter().copied())),
        // A filter that does not exist: both directions are closed, and the checks between
        // resources report it.
        None => (Chain::closed(), Chain::closed()),
    };
    // A direction without rules has no policy, and the defaults of RFC 8212 apply.
    let non_empty = |chain: Chain| (!chain.is_empty()).then(|| Arc::new(chain));
    let max = fields.max_prefixes.or(snapshot.configuration.routed.max_prefixes);
    let policy = PeerPolicy {
        import: ImportPolicy {
            chain: non_empty(import_chain),
            outside,
            allowed_local_as: fields.allowed_local_as,
            local_as,
            role: role.map(|role| (role, Asn(peering.as_number))),
        },
        export: Arc::new(ExportPolicy {
            chain: non_empty(export_chain),
            outside,
            next_hop: fields.next_hop_mode,
            local_as,
            role,
        }),
        max_prefixes: max.map(|max| max.as_policy()),
    };
    (policy, max.and_then(|max| max.restart_after))
}

#[cfg(test)]
mod tests {
    use resource::{assemble, parse_file};
    use routing::policy::FilterOutcome;

    use crate::node_config::peering::peerings;

    use super::*;

    const NODE: &str = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: { name: a }\nspec: { bgp: { ipv4Address: \
                        192.168.0.1/24 }, podCIDRs: [10.1.1.0/26] }\n---\napiVersion: projectcalico.org/v3\nkind: \
                        BGPFilter\nmetadata: { name: in }\nspec: { importV4: [{ action: Accept }] }\n---\n";

    fn policy(peer: &str) -> PeerPolicy {
        let text = format!(
            "{NODE}apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {{ name: tor }}\nspec: {peer}\n"
        );
        let parsed = parse_file("test", &text);
        assert!(parsed.mistakes.is_empty(), "{:?}", parsed.mistakes);
        let snapshot = assemble(&parsed.documents).snapshot;
        let peering = peerings(&snapshot, &snapshot.nodes[0]).remove(0);
        peer_policy(&snapshot, &peering).0
    }

    #[test]
    fn without_a_filter_the_default_depends_on_whether_the_peer_is_outside() {
        let outside = policy("{ peerIP: 192.168.0.254, asNumber: 65000 }");
        assert!(outside.import.outside && outside.import.chain.is_none() && outside.export.outside);
        let inside = policy("{ peerIP: 192.168.0.254, asNumber: 64512 }");
        assert_eq!(inside, PeerPolicy::default());
    }

    #[test]
    fn a_direction_without_rules_has_no_policy() {
        let policy = policy("{ peerIP: 192.168.0.254, asNumber: 65000, filters: [in] }");
        assert!(policy.import.chain.is_some() && policy.export.chain.is_none());
    }

    #[test]
    fn an_unknown_filter_closes_both_directions() {
        use routing::AttrSet;
        use routing::policy::{PeerKind, Subject};
        let policy = policy("{ peerIP: 192.168.0.254, asNumber: 64512, filters: [in, nobody] }");
        let attrs = AttrSet::originated([192, 168, 0, 9].into());
        for prefix in ["10.1.1.0/26", "fd00::/64"] {
            let subject = Subject {
                prefix: prefix.parse().expect("a prefix"),
                attrs: &attrs,
                kind: routing::SourceKind::Ibgp,
                peer: PeerKind::Internal,
                interface: None,
            };
            for chain in [&policy.import.chain, &policy.export.chain] {
                assert_eq!(
                    chain.as_ref().expect("closed").evaluate(&subject),
                    FilterOutcome::Rejected,
                    "{prefix}"
                );
            }
        }
    }
}
