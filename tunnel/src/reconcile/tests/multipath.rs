//! Multipath routes.

use super::reachability::ipip;
use super::*;
use crate::report::ExitKind;

const BLOCK: &str = "10.1.50.0/26";

/// Returns a block that these nodes announce.
fn anycast(nodes: &[u8]) -> RouteChange {
    let [first, others @ ..] = nodes else { panic!("no node") };
    RouteChange {
        prefix: BLOCK.parse().expect("prefix"),
        learned: Some(LearnedPath { next_hop: [192, 168, 0, *first].into(), kind: PathKind::Bgp }),
        others: others.iter().map(|i| [192, 168, 0, *i].into()).collect(),
    }
}

/// Returns the next hops of the block.
fn leads(state: &Reconciler<Fake>) -> Vec<(IpAddr, u32)> {
    let key = RouteKey { prefix: BLOCK.parse().expect("prefix"), metric: DEFAULT_ROUTE_METRIC };
    match state.dataplane.routes.get(&key) {
        Some(Via::Nexthop(id)) => state.dataplane.kernel.contents(*id),
        _ => Vec::new(),
    }
}

async fn started() -> Reconciler<Fake> {
    let mut state = Reconciler::new(Fake::default());
    let mut config = ipip();
    config.probing.recover_after = Duration::ZERO;
    state.configure(config);
    state.routes(vec![change(2), change(3), anycast(&[3, 2])]);
    state.in_sync();
    settle(&mut state).await;
    state
}

#[tokio::test]
async fn each_member_has_its_own_encapsulation_and_a_change_of_one_is_one_message() {
    let mut state = started().await;
    let (a, b) = (([192, 168, 0, 2].into(), 10), ([192, 168, 0, 3].into(), 10));
    assert_eq!(leads(&state), [a, b]);
    (state.dataplane.executed, state.dataplane.rerouted) = (Vec::new(), 0);
    state.handle(vec![KernelEvent::PathState {
        address: [10, 1, 2, 0].into(),
        path: TunnelPath::Ipip,
        state: PathState::Blocked,
    }]);
    settle(&mut state).await;
    let wrapped = ([10, 1, 2, 0].into(), 9);
    assert_eq!(leads(&state), [wrapped, b]);
    assert!(
        matches!(state.dataplane.executed[..], [Op::ReplaceNexthop { .. }]),
        "{:?}",
        state.dataplane.executed
    );
    assert_eq!(state.dataplane.rerouted, 0);

    let report = state.prefix_routes(&BLOCK.parse().expect("prefix"));
    let legs: Vec<_> = report[0].legs.iter().map(|leg| (leg.exit, leg.gateway)).collect();
    assert_eq!(legs, [(ExitKind::Ipip, b.0), (ExitKind::Vxlan, wrapped.0)]);
    assert!(report[0].installed);
    let tunnels = state.summary().tunnels;
    let in_use: Vec<_> = tunnels.iter().map(|tunnel| tunnel.in_use).collect();
    assert_eq!(in_use, [Some(ExitKind::Vxlan), Some(ExitKind::Ipip)]);
}

#[tokio::test]
async fn an_unreachable_member_leaves_the_packets_to_the_others() {
    let mut state = started().await;
    // This node itself, and an address that is no node's and has no VTEP.
    for (nodes, gateways) in
        [(&[3, 1][..], &[3][..]), (&[1, 2, 3], &[2, 3]), (&[3], &[3]), (&[2, 3, 77], &[2, 3, 77])]
    {
        state.routes(vec![anycast(nodes)]);
        settle(&mut state).await;
        let expected: Vec<_> = gateways.iter().map(|i| ([192, 168, 0, *i].into(), 10)).collect();
        assert_eq!(leads(&state), expected, "{nodes:?}");
    }
    state.routes(vec![RouteChange { learned: None, ..anycast(&[2]) }]);
    settle(&mut state).await;
    assert_eq!(leads(&state), []);
    assert_eq!(state.dataplane.kernel.nexthops.len(), 2, "those of the nodes' own blocks");
}

#[tokio::test]
async fn a_node_that_shares_a_block_has_a_path_by_bgp() {
    let mut state = Reconciler::new(Fake::default());
    state.configure(ipip());
    state.routes(vec![anycast(&[3, 2])]);
    let by_the_table = LearnedPath { next_hop: [192, 168, 0, 2].into(), kind: PathKind::Static };
    state.routes(vec![RouteChange { learned: Some(by_the_table), ..change(2) }]);
    assert!(!state.reachability.any_lost());
    state.routes(vec![anycast(&[3])]);
    state.routes(vec![RouteChange { learned: Some(by_the_table), ..change(2) }]);
    assert!(state.reachability.any_lost());
    // It comes back as one of the members.
    state.routes(vec![anycast(&[3, 2])]);
    assert!(state.reachability.deadline(Duration::ZERO).is_some());
}

#[tokio::test]
async fn a_changed_or_deleted_group_is_repaired() {
    let mut state = started().await;
    let right = leads(&state);
    let group = |state: &Reconciler<Fake>| {
        let nexthops = &state.dataplane.kernel.nexthops;
        nexthops.iter().find(|(_, n)| !n.members.is_empty()).map(|(id, _)| *id).expect("a group")
    };
    let before = group(&state);
    let nexthop = state.dataplane.kernel.nexthops.get_mut(&before).expect("it");
    nexthop.members = nexthop.members.without(nexthop.members.ids()[0]);
    state.handle(vec![KernelEvent::Nexthop { ours: true }]);
    settle(&mut state).await;
    assert_eq!(leads(&state), right);
    let before = group(&state);
    state.dataplane.kernel.nexthops.remove(&before);
    state.dataplane.routes.retain(|_, via| *via != Via::Nexthop(before));
    state.handle(vec![KernelEvent::Nexthop { ours: true }]);
    settle(&mut state).await;
    assert_eq!(leads(&state), right);
    assert_eq!(state.dataplane.kernel.nexthops.len(), 3);
    assert!(state.repair.count >= 2);
}
