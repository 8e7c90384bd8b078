//! Policy between an external peer (5), another one (6) and a client (1): the rules of the RFCs.
//! Filters have tests of their own.
#![allow(clippy::unwrap_used)]

mod bed;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bed::{Bed, config, net, session};
use bgp::wire::attribute::{code, flag, push};
use bgp::{Asn, PeerId};
use routing::ownership::{Owners, OwnershipMode};
use routing::policy::{
    Advertisement, Chain, Community, ExportPolicy, Filter, FilterRule, ImportPolicy, NextHopMode,
    with_communities,
};
use routing::{AttrSet, ClusterPolicy, PathReason, PeerPolicy, RibConfig, Source};

const BLOCK: &str = "10.9.0.0/24";

/// Returns attributes as sent by `peer`.
fn attrs(peer: u8, path: &[u32], communities: &[Community]) -> AttrSet {
    let next_hop = IpAddr::from([192, 168, 0, peer]);
    let mut out = Vec::new();
    push(&mut out, flag::WELL_KNOWN, code::ORIGIN, |out| out.push(0));
    push(&mut out, flag::WELL_KNOWN, code::AS_PATH, |out| {
        out.extend([2, path.len() as u8]);
        path.iter().for_each(|asn| out.extend(asn.to_be_bytes()));
    });
    AttrSet::from_canonical(&with_communities(&out, communities), next_hop)
}

fn open(rules: Vec<FilterRule>) -> Option<Arc<Chain>> {
    let filter = Filter { import_v4: rules.clone(), export_v4: rules, ..Filter::default() };
    Some(Arc::new(Chain::import([&filter])))
}

/// Returns a reflector with a client and two external peers that policy treats as part of the
/// cluster.
fn scene() -> Bed {
    let mut bed = Bed::new(RibConfig { cluster_id: Some(Ipv4Addr::new(10, 0, 0, 1)), ..config() });
    bed.up(1, session(1, true, true));
    bed.up(5, session(5, false, false));
    bed.up(6, session(6, false, false));
    bed
}

fn set(bed: &mut Bed, peer: u32, policy: PeerPolicy) {
    bed.rib.set_peer_policy(PeerId(peer), policy);
    bed.rib.resume(PeerId(peer), &mut bed.wire);
    bed.settle();
}

fn reason(bed: &Bed) -> Option<PathReason> {
    let (routes, _) = bed.rib.routes_from(0, usize::MAX, |prefix| *prefix == net(BLOCK));
    routes.first().and_then(|route| route.paths.first()).and_then(|path| path.reason)
}

#[test]
fn no_export_stays_in_the_as_and_no_advertise_on_the_node() {
    for (community, inside, outside) in [
        (Community::NO_EXPORT, true, false),
        (Community::NO_EXPORT_SUBCONFED, true, false),
        (Community::NO_ADVERTISE, false, false),
        (Community::Standard(7), true, true),
    ] {
        let mut bed = scene();
        bed.announce_with(5, BLOCK, attrs(5, &[65005], &[community]));
        let advertised = |peer| !bed.wire.prefixes(peer).is_empty();
        assert_eq!((advertised(1), advertised(6)), (inside, outside), "{community}");
        assert!(bed.best.contains_key(&net(BLOCK)), "the path is used nevertheless");
        for (peer, advertised) in [(1, inside), (6, outside)] {
            assert_eq!(
                bed.rib.peer_counts(PeerId(peer)).all().advertised,
                usize::from(advertised),
                "{community}"
            );
        }
    }
}

#[test]
fn graceful_shutdown_from_outside_sets_local_pref_0_and_keeps_its_community() {
    let mut bed = scene();
    bed.announce_with(5, BLOCK, attrs(5, &[65005], &[Community::GRACEFUL_SHUTDOWN]));
    assert_eq!(bed.wire.attrs(1, BLOCK).local_pref, 0);
    bed.announce_with(6, BLOCK, attrs(6, &[65006, 65007, 65008], &[]));
    assert_eq!(bed.best[&net(BLOCK)].source, Source::Peer(PeerId(6)), "anything else is better");
    bed.announce_with(6, BLOCK, attrs(6, &[65006], &[]));
    bed.announce_with(5, BLOCK, attrs(5, &[65005], &[]));
    assert_eq!(bed.best[&net(BLOCK)].source, Source::Peer(PeerId(5)), "the retention has ended");
}

