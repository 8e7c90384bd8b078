//! The reconciler: owns desired and observed state, takes in configuration, routes and events, and
//! keeps the kernel in step.

mod dry_run;
mod multipath;
mod observation;
mod operations;
mod publisher;
mod reachability;
mod report;
mod resolution;
mod state;
mod turn;

use std::{collections::HashMap, sync::Arc, time::Instant};

use jiff::Timestamp;

pub use self::turn::Turn;
use self::{
    publisher::Publisher,
    state::{
        DriftRepair, DueWork, EXIT_INTERVAL, ExitsInUse, Observation, ReconcileRound, Resolver, Resync,
        SyncState, WriteQueue,
    },
};
use crate::{
    activity::ExitChange,
    dataplane::{Dataplane, DataplaneError, KernelEvent},
    desired::{DesiredDevice, Device, RouteKey},
    diff::Object,
    fib::{DesiredRoute, Fib},
    ledger::Ledger,
    node::{Config, Encapsulation, LearnedPath, RouteChange},
    reachability::Reachability,
    report::{ExitKind, KernelLatency, Work, describe},
    resolve::Reach,
    sysctl::Sysctl,
    table::RouteState,
};

/// Events kept while routes are listed; more of them lead to another listing.
const MAX_HELD: usize = 16 * 1024;

/// The state of the tunnel task.
///
/// # Contract
/// - The owner calls [`reconcile`](Self::reconcile) after every input and repeats the call until it
///   returns [`Turn::Rest`]. Between two calls it may pass in any further input. After
///   [`Turn::Writing`] it waits for input or for the oldest batch
///   ([`Dataplane::wait`]), after `Rest` for input or for
///   [`next_retry`](Self::next_retry).
/// - [`completed`](Self::completed) is called once for each batch, in the order of submission, and
///   only while one is in flight.
/// - The future of [`reconcile`](Self::reconcile) must not be dropped before it ends: it may have
///   submitted operations whose results it has yet to record.
/// - Time is that of `Instant::now()`, which is monotonic. All other inputs may come in any order;
///   without a configuration nothing is read or written.
/// - The reconciler may be dropped at any time. Kernel state stays as it is, for the next run to
///   adopt.
pub struct Reconciler<D> {
    pub(crate) dataplane: D,
    config: Option<Arc<Config>>,
    /// Learned, desired and observed routes.
    fib: Fib,
    /// Failures and their retries.
    ledger: Ledger,
    /// Sysctls as of the last check.
    sysctls: Vec<Sysctl>,
    /// Reachability of the nodes by BGP and by probes.
    reachability: Reachability,
    /// Work since the start, except probes.
    work: Work,
    /// Durations of the kernel's work.
    latency: KernelLatency,
    /// True while the kernel refuses changes for lack of privilege.
    permission_denied: bool,
    /// Values and events for other tasks.
    pub(crate) publisher: Publisher,
    /// Exits in use.
    exits: ExitsInUse,
    observation: Observation,
    resolver: Resolver,
    writes: WriteQueue,
    due: DueWork,
    sync: SyncState,
    repair: DriftRepair,
    /// The present round; `None` at rest.
    round: Option<ReconcileRound>,
    /// Start of the present or else of the last round, when due work was last marked.
    marked_at: Option<Instant>,
    /// Times since which no pool uses a tunnel device.
    unused_since: HashMap<Device, Instant>,
}

impl<D: Dataplane> Reconciler<D> {
    /// Creates a reconciler, which touches nothing until it is configured.
    pub fn new(dataplane: D) -> Self {
        Self {
            dataplane,
            config: None,
            fib: Fib::default(),
            ledger: Ledger::default(),
            sysctls: Vec::new(),
            reachability: Reachability::default(),
            work: Work::default(),
            latency: KernelLatency::default(),
            permission_denied: false,
            publisher: Publisher::default(),
            exits: ExitsInUse::default(),
            observation: Observation::default(),
            resolver: Resolver::default(),
            writes: WriteQueue::default(),
            due: DueWork::default(),
            sync: SyncState::default(),
            repair: DriftRepair::default(),
            round: None,
            marked_at: None,
            unused_since: HashMap::new(),
        }
    }

    /// Returns whether all routes are known.
    pub fn is_in_sync(&self) -> bool {
        self.sync >= SyncState::InSync
    }

    /// Returns the number of differences that other programs made since the start.
    pub(crate) fn drift(&self) -> u64 {
        self.repair.count
    }

    /// Returns whether a round is in progress.
    pub(crate) fn is_running(&self) -> bool {
        self.round.is_some()
    }

