mod flood;
mod model;
mod multipath;
mod reachability;

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::operations::FIGHT_LIMIT;
use super::*;
use crate::{
    dataplane::{
        ListedRoute, Wakeup,
        errno::{EBUSY, EEXIST, EINVAL, ENOENT, ENOMEM, EPERM},
    },
    desired::{Parent, VXLAN_PORT, VXLAN_VNI},
    diff::Op,
    fib::{RouteAction, RouteOp},
    node::{
        DEFAULT_ROUTE_METRIC, FallbackMode, LocalNode, PathKind, Pool, PoolMode, ProbeConfig, RemoteNode,
    },
    observed::{LinkKind, ObservedLink, ObservedState, Via},
    probe::{
        PathState, TunnelPath,
        prober::{PathMeasurement, ProbeTarget},
    },
    report::{DataplaneReport, PERMISSION_DENIED},
};

/// A kernel that executes everything, unless a test says otherwise.
#[derive(Default)]
struct Fake {
    kernel: ObservedState,
    routes: HashMap<RouteKey, Via>,
    answers: VecDeque<Vec<(usize, DataplaneError)>>,
    /// True if batches complete only when they are waited for.
    slow: bool,
    list: Option<Vec<ListedRoute>>,
    refused: HashMap<Object, i32>,
    refuse_all: Option<i32>,
    blind: bool,
    observations: usize,
    listings: usize,
    targets: Vec<ProbeTarget>,
    /// Operations, except those on routes.
    executed: Vec<Op>,
    /// Number of changes of routes.
    rerouted: usize,
}

impl Fake {
    fn execute(&mut self, op: &Op) -> Result<(), DataplaneError> {
        let errno = |errno| Err(DataplaneError { errno, message: String::new() });
        if let Some(all) = self.refuse_all {
            return errno(all);
        }
        if let Some(refused) = self.refused.get(&op.object()) {
            return errno(*refused);
        }
        if let Op::CreateVxlan(spec) = *op {
            self.kernel.vxlan = Some(ObservedLink {
                index: 9,
                up: false,
                mtu: spec.mtu,
                mac: spec.mac,
                kind: LinkKind::Vxlan {
                    vni: VXLAN_VNI,
                    port: VXLAN_PORT,
                    local: Some(spec.local),
                    parent: spec.parent,
                    learning: false,
                },
            });
        }
        if let Op::CreateIpip(spec) = *op {
            self.kernel.ipip = Some(ObservedLink {
                index: 10,
                up: false,
                mtu: spec.mtu,
                mac: [0; 6],
                kind: LinkKind::Ipip { local: Some(spec.local.into()), remote: None, pmtudisc: true },
            });
        }
        self.executed.push(*op);
        self.kernel.apply(op);
        Ok(())
    }

    fn carry_out_route(&mut self, op: &RouteOp) -> Result<(), DataplaneError> {
        self.rerouted += 1;
        let errno = |errno| Err(DataplaneError { errno, message: String::new() });
        if let Some(all) = self.refuse_all {
            return errno(all);
        }
        if let Some(refused) = self.refused.get(&Object::Route(op.key)) {
            return errno(*refused);
        }
        match op.verb {
            RouteAction::Add(Via::Nexthop(id)) | RouteAction::Replace(Via::Nexthop(id))
                if !self.kernel.nexthops.contains_key(&id) =>
            {
                return errno(EINVAL);
            }
            RouteAction::Add(_) if self.routes.contains_key(&op.key) => return errno(EEXIST),
            RouteAction::Replace(_) if !self.routes.contains_key(&op.key) => return errno(ENOENT),
            RouteAction::Add(via) | RouteAction::Replace(via) => self.routes.insert(op.key, via),
            RouteAction::Delete => self.routes.remove(&op.key),
        };
        Ok(())
    }
}

impl Dataplane for Fake {
    fn observe(&mut self, _: &Config) -> Result<ObservedState, DataplaneError> {
        self.observations += 1;
        if self.blind {
            return Err(DataplaneError { errno: ENOMEM, message: String::new() });
        }
        self.kernel.nexthop_objects = true;
        self.kernel.parent = Some(Parent { index: 2, mtu: 1500 });
        Ok(self.kernel.clone())
    }

    fn list_routes(&mut self, _: &Config) {
        let record = |(key, via): (&RouteKey, &Via)| ListedRoute { key: *key, via: *via };
        self.listings += 1;
        self.list = Some(self.routes.iter().map(record).collect());
    }

    async fn next_listed(&mut self) -> Result<Option<Vec<ListedRoute>>, DataplaneError> {
        Ok(self.list.take())
    }

    fn submit(&mut self, _: &Config, ops: &[RouteOp]) {
        let results: Vec<_> = ops.iter().map(|op| self.carry_out_route(op)).collect();
        self.answers.push_back((0..).zip(results).filter_map(|(i, r)| Some((i, r.err()?))).collect());
    }

