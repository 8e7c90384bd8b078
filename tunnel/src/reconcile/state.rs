//! The parts of the reconciler's state.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::{
    dataplane::{DataplaneError, KernelEvent},
    desired::Parent,
    diff::Object,
    fib::{DesiredRoute, RouteOp},
    node::{DEFAULT_ROUTE_METRIC, Encapsulation, LearnedPath, PoolMode},
    resolve::Reach,
};

/// Extent of a resync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Resync {
    /// Everything except routes.
    Base,
    /// Everything; differences are drift.
    Full,
    /// Everything, after changes of our own with side effects in the kernel: differences cannot be
    /// attributed.
    Expected,
}

/// A listing of routes in progress.
#[derive(Debug)]
pub(super) struct RouteListing {
    /// The resync that the routes are listed for.
    pub(super) resync: Resync,
    /// Events since the listing began.
    pub(super) held: Vec<KernelEvent>,
}

/// The observation of kernel state.
#[derive(Debug, Default)]
pub(super) struct Observation {
    /// The resync to do next.
    pub(super) requested: Option<Resync>,
    /// The listing of routes, while it lasts; no batch of routes is in flight then.
    pub(super) listing: Option<RouteListing>,
    /// Time of the next attempt after a failure.
    pub(super) retry_at: Option<Instant>,
    /// Error of the last attempt, if it failed.
    pub(super) error: Option<DataplaneError>,
    /// The interface with the node's address.
    pub(super) parent: Option<Parent>,
}

impl Observation {
    /// Requests a resync of at least this extent.
    pub(super) fn request(&mut self, resync: Resync) {
        self.requested = self.requested.max(Some(resync));
    }

    /// Ends a listing and returns the events since it began.
    pub(super) fn end_listing(&mut self) -> Vec<KernelEvent> {
        self.listing.take().map(|listing| listing.held).unwrap_or_default()
    }
}

/// Progress of the resolution of learned routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum ResolutionProgress {
    /// All routes are resolved.
    #[default]
    Current,
    /// The configuration or the reachability of next hops changed: desired state has to be derived
    /// again.
    Stale,
    /// The routes from this slot on have to be resolved again.
    Running(u32),
}

/// The inputs of [`resolve`](crate::resolve::resolve): the path, the pool's policy for the prefix,
/// and true for an IPv4 prefix.
pub(super) type ResolutionKey = (LearnedPath, Option<(Encapsulation, PoolMode)>, bool);

/// The resolution of learned routes.
#[derive(Debug)]
pub(super) struct Resolver {
    /// Progress.
    pub(super) progress: ResolutionProgress,
    /// All routes have to be resolved once more after the present resolution.
    pub(super) repeat: bool,
    /// Results by input.
    pub(super) results: HashMap<ResolutionKey, DesiredRoute>,
    /// The last result: consecutive blocks mostly belong to one node.
    pub(super) last: Option<(ResolutionKey, DesiredRoute)>,
    /// Next hops and how the kernel reaches them.
    pub(super) reached: HashMap<IpAddr, Reach>,
    /// The kernel's routes to next hops may have changed.
    pub(super) reached_stale: bool,
    /// Metric of learned routes.
    pub(super) metric: u32,
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            progress: ResolutionProgress::Current,
            repeat: false,
            results: HashMap::new(),
            last: None,
            reached: HashMap::new(),
            reached_stale: false,
            metric: DEFAULT_ROUTE_METRIC,
        }
    }
}

impl Resolver {
    /// Requires that desired state is derived again.
    pub(super) fn invalidate(&mut self) {
        self.progress = ResolutionProgress::Stale;
    }

    pub(super) fn is_stale(&self) -> bool {
        self.progress == ResolutionProgress::Stale
    }

    /// Forgets the results, but not how next hops are reached.
    pub(super) fn clear_results(&mut self) {
        self.results.clear();
        self.last = None;
    }
}

/// Batches of route changes.
#[derive(Debug, Default)]
pub(super) struct WriteQueue {
    /// Submitted batches, with the time of submission.
    pub(super) in_flight: VecDeque<(Vec<RouteOp>, Instant)>,
    /// Time of the last completion.
    pub(super) completed_at: Option<Instant>,
    /// Empty batches for reuse.
    pub(super) spare: Vec<Vec<RouteOp>>,
}

/// Work that the next turns have to do.
#[derive(Debug, Default)]
pub(super) struct DueWork {
    /// Comparison of links, addresses and neighbors.
    pub(super) base: bool,
    /// Host routes, which come before next hops.
    pub(super) hosts: bool,
    /// Selection of probe targets.
    pub(super) probe_targets: bool,
    /// Check of sysctls.
    pub(super) sysctls: bool,
}

/// The turns from the first change until everything that can be done is done.
#[derive(Debug)]
pub(super) struct ReconcileRound {
    /// Start of the first turn.
    pub(super) began: Instant,
    /// A full resync took place since then.
    pub(super) observed: bool,
    /// Consecutive plans other than of routes.
    pub(super) passes: u32,
}

/// Knowledge of the routes to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum SyncState {
    /// Some routes are not known yet.
    #[default]
    Learning,
    /// All routes are known; those of an earlier run may be in the kernel.
    InSync,
    /// All that an earlier run left was adopted or removed.
    Adopted,
}

/// Repair of changes that other programs made.
#[derive(Debug, Default)]
pub(super) struct DriftRepair {
    /// Differences since the start.
    pub(super) count: u64,
    /// The present round repairs drift.
    pub(super) active: bool,
    /// Objects that are changed back repeatedly: repairs, and the start of the window.
    pub(super) fights: HashMap<Object, (u32, Instant)>,
}

/// Pause between two updates of the exits in use while routes change.
pub(super) const EXIT_INTERVAL: Duration = Duration::from_millis(100);

/// The exits in use.
#[derive(Debug, Default)]
pub(crate) struct ExitsInUse {
    /// Encapsulation and time of its first use, by node name.
    pub(crate) by_node: HashMap<String, (Option<Encapsulation>, Timestamp)>,
    /// They may have changed.
    pub(super) stale: bool,
    /// Time of the last update.
    pub(super) updated_at: Option<Instant>,
}
