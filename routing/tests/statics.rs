//! The static peer table, with BGP routes to the same blocks.

mod bed;

use std::net::IpAddr;

use bgp::PeerId;
use bgp::session::Retention;
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
fn a_withdrawal_by_the_owner_suppresses_the_static_path() {
    let mut bed = learned();
    bed.withdraw(2, BLOCK);
    assert!(!bed.best.contains_key(&net(BLOCK)));
    assert_eq!(bed.rib.suppressed(), 1);
    // Not after the table was read again either, nor after the owner is gone.
    bed.rib.originate(Source::Static, &table());
    bed.settle();
    bed.rib.peer_down(PeerId(2), Retention::default());
    bed.settle();
    assert!(!bed.best.contains_key(&net(BLOCK)));
    // A new session must withdraw the block again; until then the table counts.
    bed.up(2, session(2, true, false));
    assert_eq!(bed.best[&net(BLOCK)].kind, SourceKind::Static);
    assert_eq!(bed.rib.suppressed(), 0);
}

#[test]
fn a_block_announced_again_falls_back_to_the_static_path_when_the_session_is_lost() {
    let mut bed = learned();
    bed.withdraw(2, BLOCK);
    bed.announce(2, BLOCK);
    assert_eq!((bed.best[&net(BLOCK)].kind, bed.rib.suppressed()), (SourceKind::Ibgp, 0));
    bed.rib.peer_down(PeerId(2), Retention::default());
    bed.settle();
    assert_eq!(bed.best[&net(BLOCK)].kind, SourceKind::Static);
}

#[test]
fn a_withdrawal_by_another_peer_does_not_suppress_the_static_path() {
    let mut bed = learned();
    bed.announce(3, BLOCK);
    bed.withdraw(3, BLOCK);
    bed.rib.peer_down(PeerId(2), Retention::default());
    bed.settle();
    assert_eq!(bed.best[&net(BLOCK)].kind, SourceKind::Static);
}

#[test]
fn suppression_ends_when_the_table_assigns_the_block_to_another_node() {
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
fn an_awaited_path_is_used_as_soon_as_bgp_has_a_path() {
    let mut bed = Bed::new(config());
    bed.up(2, session(2, true, false));
    bed.rib.originate_statics(&[], &table());
    bed.settle();
    assert!(bed.best.is_empty(), "BGP is still given time");
    bed.announce(2, BLOCK);
    // Meanwhile the table was read again.
    bed.rib.originate_statics(&[], &table());
    bed.settle();
    assert_eq!(bed.best[&net(BLOCK)].kind, SourceKind::Ibgp);
    bed.rib.peer_down(PeerId(2), Retention::default());
    bed.settle();
    assert_eq!(bed.best[&net(BLOCK)].kind, SourceKind::Static, "the static path exists at the loss");
    assert!(!bed.best.contains_key(&net("10.1.3.0/26")), "no packet of the other was received");
    bed.rib.originate_statics(&table(), &[]);
    bed.settle();
    assert_eq!(bed.best[&net("10.1.3.0/26")].kind, SourceKind::Static);
}

#[test]
fn a_withdrawal_because_of_an_unannounced_pool_does_not_suppress_the_static_path() {
    let mut bed = learned();
    bed.withdraw(2, BLOCK);
    assert!(!bed.best.contains_key(&net(BLOCK)), "the owner has withdrawn it");
    bed.rib.set_cluster_policy(announced(&["10.9.0.0/16"]));
    bed.settle();
    assert_eq!((bed.best[&net(BLOCK)].kind, bed.rib.suppressed()), (SourceKind::Static, 0));
    // This node has a BGP route already.
    bed.withdraw(3, "10.1.3.0/26");
    assert_eq!(bed.best[&net("10.1.3.0/26")].kind, SourceKind::Static);
}
