//! Several equally good paths: forwarding uses all of them, one is advertised.
#![allow(clippy::unwrap_used)]

mod bed;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp::session::Retention;
use bgp::wire::attribute::{code, flag, push};
use bgp::{Families, PeerId};
use proptest::prelude::*;
use routing::ownership::{Owners, OwnershipMode};
use routing::{AttrSet, ClusterPolicy, RibConfig, RouteBatch, Source};

use bed::{Bed, config, net, session};

const BLOCK: &str = "10.1.1.0/26";

fn node(i: u8) -> IpAddr {
    IpAddr::from([192, 168, 0, i])
}

/// Returns the last reported exits, the best path's first.
fn exits(bed: &Bed) -> Vec<IpAddr> {
    let last = bed.changes.iter().rev().find(|change| change.prefix == net(BLOCK)).unwrap();
    last.best.iter().map(|best| best.exit).chain(last.others.iter().copied()).collect()
}

/// Returns a bed with peers of one AS, an observer, and a block announced by the first `count`
/// peers.
fn anycast(count: u8, multipath: usize) -> Bed {
    let mut bed = Bed::new(RibConfig { cluster_id: Some(Ipv4Addr::new(10, 0, 0, 1)), multipath, ..config() });
    for i in 1..=count {
        bed.up(i, session(i, true, true));
    }
    bed.up(50, session(50, true, true));
    for i in 1..=count {
        bed.announce(i, BLOCK);
    }
    bed
}

fn with(next_hop: IpAddr, med: u8, communities: &[u32]) -> AttrSet {
    let mut canonical = Vec::new();
    push(&mut canonical, flag::WELL_KNOWN, code::ORIGIN, |out| out.push(0));
    push(&mut canonical, flag::WELL_KNOWN, code::AS_PATH, |_| {});
    push(&mut canonical, flag::OPTIONAL, code::MULTI_EXIT_DISC, |out| out.extend([0, 0, 0, med]));
    if !communities.is_empty() {
        push(&mut canonical, flag::OPTIONAL | flag::TRANSITIVE, code::COMMUNITIES, |out| {
            communities.iter().for_each(|community| out.extend(community.to_be_bytes()));
        });
    }
    AttrSet::from_canonical(&canonical, next_hop)
}

#[test]
fn equally_good_paths_share_traffic_and_one_is_advertised() {
    let mut bed = anycast(1, 16);
    assert_eq!(exits(&bed), [node(1)]);
    [2, 3].into_iter().for_each(|i| bed.up(i, session(i, true, true)));
    let before = bed.wire.chunks;
    bed.announce(2, BLOCK);
    bed.announce(3, BLOCK);
    assert_eq!(exits(&bed), [node(1), node(2), node(3)]);
    assert_eq!(bed.wire.chunks, before, "no message is sent");
    assert_eq!(bed.wire.attrs(50, BLOCK).next_hop, node(1));
    let (routes, _) = bed.rib.routes_from(0, usize::MAX, |_| true);
    let shares: Vec<_> = routes[0].paths.iter().map(|path| (path.reason.is_none(), path.shares)).collect();
    assert_eq!(shares, [(true, false), (false, true), (false, true)]);
}

#[test]
fn a_lost_peer_leaves_the_exits_at_once_until_one_is_left() {
    let mut bed = anycast(3, 16);
    bed.rib.peer_down(PeerId(2), Retention::default());
    bed.settle();
    assert_eq!(exits(&bed), [node(1), node(3)]);
    bed.rib.peer_down(PeerId(1), Retention::default());
    bed.settle();
    assert_eq!(exits(&bed), [node(3)]);
    bed.withdraw(3, BLOCK);
    assert_eq!(exits(&bed), Vec::<IpAddr>::new());
    assert_eq!(bed.rib.counts().prefixes, 0);
}

#[test]
fn worse_blackhole_static_and_silent_paths_do_not_share() {
    let mut bed = anycast(2, 16);
    bed.announce_with(2, BLOCK, with(node(2), 1, &[]));
    assert_eq!(exits(&bed), [node(1)], "a higher MED of the same AS");
    bed.announce_with(2, BLOCK, with(node(2), 0, &[]));
    assert_eq!(exits(&bed), [node(1), node(2)]);
    bed.rib.originate(Source::Static, &[(net(BLOCK), node(9))]);
    bed.settle();
    assert_eq!(exits(&bed), [node(1), node(2)]);
    let retain = Retention { families: Families::BOTH, older: false, silent: true };
    bed.rib.peer_down(PeerId(2), retain);
    bed.settle();
    assert_eq!(exits(&bed), [node(1)]);
    bed.rib.peer_down(PeerId(1), retain);
    bed.settle();
    assert_eq!(exits(&bed), [node(9)], "stale paths do not share");
}