    /// Returns the error of the last observation, if it failed.
    pub(crate) fn observation_error(&self) -> Option<&DataplaneError> {
        self.observation.error.as_ref()
    }

    /// Sets the configuration.
    pub fn configure(&mut self, config: Config) {
        if self.config.as_deref() == Some(&config) {
            return;
        }
        let protocol = self.config.as_ref().map(|c| c.route_protocol);
        // With the same protocol number the observation of routes stays valid.
        self.observation.request(if protocol == Some(config.route_protocol) {
            Resync::Base
        } else {
            Resync::Full
        });
        self.config = Some(Arc::new(config));
        self.resolver.invalidate();
        self.ledger.retry_all(Instant::now());
    }

    /// Records changes of best paths.
    pub fn routes(&mut self, changes: Vec<RouteChange>) {
        let config = self.config.clone().filter(|_| !self.resolver.is_stale() && self.fib.observed.is_some());
        if let Some(round) = &mut self.round {
            round.passes = 0;
        }
        // A route that is adopted is in use without a change of the kernel's.
        self.exits.stale = true;
        for RouteChange { prefix, learned, others } in changes {
            let key = RouteKey { prefix: prefix.trunc(), metric: self.resolver.metric };
            let Some((slot, _)) = self.fib.learn(&key, learned, &others) else { continue };
            if let Some(learned) = learned {
                self.update_bgp(&learned);
                for next_hop in others {
                    self.update_bgp(&LearnedPath { next_hop, ..learned });
                }
            }
            match (&config, learned) {
                (Some(config), _) => self.resolve_one(config, slot),
                // Routes that are resolved later use the paths of that time.
                (None, None) => self.fib.set_desired(slot, DesiredRoute::default()),
                (None, Some(_)) => self.resolver.invalidate(),
            }
        }
    }

    /// Records that all routes are known: leftovers may be deleted.
    pub fn in_sync(&mut self) {
        if !self.is_in_sync() {
            self.sync = SyncState::InSync;
            self.fib.mark_all();
            self.fib.may_sweep = true;
            self.exits.stale = true;
            tracing::info!("in sync: leftovers of earlier runs are swept");
        }
    }

    /// Returns the time at which [`Self::reconcile`] has to be called again without any event.
    pub fn next_retry(&self) -> Option<Instant> {
        let note_at = self.exits.updated_at.filter(|_| self.exits.stale).map(|at| at + EXIT_INTERVAL);
        let returned_at =
            self.config.as_ref().and_then(|c| self.reachability.deadline(c.probing.recover_after));
        let swept_at = Device::ALL.into_iter().filter_map(|device| self.lingers_until(device)).min();
        // Work that was due at the start of the last round belonged to that round, whatever its outcome.
        // Work that came due since is still to be done: there may have been no turn since.
        let [returned_at, swept_at] = [returned_at, swept_at]
            .map(|at| at.filter(|at| self.marked_at.is_none_or(|marked| *at > marked)));
        let times = [self.ledger.next_retry(), self.observation.retry_at, note_at, returned_at, swept_at];
        times.into_iter().flatten().min()
    }

    /// Checks the sysctls again, some of which change without an event.
    pub fn audit(&mut self) {
        let (Some(config), Some(observed)) = (&self.config, &self.fib.observed) else { return };
        let before = std::mem::replace(&mut self.sysctls, self.dataplane.tune(config, observed));
        let known = |name: &str| before.iter().any(|sysctl| sysctl.name == name && sysctl.problem.is_none());
        for sysctl in self.sysctls.iter().filter(|sysctl| sysctl.set && known(&sysctl.name)) {
            self.repair.count += 1;
            self.publisher.activity.drift(1, Some(|| format!("sysctl {}", sysctl.name)));
            tracing::info!(sysctl = sysctl.name, value = sysctl.value, "another program's change is undone");
        }
    }

    /// Processes changes that other programs made.
    pub fn handle(&mut self, mut events: Vec<KernelEvent>) {
        self.take_path_states(&mut events);
        if let Some(listing) = &mut self.observation.listing {
            listing.held.extend(events);
            if listing.held.len() > MAX_HELD {
                listing.held = vec![KernelEvent::Overrun];
            }
            return;
        }
        for event in events {
            self.handle_one(event);
        }
    }

