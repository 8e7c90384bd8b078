//! Random histories of a node against a model of the kernel with side effects, refusals at any
//! call, and lost events.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::{
    desired::{DesiredState, RouteTarget},
    resolve::resolve,
};

mod kernel;

use kernel::{KernelModel, PARENT};

/// An event in the history of a node.
#[derive(Clone, Debug)]
enum HistoryStep {
    /// Set of nodes (of five), and their subnets (of two).
    Nodes(u8, u8),
    /// Encapsulation and mode of the pool, and whether there is a fallback.
    Pool(u8, u8, bool),
    /// Metric of learned routes.
    Metric(u32),
    /// A prefix of a node is learned or withdrawn, with the set of nodes that share its packets.
    Route(u8, u8, Option<bool>, u8),
    /// State of a tunnel path to a node.
    PathState(u8, bool, u8),
    /// Another program changes one of our objects; the event arrives, or is lost and the loss is
    /// reported.
    Tamper(u8, u8, bool),
    /// Refusal of one of the next calls.
    Failure(u8, u8),
    /// Number of turns.
    Turns(u8),
    /// A turn whose changes of routes complete after the next ones.
    Begin,
    /// Delay of events.
    Deaf(bool),
    /// All routes are known.
    InSync,
}

fn happening() -> impl Strategy<Value = HistoryStep> {
    use HistoryStep::{Begin, Deaf, Failure, InSync, Metric, Nodes, Pool, Route, Tamper, Turns};
    prop_oneof![
        2 => (any::<u8>(), any::<u8>()).prop_map(|(there, far)| Nodes(there, far)),
        2 => (0u8..3, 0u8..3, any::<bool>()).prop_map(|(e, m, f)| Pool(e, m, f)),
        1 => (512u32..514).prop_map(Metric),
        8 => (0u8..5, 0u8..4, proptest::option::of(any::<bool>()), prop_oneof![Just(0), any::<u8>()])
            .prop_map(|(n, b, k, others)| Route(n, b, k, others)),
        3 => (0u8..5, any::<bool>(), 0u8..5).prop_map(|(n, d, p)| HistoryStep::PathState(n, d, p)),
        6 => (0u8..10, any::<u8>(), any::<bool>()).prop_map(|(what, which, reported)| Tamper(what, which, reported)),
        4 => (0u8..12, 0u8..4).prop_map(|(calls, errno)| Failure(calls, errno)),
        6 => (0u8..12).prop_map(Turns),
        5 => Just(Begin),
        2 => any::<bool>().prop_map(Deaf),
        1 => Just(InSync),
    ]
}

fn address(node: u8, far: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, far >> node & 1, 10 + node)
}

struct HistoryRun {
    state: Reconciler<KernelModel>,
    config: Config,
    far: u8,
    deaf: bool,
    learned: BTreeMap<IpNet, (LearnedPath, Box<[IpAddr]>)>,
}

impl HistoryRun {
    fn new() -> HistoryRun {
        let mut config = reachability::ipip();
        config.nodes = Vec::new();
        let state = Reconciler::new(KernelModel::default());
        HistoryRun { state, config, far: 0, deaf: false, learned: BTreeMap::new() }
    }

    fn place_nodes(&mut self, there: u8) {
        let node = |i: u8| RemoteNode {
            name: format!("node-{i}"),
            ipv4: Some(ipnet::Ipv4Net::new(address(i, self.far), 24).expect("a net")),
            ipv6: None,
            blocks: vec![format!("10.1.{i}.0/26").parse().expect("a block")],
            vtep: Some([10, 1, i, 0].into()),
            vtep_ipv6: None,
            mac: None,
        };
        self.config.nodes = (0..5).filter(|i| there >> i & 1 == 1).map(node).collect();
        self.state.configure(self.config.clone());
    }