    async fn completed(&mut self) -> Vec<(usize, DataplaneError)> {
        self.answers.pop_front().expect("a batch was submitted")
    }

    fn try_completed(&mut self) -> Option<Vec<(usize, DataplaneError)>> {
        if self.slow { None } else { self.answers.pop_front() }
    }

    async fn apply(&mut self, _: &Config, ops: &[Op]) -> Vec<Result<(), DataplaneError>> {
        ops.iter().map(|op| self.execute(op)).collect()
    }

    fn reach(&mut self, _: IpAddr, _: &ObservedState) -> Reach {
        Reach::OnLink { index: 2 }
    }

    fn probe(&mut self, _: &Config, _: &ObservedState, targets: &[ProbeTarget]) {
        self.targets = targets.to_vec();
    }

    fn path_measurements(&self, _: Ipv4Addr) -> Option<[PathMeasurement; 3]> {
        None
    }

    fn probe_problem(&self) -> Option<String> {
        None
    }

    fn interface_name(&self, _: u32) -> Option<String> {
        None
    }

    fn tune(&mut self, _: &Config, _: &ObservedState) -> Vec<Sysctl> {
        Vec::new()
    }

    async fn wait(&mut self, submitted: bool) -> Wakeup {
        if submitted { Wakeup::Completed(self.completed().await) } else { Wakeup::Events(Vec::new()) }
    }
}

fn config() -> Config {
    let node = |i: u8| RemoteNode {
        name: format!("node-{i}"),
        ipv4: Some(format!("192.168.0.{i}/24").parse().expect("net")),
        ipv6: None,
        blocks: vec![format!("10.1.{i}.0/26").parse().expect("block")],
        vtep: Some([10, 1, i, 0].into()),
        vtep_ipv6: None,
        mac: None,
    };
    Config {
        local: LocalNode {
            name: "node-1".into(),
            ipv4: Some("192.168.0.1/24".parse().expect("net")),
            ipv6: None,
            blocks: vec!["10.1.1.0/26".parse().expect("block")],
            tunnel_address: Some([10, 1, 1, 0].into()),
            tunnel_ipv6: None,
            vtep_mac: None,
        },
        nodes: vec![node(2), node(3)],
        pools: vec![Pool {
            cidr: "10.1.0.0/16".parse().expect("cidr"),
            encapsulation: Encapsulation::Vxlan,
            mode: PoolMode::Always,
        }],
        encapsulation: Encapsulation::Vxlan,
        fallback: FallbackMode::Vxlan,
        route_protocol: 179,
        route_metric: DEFAULT_ROUTE_METRIC,
        nexthop_compat_keep: false,
        probing: ProbeConfig::default(),
        device_linger: Duration::ZERO,
    }
}

fn change(i: u8) -> RouteChange {
    RouteChange {
        prefix: format!("10.1.{i}.0/26").parse().expect("prefix"),
        learned: Some(LearnedPath { next_hop: [192, 168, 0, i].into(), kind: PathKind::Bgp }),
        others: Box::default(),
    }
}

fn key(i: u8) -> RouteKey {
    RouteKey { prefix: change(i).prefix, metric: DEFAULT_ROUTE_METRIC }
}

/// Takes a turn and waits for what it requires. Returns whether there is more to do.
async fn step<D: Dataplane>(state: &mut Reconciler<D>) -> bool {
    let turn = state.reconcile().await;
    if turn == Turn::Writing {
        state.completed_one().await;
    }
    turn != Turn::Rest
}

async fn settle(state: &mut Reconciler<Fake>) {
    for _ in 0..1000 {
        if !step(state).await {
            return;
        }
    }
    panic!("still work after 1000 turns");
}

/// Returns the report with all routes.
fn whole_report(state: &mut Reconciler<Fake>) -> DataplaneReport {
    let mut report = state.summary();
    let mut cursor = Some(0);
    while let Some(from) = cursor {
        let (mut some, next) = state.route_page(from);
        report.routes.append(&mut some);
        cursor = next;
    }
    report
}

async fn settled() -> Reconciler<Fake> {
    let mut state = Reconciler::new(Fake::default());
    state.configure(config());
    state.routes(vec![change(2)]);
    state.in_sync();
    settle(&mut state).await;
    assert!(whole_report(&mut state).routes.iter().all(|r| r.installed), "{:?}", whole_report(&mut state));
    state
}

/// Makes all failures due, as if their pauses had passed.
async fn retry(state: &mut Reconciler<Fake>) {
    state.ledger.retry_all(Instant::now());
    settle(state).await;
}

