//! The RIB between sessions: advertised routes, decoded from the messages.
#![allow(clippy::unwrap_used)]

mod bed;

use std::net::{IpAddr, Ipv4Addr};

use bgp::session::Retention;
use bgp::{Asn, PeerId, RouterId};
use routing::{AttrSet, RibConfig, Source, SourceKind};

use bed::{Bed, config, net, session};

#[test]
fn in_a_mesh_only_own_blocks_are_announced() {
    let mut bed = Bed::new(config());
    bed.rib.originate(Source::Local, &[(net("10.1.0.0/26"), IpAddr::from([192, 168, 0, 100]))]);
    bed.up(1, session(1, true, false));
    bed.up(2, session(2, true, false));
    bed.announce(1, "10.1.1.0/26");
    assert_eq!(bed.wire.prefixes(1), ["10.1.0.0/26"]);
    assert_eq!(bed.wire.prefixes(2), ["10.1.0.0/26"]);
    assert_eq!(bed.wire.end_of_rib.len(), 4, "both families to both peers");
    assert_eq!(bed.best[&net("10.1.1.0/26")].kind, SourceKind::Ibgp);
    bed.rib.originate(Source::Local, &[]);
    bed.settle();
    assert_eq!(bed.wire.prefixes(2), Vec::<String>::new());
}

#[test]
fn a_reflector_reflects_between_clients_and_to_non_clients() {
    let mut bed = Bed::new(RibConfig { cluster_id: Some(Ipv4Addr::new(10, 0, 0, 1)), ..config() });
    bed.up(1, session(1, true, true));
    bed.up(2, session(2, true, true));
    bed.up(3, session(3, true, false));
    bed.up(4, session(4, true, false));
    bed.announce(1, "10.1.1.0/26");
    bed.announce(3, "10.1.3.0/26");
    assert_eq!(bed.wire.prefixes(1), ["10.1.3.0/26"], "its own is not sent back");
    assert_eq!(bed.wire.prefixes(2), ["10.1.1.0/26", "10.1.3.0/26"]);
    assert_eq!(bed.wire.prefixes(4), ["10.1.1.0/26"], "from a non-client to a non-client: never");
    let reflected = bed.wire.attrs(2, "10.1.1.0/26");
    assert_eq!(reflected.originator_id, Some(RouterId(Ipv4Addr::new(192, 168, 0, 1))));
    assert_eq!(reflected.cluster_list().collect::<Vec<_>>(), [Ipv4Addr::new(10, 0, 0, 1)]);
    assert_eq!(reflected.next_hop, IpAddr::from([192, 168, 0, 1]), "the next hop stays");
    let again = AttrSet::from_canonical(reflected.canonical(), reflected.next_hop);
    bed.announce_with(4, "10.1.9.0/26", again);
    assert_eq!(bed.rib.peer_counts(PeerId(4)).all().accepted, 0, "our own cluster is in its CLUSTER_LIST");
    assert_eq!(bed.rib.peer_counts(PeerId(4)).all().received, 1);
}

#[test]
fn a_peer_that_becomes_the_source_receives_a_withdrawal() {
    let mut bed = Bed::new(RibConfig { cluster_id: Some(Ipv4Addr::new(10, 0, 0, 1)), ..config() });
    for id in [1, 2, 3] {
        bed.up(id, session(id, true, true));
    }
    bed.announce(2, "10.1.1.0/26");
    assert_eq!(bed.wire.prefixes(1), ["10.1.1.0/26"]);
    bed.announce(1, "10.1.1.0/26");
    assert_eq!(bed.wire.prefixes(1), Vec::<String>::new(), "peer 1 is the better source now");
    assert_eq!(bed.wire.prefixes(2), ["10.1.1.0/26"]);
    bed.withdraw(1, "10.1.1.0/26");
    assert_eq!(bed.wire.prefixes(1), ["10.1.1.0/26"]);
    assert_eq!(bed.wire.prefixes(2), Vec::<String>::new());
    bed.rib.peer_down(PeerId(2), Retention::default());
    bed.settle();
    assert_eq!(bed.wire.prefixes(3), Vec::<String>::new());
    let counts = routing::query::RibCounts { removed: bed.rib.counts().removed, ..Default::default() };
    assert_eq!(bed.rib.counts(), counts, "no resources are left");
}

#[test]
fn external_peers_get_our_as_and_our_next_hop() {
    let mut bed = Bed::new(config());
    bed.up(1, session(1, true, false));
    bed.up(2, session(2, false, false));
    bed.announce(1, "10.1.1.0/26");
    bed.announce(1, "fd00:1::/122");
    let advertised = bed.wire.attrs(2, "10.1.1.0/26");
    assert_eq!(advertised.as_path().asns().collect::<Vec<_>>(), [Asn(64512)]);
    assert_eq!(advertised.next_hop, IpAddr::from([192, 168, 0, 100]));
    assert_eq!(bed.wire.attrs(2, "fd00:1::/122").next_hop, "fd00::100".parse::<IpAddr>().unwrap());
}

