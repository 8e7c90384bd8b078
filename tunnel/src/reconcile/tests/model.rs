//! A model of the kernel with its unpleasant sides: what goes with what, refusals at any call, events that are lost; and what
//! the reconciler makes of it.

use std::collections::BTreeMap;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::{
    desired::{Desired, Target},
    observed::Nexthop,
    resolve::resolve,
};

const PARENT: Parent = Parent { index: 2, mtu: 1500 };

/// The kernel.
#[derive(Default)]
struct Model {
    state: Observed,
    routes: BTreeMap<RouteKey, Via>,
    answers: VecDeque<Vec<(usize, KernelError)>>,
    list: Option<Vec<RouteRecord>>,
    last_index: u32,
    /// Calls until one fails, and with what.
    failures: VecDeque<(u32, i32)>,
    /// What others did is told by these.
    events: Vec<Event>,
}

impl Model {
    /// Whether this call fails.
    fn fails(&mut self) -> Option<i32> {
        let (calls, errno) = self.failures.front_mut()?;
        if *calls > 0 {
            *calls -= 1;
            return None;
        }
        let errno = *errno;
        self.failures.pop_front();
        Some(errno)
    }

    fn remove_routes_by(&mut self, gone: impl Fn(&Via) -> bool) {
        self.routes.retain(|_, via| !gone(via));
    }

    /// Next-hop objects on a device go without a word, and IPv4 routes with them.
    fn take_down(&mut self, index: u32) {
        let ids: Vec<u32> =
            self.state.nexthops.iter().filter(|(_, n)| n.index == index).map(|(id, _)| *id).collect();
        self.remove_nexthops(&ids);
        self.remove_routes_by(
            |via| matches!(via, Via::Link(i) | Via::Gateway { index: i, .. } if *i == index),
        );
        self.state.probe_routes.retain(|_, via| via.is_none_or(|(_, i)| i != index));
    }

    fn remove_nexthops(&mut self, ids: &[u32]) {
        self.state.nexthops.retain(|id, _| !ids.contains(id));
        self.remove_routes_by(|via| matches!(via, Via::Nexthop(id) if ids.contains(id)));
    }

    fn delete_link(&mut self, device: Device) {
        if let Some(index) = self.state.link(device).map(|link| link.index) {
            self.take_down(index);
            self.state.remove_link(device);
        }
    }

    fn create(&mut self, device: Device, mtu: u32, mac: crate::node::Mac, kind: LinkKind) -> Result<(), i32> {
        if self.state.link(device).is_some() {
            return Err(EEXIST);
        }
        self.last_index += 1;
        let link = Link { index: 100 + self.last_index, up: false, mtu, mac, kind };
        match device {
            Device::Ipip => self.state.ipip = Some(link),
            Device::Vxlan => self.state.vxlan = Some(link),
        }
        Ok(())
    }

    fn usable(&self, index: u32) -> bool {
        let of = |d: &Device| self.state.link(*d).filter(|link| link.index == index);
        index == PARENT.index || Device::ALL.iter().filter_map(of).any(|link| link.up)
    }

    fn carry_out(&mut self, op: &Op) -> Result<(), i32> {
        if let Some(errno) = self.fails() {
            return Err(errno);
        }
        match *op {
            Op::CreateIpip(spec) => {
                let kind = LinkKind::Ipip { local: Some(spec.local.into()), remote: None, pmtudisc: true };
                return self.create(Device::Ipip, spec.mtu, [0; 6], kind);
            }
            Op::CreateVxlan(spec) => {
                let kind = LinkKind::Vxlan {
                    vni: VXLAN_VNI,
                    port: VXLAN_PORT,
                    local: Some(spec.local),
                    parent: spec.parent,
                    learning: false,
                };
                return self.create(Device::Vxlan, spec.mtu, spec.mac, kind);
            }
            Op::DeleteLink { device, .. } => {
                self.delete_link(device);
                return Ok(());
            }
            Op::AddNexthop { id, index, .. } => {
                if self.state.nexthops.contains_key(&id) {
                    return Err(EEXIST);
                }
                if !self.usable(index) {
                    return Err(EINVAL);
                }
            }
            Op::ReplaceNexthop { id, index, .. } => {
                if !self.state.nexthops.contains_key(&id) {
                    return Err(ENOENT);
                }
                if !self.usable(index) {
                    return Err(EINVAL);
                }
            }
            Op::DeleteNexthop { id } => {
                self.remove_nexthops(&[id]);
                return Ok(());
            }
            Op::AddRule { way } if self.state.rules.contains(&way) => return Err(EEXIST),
            Op::SetProbeRoute { index, .. } if !self.usable(index) => return Err(EINVAL),
            Op::SetLink { device, .. } | Op::AddAddress { device, .. }
                if self.state.link(device).is_none() =>
            {
                return Err(19);
            }
            Op::SetFdb { .. } | Op::SetNeighbour { .. } if self.state.vxlan.is_none() => return Err(19),
            _ => {}
        }
        self.state.apply(op);
        Ok(())
    }