#[test]
fn disputed_paths_do_not_share() {
    let mut bed = anycast(2, 16);
    bed.announce(1, BLOCK);
    assert_eq!(exits(&bed), [node(1), node(2)]);
    for owner in [1, 2] {
        let (address, block) = ([node(owner)], [net(BLOCK)]);
        let (other, none) = ([node(3 - owner)], []);
        let owners = Owners::new(OwnershipMode::Warn, [(&address[..], &block[..]), (&other[..], &none[..])]);
        bed.rib.set_cluster_policy(ClusterPolicy { owners, ..ClusterPolicy::default() });
        bed.settle();
        assert_eq!(exits(&bed), [node(1)], "the best path has all traffic, whether it is the owner's or not");
    }
    bed.rib.set_cluster_policy(ClusterPolicy::default());
    bed.settle();
    assert_eq!(exits(&bed), [node(1), node(2)]);
}

#[test]
fn the_egress_endpoint_of_a_path_is_its_exit() {
    // Two reflectors send one node's block: that is one exit.
    let mut bed = anycast(0, 16);
    for i in [1, 2] {
        bed.up(i, session(i, true, true));
        bed.announce_with(i, BLOCK, AttrSet::originated(node(7)));
    }
    assert_eq!(exits(&bed), [node(7)]);
    bed.announce_with(2, BLOCK, AttrSet::originated(node(8)));
    assert_eq!(exits(&bed), [node(7), node(8)]);
}

#[test]
fn the_limit_includes_the_best_path_and_may_change() {
    let mut bed = anycast(5, 3);
    assert_eq!(exits(&bed), [node(1), node(2), node(3)]);
    bed.withdraw(1, BLOCK);
    assert_eq!(exits(&bed), [node(2), node(3), node(4)]);
    // The other exits have lower addresses than the best path's.
    bed.announce_with(2, BLOCK, AttrSet::originated(node(99)));
    assert_eq!(exits(&bed), [node(99), node(3), node(4)]);
    let before = bed.wire.chunks;
    for (multipath, count) in [(1, 1), (0, 1), (16, 4), (2, 2)] {
        let config = RibConfig { cluster_id: Some(Ipv4Addr::new(10, 0, 0, 1)), multipath, ..config() };
        bed.rib.configure(config);
        bed.settle();
        assert_eq!((exits(&bed).len(), exits(&bed)[0]), (count, node(99)), "{multipath}");
    }
    assert_eq!(bed.wire.chunks, before, "no message is sent");
}

#[test]
fn external_paths_of_several_ases_share_if_they_are_equally_short() {
    let mut bed = Bed::new(config());
    for (i, asn) in [(1, 65001_u32), (2, 65002)] {
        bed.up(i, session(i, false, false));
        let mut canonical = Vec::new();
        push(&mut canonical, flag::WELL_KNOWN, code::ORIGIN, |out| out.push(0));
        push(&mut canonical, flag::WELL_KNOWN, code::AS_PATH, |out| {
            out.extend([2, 1]);
            out.extend(asn.to_be_bytes());
        });
        bed.announce_with(i, BLOCK, AttrSet::from_canonical(&canonical, node(i)));
    }
    assert_eq!(exits(&bed), [node(1), node(2)]);
}

proptest! {
    #[test]
    fn the_exits_do_not_depend_on_the_order(
        order in Just((1..=6u8).collect::<Vec<_>>()).prop_shuffle(),
        gone in prop::collection::btree_set(1..=6u8, 0..6),
    ) {
        let mut bed = anycast(0, 4);
        for i in 1..=6 {
            bed.up(i, session(i, true, true));
        }
        // All in one batch of decisions, and one by one.
        let mut batch = RouteBatch::default();
        batch.push(Some(&Arc::new(AttrSet::originated(node(order[0])))), [net(BLOCK)]);
        bed.rib.routes(PeerId(order[0].into()), &batch);
        order[1..].iter().for_each(|i| bed.announce(*i, BLOCK));
        gone.iter().for_each(|i| bed.withdraw(*i, BLOCK));
        let left: Vec<IpAddr> = (1..=6).filter(|i| !gone.contains(i)).map(node).take(4).collect();
        prop_assert_eq!(exits(&bed), left);
    }
}
