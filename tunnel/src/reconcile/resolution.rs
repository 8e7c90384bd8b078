//! Resolution of learned routes to their exits.

use std::time::Instant;

use super::{
    Reconciler,
    state::{ResolutionKey, ResolutionProgress},
};
use crate::{
    dataplane::Dataplane,
    desired::{DesiredDevice, DesiredState, Device, RouteTarget},
    fib::DesiredRoute,
    intern::NONE,
    node::{Config, LearnedPath},
    resolve::{ExitReason, resolve},
    table::RouteState,
};

/// Results of [`resolve`] that are kept.
const MAX_RESULTS: usize = 64 * 1024;
/// Routes resolved in one turn: about a millisecond.
const RESOLVED: usize = 8192;

impl<D: Dataplane> Reconciler<D> {
    /// Queries again how each next hop is reached, and starts a resolution if one changed.
    pub(super) fn recheck_reach(&mut self) {
        let (true, Some(observed)) = (self.resolver.reached_stale, &self.fib.observed) else { return };
        self.resolver.reached_stale = false;
        let mut changed = false;
        for (address, before) in &mut self.resolver.reached {
            let after = self.dataplane.reach(*address, observed);
            changed |= after != *before;
            *before = after;
        }
        if changed {
            self.resolver.invalidate();
        }
    }

    /// Resolves the exit of a route from its learned path.
    pub(super) fn resolve_one(&mut self, config: &Config, slot: u32) {
        let state = *self.fib.table().state(slot);
        let want = match self.fib.learned(&state).copied() {
            Some(learned) if self.fib.others(&state).is_empty() => {
                self.resolve_or_adopt(config, slot, learned, &state)
            }
            Some(learned) => return self.resolve_multipath(config, slot, learned),
            None => DesiredRoute::default(),
        };
        self.fib.set_desired(slot, want);
    }

    pub(super) fn resolve_or_adopt(
        &mut self,
        config: &Config,
        slot: u32,
        learned: LearnedPath,
        state: &RouteState,
    ) -> DesiredRoute {
        let want = self.resolve_cached(config, slot, learned);
        if state.via != NONE && self.adopts(config, &learned, &want, state) {
            return self.resolve_cached(config, slot, learned);
        }
        want
    }

    fn resolve_cached(&mut self, config: &Config, slot: u32, learned: LearnedPath) -> DesiredRoute {
        let prefix = self.fib.table().key(slot).prefix;
        let own = config.local.blocks.contains(&prefix);
        let key: ResolutionKey = (learned, config.policy(&prefix), prefix.addr().is_ipv4());
        if !own {
            // Consecutive routes mostly belong to one node.
            if let Some((last, want)) = &self.resolver.last
                && *last == key
            {
                return *want;
            }
            if let Some(want) = self.resolver.results.get(&key) {
                self.resolver.last = Some((key, *want));
                return *want;
            }
        }
        let Some(observed) = &self.fib.observed else { return DesiredRoute::default() };
        let (reached, dataplane) = (&mut self.resolver.reached, &mut self.dataplane);
        let resolution = resolve(config, &self.reachability, &prefix, &learned, &mut |address| {
            *reached.entry(address).or_insert_with(|| dataplane.reach(address, observed))
        });
        let target = match resolution.reason {
            ExitReason::Discard => Some(RouteTarget::Blackhole),
            _ => resolution.exit.map(RouteTarget::Exit),
        };
        let want = DesiredRoute { target, reason: Some(resolution.reason) };
        if !own {
            if self.resolver.results.len() >= MAX_RESULTS {
                self.resolver.results.clear();
            }
            self.resolver.results.insert(key, want);
            self.resolver.last = Some((key, want));
        }
        want
    }

    /// Starts to derive desired state from the configuration and the learned routes.
    pub(super) fn rebuild(&mut self, config: &Config) {
        if self.fib.observed.is_none() {
            return;
        }
        if self.resolver.metric != config.route_metric {
            self.resolver.metric = config.route_metric;
            self.fib.move_learned(self.resolver.metric);
        }
        self.fib.configure(DesiredState::from_config(config, self.observation.parent));
        self.resolver.reached.clear();
        self.resolver.clear_results();
        for device in Device::ALL {
            let unused = match device {
                Device::Ipip => self.fib.desired.ipip == DesiredDevice::Absent,
                Device::Vxlan => self.fib.desired.vxlan == DesiredDevice::Absent,
            };
            if unused {
                self.unused_since.entry(device).or_insert_with(Instant::now);
            } else {
                self.unused_since.remove(&device);
            }
        }
        self.resolver.progress = ResolutionProgress::Running(0);
        self.reachability.retain(config);
        self.due.probe_targets = true;
        self.due.base = true;
        self.due.hosts = true;
        self.fib.may_sweep = true;
    }

    /// Resolves some more routes, and starts the comparison of all when none is left.
    pub(super) fn resolve_some(&mut self, config: &Config, mut cursor: u32) {
        for _ in 0..RESOLVED {
            let Some(slot) = self.fib.table().next(cursor) else {
                self.resolver.progress = ResolutionProgress::Current;
                self.fib.mark_all();
                self.exits.stale = true;
                return;
            };
            cursor = slot + 1;
            self.resolver.progress = ResolutionProgress::Running(cursor);
            if self.fib.learned(self.fib.table().state(slot)).is_some() {
                self.resolve_one(config, slot);
            }
        }
    }
}
