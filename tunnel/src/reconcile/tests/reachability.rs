//! Fallback and return, against a kernel that executes everything.

use std::time::Duration;

use super::*;
use crate::{
    desired::Device,
    report::{ExitKind, TunnelReport},
};

const B: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 0);

pub(super) fn ipip() -> Config {
    let mut config = config();
    config.pools[0].encapsulation = Encapsulation::Ipip;
    config.probing.recover_after = Duration::ZERO;
    config
}

fn by(kind: PathKind, i: u8) -> RouteChange {
    RouteChange { learned: Some(LearnedPath { next_hop: [192, 168, 0, i].into(), kind }), ..change(i) }
}

async fn started(config: Config) -> Reconciler<Fake> {
    let mut state = Reconciler::new(Fake::default());
    state.configure(config);
    state.routes(vec![change(2), change(3)]);
    state.in_sync();
    settle(&mut state).await;
    state
}

fn tunnel(state: &mut Reconciler<Fake>, i: usize) -> TunnelReport {
    state.summary().tunnels.remove(i - 2)
}

fn path_state(state: PathState) -> Vec<KernelEvent> {
    vec![KernelEvent::PathState { address: B, path: TunnelPath::Ipip, state }]
}

#[tokio::test]
async fn every_node_is_probed_by_ipip_with_tables_of_its_own() {
    let state = started(ipip()).await;
    let probed: Vec<_> = state.dataplane.targets.iter().map(|a| (a.address, a.ipip, a.direct)).collect();
    assert_eq!(probed, [(B, true, false), (Ipv4Addr::new(10, 1, 3, 0), true, false)]);
    let kernel = &state.dataplane.kernel;
    assert_eq!(kernel.rules.iter().copied().collect::<Vec<_>>(), [TunnelPath::Ipip, TunnelPath::Vxlan]);
    assert_eq!(kernel.probe_routes.len(), 4);
    let ipip = kernel.link(Device::Ipip).expect("a device").index;
    assert_eq!(kernel.probe_routes[&(TunnelPath::Ipip, B)], Some(([192, 168, 0, 2].into(), ipip)));
}

#[tokio::test]
async fn a_path_without_an_alternative_is_probed_without_tables() {
    type ProbeCase = fn(&mut Config);
    let changes: [(ProbeCase, Option<(bool, bool)>); 3] = [
        (|config| config.fallback = FallbackMode::None, Some((true, false))),
        (|config| config.pools[0].encapsulation = Encapsulation::Vxlan, Some((false, true))),
        (|config| config.pools[0].mode = PoolMode::Never, None),
    ];
    for (change, probed) in changes {
        let mut state = started(ipip()).await;
        let mut config = ipip();
        change(&mut config);
        state.configure(config);
        settle(&mut state).await;
        let targets: Vec<_> = state
            .dataplane
            .targets
            .iter()
            .map(|target| (target.ipip, target.vxlan, target.fallback, target.doubted))
            .collect();
        let wanted = probed.map_or(Vec::new(), |(ipip, vxlan)| vec![(ipip, vxlan, false, false); 2]);
        assert_eq!(targets, wanted);
        assert_eq!((state.dataplane.kernel.rules.len(), state.dataplane.kernel.probe_routes.len()), (0, 0));
    }
}

#[tokio::test]
async fn blocked_ipip_moves_a_node_to_vxlan_with_one_message_and_back_with_another() {
    let mut state = started(ipip()).await;
    assert_eq!(tunnel(&mut state, 2).in_use, Some(ExitKind::Ipip));
    let vxlan = state.dataplane.kernel.link(Device::Vxlan).expect("a device").index;
    state.dataplane.executed.clear();
    state.dataplane.rerouted = 0;
    state.handle(path_state(PathState::Blocked));
    settle(&mut state).await;
    let [Op::ReplaceNexthop { gateway, index, .. }] = state.dataplane.executed[..] else {
        panic!("{:?}", state.dataplane.executed)
    };
    assert_eq!((gateway, index, state.dataplane.rerouted), (B.into(), vxlan, 0));
    let report = tunnel(&mut state, 2);
    assert_eq!((report.preferred, report.in_use), (Some(ExitKind::Ipip), Some(ExitKind::Vxlan)));
    assert!(report.reason.contains("does not pass"), "{}", report.reason);
    assert_eq!(tunnel(&mut state, 3).in_use, Some(ExitKind::Ipip), "one pair only");

    state.handle(path_state(PathState::Returning));
    settle(&mut state).await;
    assert_eq!(tunnel(&mut state, 2).in_use, Some(ExitKind::Vxlan));
    state.dataplane.executed.clear();
    state.handle(path_state(PathState::Passes));
    settle(&mut state).await;
    assert!(
        matches!(state.dataplane.executed[..], [Op::ReplaceNexthop { .. }]),
        "{:?}",
        state.dataplane.executed
    );
    assert_eq!((tunnel(&mut state, 2).in_use, state.dataplane.rerouted), (Some(ExitKind::Ipip), 0));
}