#[test]
fn static_paths_are_below_bgp_and_never_announced() {
    let mut bed = Bed::new(config());
    bed.up(1, session(1, true, false));
    bed.up(2, session(2, true, true));
    bed.rib.originate(Source::Static, &[(net("10.1.1.0/26"), IpAddr::from([192, 168, 0, 1]))]);
    bed.settle();
    assert_eq!(bed.best[&net("10.1.1.0/26")].kind, SourceKind::Static);
    bed.announce(1, "10.1.1.0/26");
    assert_eq!(bed.best[&net("10.1.1.0/26")].kind, SourceKind::Ibgp);
    bed.rib.peer_down(PeerId(1), Retention::default());
    bed.settle();
    assert_eq!(bed.best[&net("10.1.1.0/26")].kind, SourceKind::Static);
    assert_eq!(bed.wire.prefixes(2), Vec::<String>::new());
}

#[test]
fn a_change_of_role_sends_the_difference_to_a_peer() {
    let mut bed = Bed::new(config());
    bed.up(1, session(1, true, false));
    bed.up(2, session(2, true, false));
    bed.announce(1, "10.1.1.0/26");
    assert_eq!(bed.wire.prefixes(2), Vec::<String>::new());
    bed.rib.configure(RibConfig { cluster_id: Some(Ipv4Addr::new(10, 0, 0, 1)), ..config() });
    for id in [1, 2] {
        bed.rib.set_client(PeerId(id), true);
        bed.rib.resume(PeerId(id), &mut bed.wire);
    }
    bed.settle();
    assert_eq!(bed.wire.prefixes(2), ["10.1.1.0/26"]);
    bed.rib.configure(config());
    for id in [1, 2] {
        bed.rib.set_client(PeerId(id), false);
        bed.rib.resume(PeerId(id), &mut bed.wire);
    }
    bed.settle();
    assert_eq!(bed.wire.prefixes(2), Vec::<String>::new());
}

#[test]
fn a_slow_peer_gets_the_latest_state_and_does_not_delay_others() {
    let mut bed = Bed::new(RibConfig { cluster_id: Some(Ipv4Addr::new(10, 0, 0, 1)), ..config() });
    for id in [1, 2, 3] {
        bed.up(id, session(id, true, true));
    }
    bed.wire.full.push(PeerId(2));
    for round in 0..3 {
        for block in 0..10 {
            bed.announce(1, &format!("10.1.{block}.0/26"));
        }
        if round == 1 {
            bed.withdraw(1, "10.1.3.0/26");
        }
    }
    bed.withdraw(1, "10.1.5.0/26");
    assert_eq!(bed.wire.prefixes(3).len(), 9);
    assert_eq!(bed.wire.prefixes(2).len(), 0);
    bed.wire.full.clear();
    let before = bed.wire.chunks;
    assert!(bed.rib.resume(PeerId(2), &mut bed.wire));
    assert_eq!(bed.wire.prefixes(2), bed.wire.prefixes(3));
    assert_eq!(bed.wire.chunks - before, 1, "ten changes and more, one chunk");
}

#[test]
fn a_route_that_no_longer_fits_a_message_is_withdrawn() {
    use bgp::wire::attribute::{code, flag, push};
    let mut bed = Bed::new(RibConfig { cluster_id: Some(Ipv4Addr::new(10, 0, 0, 1)), ..config() });
    bed.up(1, session(1, true, true));
    bed.up(2, session(2, true, true));
    bed.announce(1, "10.1.1.0/26");
    assert_eq!(bed.wire.prefixes(2).len(), 1);
    let base = AttrSet::originated(IpAddr::from([192, 168, 0, 1]));
    let mut long = base.canonical().to_vec();
    push(&mut long, flag::OPTIONAL | flag::TRANSITIVE, code::COMMUNITIES, |out| {
        out.resize(out.len() + 4032, 1)
    });
    bed.announce_with(1, "10.1.1.0/26", AttrSet::from_canonical(&long, base.next_hop));
    assert_eq!(bed.wire.prefixes(2).len(), 0);
}

/// Returns the ONLY_TO_CUSTOMER of a route, if it has one.
fn only_to_customer(attrs: &AttrSet) -> Option<u32> {
    attrs.only_to_customer.map(|asn| asn.0)
}

