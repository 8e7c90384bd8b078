//! The turns by which the kernel is brought to desired state.
//!
//! A turn takes a few milliseconds, so that commands and queries are processed in between; turns
//! are taken until nothing is left to do. While the kernel processes batches of routes, the next
//! ones are prepared.

use std::{sync::Arc, time::Instant};

use super::{
    Reconciler,
    state::{EXIT_INTERVAL, ReconcileRound, ResolutionProgress, Resync, SyncState},
};
use crate::{
    dataplane::{
        Dataplane, DataplaneError, MAX_BATCH, MAX_IN_FLIGHT,
        errno::{ENODEV, ENOENT, EPERM, ESRCH},
    },
    desired::Device,
    diff::{Object, Op, base_ops, unwanted_ops},
    fib::{RouteAction, RouteOp},
    node::Config,
};

/// Plans other than of routes, before the reconciler rests although there is something left to do:
/// links, their dependants, next hops and leftovers need about five.
const PASSES: u32 = 32;
/// Plans of next-hop objects and groups in one turn.
const STEPS: u32 = 4;

/// The continuation after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The next turn, at once.
    More,
    /// The next turn after the completion of a batch, or after other input.
    Writing,
    /// The next turn after other input.
    Rest,
}

/// Phase of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TurnPhase {
    /// Routes are being listed for a resync.
    Listing(Resync),
    /// A resync is requested.
    Observing,
    /// Kernel state is known: differences are planned and carried out.
    Planning,
}

impl<D: Dataplane> Reconciler<D> {
    /// Takes one turn towards desired state, as far as the kernel permits.
    pub async fn reconcile(&mut self) -> Turn {
        let Some(config) = self.config.clone() else { return Turn::Rest };
        let began = match &self.round {
            Some(round) => round.began,
            None => {
                let now = Instant::now();
                self.round = Some(ReconcileRound { began: now, observed: false, passes: 0 });
                self.mark_due(now);
                now
            }
        };
        let turn = self.turn(&config, began).await;
        if turn == Turn::Rest {
            self.round = None;
        }
        turn
    }

    /// Returns the phase that the next turn is in.
    fn phase(&self) -> TurnPhase {
        if let Some(listing) = &self.observation.listing {
            TurnPhase::Listing(listing.resync)
        } else if self.observation.requested.is_some() {
            TurnPhase::Observing
        } else {
            TurnPhase::Planning
        }
    }

    async fn turn(&mut self, config: &Arc<Config>, began: Instant) -> Turn {
        let more = match self.phase() {
            TurnPhase::Listing(resync) => self.continue_listing(resync).await,
            TurnPhase::Observing => self.completed_one().await || self.observe(config),
            TurnPhase::Planning => return self.plan(config, began).await,
        };
        if more { Turn::More } else { Turn::Rest }
    }

    /// Brings the kernel closer to desired state: first the resolution of routes, then links and
    /// addresses, next-hop objects, routes, and the removal of leftovers.
    async fn plan(&mut self, config: &Arc<Config>, began: Instant) -> Turn {
        if std::mem::take(&mut self.due.sysctls) {
            self.audit();
        }
        self.recheck_reach();
        if self.resolver.is_stale() {
            self.rebuild(config);
        }
        self.settle_reachability(config);
        if let ResolutionProgress::Running(cursor) = self.resolver.progress {
            self.resolve_some(config, cursor);
            return Turn::More;
        }
        if self.due.base {
            let _completed = self.completed_one().await || self.plan_base(config, began).await;
            return Turn::More;
        }
        if self.plan_next_hops(config, began).await {
            return Turn::More;
        }
        if let Some(turn) = self.submit_routes(config, began) {
            return turn;
        }
        if self.sweep(config, began).await || self.rest(began) { Turn::More } else { Turn::Rest }
    }

    /// Creates the next-hop objects that routes need. Returns whether the turn ends with that.
    async fn plan_next_hops(&mut self, config: &Config, began: Instant) -> bool {
        for step in 0.. {
            let ops = self.fib.realise(&|object| self.ledger.blocks(object, began));
            if std::mem::take(&mut self.due.hosts) {
                self.write_hosts(config, began).await;
            }
            // A flood of routes needs new objects in every turn: that is progress and not a repeated plan.
            let new = ops.iter().all(|op| matches!(op, Op::AddNexthop { .. } | Op::AddGroup { .. }));
            if ops.is_empty() || !new && !self.may_plan() {
                break;
            }
            // Routes in flight may lead to an object that becomes another exit's; new objects do not affect them.
            if !new {
                while self.completed_one().await {}
            }
            // A resync that a refused host route requires comes first; the objects are planned again afterwards.
            if self.observation.requested.is_some() {
                return true;
            }
            self.execute(config, ops).await;
            if !new || self.observation.requested.is_some() || step == STEPS {
                return true;
            }
        }
        false
    }