#[tokio::test]
async fn a_report_between_two_turns_does_not_lose_the_exit_in_use() {
    let mut state = started(ipip()).await;
    state.handle(path_state(PathState::Blocked));
    settle(&mut state).await;
    // Only the reason changes: the kernel has the right route all the while.
    for known in [PathState::Returning, PathState::Blocked, PathState::Returning] {
        state.handle(path_state(known));
        let mut more = true;
        while more {
            // Exits in use may be updated at any time.
            state.exits.stale = true;
            assert_eq!(tunnel(&mut state, 2).in_use, Some(ExitKind::Vxlan), "{known:?}");
            more = step(&mut state).await;
        }
        assert_eq!(tunnel(&mut state, 2).in_use, Some(ExitKind::Vxlan), "{known:?}");
    }
}

#[tokio::test]
async fn a_node_that_lost_bgp_returns_after_recover_after_and_not_before() {
    let mut config = ipip();
    config.probing.recover_after = Duration::from_secs(30);
    let mut state = started(config.clone()).await;
    state.routes(vec![by(PathKind::Static, 2)]);
    settle(&mut state).await;
    assert_eq!(tunnel(&mut state, 2).in_use, Some(ExitKind::Vxlan));
    state.routes(vec![by(PathKind::Bgp, 2)]);
    settle(&mut state).await;
    let report = tunnel(&mut state, 2);
    assert_eq!(report.in_use, Some(ExitKind::Vxlan));
    assert!(report.reason.contains("BGP is back"), "{}", report.reason);
    let wait = config.probing.recover_after;
    let at = state.reachability.deadline(wait).expect("a deadline");
    assert!(state.next_retry().is_some_and(|again| again <= at));
    assert!(at > Instant::now() + Duration::from_secs(25));
    // Lost again, and back: the time starts again.
    state.routes(vec![by(PathKind::Static, 2)]);
    settle(&mut state).await;
    assert_eq!(state.reachability.deadline(wait), None);
    state.routes(vec![by(PathKind::Bgp, 2)]);
    settle(&mut state).await;
    assert!(state.reachability.deadline(wait).is_some_and(|again| again > at));
    state.handle(path_state(PathState::Passes));
    config.probing.recover_after = Duration::ZERO;
    state.configure(config);
    settle(&mut state).await;
    assert_eq!(tunnel(&mut state, 2).in_use, Some(ExitKind::Ipip));
}

#[tokio::test]
async fn a_deadline_that_passed_during_a_report_is_still_processed() {
    let mut config = ipip();
    config.probing.recover_after = Duration::from_secs(30);
    let mut state = started(config.clone()).await;
    state.routes(vec![by(PathKind::Static, 2)]);
    settle(&mut state).await;
    state.routes(vec![by(PathKind::Bgp, 2)]);
    settle(&mut state).await;
    let at = state.reachability.deadline(config.probing.recover_after).expect("a deadline");
    assert!(at > Instant::now(), "the deadline is still ahead");
    // Advances the clock: all stored times become older.
    state.reachability.backdate(config.probing.recover_after);
    state.marked_at = state.marked_at.and_then(|at| at.checked_sub(config.probing.recover_after));
    let at = state.reachability.deadline(config.probing.recover_after).expect("a deadline");
    assert!(at <= Instant::now());
    // A report does not require a turn.
    assert_eq!(tunnel(&mut state, 2).in_use, Some(ExitKind::Vxlan));
    assert!(state.next_retry().is_some_and(|again| again <= at), "the deadline would be lost");
    // Other input triggers the work that is due.
    settle(&mut state).await;
    assert!(state.next_retry().is_none_or(|again| again > Instant::now()), "the reconciler would spin");
    assert_eq!(state.reachability.deadline(config.probing.recover_after), None);
}

#[tokio::test]
async fn a_block_without_bgp_does_not_move_its_nodes_others() {
    let mut state = started(ipip()).await;
    let prefix = "10.1.2.64/26".parse().expect("prefix");
    state.routes(vec![RouteChange { prefix, ..by(PathKind::Static, 2) }]);
    settle(&mut state).await;
    assert_eq!(tunnel(&mut state, 2).in_use, Some(ExitKind::Ipip));
    assert_eq!(state.installed(&prefix, &ipip().nodes[0]), Some(Encapsulation::Vxlan));
}

#[tokio::test]
async fn leftovers_on_vxlan_stay_until_ipip_passes() {
    let mut state = started(ipip()).await;
    state.handle(path_state(PathState::Blocked));
    settle(&mut state).await;
    let Fake { kernel, routes, .. } = std::mem::take(&mut state.dataplane);

    let mut state = Reconciler::new(Fake { kernel, routes, ..Fake::default() });
    state.configure(ipip());
    settle(&mut state).await;
    state.routes(vec![change(2), change(3)]);
    settle(&mut state).await;
    state.in_sync();
    settle(&mut state).await;
    assert_eq!(
        (state.dataplane.executed.len(), state.dataplane.rerouted),
        (0, 0),
        "{:?}",
        state.dataplane.executed
    );
    assert_eq!(tunnel(&mut state, 2).in_use, Some(ExitKind::Vxlan));
    assert_eq!(tunnel(&mut state, 3).in_use, Some(ExitKind::Ipip));
    let doubted: Vec<bool> = state.dataplane.targets.iter().map(|target| target.doubted).collect();
    assert_eq!(doubted, [true, false]);
    state.handle(path_state(PathState::Passes));
    settle(&mut state).await;
    assert_eq!(tunnel(&mut state, 2).in_use, Some(ExitKind::Ipip));
}