#[tokio::test]
async fn an_outdated_observation_is_repeated_before_an_object_is_blamed() {
    let mut state = settled().await;
    // The kernel lost the next hop, and the event has not arrived yet.
    state.dataplane.kernel.nexthops.clear();
    state.dataplane.routes.remove(&key(2));
    state.routes(vec![RouteChange { prefix: "10.1.2.64/26".parse().expect("prefix"), ..change(2) }]);
    settle(&mut state).await;
    let report = whole_report(&mut state);
    assert_eq!((report.failures, report.drift), (vec![], 2));
    assert!(report.routes.iter().all(|r| r.installed), "{:?}", report.routes);
    assert_eq!(state.dataplane.routes.len(), 3);
}

#[tokio::test]
async fn packets_to_a_discarded_prefix_are_dropped_until_another_path_is_learned() {
    let mut state = settled().await;
    let discard = LearnedPath { next_hop: [192, 168, 0, 3].into(), kind: PathKind::Discard };
    state.routes(vec![RouteChange { learned: Some(discard), ..change(3) }]);
    settle(&mut state).await;
    assert_eq!(state.dataplane.routes.get(&key(3)), Some(&Via::Blackhole));
    let report = whole_report(&mut state);
    let route = report.routes.iter().find(|route| route.prefix == key(3).prefix).expect("the prefix");
    assert_eq!((route.exit, route.installed), (Some(ExitKind::Blackhole), true));
    assert!(route.reason.contains("discarded"), "{}", route.reason);
    state.routes(vec![change(3)]);
    settle(&mut state).await;
    assert!(matches!(state.dataplane.routes.get(&key(3)), Some(Via::Nexthop(_))));
    state.routes(vec![RouteChange { learned: None, ..change(3) }]);
    settle(&mut state).await;
    assert_eq!(state.dataplane.routes.get(&key(3)), None);
}

#[tokio::test]
async fn one_refused_object_does_not_stop_the_others() {
    let mut state = settled().await;
    state.dataplane.refused.insert(Object::Route(key(3)), EINVAL);
    state.routes(vec![
        change(3),
        RouteChange { prefix: "10.1.2.64/26".parse().expect("prefix"), ..change(2) },
    ]);
    settle(&mut state).await;
    let report = whole_report(&mut state);
    assert_eq!(report.failures.len(), 1, "{report:?}");
    assert!(report.failures[0].object.contains("10.1.3.0/26"), "{report:?}");
    assert_eq!(report.problems.len(), 1, "{report:?}");
    let installed = report.routes.iter().filter(|r| r.installed).count();
    assert_eq!((report.routes.len(), installed), (4, 3), "{report:?}");

    state.dataplane.refused.clear();
    assert!(state.next_retry().is_some());
    retry(&mut state).await;
    let report = whole_report(&mut state);
    assert_eq!((report.failures, report.problems), (vec![], vec![]));
    assert!(report.routes.iter().all(|r| r.installed));
    assert_eq!(state.next_retry(), None);
}

#[tokio::test]
async fn a_failure_whose_cause_is_gone_leaves_no_retry_behind() {
    let mut state = settled().await;
    state.dataplane.refused.insert(Object::Route(key(3)), EINVAL);
    state.routes(vec![change(3)]);
    settle(&mut state).await;
    assert!(state.next_retry().is_some());
    state.routes(vec![RouteChange { learned: None, ..change(3) }]);
    settle(&mut state).await;
    assert_eq!((state.ledger.next_retry(), whole_report(&mut state).failures), (None, vec![]));
}

#[tokio::test]
async fn a_missing_privilege_is_one_problem_until_it_is_granted() {
    let mut state = Reconciler::new(Fake { refuse_all: Some(EPERM), ..Fake::default() });
    state.configure(config());
    state.routes(vec![change(2), change(3)]);
    state.in_sync();
    settle(&mut state).await;
    retry(&mut state).await;
    let report = whole_report(&mut state);
    assert_eq!(report.problems, [PERMISSION_DENIED]);
    assert!(report.failures_total > 0 && state.next_retry().is_some());
    state.dataplane.refuse_all = None;
    retry(&mut state).await;
    let report = whole_report(&mut state);
    assert_eq!((report.problems, report.failures_total), (vec![], 0));
    assert!(report.routes.iter().all(|r| r.installed), "{:?}", report.routes);
}

#[tokio::test]
async fn a_route_that_is_deleted_repeatedly_is_left_alone_for_a_while() {
    let mut state = settled().await;
    for _ in 0..=FIGHT_LIMIT {
        state.dataplane.routes.remove(&key(2));
        state.handle(vec![KernelEvent::Route { key: key(2), via: None, ours: true }]);
        settle(&mut state).await;
    }
    let report = whole_report(&mut state);
    assert_eq!(report.drift, u64::from(FIGHT_LIMIT) + 1);
    assert_eq!((report.failures.len(), report.failures[0].errno), (1, EBUSY), "{report:?}");
    state.dataplane.routes.remove(&key(2));
    state.handle(vec![KernelEvent::Route { key: key(2), via: None, ours: true }]);
    settle(&mut state).await;
    assert!(!state.dataplane.routes.contains_key(&key(2)), "it was written again");
}