    /// Writes the routes that make next hops valid.
    async fn write_hosts(&mut self, config: &Config, began: Instant) {
        let mut hosts = Vec::new();
        self.fib.host_ops(&mut hosts, &|object| self.ledger.blocks(object, began));
        for batch in hosts.chunks(MAX_BATCH) {
            self.submit(config, batch.to_vec());
            while self.completed_one().await {}
        }
    }

    /// Returns whether a full resync took place in the present round.
    pub(super) fn is_freshly_observed(&self) -> bool {
        self.round.as_ref().is_some_and(|round| round.observed)
    }

    /// Returns whether one more plan may be made before coming to rest.
    fn may_plan(&mut self) -> bool {
        let Some(round) = &mut self.round else { return true };
        round.passes += 1;
        if round.passes == PASSES {
            tracing::warn!("kernel state does not follow the changes made to it; pausing until it changes");
        }
        round.passes < PASSES
    }

    async fn plan_base(&mut self, config: &Config, began: Instant) -> bool {
        let Some(observed) = &self.fib.observed else {
            self.due.base = false;
            return true;
        };
        let ops = base_ops(&self.fib.desired, observed, &|object| self.ledger.blocks(object, began));
        if ops.is_empty() || !self.may_plan() {
            self.due.base = false;
            return true;
        }
        let set = ops.iter().any(|op| matches!(op, Op::SetLink { .. }));
        self.execute(config, ops).await;
        if set {
            // An exit may become usable once its device is up.
            self.fib.invalidate();
        }
        true
    }

    /// Queues everything whose retry is due.
    fn mark_due(&mut self, now: Instant) {
        self.marked_at = Some(now);
        if self.observation.retry_at.is_some_and(|at| at <= now) {
            self.observation.retry_at = None;
            self.observation.request(Resync::Full);
        }
        self.fib.may_sweep |=
            Device::ALL.into_iter().any(|d| self.lingers_until(d).is_some_and(|at| at <= now));
        if self.ledger.next_retry().is_none_or(|at| at > now) {
            return;
        }
        let mut others = false;
        for object in self.ledger.due(now) {
            match object {
                Object::Route(key) => {
                    if let Some(slot) = self.fib.table().find(key) {
                        self.fib.mark(slot);
                    }
                }
                _ => others = true,
            }
        }
        if others {
            self.due.base = true;
            self.due.hosts = true;
            self.fib.invalidate();
        }
    }

    /// Submits batches of route changes, as many as may be in flight. Returns `None` if there is
    /// nothing to submit or to wait for.
    fn submit_routes(&mut self, config: &Config, began: Instant) -> Option<Turn> {
        let mut completed = false;
        while !self.writes.in_flight.is_empty()
            && let Some(errors) = self.dataplane.try_completed()
        {
            self.completed(errors);
            completed = true;
        }
        let mut done = false;
        while !done && self.writes.in_flight.len() < MAX_IN_FLIGHT {
            let mut batch = self.writes.spare.pop().unwrap_or_default();
            let ledger = &self.ledger;
            done = self.fib.route_ops(&mut batch, MAX_BATCH, self.sync >= SyncState::InSync, &|o| {
                ledger.blocks(o, began)
            });
            if batch.is_empty() {
                self.writes.spare.push(batch);
                break;
            }
            self.submit(config, batch);
        }
        let in_flight = self.writes.in_flight.len();
        if in_flight > 0 && (done || in_flight == MAX_IN_FLIGHT) {
            return Some(Turn::Writing);
        }
        // A completed batch may have requested a resync, with which the next turn begins.
        (!done || completed).then_some(Turn::More)
    }

    fn submit(&mut self, config: &Config, batch: Vec<RouteOp>) {
        self.dataplane.submit(config, &batch);
        self.writes.in_flight.push_back((batch, Instant::now()));
    }

