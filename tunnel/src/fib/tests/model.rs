//! A kernel in memory, for the tests.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use crate::{
    desired::{DesiredState, Parent, RouteKey, RouteTarget, VXLAN_PORT, VXLAN_VNI},
    diff::{Object, Op, base_ops, unwanted_ops},
    fib::{DesiredRoute, Fib, RouteAction, RouteOp},
    node::{LearnedPath, PathKind},
    observed::{LinkKind, ObservedLink, ObservedState, Via},
    resolve::{Exit, ExitReason},
};

pub(super) fn free(_: &Object) -> bool {
    false
}

/// A kernel that refuses everything that a real kernel would refuse.
#[derive(Clone)]
pub(super) struct FibModel {
    pub(super) fib: Fib,
    pub(super) routes: HashMap<RouteKey, Via>,
    /// Operations since the last observation, except those on routes.
    pub(super) ops: Vec<Op>,
    pub(super) route_ops: Vec<RouteOp>,
}

impl FibModel {
    pub(super) fn new(nexthop_objects: bool) -> Self {
        let parent = Some(Parent { index: 2, mtu: 1500 });
        let observed = ObservedState { nexthop_objects, parent, ..ObservedState::default() };
        let fib = Fib { observed: Some(observed), ..Fib::default() };
        Self { fib, routes: HashMap::new(), ops: Vec::new(), route_ops: Vec::new() }
    }

    pub(super) fn observed(&self) -> &ObservedState {
        self.fib.observed.as_ref().expect("observed")
    }

    pub(super) fn carry_out(&mut self, op: Op) {
        let observed = self.observed();
        if let Op::AddNexthop { id, .. } = op {
            assert!(!observed.nexthops.contains_key(&id), "adds over an existing next hop: {op:?}");
        }
        if let Op::DeleteNexthop { id } = op {
            let used = self.routes.values().any(|via| *via == Via::Nexthop(id));
            assert!(!used, "a next hop still in use is deleted");
            let shared = observed.nexthops.values().any(|n| n.members.contains(id));
            assert!(!shared, "a member of a group is deleted");
        }
        if let Op::ReplaceNexthop { id, gateway, index } = op {
            let leads = |via: &Via| match via {
                Via::Nexthop(other) if *other == id => true,
                Via::Nexthop(group) => observed.nexthops[group].members.contains(id),
                _ => false,
            };
            for (key, _) in self.routes.iter().filter(|(_, via)| leads(via)) {
                let slot = self.fib.table().find(key).expect("its entry");
                let target =
                    self.fib.desired_route(self.fib.table().state(slot)).target.expect("a desired route");
                let mut contents = self.fib.exits_of(&target).iter().filter_map(|e| observed.realise(e));
                assert!(
                    contents.any(|c| c == (gateway, index)),
                    "{op:?} leads {key:?} elsewhere: {target:?}"
                );
            }
        }
        if let Op::AddGroup { id, members } = op {
            assert!(!observed.nexthops.contains_key(&id), "adds over an existing next hop: {op:?}");
            let single = |id: &u32| observed.nexthops.get(id).is_some_and(|n| n.members.is_empty());
            assert!(members.ids().len() > 1 && members.ids().iter().all(single), "{op:?}");
        }
        if let Op::DeleteLink { index, .. } = op {
            let gone = |via: &Via| match via {
                Via::Nexthop(id) => observed.contents(*id).iter().all(|(_, i)| *i == index),
                Via::Gateway { index: i, .. } | Via::Link(i) => *i == index,
                Via::Blackhole | Via::Other => false,
            };
            let gone: Vec<_> = self.routes.iter().filter(|(_, v)| gone(v)).map(|(k, _)| *k).collect();
            for key in gone {
                self.routes.remove(&key);
            }
        }
        self.fib.done(&op);
        let observed = self.fib.observed.as_mut().expect("observed");
        match op {
            Op::CreateIpip(spec) => {
                observed.ipip = Some(ObservedLink {
                    index: 20,
                    up: false,
                    mtu: 1480,
                    mac: [0; 6],
                    kind: LinkKind::Ipip { local: Some(spec.local.into()), remote: None, pmtudisc: true },
                });
            }
            Op::CreateVxlan(spec) => {
                observed.vxlan = Some(ObservedLink {
                    index: 21,
                    up: false,
                    mtu: 1500,
                    mac: [2; 6],
                    kind: LinkKind::Vxlan {
                        vni: VXLAN_VNI,
                        port: VXLAN_PORT,
                        local: Some(spec.local),
                        parent: spec.parent,
                        learning: false,
                    },
                });
            }
            _ => {}
        }
        if op.changes_links() || matches!(op, Op::SetLink { .. }) {
            self.observe_routes();
        }
        self.ops.push(op);
    }