    fn carry_out_route(&mut self, op: &RouteOp) -> Result<(), i32> {
        if let Some(errno) = self.fails() {
            return Err(errno);
        }
        match op.verb {
            Verb::Add(Via::Nexthop(id)) | Verb::Replace(Via::Nexthop(id))
                if !self.state.nexthops.contains_key(&id) =>
            {
                return Err(EINVAL);
            }
            Verb::Add(Via::Link(index)) | Verb::Replace(Via::Link(index)) if !self.usable(index) => {
                return Err(100);
            }
            Verb::Add(_) if self.routes.contains_key(&op.key) => return Err(EEXIST),
            Verb::Replace(_) if !self.routes.contains_key(&op.key) => return Err(ENOENT),
            Verb::Delete if !self.routes.contains_key(&op.key) => return Err(3),
            Verb::Add(via) | Verb::Replace(via) => self.routes.insert(op.key, via),
            Verb::Delete => self.routes.remove(&op.key),
        };
        Ok(())
    }
}

fn error(errno: i32) -> KernelError {
    KernelError { errno, message: String::new() }
}

impl Dataplane for Model {
    fn observe(&mut self, _: &Config) -> Result<Observed, KernelError> {
        if let Some(errno) = self.fails() {
            return Err(error(errno));
        }
        self.state.nexthop_objects = true;
        self.state.parent = Some(PARENT);
        Ok(self.state.clone())
    }

    fn list_routes(&mut self, config: &Config) {
        let protocol = config.route_protocol;
        let record =
            |(key, via): (&RouteKey, &Via)| RouteRecord { protocol, key: *key, via: *via, replaced: false };
        self.list = Some(self.routes.iter().map(record).collect());
    }

    async fn listed(&mut self) -> Result<Option<Vec<RouteRecord>>, KernelError> {
        match self.fails() {
            Some(errno) => {
                self.list = None;
                Err(error(errno))
            }
            None => Ok(self.list.take()),
        }
    }

    fn submit(&mut self, _: &Config, ops: &[RouteOp]) {
        let results: Vec<_> = ops.iter().map(|op| self.carry_out_route(op)).collect();
        let refused = (0..).zip(results).filter_map(|(i, r)| Some((i, error(r.err()?))));
        self.answers.push_back(refused.collect());
    }

    async fn completed(&mut self) -> Vec<(usize, KernelError)> {
        self.answers.pop_front().expect("a batch was submitted")
    }

    async fn apply(&mut self, _: &Config, ops: &[Op]) -> Vec<Result<(), KernelError>> {
        ops.iter().map(|op| self.carry_out(op).map_err(error)).collect()
    }

    fn reach(&mut self, address: IpAddr, _: &Observed) -> Reach {
        match address {
            IpAddr::V4(a) if a.octets()[2] == 0 => Reach::OnLink { index: PARENT.index },
            _ => Reach::Via { gateway: [192, 168, 0, 254].into(), index: PARENT.index },
        }
    }

    fn probe(&mut self, _: &Config, _: &Observed, _: &[Aim]) {}

    fn probed(&self, _: Ipv4Addr) -> Option<[Seen; 3]> {
        None
    }

    fn probe_problem(&self) -> Option<String> {
        None
    }

    fn interface_name(&self, _: u32) -> Option<String> {
        None
    }

    fn tune(&mut self, _: &Config, _: &Observed) -> Vec<Sysctl> {
        Vec::new()
    }

    async fn events(&mut self) -> Vec<Event> {
        Vec::new()
    }
}