#[test]
fn blackhole_is_imported_by_an_explicit_rule_and_stays_in_the_as() {
    let mut bed = scene();
    bed.announce_with(5, BLOCK, attrs(5, &[65005], &[Community::BLACKHOLE]));
    assert_eq!(reason(&bed), Some(PathReason::Blackhole), "without a filter");
    let import = |rules| PeerPolicy {
        import: ImportPolicy { chain: open(rules), ..ImportPolicy::default() },
        ..PeerPolicy::default()
    };
    set(&mut bed, 5, import(vec![FilterRule::default()]));
    assert_eq!(
        reason(&bed),
        Some(PathReason::Blackhole),
        "a rule that accepts everything does not name the community"
    );
    let named = FilterRule { community: Some(Community::BLACKHOLE), ..FilterRule::default() };
    set(&mut bed, 5, import(vec![named]));
    assert_eq!(reason(&bed), None);
    assert_eq!((bed.wire.prefixes(1), bed.wire.prefixes(6)), (vec![BLOCK.to_owned()], vec![]));
}

#[test]
fn the_local_as_may_be_in_the_path_as_often_as_allowed() {
    let mut bed = scene();
    bed.announce_with(5, BLOCK, attrs(5, &[65005, 64512, 64512], &[]));
    assert_eq!(reason(&bed), Some(PathReason::AsLoop));
    let allowed = |times, local_as| PeerPolicy {
        import: ImportPolicy { allowed_local_as: times, local_as, ..ImportPolicy::default() },
        ..PeerPolicy::default()
    };
    set(&mut bed, 5, allowed(1, None));
    assert_eq!(reason(&bed), Some(PathReason::AsLoop), "the AS is in the path twice");
    set(&mut bed, 5, allowed(2, None));
    assert_eq!(reason(&bed), None);
    set(&mut bed, 5, allowed(0, Some(Asn(65099))));
    bed.announce_with(5, BLOCK, attrs(5, &[65005, 65099], &[]));
    assert_eq!(reason(&bed), Some(PathReason::AsLoop), "the replacement AS");
}

#[test]
fn the_replacement_as_is_in_the_path_instead_of_ours() {
    let mut bed = scene();
    let export = ExportPolicy { local_as: Some(Asn(65099)), ..ExportPolicy::default() };
    set(&mut bed, 6, PeerPolicy { export: Arc::new(export), ..PeerPolicy::default() });
    bed.announce_with(5, BLOCK, attrs(5, &[65005], &[]));
    let path: Vec<Asn> = bed.wire.attrs(6, BLOCK).as_path().asns().collect();
    assert_eq!(path, [Asn(65099), Asn(65005)]);
}

#[test]
fn the_next_hop_follows_the_next_hop_mode() {
    let (own, theirs) = (IpAddr::from([192, 168, 0, 100]), IpAddr::from([192, 168, 0, 5]));
    for (mode, inside, outside) in
        [(NextHopMode::Auto, theirs, own), (NextHopMode::Own, own, own), (NextHopMode::Keep, theirs, theirs)]
    {
        let mut bed = scene();
        for peer in [1, 6] {
            let export = ExportPolicy { next_hop: mode, ..ExportPolicy::default() };
            set(&mut bed, peer, PeerPolicy { export: Arc::new(export), ..PeerPolicy::default() });
        }
        bed.announce_with(5, BLOCK, attrs(5, &[65005], &[]));
        let advertised = |peer| bed.wire.attrs(peer, BLOCK).next_hop;
        assert_eq!((advertised(1), advertised(6)), (inside, outside), "{mode:?}");
    }
}

#[test]
fn an_outside_peer_without_filters_imports_nothing_and_receives_own_blocks_only() {
    let mut bed = scene();
    bed.rib.set_cluster_policy(ClusterPolicy { pools: vec![net("10.1.0.0/16")], ..ClusterPolicy::default() });
    let outside = || PeerPolicy {
        import: ImportPolicy { outside: true, ..ImportPolicy::default() },
        export: Arc::new(ExportPolicy { outside: true, ..ExportPolicy::default() }),
        ..PeerPolicy::default()
    };
    set(&mut bed, 5, outside());
    set(&mut bed, 6, outside());
    bed.announce_with(5, BLOCK, attrs(5, &[65005], &[]));
    assert_eq!(reason(&bed), Some(PathReason::NoImportPolicy));
    bed.rib.originate(Source::Local, &[(net("10.7.0.0/26"), IpAddr::from([192, 168, 0, 100]))]);
    bed.announce(1, "10.1.1.0/26");
    bed.announce(1, "10.8.1.0/26");
    assert_eq!(bed.wire.prefixes(6), ["10.1.1.0/26", "10.7.0.0/26"], "a node's in a pool, and our own");
    assert_eq!(bed.rib.peer_counts(PeerId(6)).all().advertised, 2);
    // A block in a pool that came from outside must not be passed on.
    let mut import = outside();
    import.import.chain = open(vec![FilterRule::default()]);
    set(&mut bed, 5, import);
    bed.announce_with(5, "10.1.9.0/26", attrs(5, &[65005], &[]));
    assert_eq!(bed.wire.prefixes(6), ["10.1.1.0/26", "10.7.0.0/26"]);
    assert!(bed.wire.prefixes(1).contains(&"10.1.9.0/26".to_owned()));
}

