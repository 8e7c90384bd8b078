//! Desired and observed routes, and the batches of changes that turn one into the other.

use std::{collections::HashMap, net::IpAddr};

use multipath::LearnedPaths;
use queue::SlotQueue;

use crate::{
    desired::{DesiredState, RouteKey, RouteTarget},
    diff::Object,
    intern::{NONE, ValueInterner},
    members::GroupMembers,
    node::LearnedPath,
    observed::{ObservedState, Via},
    resolve::{Exit, ExitReason},
    table::{CONFIGURED, DIRTY, FAILED, IN_FLIGHT, MET, PARKED, RouteState, RouteTable, WITHDRAWN},
};

/// Entries that one call of [`Fib::route_ops`] compares: some hundred microseconds.
const COMPARED: usize = 16 * 1024;
/// Entries that are removed together: some milliseconds.
const EMPTIED: usize = 64 * 1024;
/// Capacity, in entries, that an empty list keeps.
const KEPT: usize = 4096;

/// The desired route of a prefix, with the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DesiredRoute {
    /// Target; `None` if there is to be no route.
    pub target: Option<RouteTarget>,
    /// Reason; `None` if nothing was learned.
    pub reason: Option<ExitReason>,
}

/// The action on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteAction {
    /// Creation; never replaces a route.
    Add(Via),
    /// Replacement of a route observed as ours.
    Replace(Via),
    /// Deletion of a route observed as ours.
    Delete,
}

/// A change of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteOp {
    /// Slot in the table.
    pub slot: u32,
    /// Destination and metric.
    pub key: RouteKey,
    /// Action.
    pub verb: RouteAction,
}

/// Desired state, observed state, and the routes of both.
#[derive(Debug, Clone, Default)]
pub struct Fib {
    /// Desired state except learned routes.
    pub desired: DesiredState,
    /// Observed state except routes; `None` before the first observation.
    pub observed: Option<ObservedState>,
    table: RouteTable,
    paths: ValueInterner<LearnedPaths>,
    others: ValueInterner<Box<[IpAddr]>>,
    exits: ValueInterner<Box<[Exit]>>,
    desired_routes: ValueInterner<DesiredRoute>,
    vias: ValueInterner<Via>,
    /// Realisation by the id of a desired route.
    realised: Vec<Option<Via>>,
    /// The previous realisations, while all are computed again: reports use them meanwhile.
    before: Vec<Option<Via>>,
    /// Desired routes without a realisation.
    unrealised: Vec<u32>,
    /// Ids of our next-hop objects by gateway and interface index.
    by_content: HashMap<(IpAddr, u32), u32>,
    /// Ids of our groups by members.
    by_members: HashMap<GroupMembers, u32>,
    /// First candidate for a free next-hop id.
    next_id: u32,
    /// Routes to compare, in no particular order.
    queue: SlotQueue,
    /// Deleted routes whose entries may be removed.
    emptied: Vec<u32>,
    /// Cursor of the comparison of all routes.
    scan: Option<u32>,
    configured: Vec<u32>,
    /// True if an exit became undesired since the last rest, so that its object may be reused.
    may_inherit: bool,
    /// True if an object may have lost its last route.
    pub(crate) may_sweep: bool,
}

impl Fib {
    /// Returns the routes.
    pub fn table(&self) -> &RouteTable {
        &self.table
    }

    /// Returns the learned path of a route.
    pub fn learned(&self, state: &RouteState) -> Option<&LearnedPath> {
        self.paths.value(state.learned).map(|paths| &paths.learned)
    }

    /// Returns the desired route.
    pub fn desired_route(&self, state: &RouteState) -> DesiredRoute {
        self.desired_routes.value(state.want).copied().unwrap_or_default()
    }

    /// Returns the next hop of a route in the kernel.
    pub fn via(&self, state: &RouteState) -> Option<&Via> {
        self.vias.value(state.via)
    }

    fn realised_by(&self, want: u32) -> Option<Via> {
        self.realised.get(usize::try_from(want).ok()?).copied().flatten()
    }

    /// Records the learned path of a route and the exit points that share its packets. Returns the
    /// slot, and whether a path was learned before.
    pub fn learn(
        &mut self,
        key: &RouteKey,
        learned: Option<LearnedPath>,
        others: &[IpAddr],
    ) -> Option<(u32, bool)> {
        let slot = match learned {
            Some(_) => self.table.enter(key),
            None => self.table.find(key)?,
        };
        let id = learned.map_or(NONE, |learned| self.acquire_paths(learned, others));
        let state = self.table.state_mut(slot);
        let old = std::mem::replace(&mut state.learned, id);
        if learned.is_some() {
            state.clear(WITHDRAWN);
        } else if old != NONE {
            state.set(WITHDRAWN);
        }
        self.release_paths(old);
        Some((slot, old != NONE))
    }

    /// Records the desired target of a learned route. Configured routes take precedence.
    pub fn set_desired(&mut self, slot: u32, want: DesiredRoute) {
        let state = *self.table.state(slot);
        let target = match self.desired_route(&state).target {
            configured @ Some(RouteTarget::Device(_) | RouteTarget::Blackhole) if state.has(CONFIGURED) => {
                configured
            }
            _ => want.target,
        };
        self.set_want(slot, DesiredRoute { target, reason: want.reason });
    }

