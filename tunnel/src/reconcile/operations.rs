//! Execution of operations other than on routes, and the record of their results.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::{Reconciler, state::Resync};
use crate::{
    dataplane::{
        Dataplane, DataplaneError,
        errno::{EBUSY, EPERM},
    },
    desired::{DesiredDevice, Device},
    diff::{Object, Op},
    node::Config,
};

/// Operations other than on routes that are executed together.
const MAX_OPERATIONS: usize = 1024;
/// Repairs of an object within [`FIGHT_WINDOW`] after which it is left alone for a while.
pub(super) const FIGHT_LIMIT: u32 = 20;
const FIGHT_WINDOW: Duration = Duration::from_secs(10);
/// Objects whose repairs are counted: a program that changes more at once does not fight for one of
/// them.
const MAX_FIGHTS: usize = 4096;

/// The outcome of a plan.
enum PlanOutcome {
    /// All operations succeeded.
    Done,
    /// Some object was refused and is in the ledger now.
    Failed,
    /// Stopped for a resync.
    Resync,
}

impl<D: Dataplane> Reconciler<D> {
    /// Executes operations other than on routes. Always returns true: there may be more to do.
    pub(super) async fn execute(&mut self, config: &Config, ops: Vec<Op>) -> bool {
        match self.execute_in_order(config, &ops).await {
            PlanOutcome::Done | PlanOutcome::Resync => {}
            // Objects that depend on the refused one must not be tried before it: everything is compared
            // again.
            PlanOutcome::Failed => self.fib.invalidate(),
        }
        self.exits.stale = true;
        true
    }

    async fn execute_in_order(&mut self, config: &Config, ops: &[Op]) -> PlanOutcome {
        let (mut failed, mut relinked) = (false, false);
        for ops in ops.chunks(MAX_OPERATIONS) {
            let begun = Instant::now();
            let results = self.dataplane.apply(config, ops).await;
            self.latency.objects.note(begun.elapsed());
            for (op, result) in ops.iter().zip(results) {
                relinked |= op.changes_links();
                match result {
                    Ok(()) => self.succeeded(op),
                    Err(error) if !self.is_freshly_observed() && error.errno != EPERM => {
                        tracing::debug!(?op, %error, "refused; observing again");
                        self.observation.request(Resync::Full);
                        return PlanOutcome::Resync;
                    }
                    Err(error) => {
                        failed = true;
                        self.failed(op.object(), &error);
                    }
                }
            }
        }
        if relinked {
            self.observation.request(Resync::Expected);
            return PlanOutcome::Resync;
        }
        if failed { PlanOutcome::Failed } else { PlanOutcome::Done }
    }

    fn succeeded(&mut self, op: &Op) {
        self.work.objects += 1;
        self.fib.done(op);
        let object = op.object();
        self.ledger.succeed(&object);
        self.permission_denied = false;
        if self.repair.active {
            self.note_fight(object);
        }
    }

    pub(super) fn note_fight(&mut self, object: Object) {
        if self.repair.fights.len() >= MAX_FIGHTS && !self.repair.fights.contains_key(&object) {
            return;
        }
        let now = Instant::now();
        let (count, since) = self.repair.fights.entry(object).or_insert((0, now));
        if now.duration_since(*since) > FIGHT_WINDOW {
            (*count, *since) = (0, now);
        }
        *count += 1;
        if *count > FIGHT_LIMIT {
            let text = "another program keeps changing it back".to_owned();
            let name = crate::report::describe(&object);
            tracing::warn!(
                "{name}: {text}; it is left alone for a while (ip monitor shows what changes, not who)"
            );
            self.publisher.activity.refusal(&object, &text);
            self.ledger.fail(object, EBUSY, text, now);
            if let Object::Route(key) = object {
                self.fib.mark_failed(&key);
            }
        }
    }

    pub(super) fn failed(&mut self, object: Object, error: &DataplaneError) {
        self.work.refused += 1;
        let news = self.ledger.fail(object, error.errno, error.to_string(), Instant::now());
        if news {
            self.publisher.activity.refusal(&object, &error.to_string());
        }
        if error.errno == EPERM {
            if !self.permission_denied {
                tracing::error!("{}", crate::report::PERMISSION_DENIED);
            }
            self.permission_denied = true;
        } else if news {
            let name = crate::report::describe(&object);
            tracing::warn!(%error, "{name}: the kernel refuses; will be tried again");
        }
    }

    /// Removes the failures of objects that are not desired any more.
    pub(super) fn drop_moot_failures(&mut self) {
        let now = Instant::now();
        self.repair.fights.retain(|_, (_, since)| now.duration_since(*since) <= FIGHT_WINDOW);
        let (false, Some(observed)) = (self.ledger.failures().is_empty(), &self.fib.observed) else { return };
        let (fib, desired) = (&self.fib, &self.fib.desired);
        let contents: HashSet<_> = fib.desired_contents();
        self.ledger.retain(|object| match object {
            Object::Route(key) => fib.table().find(key).is_some_and(|slot| {
                let state = fib.table().state(slot);
                fib.desired_route(state).target.is_some() || fib.via(state).is_some()
            }),
            Object::Nexthop(gateway, index) => contents.contains(&(*gateway, *index)),
            Object::Group(members) => fib.needs_group(members),
            Object::UnwantedNexthop(id) => observed.nexthops.contains_key(id),
            Object::Fdb(mac) => desired.fdb.contains_key(mac) || observed.fdb.iter().any(|(m, _)| m == mac),
            Object::Neighbour(a) => desired.neighbours.contains_key(a) || observed.neighbours.contains_key(a),
            Object::Address(device, address) => {
                let address = (*device, *address);
                desired.addresses.contains(&address) || observed.addresses.contains(&address)
            }
            Object::Link(Device::Ipip) => desired.ipip != DesiredDevice::Absent || observed.ipip.is_some(),
            Object::Link(Device::Vxlan) => desired.vxlan != DesiredDevice::Absent || observed.vxlan.is_some(),
            Object::Rule(path) => desired.rules.contains(path) || observed.rules.contains(path),
            Object::ProbeRoute(path, address) => {
                let key = (*path, *address);
                desired.probe_routes.contains_key(&key) || observed.probe_routes.contains_key(&key)
            }
        });
    }
}