#[test]
fn routes_from_a_provider_go_to_customers_only() {
    use bgp::wire::capability::Role;
    use routing::policy::{ExportPolicy, ImportPolicy};
    use std::sync::Arc;
    let mut bed = Bed::new(config());
    let roles = [(1, Role::Customer), (2, Role::Customer), (3, Role::Provider), (4, Role::Peer)];
    for (id, role) in roles {
        let asn = Asn(65000 + u32::from(id));
        let policy = routing::PeerPolicy {
            import: ImportPolicy { role: Some((role, asn)), ..ImportPolicy::default() },
            export: Arc::new(ExportPolicy { role: Some(role), ..ExportPolicy::default() }),
            ..Default::default()
        };
        bed.rib.set_peer_policy(PeerId(id.into()), policy);
        bed.up(id, session(id, false, false));
    }
    // From a provider and from a customer, without the attribute.
    bed.announce(1, "10.1.0.0/26");
    bed.announce(3, "10.3.0.0/26");
    bed.settle();
    assert_eq!(bed.wire.prefixes(2), ["10.3.0.0/26"], "another provider receives the customer's route only");
    assert_eq!(bed.wire.prefixes(4), ["10.3.0.0/26"], "so does a peer");
    assert_eq!(bed.wire.prefixes(3), ["10.1.0.0/26"], "the customer gets the provider's");
    assert_eq!(only_to_customer(bed.wire.attrs(3, "10.1.0.0/26")), Some(65001));
    assert_eq!(only_to_customer(bed.wire.attrs(2, "10.3.0.0/26")), None);
    assert_eq!(
        only_to_customer(bed.wire.attrs(4, "10.3.0.0/26")),
        Some(64512),
        "marked on its way to a peer"
    );
}

#[test]
fn the_tunnel_exit_is_the_owners_endpoint_and_not_a_changed_next_hop() {
    use routing::{ClusterPolicy, TunnelEncapsulation};
    // One node announces its block; a reflector sets itself as the next hop; a third node receives
    // it.
    let mut owner = Bed::new(RibConfig { local_addresses: vec![[192, 168, 0, 7].into()], ..config() });
    owner.rib.set_cluster_policy(ClusterPolicy {
        encapsulation: Some(TunnelEncapsulation::Ipip),
        ..ClusterPolicy::default()
    });
    owner.rib.originate(Source::Local, &[(net("10.1.7.0/26"), [192, 168, 0, 7].into())]);
    owner.up(1, session(1, true, false));
    owner.up(2, session(2, false, false));
    owner.settle();
    let announced = owner.wire.attrs(1, "10.1.7.0/26");
    let advertised = AttrSet::from_canonical(announced.canonical(), [192, 168, 0, 9].into());
    assert_eq!(announced.egress, Some([192, 168, 0, 7].into()));
    assert_eq!(owner.wire.attrs(2, "10.1.7.0/26").egress, None, "tunnels end inside the AS");

    let mut learner = Bed::new(config());
    learner.up(9, session(9, true, false));
    learner.up(8, session(8, false, false));
    learner.announce_with(
        9,
        "10.1.7.0/26",
        AttrSet::from_canonical(advertised.canonical(), advertised.next_hop),
    );
    learner.announce_with(
        8,
        "10.1.8.0/26",
        AttrSet::from_canonical(advertised.canonical(), advertised.next_hop),
    );
    learner.settle();
    let best = learner.best[&net("10.1.7.0/26")];
    assert_eq!((best.next_hop, best.exit), ([192, 168, 0, 9].into(), [192, 168, 0, 7].into()));
    let outside = learner.best[&net("10.1.8.0/26")];
    assert_eq!(outside.exit, outside.next_hop, "the endpoint of an external peer is ignored");
}

#[test]
fn prefixes_of_a_session_are_counted_by_family() {
    let mut bed = Bed::new(RibConfig { cluster_id: Some(Ipv4Addr::new(10, 0, 0, 1)), ..config() });
    for id in [1, 2] {
        bed.up(id, session(id, true, true));
    }
    let all = ["10.1.1.0/26", "10.1.2.0/26", "fd00:1::/122"];
    all.iter().for_each(|prefix| bed.announce(1, prefix));
    // Routes without a next hop of their family are not sent.
    bed.announce_with(1, "fd00:2::/122", AttrSet::originated("fd00::1".parse().unwrap()));
    assert_eq!(bed.wire.prefixes(2), ["10.1.1.0/26", "10.1.2.0/26", "fd00:2::/122"]);
    let of = |bed: &Bed, peer: u32| {
        let counts = bed.rib.peer_counts(PeerId(peer)).families;
        counts.map(|family| (family.received, family.accepted, family.advertised))
    };
    assert_eq!(of(&bed, 1), [(2, 2, 0), (2, 2, 0)]);
    assert_eq!(of(&bed, 2), [(0, 0, 2), (0, 0, 1)]);
    bed.withdraw(1, "fd00:2::/122");
    assert_eq!((of(&bed, 1), of(&bed, 2)[1]), ([(2, 2, 0), (1, 1, 0)], (0, 0, 0)));
}