    /// Waits for the oldest batch in flight and records its results. Returns false if there is
    /// none.
    pub(super) async fn completed_one(&mut self) -> bool {
        if self.writes.in_flight.is_empty() {
            return false;
        }
        let errors = self.dataplane.completed().await;
        self.completed(errors);
        true
    }

    /// Records the results of the oldest batch in flight: errors by position, in order.
    pub fn completed(&mut self, errors: Vec<(usize, DataplaneError)>) {
        let Some((mut batch, submitted)) = self.writes.in_flight.pop_front() else { return };
        // The kernel began it after the completion of the one before.
        let now = Instant::now();
        let begun = self.writes.completed_at.map_or(submitted, |at| at.max(submitted));
        self.writes.completed_at = Some(now);
        self.latency.routes.note(now.duration_since(begun));
        self.work.routes += u64::try_from(batch.len() - errors.len()).unwrap_or(0);
        if errors.len() < batch.len() {
            self.permission_denied = false;
            if let Some(round) = &mut self.round {
                round.passes = 0;
            }
        }
        self.exits.stale = true;
        let mut errors = errors.into_iter().peekable();
        for (i, op) in batch.iter().enumerate() {
            let error = errors.next_if(|(at, _)| *at == i).map(|(_, error)| error);
            match error {
                // The route is gone, which is what was requested.
                Some(e) if op.verb == RouteAction::Delete && matches!(e.errno, ENOENT | ESRCH | ENODEV) => {
                    self.route_succeeded(op);
                }
                None => self.route_succeeded(op),
                Some(error) => {
                    self.fib.route_done(op, false);
                    // The observation may have been outdated: observe again before the object is blamed.
                    if !self.is_freshly_observed() && error.errno != EPERM {
                        tracing::debug!(?op, %error, "refused; observing again");
                        self.observation.request(Resync::Full);
                    } else {
                        self.failed(Object::Route(op.key), &error);
                    }
                }
            }
        }
        batch.clear();
        self.writes.spare.push(batch);
    }

    fn route_succeeded(&mut self, op: &RouteOp) {
        if self.fib.route_done(op, true) {
            self.ledger.succeed(&Object::Route(op.key));
        }
        if self.repair.active {
            self.note_fight(Object::Route(op.key));
        }
    }

    /// Deletes objects of ours that are not desired, once all routes are in place.
    async fn sweep(&mut self, config: &Config, began: Instant) -> bool {
        let (true, true, Some(observed)) = (self.is_in_sync(), self.fib.may_sweep, &self.fib.observed) else {
            return false;
        };
        let blocked = |object: &Object| self.ledger.blocks(object, began);
        let mut ops = self.fib.unused_nexthops();
        ops.retain(|op| !blocked(&op.object()));
        ops.extend(unwanted_ops(&self.fib.desired, observed, &blocked));
        ops.retain(|op| match op {
            // A device without an address drops packets whose answers leave by another one (rp_filter).
            Op::DeleteLink { device, .. } | Op::DeleteAddress { device, .. } => {
                self.lingers_until(*device).is_none_or(|at| at <= began)
            }
            _ => true,
        });
        self.fib.may_sweep = false;
        if ops.is_empty() || !self.may_plan() {
            return false;
        }
        self.execute(config, ops).await
    }

    /// Returns the time until which an unused device is kept, if it exists.
    pub(super) fn lingers_until(&self, device: Device) -> Option<Instant> {
        let config = self.config.as_ref()?;
        let observed = self.fib.observed.as_ref().filter(|_| self.is_in_sync())?;
        observed.link(device).filter(|_| device != Device::Ipip || !observed.ipip_is_tunl0)?;
        self.unused_since.get(&device).map(|since| *since + config.device_linger)
    }

    /// Ends a round: nothing is left that can be done now.
    fn rest(&mut self, began: Instant) -> bool {
        // Failures that were due and did not fail again are resolved.
        self.ledger.settle(began);
        self.repair.active = false;
        if self.is_in_sync() {
            self.sync = SyncState::Adopted;
        }
        self.drop_moot_failures();
        if self.exits.updated_at.is_none_or(|at| at.elapsed() >= EXIT_INTERVAL) {
            self.update_exits_in_use(true);
        }
        self.publish_links();
        self.publisher.activity.send();
        self.writes.spare.truncate(MAX_IN_FLIGHT);
        self.fib.shrink();
        false
    }
}