    fn set_want(&mut self, slot: u32, want: DesiredRoute) {
        let id = if want == DesiredRoute::default() {
            NONE
        } else {
            let (id, new) = self.desired_routes.acquire(want);
            if new {
                if let Some(RouteTarget::Exits(exits)) = want.target {
                    self.exits.retain(exits);
                }
                let length =
                    usize::try_from(self.desired_routes.last_id()).unwrap_or(usize::MAX).saturating_add(1);
                self.realised.resize(length, None);
                for realised in [&mut self.realised, &mut self.before] {
                    if let Some(realised) = usize::try_from(id).ok().and_then(|i| realised.get_mut(i)) {
                        *realised = None;
                    }
                }
                self.unrealised.push(id);
            }
            id
        };
        let old = std::mem::replace(&mut self.table.state_mut(slot).want, id);
        if self.desired_routes.release(old) {
            if let Some(RouteTarget::Exits(exits)) =
                self.desired_routes.value(old).and_then(|want| want.target)
            {
                self.exits.release(exits);
            }
            self.may_sweep = true;
            self.may_inherit = true;
        }
        self.mark(slot);
    }

    /// Queues a route for comparison.
    pub fn mark(&mut self, slot: u32) {
        let state = self.table.state_mut(slot);
        if !state.has(DIRTY) {
            state.set(DIRTY);
            self.queue.push(slot);
        }
    }

    /// Starts the comparison of all routes.
    pub fn mark_all(&mut self) {
        self.scan = Some(0);
    }

    /// Starts the comparison and realisation of everything: links or next-hop objects changed.
    pub fn invalidate(&mut self) {
        self.before.resize(self.realised.len(), None);
        for (realised, before) in self.realised.iter_mut().zip(&mut self.before) {
            *before = realised.take().or(*before);
        }
        self.unrealised = self.desired_routes.iter().map(|(id, _)| id).collect();
        self.by_content.clear();
        self.by_members.clear();
        for (id, nexthop) in self.observed.iter().flat_map(|o| &o.nexthops) {
            if nexthop.ours && !nexthop.members.is_empty() {
                self.by_members.entry(nexthop.members).or_insert(*id);
            }
            if let Some(content) = nexthop.content() {
                self.by_content.entry(content).or_insert(*id);
            }
        }
        self.may_sweep = true;
        self.mark_all();
    }

    /// Replaces the desired state that a configuration implies.
    pub fn configure(&mut self, desired: DesiredState) {
        for slot in std::mem::take(&mut self.configured) {
            let reason = self.desired_route(self.table.state(slot)).reason;
            self.table.state_mut(slot).clear(CONFIGURED);
            self.set_want(slot, DesiredRoute { target: None, reason });
        }
        for (key, target) in &desired.routes {
            let slot = self.table.enter(key);
            self.table.state_mut(slot).set(CONFIGURED);
            self.configured.push(slot);
            let reason = self.desired_route(self.table.state(slot)).reason;
            self.set_want(slot, DesiredRoute { target: Some(*target), reason });
        }
        self.desired = desired;
    }

    /// Moves learned routes to another metric; all of them have to be resolved again.
    pub fn move_learned(&mut self, metric: u32) {
        let slots: Vec<u32> = self.table.slots().collect();
        for slot in slots {
            let (key, state) = (self.table.key(slot), *self.table.state(slot));
            let Some(learned) = self.learned(&state).copied() else { continue };
            if key.metric != metric {
                let others: Box<[IpAddr]> = self.others(&state).into();
                self.learn(&RouteKey { metric, ..key }, Some(learned), &others);
                self.learn(&key, None, &[]);
                self.set_desired(slot, DesiredRoute::default());
            }
        }
    }

    fn set_via(&mut self, slot: u32, via: Option<Via>) {
        let id = via.map_or(NONE, |via| self.vias.acquire(via).0);
        let old = std::mem::replace(&mut self.table.state_mut(slot).via, id);
        if self.vias.release(old) {
            self.may_sweep = true;
        }
    }

    /// Collects the routes that make next hops valid, which are written before those.
    pub fn host_ops(&mut self, batch: &mut Vec<RouteOp>, blocked: &dyn Fn(&Object) -> bool) {
        for i in 0..self.configured.len() {
            let slot = self.configured[i];
            if matches!(self.desired_route(self.table.state(slot)).target, Some(RouteTarget::Device(_))) {
                batch.extend(self.compare(slot, false, blocked));
            }
        }
    }

    /// Adds at most `limit` changes to the batch. Undesired routes are deleted with `sweep`,
    /// otherwise only if they were learned and withdrawn since the start. Returns whether there is
    /// nothing left to compare.
    pub fn route_ops(
        &mut self,
        batch: &mut Vec<RouteOp>,
        limit: usize,
        sweep: bool,
        blocked: &dyn Fn(&Object) -> bool,
    ) -> bool {
        self.scan_on(sweep);
        for _ in 0..COMPARED {
            if batch.len() >= limit {
                return false;
            }
            let Some(slot) = self.pick() else { return self.scan.is_none() };
            self.table.state_mut(slot).clear(DIRTY);
            batch.extend(self.compare(slot, sweep, blocked));
        }
        false
    }

