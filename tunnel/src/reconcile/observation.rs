//! Observation of kernel state: resyncs, and drift that they find.

use std::time::{Duration, Instant};

use super::{
    Reconciler,
    state::{Resync, RouteListing},
};
use crate::{
    dataplane::{Dataplane, DataplaneError},
    desired::Device,
    node::Config,
    observed::ObservedState,
};

/// Pause after a failed observation.
const OBSERVE_RETRY: Duration = Duration::from_secs(1);

impl<D: Dataplane> Reconciler<D> {
    /// Reads everything except routes, and begins to list those if the resync includes them.
    pub(super) fn observe(&mut self, config: &Config) -> bool {
        let requested = self.observation.requested.take().unwrap_or(Resync::Full);
        match self.dataplane.observe(config) {
            Ok(new) => {
                let mut resync = requested;
                if let Some(old) = &self.fib.observed {
                    if resync != Resync::Expected {
                        self.note_drift(old.count_differences(&new));
                    }
                } else {
                    resync = Resync::Expected;
                }
                let same = |device| {
                    let of = |o: &ObservedState| o.link(device).map(|l| (l.index, l.up));
                    self.fib.observed.as_ref().is_some_and(|old| of(old) == of(&new))
                };
                // A device that was replaced or went down lost its routes.
                if resync == Resync::Base && !Device::ALL.into_iter().all(same) {
                    resync = Resync::Full;
                }
                if self.observation.parent != new.parent {
                    self.resolver.invalidate();
                }
                self.observation.parent = new.parent;
                self.sysctls = self.dataplane.tune(config, &new);
                self.fib.observed = Some(new);
                self.resolver.reached_stale = true;
                if resync == Resync::Base {
                    self.observed(false);
                } else {
                    self.dataplane.list_routes(config);
                    self.observation.listing = Some(RouteListing { resync, held: Vec::new() });
                }
                true
            }
            Err(error) => self.observation_failed(error),
        }
    }

    /// Processes the next part of the listing of routes.
    pub(super) async fn continue_listing(&mut self, resync: Resync) -> bool {
        let mut differences = 0;
        let more = match self.dataplane.next_listed().await {
            Ok(Some(records)) => {
                for record in &records {
                    differences += u64::from(self.fib.observe_route(&record.key, Some(record.via)));
                }
                true
            }
            Ok(None) => {
                differences = u64::try_from(self.fib.observed_all()).unwrap_or(u64::MAX);
                false
            }
            Err(error) => {
                // Routes missing from the next listing must not count as met in this one.
                self.fib.observed_some();
                return self.observation_failed(error);
            }
        };
        if resync == Resync::Full {
            self.note_drift(differences);
        }
        if !more {
            let held = self.observation.end_listing();
            self.observed(true);
            self.handle(held);
        }
        true
    }

    fn observed(&mut self, whole: bool) {
        self.observation.error = None;
        if let Some(round) = &mut self.round {
            round.observed |= whole;
        }
        self.due.base = true;
        self.due.hosts = true;
        self.exits.stale = true;
        self.due.probe_targets = true;
        self.fib.invalidate();
    }

    pub(super) fn note_drift(&mut self, differences: u64) {
        self.repair.count += differences;
        self.publisher.activity.drift(differences, None::<fn() -> String>);
        self.repair.active |= differences > 0;
        if differences > 0 {
            tracing::info!(differences, "the kernel's state drifted");
        }
    }

    fn observation_failed(&mut self, error: DataplaneError) -> bool {
        if self.observation.error.as_ref() != Some(&error) {
            tracing::warn!(%error, "the kernel's state cannot be read; will be tried again");
            self.publisher.activity.blind(&error);
            self.publisher.activity.send();
        }
        self.observation.error = Some(error);
        // The next turn begins with a resync, whatever causes it.
        self.observation.requested = Some(Resync::Full);
        self.observation.retry_at = Some(Instant::now() + OBSERVE_RETRY);
        let held = self.observation.end_listing();
        self.handle(held);
        false
    }
}