#[test]
fn own_blocks_have_their_configured_communities() {
    let mut bed = scene();
    let advertisement = Advertisement {
        cidr: net("10.7.0.0/16"),
        communities: vec![Community::NO_EXPORT, Community::Large([1, 2, 3])],
    };
    bed.rib.set_cluster_policy(ClusterPolicy {
        advertisements: vec![advertisement],
        ..ClusterPolicy::default()
    });
    let own = IpAddr::from([192, 168, 0, 100]);
    bed.rib.originate(Source::Local, &[(net("10.7.0.0/26"), own), (net("10.8.0.0/26"), own)]);
    bed.settle();
    let carries = |peer, prefix, community: Community| bed.wire.attrs(peer, prefix).has_community(community);
    for peer in [1, 6] {
        assert!(carries(peer, "10.7.0.0/26", Community::NO_EXPORT), "our own clients may have it");
        assert!(carries(peer, "10.7.0.0/26", Community::Large([1, 2, 3])));
        assert!(!carries(peer, "10.8.0.0/26", Community::NO_EXPORT));
    }
}

#[test]
fn a_block_of_another_node_is_counted_or_rejected() {
    let mut bed = scene();
    let owners = |mode| {
        let (a, b) = ([IpAddr::from([192, 168, 0, 1])], [IpAddr::from([192, 168, 0, 2])]);
        let (of_a, of_b) = ([net("10.1.1.0/26")], [net("10.1.2.0/26")]);
        let owners = Owners::new(mode, [(&a[..], &of_a[..]), (&b[..], &of_b[..])]);
        ClusterPolicy { owners, ..ClusterPolicy::default() }
    };
    bed.announce(1, "10.1.1.0/26");
    bed.announce(1, "10.1.2.0/26");
    for (mode, disputed, used) in
        [(OwnershipMode::Warn, 1, true), (OwnershipMode::Strict, 0, false), (OwnershipMode::Off, 0, true)]
    {
        bed.rib.set_cluster_policy(owners(mode));
        bed.settle();
        assert_eq!(bed.rib.disputed(10).0, disputed, "{mode:?}");
        assert_eq!(bed.best.contains_key(&net("10.1.2.0/26")), used, "{mode:?}");
        assert!(bed.best.contains_key(&net("10.1.1.0/26")), "its own, {mode:?}");
    }
    bed.rib.set_cluster_policy(owners(OwnershipMode::Warn));
    bed.settle();
    assert_eq!(bed.rib.disputed(10).1, [(net("10.1.2.0/26"), PeerId(1))]);
    bed.withdraw(1, "10.1.2.0/26");
    assert_eq!(bed.rib.disputed(10).0, 0);
}

#[test]
fn a_block_with_a_new_owner_is_imported_again_without_needless_updates() {
    let mut bed = scene();
    let owners = |of_a: &[&str], of_b: &[&str]| {
        let (a, b) = ([IpAddr::from([192, 168, 0, 1])], [IpAddr::from([192, 168, 0, 2])]);
        let [of_a, of_b] = [of_a, of_b].map(|blocks| blocks.iter().map(|text| net(text)).collect::<Vec<_>>());
        let owners = Owners::new(OwnershipMode::Strict, [(&a[..], &of_a[..]), (&b[..], &of_b[..])]);
        ClusterPolicy { owners, ..ClusterPolicy::default() }
    };
    bed.rib.set_cluster_policy(owners(&["10.1.1.0/26"], &["10.1.2.0/26"]));
    bed.announce(1, "10.1.1.0/26");
    bed.announce(1, "10.1.2.0/27");
    assert_eq!(bed.wire.prefixes(6), ["10.1.1.0/26"], "part of the other's block is not used");
    let before = bed.wire.chunks;
    bed.rib.set_cluster_policy(owners(&["10.1.1.0/26", "10.1.3.0/26"], &["10.1.2.0/26"]));
    bed.settle();
    assert_eq!(bed.wire.chunks, before, "an additional block affects no existing path");
    bed.rib.set_cluster_policy(owners(&["10.1.1.0/26", "10.1.2.0/26"], &[]));
    bed.settle();
    assert_eq!(bed.wire.prefixes(6), ["10.1.1.0/26", "10.1.2.0/27"]);
    bed.rib.set_cluster_policy(owners(&["10.1.2.0/26"], &["10.1.1.0/26"]));
    bed.settle();
    assert_eq!(bed.wire.prefixes(6), ["10.1.2.0/27"]);
}
