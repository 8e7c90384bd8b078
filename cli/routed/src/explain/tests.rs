//! A minimal set of facts for each verdict.

use std::collections::HashSet;

use api::view::{
    FromView, NeighborView, OuterView, OwnerView, PathView, PoolView, ProbeState, ProbeView, RouteSource,
    RouteView, TunnelView,
};
use resource::{EncapsulationKind, EncapsulationMode};

use super::*;

/// Returns the facts about a pod of another node that is reached by VXLAN.
fn remote_pod() -> ExplainFacts {
    let node = "192.168.0.2".parse().ok();
    ExplainFacts {
        target: "10.1.2.2".into(),
        from: Some(FromView {
            address: "10.1.1.2".parse().expect("an address"),
            node: Some("node-1".into()),
            local: true,
            device: Some("cali0".into()),
            mtu: Some(1450),
        }),
        pool: Some(PoolView {
            name: Some("pods".into()),
            cidr: "10.1.0.0/16".parse().ok(),
            encapsulation: EncapsulationKind::Vxlan,
            mode: EncapsulationMode::Always,
            disable_bgp_export: false,
        }),
        owner: Some(OwnerView {
            node: "node-2".into(),
            block: "10.1.2.0/26".parse().expect("a prefix"),
            local: false,
            address: node,
            session: Some("Established".into()),
            last_error: None,
        }),
        prefix: "10.1.2.0/26".parse().ok(),
        route: Some(RouteView {
            prefix: "10.1.2.0/26".parse().expect("a prefix"),
            next_hop: node,
            source: RouteSource::Ibgp,
            peer: Some("node-2".into()),
            exit: Some(ExitKind::Vxlan),
            device: Some("routed.vxlan".into()),
            installed: true,
            reason: "always".into(),
            legs: Vec::new(),
        }),
        paths: vec![PathView {
            source: RouteSource::Ibgp,
            peer: Some("node-2".into()),
            next_hop: node,
            as_path: String::new(),
            local_pref: Some(100),
            med: None,
            best: true,
            shares: false,
            reason: "best".into(),
        }],
        tunnel: Some(TunnelView {
            node: "node-2".into(),
            address: node,
            preferred: Some(ExitKind::Vxlan),
            in_use: Some(ExitKind::Vxlan),
            since: None,
            reason: "always".into(),
            last_probe_ms: Some(0.1),
            mtu: Some(1450),
            ways: vec![ProbeView {
                exit: ExitKind::Vxlan,
                state: ProbeState::Passes,
                lost_in_row: 2,
                last_ms: Some(0.1),
            }],
            clock_ahead_ms: None,
            blocks: vec!["10.1.2.0/26".parse().expect("a prefix")],
        }),
        outer: Some(OuterView {
            source: "192.168.0.1".parse().ok(),
            destination: "192.168.0.2".parse().expect("an address"),
            protocol: "UDP port 4789, VNI 4096".into(),
            mac: Some("66:00:00:00:00:02".into()),
            mtu: Some(1450),
        }),
        kernel: Some(lookup()),
        neighbour: Some(NeighborView {
            address: "192.168.0.2".parse().expect("an address"),
            device: "eth0".into(),
            state: "known".into(),
            mac: None,
            gateway_entry: Some(true),
            forwarded_to: node,
        }),
    }
}

fn lookup() -> LookupView {
    LookupView {
        outcome: "unicast".into(),
        error: None,
        errno: None,
        device: Some("routed.vxlan".into()),
        gateway: "10.1.2.0".parse().ok(),
        source: None,
        prefix: "10.1.2.0/26".parse().ok(),
        metric: Some(1024),
        protocol: Some(179),
        table: Some(254),
        ours: true,
    }
}

fn refusing(errno: i32) -> LookupView {
    LookupView {
        outcome: "refused".into(),
        error: Some("no".into()),
        errno: Some(errno),
        prefix: None,
        protocol: None,
        ours: false,
        device: None,
        gateway: None,
        ..lookup()
    }
}

/// Returns the facts about a pod of this node.
fn local_pod() -> ExplainFacts {
    let mut facts = remote_pod();
    let owner = facts.owner.as_mut().expect("an owner");
    (owner.node, owner.local, owner.session) = ("node-1".into(), true, None);
    let route = facts.route.as_mut().expect("a route");
    (route.next_hop, route.exit, route.source) = (None, Some(ExitKind::Blackhole), RouteSource::Local);
    (facts.tunnel, facts.outer, facts.neighbour) = (None, None, None);
    facts.kernel = Some(LookupView {
        device: Some("cali0".into()),
        gateway: None,
        prefix: "10.1.2.2/32".parse().ok(),
        protocol: Some(3),
        ours: false,
        ..lookup()
    });
    facts
}

/// An expected verdict, the facts to start from, and the change that causes the verdict.
type Case = (Verdict, fn() -> ExplainFacts, fn(&mut ExplainFacts));