    fn handle_one(&mut self, event: KernelEvent) {
        let Some(observed) = &self.fib.observed else { return };
        let index_matters = |index: u32| {
            Device::ALL.iter().any(|d| observed.link(*d).is_some_and(|l| l.index == index))
                || self.observation.parent.is_none_or(|p| p.index == index)
                || self.resolver.reached.values().any(|r| match r {
                    Reach::OnLink { index: i } | Reach::Via { index: i, .. } => *i == index,
                    Reach::Tunnel | Reach::Unreachable => false,
                })
        };
        let resync = match &event {
            KernelEvent::Overrun => Some(Resync::Full),
            KernelEvent::Link { index, name } => {
                let desired = &self.fib.desired;
                let incomplete = matches!(desired.ipip, DesiredDevice::Present(_)) && observed.ipip.is_none()
                    || matches!(desired.vxlan, DesiredDevice::Present(_)) && observed.vxlan.is_none();
                let named = Device::ALL.iter().any(|d| d.name() == name);
                (incomplete || named || index_matters(*index)).then_some(Resync::Full)
            }
            // The kernel removes no route when an address is added, and a listing may have a million.
            KernelEvent::Address { index, gone } => {
                index_matters(*index).then_some(if *gone { Resync::Full } else { Resync::Base })
            }
            KernelEvent::Neighbour { index, .. } => {
                observed.vxlan.is_some_and(|l| l.index == *index).then_some(Resync::Full)
            }
            KernelEvent::Nexthop { ours } => ours.then_some(Resync::Full),
            KernelEvent::ProbeRouting => Some(Resync::Base),
            KernelEvent::Sysctl => {
                self.due.sysctls = true;
                None
            }
            // Processed before.
            KernelEvent::PathState { .. } => None,
            KernelEvent::Route { key, via, ours } => {
                self.resolver.reached_stale |= self.resolver.reached.keys().any(|a| key.prefix.contains(a));
                if *ours && self.fib.event(key, *via) {
                    self.repair.count += 1;
                    self.publisher.activity.drift(1, Some(|| describe(&Object::Route(*key))));
                    self.repair.active = true;
                    self.exits.stale = true;
                }
                None
            }
        };
        if let Some(resync) = resync {
            tracing::debug!(?event, look = ?resync, "kernel state is observed again");
            self.observation.request(resync);
        }
    }

    /// Returns the entry of a learned route.
    pub(crate) fn route(&self, prefix: &ipnet::IpNet) -> Option<&RouteState> {
        let slot = self.fib.table().find(&RouteKey { prefix: *prefix, metric: self.resolver.metric })?;
        Some(self.fib.table().state(slot))
    }

    /// Updates the exits in use, if they may have changed. Between turns a route may be in the
    /// kernel without being known to be, while it is resolved again; only at rest a node counts as
    /// unreached.
    pub(crate) fn update_exits_in_use(&mut self, at_rest: bool) {
        let Some(config) = self.config.clone().filter(|_| self.exits.stale) else { return };
        self.exits.stale = !at_rest;
        self.exits.updated_at = Some(Instant::now());
        self.publish_strangers();
        if self.exits.by_node.len() > config.nodes.len() {
            let names: std::collections::HashSet<&str> =
                config.nodes.iter().map(|n| n.name.as_str()).collect();
            self.exits.by_node.retain(|name, _| names.contains(name.as_str()));
        }
        for node in &config.nodes {
            let now = node.blocks.iter().find_map(|block| self.installed(&block.trunc(), node));
            if now.is_none() && !at_rest {
                continue;
            }
            let before = self.exits.by_node.get(&node.name);
            if before.is_none_or(|(before, _)| *before != now) {
                if before.is_some() || now.is_some() {
                    let word = |e: Option<Encapsulation>| match e {
                        Some(Encapsulation::Ipip) => "ipip",
                        Some(Encapsulation::Vxlan) => "vxlan",
                        Some(Encapsulation::None) => "direct",
                        None => "nothing",
                    };
                    let from = word(before.and_then(|(e, _)| *e));
                    tracing::info!(node = %node.name, from, to = word(now), "exit changed");
                    let before = before.and_then(|(before, _)| *before);
                    let reason = node
                        .blocks
                        .iter()
                        .find_map(|block| self.fib.desired_route(self.route(&block.trunc())?).reason);
                    self.publisher.activity.exit(|| ExitChange {
                        node: node.name.clone(),
                        from: before.map(ExitKind::from),
                        to: now.map(ExitKind::from),
                        reason,
                    });
                }
                self.exits.by_node.insert(node.name.clone(), (now, Timestamp::now()));
            }
        }
        self.publisher.activity.send();
    }
}

#[cfg(test)]
mod tests;