    /// Takes a route from the queue.
    fn pick(&mut self) -> Option<u32> {
        // Routes by plain gateways are taken in sequence: those of one next hop follow each other, and the
        // kernel finds the last one first in its long chain.
        let objects = self.observed.as_ref().is_none_or(|o| o.nexthop_objects);
        let table = &self.table;
        self.queue.take(|first| !objects && table.state(first).want != NONE)
    }

    /// Continues the comparison of all routes; those that differ are queued.
    fn scan_on(&mut self, sweep: bool) {
        let Some(mut cursor) = self.scan else { return };
        for _ in 0..COMPARED {
            let Some(slot) = self.table.next(cursor) else {
                self.scan = None;
                return;
            };
            cursor = slot + 1;
            let state = *self.table.state(slot);
            let wanted = self.desired_routes.value(state.want).is_some_and(|want| want.target.is_some());
            let differs = if wanted {
                self.realised_by(state.want).as_ref() != self.vias.value(state.via)
            } else {
                state.via != NONE && (sweep || state.has(WITHDRAWN))
            };
            if differs || state.want == NONE && state.via == NONE && state.learned == NONE {
                self.mark(slot);
            }
        }
        self.scan = Some(cursor);
    }

    fn compare(&mut self, slot: u32, sweep: bool, blocked: &dyn Fn(&Object) -> bool) -> Option<RouteOp> {
        let state = *self.table.state(slot);
        if state.has(IN_FLIGHT) {
            self.table.state_mut(slot).set(PARKED);
            return None;
        }
        let target = self.desired_routes.value(state.want).and_then(|want| want.target);
        let verb = match target {
            None if state.via == NONE => {
                self.table.remove_if_empty(slot);
                return None;
            }
            None if sweep || state.has(WITHDRAWN) => RouteAction::Delete,
            None => return None,
            Some(_) => {
                let via = self.realised_by(state.want)?;
                match self.vias.value(state.via) {
                    Some(old) if *old == via => return None,
                    Some(_) => RouteAction::Replace(via),
                    None => RouteAction::Add(via),
                }
            }
        };
        let key = self.table.key(slot);
        if state.has(FAILED) && blocked(&Object::Route(key)) {
            return None;
        }
        self.table.state_mut(slot).set(IN_FLIGHT);
        Some(RouteOp { slot, key, verb })
    }

    /// Records the result of a change. Returns whether the route had failed before.
    ///
    /// If another program changed the route meanwhile, its change stands and the route is compared
    /// again: if that change came first, writing ours again is harmless or refused, and a refusal
    /// leads to a resync; if it came last, ours is gone.
    pub fn route_done(&mut self, op: &RouteOp, success: bool) -> bool {
        let state = self.table.state_mut(op.slot);
        let failed = state.has(FAILED);
        let contested = state.has(MET);
        let parked = state.has(PARKED) || contested;
        state.clear(IN_FLIGHT | PARKED | MET);
        if success {
            state.clear(FAILED);
            if op.verb == RouteAction::Delete {
                state.clear(WITHDRAWN);
            }
            let via = match op.verb {
                RouteAction::Add(via) | RouteAction::Replace(via) => Some(via),
                RouteAction::Delete => None,
            };
            if !contested {
                self.set_via(op.slot, via);
            }
        } else {
            state.set(FAILED);
        }
        if parked {
            self.mark(op.slot);
        }
        if op.verb == RouteAction::Delete && success {
            self.emptied.push(op.slot);
            if self.emptied.len() >= EMPTIED {
                self.remove_emptied();
            }
        }
        failed
    }

    /// Removes the entries of deleted routes, together and in the order of memory: scattered single
    /// removals would cost several cache misses each.
    fn remove_emptied(&mut self) {
        let mut emptied = std::mem::take(&mut self.emptied);
        emptied.sort_unstable();
        for slot in emptied.drain(..) {
            self.table.remove_if_empty(slot);
        }
        self.emptied = emptied;
    }

    /// Records that the ledger has a failure of a route.
    pub fn mark_failed(&mut self, key: &RouteKey) {
        if let Some(slot) = self.table.find(key) {
            self.table.state_mut(slot).set(FAILED);
        }
    }

    /// Releases memory after a peak; requires that nothing is queued or in flight.
    pub fn shrink(&mut self) {
        self.remove_emptied();
        self.emptied.shrink_to(KEPT);
        self.queue.shrink_to(KEPT);
        self.may_inherit = false;
        if self.table.is_sparse() {
            let configured: Vec<RouteKey> =
                self.configured.iter().map(|slot| self.table.key(*slot)).collect();
            self.table.shrink();
            self.configured = configured.iter().filter_map(|key| self.table.find(key)).collect();
        }
    }
}

mod installed;
mod multipath;
mod nexthop_reuse;
mod nexthops;
mod observation;
mod queue;
#[cfg(test)]
mod tests;