/// What happens to a node.
#[derive(Clone, Debug)]
enum Happening {
    /// Which of five nodes there are, and in which of two subnets.
    Nodes(u8, u8),
    /// The pool's encapsulation and mode, and whether there is a fallback.
    Pool(u8, u8, bool),
    /// The metric of learned routes.
    Metric(u32),
    /// A prefix of a node is learned so, or no more.
    Route(u8, u8, Option<bool>),
    /// A way to a node.
    Passage(u8, bool, u8),
    /// Somebody does something to one of our objects, and tells, or the event is lost and the loss told.
    Tamper(u8, u8, bool),
    /// One of the next calls is refused.
    Failure(u8, u8),
    /// So many turns are taken.
    Turns(u8),
    /// The routes are whole.
    InSync,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::{Failure, InSync, Metric, Nodes, Pool, Route, Tamper, Turns};
    prop_oneof![
        2 => (any::<u8>(), any::<u8>()).prop_map(|(there, far)| Nodes(there, far)),
        2 => (0u8..3, 0u8..3, any::<bool>()).prop_map(|(e, m, f)| Pool(e, m, f)),
        1 => (512u32..514).prop_map(Metric),
        8 => (0u8..5, 0u8..4, proptest::option::of(any::<bool>())).prop_map(|(n, b, k)| Route(n, b, k)),
        3 => (0u8..5, any::<bool>(), 0u8..5).prop_map(|(n, d, p)| Happening::Passage(n, d, p)),
        6 => (0u8..10, any::<u8>(), any::<bool>()).prop_map(|(what, which, told)| Tamper(what, which, told)),
        4 => (0u8..12, 0u8..4).prop_map(|(calls, errno)| Failure(calls, errno)),
        6 => (0u8..12).prop_map(Turns),
        1 => Just(InSync),
    ]
}

fn address(node: u8, far: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, far >> node & 1, 10 + node)
}

struct Run {
    state: Reconciler<Model>,
    config: Config,
    far: u8,
    learned: BTreeMap<IpNet, Learned>,
}

impl Run {
    fn new() -> Run {
        let mut config = standing::ipip();
        config.nodes = Vec::new();
        let state = Reconciler::new(Model::default());
        Run { state, config, far: 0, learned: BTreeMap::new() }
    }

    fn place_nodes(&mut self, there: u8) {
        let node = |i: u8| Node {
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

    async fn happen(&mut self, what: &Happening) {
        match *what {
            Happening::Nodes(there, far) => {
                self.far = far;
                self.place_nodes(there);
            }
            Happening::Pool(encapsulation, mode, fallback) => {
                let encapsulations = [Encapsulation::Ipip, Encapsulation::Vxlan, Encapsulation::None];
                let modes = [Mode::Always, Mode::CrossSubnet, Mode::Never];
                self.config.pools[0].encapsulation = encapsulations[usize::from(encapsulation)];
                self.config.pools[0].mode = modes[usize::from(mode)];
                self.config.fallback = if fallback { Fallback::Vxlan } else { Fallback::None };
                self.state.configure(self.config.clone());
            }
            Happening::Metric(metric) => {
                self.config.route_metric = metric;
                self.state.configure(self.config.clone());
            }
            Happening::Route(node, block, kind) => {
                let prefix: IpNet = format!("10.1.{node}.{}/26", block * 64).parse().expect("a prefix");
                let kind = kind.map(|bgp| if bgp { PathKind::Bgp } else { PathKind::Static });
                let learned = kind.map(|kind| Learned { next_hop: address(node, self.far).into(), kind });
                match learned {
                    Some(learned) => _ = self.learned.insert(prefix, learned),
                    None => _ = self.learned.remove(&prefix),
                }
                self.state.routes(vec![RouteChange { prefix, learned }]);
            }
            Happening::Passage(node, direct, passage) => {
                let way = if direct { Way::Direct } else { Way::Ipip };
                let all = [
                    Passage::Unanswered,
                    Passage::Passes,
                    Passage::Blocked,
                    Passage::Returning,
                    Passage::Passes,
                ];
                let address = [10, 1, node, 0].into();
                let passage = all[usize::from(passage)];
                self.state.handle(vec![Event::Passage { address, way, passage }]);
            }
            Happening::Tamper(what, which, told) => self.tamper(what, which, told),
            Happening::Failure(calls, errno) => {
                let errno = [EINVAL, ENOMEM, 105, 16][usize::from(errno)];
                self.state.dataplane.failures.push_back((calls.into(), errno));
            }
            Happening::Turns(turns) => {
                for _ in 0..turns {
                    if !self.state.reconcile().await {
                        return;
                    }
                }
            }
            Happening::InSync => self.state.in_sync(),
        }
        let events = std::mem::take(&mut self.state.dataplane.events);
        self.state.handle(events);
    }

    fn tamper(&mut self, what: u8, which: u8, told: bool) {
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
                Event::Route { key, via, ours: true }
            }
            2 | 3 => {
                let ids: Vec<u32> = kernel.state.nexthops.keys().copied().collect();
                let Some(id) = pick(ids.len()).map(|at| ids[at]) else { return };
                if what == 2 {
                    kernel.remove_nexthops(&[id]);
                } else if let Some(nexthop) = kernel.state.nexthops.get_mut(&id) {
                    *nexthop = Nexthop { gateway: Some([192, 0, 2, which].into()), ..*nexthop };
                }
                Event::Nexthop { ours: true }
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
                Event::Link { index, name: device.name().to_owned() }
            }
            6 => {
                let Some(index) = kernel.state.vxlan.map(|link| link.index) else { return };
                kernel.state.neighbours.clear();
                kernel.state.fdb.insert(([2, 0, 0, 0, 0, which], [192, 0, 2, 1].into()));
                Event::Neighbour { index, permanent: true }
            }
            7 => {
                kernel.state.rules.clear();
                kernel.state.probe_routes.clear();
                Event::Probing
            }
            8 => {
                let addresses = &mut kernel.state.addresses;
                let Some(at) = pick(addresses.len()) else { return };
                let Some(gone) = addresses.iter().nth(at).copied() else { return };
                addresses.remove(&gone);
                let Some(index) = kernel.state.link(gone.0).map(|link| link.index) else { return };
                Event::Address { index, gone: true }
            }
            // A leftover of an earlier run.
            _ => {
                let key =
                    RouteKey { prefix: "10.99.0.0/24".parse().expect("a prefix"), metric: which.into() };
                kernel.routes.insert(key, Via::Blackhole);
                Event::Route { key, via: Some(Via::Blackhole), ours: true }
            }
        };
        kernel.events.push(if told { event } else { Event::Overrun });
    }