fn unrouted(facts: &mut ExplainFacts) {
    (facts.route, facts.tunnel, facts.outer, facts.neighbour, facts.prefix) = (None, None, None, None, None);
    facts.paths.clear();
    facts.kernel = Some(refusing(101));
}

const CASES: &[Case] = &[
    (Verdict::Reached, remote_pod, |_| {}),
    (Verdict::LocalPod, local_pod, |_| {}),
    (Verdict::OutsideCluster, remote_pod, |facts| {
        unrouted(facts);
        (facts.owner, facts.pool) = (None, None);
        facts.kernel = Some(LookupView { ours: false, protocol: Some(3), ..lookup() });
    }),
    (Verdict::AskThere, remote_pod, |facts| {
        let from = facts.from.as_mut().expect("a source");
        (from.node, from.local, from.device) = (Some("node-3".into()), false, None);
    }),
    (Verdict::NoSuchSource, remote_pod, |facts| facts.from.as_mut().expect("a source").device = None),
    (Verdict::NoOwner, remote_pod, |facts| {
        unrouted(facts);
        facts.owner = None;
    }),
    (Verdict::OwnerUnknown, remote_pod, |facts| {
        unrouted(facts);
        facts.owner.as_mut().expect("an owner").address = None;
    }),
    (Verdict::NoSession, remote_pod, |facts| {
        unrouted(facts);
        facts.owner.as_mut().expect("an owner").session = Some("Active".into());
    }),
    (Verdict::NoSession, remote_pod, |facts| {
        unrouted(facts);
        facts.owner.as_mut().expect("an owner").session = None;
    }),
    (Verdict::NotAnnounced, remote_pod, unrouted),
    (Verdict::Rejected, remote_pod, |facts| {
        facts.route = None;
        facts.paths[0].reason = "a filter rejects it".into();
    }),
    (Verdict::NoExit, remote_pod, |facts| {
        let route = facts.route.as_mut().expect("a route");
        (route.exit, route.installed) = (None, false);
    }),
    (Verdict::Discarded, remote_pod, |facts| {
        facts.route.as_mut().expect("a route").exit = Some(ExitKind::Blackhole);
    }),
    (Verdict::NotInstalled, remote_pod, |facts| facts.route.as_mut().expect("a route").installed = false),
    (Verdict::NoSuchPod, local_pod, |facts| facts.kernel = Some(refusing(EINVAL))),
    (Verdict::Shadowed, remote_pod, |facts| {
        facts.kernel = Some(LookupView {
            prefix: "10.1.2.0/27".parse().ok(),
            protocol: Some(3),
            ours: false,
            ..lookup()
        });
    }),
    (Verdict::NotForwarded, remote_pod, |facts| facts.kernel = Some(refusing(EHOSTUNREACH))),
    (Verdict::NoRoute, remote_pod, |facts| facts.kernel = Some(refusing(101))),
    (Verdict::NoVtepEntry, remote_pod, |facts| {
        facts.neighbour.as_mut().expect("a neighbour").gateway_entry = Some(false);
    }),
    (Verdict::NoVtepEntry, remote_pod, |facts| {
        facts.neighbour.as_mut().expect("a neighbour").forwarded_to = None;
    }),
    (Verdict::NoVtepEntry, remote_pod, |facts| {
        facts.neighbour.as_mut().expect("a neighbour").forwarded_to = "192.168.0.9".parse().ok();
    }),
    (Verdict::NoNeighbour, remote_pod, |facts| {
        facts.neighbour.as_mut().expect("a neighbour").state = "failed".into();
    }),
    (Verdict::Unanswered, remote_pod, |facts| {
        facts.tunnel.as_mut().expect("a tunnel").ways[0].lost_in_row = 3;
    }),
    (Verdict::MtuTooLarge, remote_pod, |facts| facts.from.as_mut().expect("a source").mtu = Some(1451)),
];

#[test]
fn each_verdict_follows_from_one_wrong_fact() {
    for (at, (verdict, from, wrong)) in CASES.iter().enumerate() {
        let mut facts = from();
        wrong(&mut facts);
        let view = judge(&facts);
        assert_eq!(view.code, *verdict, "case {at}: {view:?}");
        assert_eq!(view.ok, verdict.is_ok());
        assert!(view.ok || view.remedy.is_some(), "case {at} says what to do");
        assert!(!view.text.contains('\n') && !view.text.is_empty());
    }
    let seen: HashSet<Verdict> = CASES.iter().map(|case| case.0).collect();
    assert_eq!(seen, HashSet::from(Verdict::ALL), "a case for each");
}

#[test]
fn the_first_problem_on_the_path_decides() {
    let mut facts = remote_pod();
    facts.neighbour.as_mut().expect("a neighbour").state = "failed".into();
    facts.kernel = Some(refusing(EHOSTUNREACH));
    assert_eq!(judge(&facts).code, Verdict::NotForwarded);
    facts.route.as_mut().expect("a route").installed = false;
    assert_eq!(judge(&facts).code, Verdict::NotInstalled);
}