    /// Observes all routes.
    pub(super) fn observe_routes(&mut self) {
        for (key, via) in &self.routes {
            self.fib.observe_route(key, Some(*via));
        }
        self.fib.observed_all();
        self.fib.invalidate();
    }

    pub(super) fn carry_out_route(&mut self, op: RouteOp) {
        if let RouteAction::Add(Via::Nexthop(id)) | RouteAction::Replace(Via::Nexthop(id)) = op.verb {
            assert!(self.observed().nexthops.contains_key(&id), "route before its next hop: {op:?}");
        }
        let old = match op.verb {
            RouteAction::Add(via) | RouteAction::Replace(via) => self.routes.insert(op.key, via),
            RouteAction::Delete => self.routes.remove(&op.key),
        };
        assert_eq!(old.is_some(), !matches!(op.verb, RouteAction::Add(_)), "{op:?} on {old:?}");
        self.fib.route_done(&op, true);
        self.route_ops.push(op);
    }

    /// Does what the reconciler does in its turns. Returns whether there was anything to do.
    pub(super) fn turn(&mut self, sweep: bool, limit: usize, blocked: &dyn Fn(&Object) -> bool) -> bool {
        let base = base_ops(&self.fib.desired, self.observed(), blocked);
        if !base.is_empty() {
            base.into_iter().for_each(|op| self.carry_out(op));
            return true;
        }
        let mut batch = Vec::new();
        let nexthops = self.fib.realise(blocked);
        self.fib.host_ops(&mut batch, blocked);
        if nexthops.is_empty() {
            self.fib.route_ops(&mut batch, limit, sweep, blocked);
        }
        if !batch.is_empty() || !nexthops.is_empty() {
            batch.into_iter().for_each(|op| self.carry_out_route(op));
            nexthops.into_iter().for_each(|op| self.carry_out(op));
            return true;
        }
        if !sweep {
            return false;
        }
        let mut ops = self.fib.unused_nexthops();
        ops.extend(unwanted_ops(&self.fib.desired, self.observed(), blocked));
        let any = !ops.is_empty();
        ops.into_iter().for_each(|op| self.carry_out(op));
        any
    }

    pub(super) fn settle(&mut self, sweep: bool) {
        (self.ops, self.route_ops) = (Vec::new(), Vec::new());
        for _ in 0..1000 {
            if !self.turn(sweep, 7, &free) {
                assert_eq!(self.fib.queued(), 0);
                return;
            }
        }
        panic!("still work after 1000 turns");
    }

    /// Returns whether nothing is left to do after a full comparison.
    pub(super) fn is_at_rest(&mut self, sweep: bool) -> bool {
        self.observe_routes();
        !self.turn(sweep, usize::MAX, &free)
    }

    pub(super) fn set(&mut self, key: RouteKey, target: Option<RouteTarget>) {
        let next_hop = IpAddr::from([192, 0, 2, 1]);
        let learned = LearnedPath { next_hop, kind: PathKind::Bgp };
        if let Some((slot, _)) = self.fib.learn(&key, target.map(|_| learned), &[]) {
            self.fib.set_desired(slot, DesiredRoute { target, reason: target.map(|_| ExitReason::Always) });
        }
    }

    /// Sets the exits that share a route's packets.
    pub(super) fn set_exits(&mut self, key: RouteKey, exits: &[Exit]) {
        let mut exits = exits.to_vec();
        exits.sort_unstable();
        exits.dedup();
        if let [exit] = exits[..] {
            return self.set(key, Some(RouteTarget::Exit(exit)));
        }
        let learned = LearnedPath { next_hop: IpAddr::from([192, 0, 2, 1]), kind: PathKind::Bgp };
        let others: Vec<IpAddr> = (2..).zip(&exits[1..]).map(|(i, _)| [192, 0, 2, i].into()).collect();
        if let Some((slot, _)) = self.fib.learn(&key, Some(learned), &others) {
            self.fib.set_desired_exits(slot, &exits, ExitReason::Always);
        }
    }

    /// Sets exactly these desired routes.
    pub(super) fn want(&mut self, wanted: &ModelRoute) {
        self.fib.configure(wanted.base.clone());
        let old: Vec<RouteKey> = self
            .fib
            .table()
            .slots()
            .filter(|slot| self.fib.learned(self.fib.table().state(*slot)).is_some())
            .map(|slot| self.fib.table().key(slot))
            .filter(|key| !wanted.routes.contains_key(key))
            .collect();
        for key in old {
            self.set(key, None);
        }
        for (key, exits) in &wanted.routes {
            self.set_exits(*key, exits);
        }
    }
}

/// A configured or learned route.
#[derive(Debug, Clone, Default)]
pub(super) struct ModelRoute {
    pub(super) base: DesiredState,
    pub(super) routes: BTreeMap<RouteKey, Vec<Exit>>,
}