    async fn happen(&mut self, what: &HistoryStep) {
        match *what {
            HistoryStep::Nodes(there, far) => {
                self.far = far;
                self.place_nodes(there);
            }
            HistoryStep::Pool(encapsulation, mode, fallback) => {
                let encapsulations = [Encapsulation::Ipip, Encapsulation::Vxlan, Encapsulation::None];
                let modes = [PoolMode::Always, PoolMode::CrossSubnet, PoolMode::Never];
                self.config.pools[0].encapsulation = encapsulations[usize::from(encapsulation)];
                self.config.pools[0].mode = modes[usize::from(mode)];
                self.config.fallback = if fallback { FallbackMode::Vxlan } else { FallbackMode::None };
                self.state.configure(self.config.clone());
            }
            HistoryStep::Metric(metric) => {
                self.config.route_metric = metric;
                self.state.configure(self.config.clone());
            }
            HistoryStep::Route(node, block, kind, others) => {
                let prefix: IpNet = format!("10.1.{node}.{}/26", block * 64).parse().expect("a prefix");
                let kind = kind.map(|bgp| if bgp { PathKind::Bgp } else { PathKind::Static });
                let learned = kind.map(|kind| LearnedPath { next_hop: address(node, self.far).into(), kind });
                // Only BGP paths share packets.
                let shares = |i: &u8| kind == Some(PathKind::Bgp) && *i != node && others >> i & 1 == 1;
                let others: Box<[IpAddr]> =
                    (0..5).filter(shares).map(|i| address(i, self.far).into()).collect();
                match learned {
                    Some(learned) => _ = self.learned.insert(prefix, (learned, others.clone())),
                    None => _ = self.learned.remove(&prefix),
                }
                self.state.routes(vec![RouteChange { prefix, learned, others }]);
            }
            HistoryStep::PathState(node, direct, state) => {
                let path = if direct { TunnelPath::Direct } else { TunnelPath::Ipip };
                let all = [
                    PathState::Unanswered,
                    PathState::Passes,
                    PathState::Blocked,
                    PathState::Returning,
                    PathState::Passes,
                ];
                let address = [10, 1, node, 0].into();
                let state = all[usize::from(state)];
                self.state.handle(vec![KernelEvent::PathState { address, path, state }]);
            }
            HistoryStep::Tamper(what, which, reported) => self.tamper(what, which, reported),
            HistoryStep::Failure(calls, errno) => {
                let errno = [EINVAL, ENOMEM, 105, 16][usize::from(errno)];
                self.state.dataplane.failures.push_back((calls.into(), errno));
            }
            HistoryStep::Begin => {
                self.state.dataplane.slow = true;
                self.state.reconcile().await;
                self.state.dataplane.slow = false;
            }
            HistoryStep::Deaf(deaf) => self.deaf = deaf,
            HistoryStep::Turns(turns) => {
                for _ in 0..turns {
                    if !step(&mut self.state).await {
                        break;
                    }
                }
            }
            HistoryStep::InSync => self.state.in_sync(),
        }
        if !self.deaf {
            self.wait();
        }
    }

    fn wait(&mut self) {
        let events = std::mem::take(&mut self.state.dataplane.events);
        self.state.handle(events);
    }

    fn tamper(&mut self, what: u8, which: u8, reported: bool) {
        let kernel = &mut self.state.dataplane;
        let pick = |count: usize| (count > 0).then(|| usize::from(which) % count);
        let event = match what {
            0 | 1 => {
                let Some(key) =
                    pick(kernel.routes.len()).and_then(|at| kernel.routes.keys().nth(at).copied())
                else {
                    return;
                };
                let via = (what == 1).then_some(Via::Other);
                match via {
                    Some(via) => _ = kernel.routes.insert(key, via),
                    None => _ = kernel.routes.remove(&key),
                }
                KernelEvent::Route { key, via, ours: true }
            }
            2 | 3 => {
                let ids: Vec<u32> = kernel.state.nexthops.keys().copied().collect();
                let Some(id) = pick(ids.len()).map(|at| ids[at]) else { return };
                if what == 2 {
                    kernel.remove_nexthops(&[id]);
                } else if let Some(nexthop) = kernel.state.nexthops.get_mut(&id) {
                    match nexthop.members.ids() {
                        [] => nexthop.gateway = Some([192, 0, 2, which].into()),
                        [first, ..] => nexthop.members = nexthop.members.without(*first),
                    }
                    if nexthop.gateway.is_none() && nexthop.members.is_empty() {
                        kernel.remove_nexthops(&[id]);
                    }
                }
                KernelEvent::Nexthop { ours: true }
            }
            4 | 5 => {
                let device = Device::ALL[usize::from(which) % 2];
                let Some(index) = kernel.state.link(device).map(|link| link.index) else { return };
                if what == 4 {
                    kernel.delete_link(device);
                } else {
                    kernel.take_down(index);
                    let link = match device {
                        Device::Ipip => kernel.state.ipip.as_mut(),
                        Device::Vxlan => kernel.state.vxlan.as_mut(),
                    };
                    if let Some(link) = link {
                        (link.up, link.mtu) = (false, 1300);
                    }
                }
                KernelEvent::Link { index, name: device.name().to_owned() }
            }
            6 => {
                let Some(index) = kernel.state.vxlan.map(|link| link.index) else { return };
                kernel.state.neighbours.clear();
                kernel.state.fdb.insert(([2, 0, 0, 0, 0, which], [192, 0, 2, 1].into()));
                KernelEvent::Neighbour { index, permanent: true }
            }
            7 => {
                kernel.state.rules.clear();
                kernel.state.probe_routes.clear();
                KernelEvent::ProbeRouting
            }
            8 => {
                let addresses = &mut kernel.state.addresses;
                let Some(at) = pick(addresses.len()) else { return };
                let Some(gone) = addresses.iter().nth(at).copied() else { return };
                addresses.remove(&gone);
                let Some(index) = kernel.state.link(gone.0).map(|link| link.index) else { return };
                KernelEvent::Address { index, gone: true }
            }
            // A leftover of an earlier run.
            _ => {
                let key =
                    RouteKey { prefix: "10.99.0.0/24".parse().expect("a prefix"), metric: which.into() };
                kernel.routes.insert(key, Via::Blackhole);
                KernelEvent::Route { key, via: Some(Via::Blackhole), ours: true }
            }
        };
        kernel.events.push(if reported { event } else { KernelEvent::Overrun });
    }