#[tokio::test]
async fn lost_events_lead_to_a_full_resync() {
    let mut state = settled().await;
    let before = state.dataplane.observations;
    state.dataplane.routes.remove(&key(2));
    state.dataplane.kernel.fdb.clear();
    state.handle(vec![KernelEvent::Overrun]);
    settle(&mut state).await;
    assert_eq!(state.dataplane.observations, before + 1);
    assert!(state.dataplane.routes.contains_key(&key(2)));
    assert_eq!(state.dataplane.kernel.fdb.len(), 2);
    assert_eq!(whole_report(&mut state).drift, 3);
}

#[tokio::test]
async fn a_failed_observation_is_reported_and_repeated() {
    let mut state = Reconciler::new(Fake { blind: true, ..Fake::default() });
    state.configure(config());
    state.routes(vec![change(2)]);
    settle(&mut state).await;
    let report = whole_report(&mut state);
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert!(report.problems[0].contains("cannot be read"), "{report:?}");
    assert!(state.next_retry().is_some());
    state.dataplane.blind = false;
    settle(&mut state).await;
    let report = whole_report(&mut state);
    assert_eq!(report.problems, Vec::<String>::new());
    assert!(report.routes.iter().all(|r| r.installed));
}

#[tokio::test]
async fn unrelated_events_cause_no_resync() {
    let mut state = settled().await;
    let before = state.dataplane.observations;
    let foreign = RouteKey { prefix: "10.9.0.0/24".parse().expect("prefix"), metric: 0 };
    state.handle(vec![
        KernelEvent::Link { index: 77, name: "cali1".into() },
        KernelEvent::Address { index: 77, gone: true },
        KernelEvent::Neighbour { index: 2, permanent: false },
        KernelEvent::Nexthop { ours: false },
        KernelEvent::Route { key: foreign, via: None, ours: false },
    ]);
    settle(&mut state).await;
    assert_eq!((state.dataplane.observations, whole_report(&mut state).drift), (before, 0));
}

#[tokio::test]
async fn only_a_removed_address_causes_a_listing_of_routes() {
    let mut state = settled().await;
    for (gone, listed) in [(false, 0), (true, 1)] {
        let (observations, listings) = (state.dataplane.observations, state.dataplane.listings);
        state.handle(vec![KernelEvent::Address { index: 2, gone }]);
        settle(&mut state).await;
        assert_eq!(state.dataplane.observations, observations + 1, "gone: {gone}");
        assert_eq!(state.dataplane.listings, listings + listed, "gone: {gone}");
    }
}

#[tokio::test]
async fn routes_withdrawn_before_in_sync_are_deleted_at_once_and_unknown_ones_stay() {
    // An earlier run left the routes of node-2 and node-3.
    let mut earlier = settled().await;
    earlier.routes(vec![change(3)]);
    settle(&mut earlier).await;
    let mut state = Reconciler::new(Fake {
        kernel: earlier.dataplane.kernel,
        routes: earlier.dataplane.routes,
        ..Fake::default()
    });
    state.configure(config());
    // A withdrawal of a path that was never learned does not affect leftovers of an earlier run.
    state.routes(vec![change(2), RouteChange { learned: None, ..change(3) }]);
    settle(&mut state).await;
    let has = |state: &Reconciler<Fake>, i| state.dataplane.routes.contains_key(&key(i));
    assert_eq!((has(&state, 2), has(&state, 3)), (true, true));

    // Refused at first, it is deleted with the next attempt.
    state.dataplane.refused.insert(Object::Route(key(2)), EINVAL);
    state.routes(vec![RouteChange { learned: None, ..change(2) }]);
    settle(&mut state).await;
    assert_eq!((has(&state, 2), whole_report(&mut state).failures.len()), (true, 1));
    state.dataplane.refused.clear();
    retry(&mut state).await;
    assert_eq!((has(&state, 2), has(&state, 3)), (false, true));
    assert_eq!(whole_report(&mut state).failures, vec![]);

    // Learned again before it could be deleted, it stays.
    state.routes(vec![change(2)]);
    settle(&mut state).await;
    state.routes(vec![RouteChange { learned: None, ..change(2) }, change(2)]);
    settle(&mut state).await;
    assert_eq!((has(&state, 2), has(&state, 3)), (true, true));
    state.in_sync();
    settle(&mut state).await;
    assert_eq!((has(&state, 2), has(&state, 3)), (true, false));
}
