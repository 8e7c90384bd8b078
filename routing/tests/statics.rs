//! The static peer table beside what BGP says of the same blocks.

mod bed;

use std::net::IpAddr;

use bgp::PeerId;
use bgp::session::Retain;
use routing::{ClusterPolicy, Source, SourceKind};

use bed::{Bed, config, net, session};

const BLOCK: &str = "10.1.2.0/26";

fn table() -> Vec<(ipnet::IpNet, IpAddr)> {
    let of = |block: &str, i: u8| (net(block), IpAddr::from([192, 168, 0, i]));
    vec![of(BLOCK, 2), of("10.1.3.0/26", 3)]
}

fn announced(pools: &[&str]) -> ClusterPolicy {
    ClusterPolicy { pools: pools.iter().map(|pool| net(pool)).collect(), ..ClusterPolicy::default() }
}

fn learned() -> Bed {
    let mut bed = Bed::new(config());
    bed.rib.set_cluster_policy(announced(&["10.1.0.0/16"]));
    bed.rib.originate(Source::Static, &table());
    bed.up(2, session(2, true, false));
    bed.up(3, session(3, true, false));
    bed.announce(2, BLOCK);
    bed.announce(3, "10.1.3.0/26");
    assert_eq!(bed.best[&net(BLOCK)].kind, SourceKind::Ibgp);
    bed
}

#[test]
fn what_its_owner_withdraws_is_not_reached_by_the_static_table() {
    let mut bed = learned();
    bed.withdraw(2, BLOCK);
    assert!(!bed.best.contains_key(&net(BLOCK)));
    assert_eq!(bed.rib.suppressed(), 1);
    // Nor after the table was read again, nor once the owner is gone.
    bed.rib.originate(Source::Static, &table());
    bed.settle();
    bed.rib.peer_down(PeerId(2), Retain::default());
    bed.settle();
    assert!(!bed.best.contains_key(&net(BLOCK)));
    // But if it comes back it has to say so again, and the table counts meanwhile.
    bed.up(2, session(2, true, false));
    assert_eq!(bed.best[&net(BLOCK)].kind, SourceKind::Static);
    assert_eq!(bed.rib.suppressed(), 0);
}

#[test]
fn what_is_announced_again_is_below_bgp_again_and_carries_on_when_the_session_is_lost() {
    let mut bed = learned();
    bed.withdraw(2, BLOCK);
    bed.announce(2, BLOCK);
    assert_eq!((bed.best[&net(BLOCK)].kind, bed.rib.suppressed()), (SourceKind::Ibgp, 0));
    bed.rib.peer_down(PeerId(2), Retain::default());
    bed.settle();
    assert_eq!(bed.best[&net(BLOCK)].kind, SourceKind::Static);
}

#[test]
fn what_another_withdraws_says_nothing_of_the_owners_block() {
    let mut bed = learned();
    bed.announce(3, BLOCK);
    bed.withdraw(3, BLOCK);
    bed.rib.peer_down(PeerId(2), Retain::default());
    bed.settle();
    assert_eq!(bed.best[&net(BLOCK)].kind, SourceKind::Static);
}

#[test]
fn a_block_that_the_table_gives_to_another_node_counts_again() {
    let mut bed = learned();
    bed.withdraw(2, BLOCK);
    bed.rib.originate(Source::Static, &[(net(BLOCK), [192, 168, 0, 3].into())]);
    bed.settle();
    assert_eq!(bed.best[&net(BLOCK)].kind, SourceKind::Static);
    bed.rib.originate(Source::Static, &[]);
    bed.settle();
    assert_eq!(bed.rib.suppressed(), 0);
}

#[test]
fn a_path_that_bgp_is_given_time_for_counts_as_soon_as_bgp_has_brought_one() {
    let mut bed = Bed::new(config());
    bed.up(2, session(2, true, false));
    bed.rib.originate_statics(&[], &table());
    bed.settle();
    assert!(bed.best.is_empty(), "BGP has its time");
    bed.announce(2, BLOCK);
    // Read again meanwhile.
    bed.rib.originate_statics(&[], &table());
    bed.settle();
    assert_eq!(bed.best[&net(BLOCK)].kind, SourceKind::Ibgp);
    bed.rib.peer_down(PeerId(2), Retain::default());
    bed.settle();
    assert_eq!(bed.best[&net(BLOCK)].kind, SourceKind::Static, "the loss finds it there");
    assert!(!bed.best.contains_key(&net("10.1.3.0/26")), "of the other nothing was heard");
    bed.rib.originate_statics(&table(), &[]);
    bed.settle();
    assert_eq!(bed.best[&net("10.1.3.0/26")].kind, SourceKind::Static);
}

#[test]
fn what_is_withdrawn_because_its_pool_is_not_announced_any_more_is_reached_by_the_static_table() {
    let mut bed = learned();
    bed.withdraw(2, BLOCK);
    assert!(!bed.best.contains_key(&net(BLOCK)), "its owner has spoken");
    bed.rib.set_cluster_policy(announced(&["10.9.0.0/16"]));
    bed.settle();
    assert_eq!((bed.best[&net(BLOCK)].kind, bed.rib.suppressed()), (SourceKind::Static, 0));
    // Where this node knows it before.
    bed.withdraw(3, "10.1.3.0/26");
    assert_eq!(bed.best[&net("10.1.3.0/26")].kind, SourceKind::Static);
}