    /// Ends refusals and events, and settles: kernel state must equal desired state.
    async fn quiet(&mut self) {
        self.state.dataplane.failures.clear();
        self.wait();
        self.state.in_sync();
        for _ in 0..3 {
            // As if every pause had passed.
            self.state.ledger.retry_all(Instant::now());
            self.state.observation.retry_at = self.state.observation.retry_at.map(|_| Instant::now());
            for turn in 0.. {
                assert!(turn < 5000, "still work after all turns");
                if !step(&mut self.state).await {
                    break;
                }
            }
        }
    }

    /// Compares the kernel with the state derived from scratch from configuration, paths and
    /// reachability.
    fn check(&mut self) {
        let reachability = self.state.reachability.clone();
        let kernel = &mut self.state.dataplane;
        let desired = DesiredState::from_config(&self.config, Some(PARENT));
        let state = kernel.state.clone();
        for device in Device::ALL {
            let wanted = match device {
                Device::Ipip => desired.ipip != DesiredDevice::Absent,
                Device::Vxlan => desired.vxlan != DesiredDevice::Absent,
            };
            assert_eq!(state.link(device).is_some_and(|link| link.up), wanted, "{device:?}");
        }
        assert_eq!(state.addresses, desired.addresses);
        assert_eq!(state.neighbours, desired.neighbours);
        assert_eq!(state.fdb, desired.fdb.iter().map(|(mac, to)| (*mac, *to)).collect());
        assert_eq!(state.rules, desired.rules);
        let probes: BTreeMap<_, _> =
            desired.probe_routes.iter().map(|(key, exit)| (*key, state.realise(exit))).collect();
        assert_eq!(state.probe_routes, probes);

        let base: BTreeMap<RouteKey, RouteTarget> = desired.routes.iter().copied().collect();
        for (key, target) in &base {
            let via = kernel.routes.get(key).unwrap_or_else(|| panic!("{key:?} is missing: {target:?}"));
            match target {
                RouteTarget::Device(device) => {
                    assert_eq!(Some(*via), state.link(*device).map(|link| Via::Link(link.index)));
                }
                _ => assert_eq!(*via, Via::Blackhole),
            }
        }
        let mut wanted: BTreeSet<RouteKey> = base.keys().copied().collect();
        for (prefix, (learned, others)) in &self.learned {
            let mut reach = |a| kernel.reach(a, &state);
            let legs = std::iter::once(learned.next_hop).chain(others.iter().copied());
            let exits = legs.filter_map(|next_hop| {
                let leg = LearnedPath { next_hop, ..*learned };
                resolve(&self.config, &reachability, prefix, &leg, &mut reach).exit
            });
            let contents: BTreeSet<_> = exits.map(|exit| state.realise(&exit).expect("its device")).collect();
            let key = RouteKey { prefix: *prefix, metric: self.config.route_metric };
            if !contents.is_empty() && wanted.insert(key) {
                let leads = match kernel.routes.get(&key) {
                    Some(Via::Nexthop(id)) => state.contents(*id).into_iter().collect(),
                    _ => BTreeSet::new(),
                };
                assert_eq!(leads, contents, "{key:?} {learned:?} {others:?}");
            }
        }
        let more: Vec<_> = kernel.routes.keys().filter(|key| !wanted.contains(key)).collect();
        assert!(more.is_empty(), "not desired: {more:?}");
        let used = |id: &u32| kernel.routes.values().any(|via| *via == Via::Nexthop(*id));
        let shares = |id: &u32| state.nexthops.iter().any(|(g, n)| used(g) && n.members.contains(*id));
        let unused: Vec<_> = state.nexthops.keys().filter(|id| !used(id) && !shares(id)).collect();
        assert!(unused.is_empty(), "objects that no route uses: {unused:?}");
        assert!(self.state.ledger.failures().is_empty(), "{:?}", self.state.ledger.failures());
    }
}

/// Returns `PROPTEST_CASES`, or a number that takes some seconds.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]
    #[test]
    fn any_history_ends_in_exactly_what_is_desired(
        there in any::<u8>(),
        happenings in proptest::collection::vec(happening(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut run = HistoryRun::new();
            run.place_nodes(there);
            for what in &happenings {
                run.happen(what).await;
            }
            run.quiet().await;
            run.check();
        });
    }
}