    /// No more refusals, no more news: what is to be, is.
    async fn quiet(&mut self) {
        self.state.dataplane.failures.clear();
        self.state.in_sync();
        for _ in 0..3 {
            // As if every pause had passed.
            self.state.ledger.retry_all(Instant::now());
            self.state.observe_at = self.state.observe_at.map(|_| Instant::now());
            for turn in 0.. {
                assert!(turn < 5000, "no rest");
                if !self.state.reconcile().await {
                    break;
                }
            }
        }
    }

    /// Compares the kernel with what follows from configuration, paths and standings, worked out anew.
    fn check(&mut self) {
        let standings = self.state.standings.clone();
        let kernel = &mut self.state.dataplane;
        let desired = Desired::from_config(&self.config, Some(PARENT));
        let state = kernel.state.clone();
        for device in Device::ALL {
            let wanted = match device {
                Device::Ipip => desired.ipip != Wanted::Absent,
                Device::Vxlan => desired.vxlan != Wanted::Absent,
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

        let mut wanted: BTreeMap<RouteKey, Target> = desired.routes.iter().copied().collect();
        for (prefix, learned) in &self.learned {
            let mut reach = |a| kernel.reach(a, &state);
            let exit = resolve(&self.config, &standings, prefix, learned, &mut reach).exit;
            if let Some(exit) = exit {
                let key = RouteKey { prefix: *prefix, metric: self.config.route_metric };
                wanted.entry(key).or_insert(Target::Exit(exit));
            }
        }
        let leads = |via: &Via| match via {
            Via::Nexthop(id) => state.nexthops.get(id).and_then(Nexthop::content),
            _ => None,
        };
        for (key, target) in &wanted {
            let via = kernel.routes.get(key).unwrap_or_else(|| panic!("{key:?} is missing: {target:?}"));
            match target {
                Target::Blackhole => assert_eq!(*via, Via::Blackhole),
                Target::Exit(exit) => assert_eq!(leads(via), state.realise(exit), "{key:?} {exit:?}"),
                Target::Device(device) => {
                    assert_eq!(Some(*via), state.link(*device).map(|link| Via::Link(link.index)));
                }
            }
        }
        let more: Vec<_> = kernel.routes.keys().filter(|key| !wanted.contains_key(key)).collect();
        assert!(more.is_empty(), "not wanted: {more:?}");
        let used = |id: &u32| kernel.routes.values().any(|via| *via == Via::Nexthop(*id));
        let unused: Vec<_> = state.nexthops.keys().filter(|id| !used(id)).collect();
        assert!(unused.is_empty(), "objects that no route uses: {unused:?}");
        assert!(self.state.ledger.failures().is_empty(), "{:?}", self.state.ledger.failures());
    }
}

/// `PROPTEST_CASES`, or as many as take some seconds.
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
            let mut run = Run::new();
            run.place_nodes(there);
            for what in &happenings {
                run.happen(what).await;
            }
            run.quiet().await;
            run.check();
        });
    }
}