#[tokio::test]
async fn routes_on_another_exit_move_to_ipip_once_it_was_answered_or_no_path_is() {
    for verdict in [PathState::Passes, PathState::Unanswered] {
        for (encapsulation, mode, exit) in [
            (Encapsulation::Vxlan, PoolMode::Always, ExitKind::Vxlan),
            (Encapsulation::Vxlan, PoolMode::Never, ExitKind::Direct),
        ] {
            let mut before = ipip();
            (before.pools[0].encapsulation, before.pools[0].mode) = (encapsulation, mode);
            let mut state = started(before).await;
            assert_eq!(tunnel(&mut state, 2).in_use, Some(exit));
            state.configure(ipip());
            settle(&mut state).await;
            let report = tunnel(&mut state, 2);
            assert_eq!((report.preferred, report.in_use), (Some(ExitKind::Ipip), Some(exit)));
            assert!(report.reason.contains("once a probe was answered"), "{}", report.reason);
            assert!(state.dataplane.targets.iter().all(|target| target.ipip && !target.doubted));
            state.handle(path_state(verdict));
            settle(&mut state).await;
            assert_eq!(tunnel(&mut state, 2).in_use, Some(ExitKind::Ipip));
            assert_eq!(tunnel(&mut state, 3).in_use, Some(exit), "the other node is unaffected");
        }
    }
}

#[tokio::test]
async fn an_unused_device_receives_packets_for_a_while() {
    let mut state = started(ipip()).await;
    let mut config = ipip();
    config.pools[0].encapsulation = Encapsulation::Vxlan;
    config.device_linger = Duration::from_secs(300);
    state.configure(config.clone());
    settle(&mut state).await;
    assert_eq!(tunnel(&mut state, 2).in_use, Some(ExitKind::Vxlan));
    assert!(state.dataplane.kernel.link(Device::Ipip).is_some());
    assert!(state.next_retry().is_some_and(|at| at > Instant::now() + Duration::from_secs(200)));
    config.device_linger = Duration::ZERO;
    state.configure(config);
    settle(&mut state).await;
    assert!(state.dataplane.kernel.link(Device::Ipip).is_none());
}

#[tokio::test]
async fn plain_packets_are_used_within_a_subnet_once_a_probe_passed() {
    let mut config = ipip();
    config.pools[0].mode = PoolMode::CrossSubnet;
    config.probing.direct = true;
    let mut state = started(config).await;
    let report = tunnel(&mut state, 2);
    assert_eq!(report.in_use, Some(ExitKind::Ipip));
    assert!(report.reason.contains("no unwrapped packet"), "{}", report.reason);
    assert!(state.dataplane.targets.iter().all(|target| target.direct && target.ipip));
    state.handle(vec![KernelEvent::PathState {
        address: B,
        path: TunnelPath::Direct,
        state: PathState::Passes,
    }]);
    settle(&mut state).await;
    assert_eq!(tunnel(&mut state, 2).in_use, Some(ExitKind::Direct));
    assert_eq!(tunnel(&mut state, 3).in_use, Some(ExitKind::Ipip));
    state.handle(vec![KernelEvent::PathState {
        address: B,
        path: TunnelPath::Direct,
        state: PathState::Blocked,
    }]);
    settle(&mut state).await;
    assert_eq!(tunnel(&mut state, 2).in_use, Some(ExitKind::Ipip));
}

#[tokio::test]
async fn a_deleted_probe_rule_or_route_is_restored() {
    let mut state = started(ipip()).await;
    state.dataplane.kernel.rules.clear();
    state.dataplane.kernel.probe_routes.remove(&(TunnelPath::Ipip, B));
    state.handle(vec![KernelEvent::ProbeRouting]);
    settle(&mut state).await;
    assert_eq!((state.dataplane.kernel.rules.len(), state.dataplane.kernel.probe_routes.len()), (2, 4));
    assert_eq!(state.summary().drift, 3);
}

#[tokio::test]
async fn a_doubted_ipip_is_probed_and_used_only_after_an_answer() {
    let mut config = ipip();
    config.probing.doubted = true;
    let mut state = started(config).await;
    let report = tunnel(&mut state, 2);
    assert_eq!((report.preferred, report.in_use), (Some(ExitKind::Ipip), Some(ExitKind::Vxlan)));
    assert!(state.dataplane.targets.iter().all(|target| target.ipip && target.doubted));
    state.handle(path_state(PathState::Passes));
    settle(&mut state).await;
    assert_eq!(tunnel(&mut state, 2).in_use, Some(ExitKind::Ipip));
    assert_eq!(tunnel(&mut state, 3).in_use, Some(ExitKind::Vxlan));
}
