//! What the task needs of a kernel.

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr},
};

use crate::{
    desired::RouteKey,
    diff::Op,
    fib::RouteOp,
    node::Config,
    observed::{ObservedState, Via},
    probe::{
        PathState, TunnelPath,
        prober::{PathMeasurement, ProbeTarget},
    },
    resolve::Reach,
    sysctl::Sysctl,
};

/// The most changes of one batch. Should all of them be refused, the refusals (about 800 octets of buffer each) still
/// fit into the default receive buffer.
pub const MAX_BATCH: usize = 256;
/// The most batches that are submitted and not completed: enough for the kernel to have its next one while answers are
/// read, few enough for other work to come in between.
pub const MAX_IN_FLIGHT: usize = 8;

/// Error numbers by which reconciliation decides.
pub mod errno {
    pub use nix::libc::{EBUSY, EEXIST, EINVAL, ENODEV, ENOENT, ENOMEM, EOPNOTSUPP, EPERM, ESRCH};
}

/// A refusal of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DataplaneError {
    /// `errno`.
    pub errno: i32,
    /// The kernel's explanation; empty without one.
    pub message: String,
}

impl fmt::Display for DataplaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errno = io::Error::from_raw_os_error(self.errno);
        if self.message.is_empty() { write!(f, "{errno}") } else { write!(f, "{errno}: {}", self.message) }
    }
}

/// A route of this node's in the kernel, as the listing returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedRoute {
    /// Destination and metric.
    pub key: RouteKey,
    /// Next hop.
    pub via: Via,
}

/// A change that others made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelEvent {
    /// A link appeared, changed or disappeared.
    Link {
        /// Interface index.
        index: u32,
        /// Name.
        name: String,
    },
    /// An interface got or lost an address.
    Address {
        /// Interface index.
        index: u32,
        /// It lost it, and routes with it, of which the kernel tells nobody.
        gone: bool,
    },
    /// A neighbour or forwarding entry changed.
    Neighbour {
        /// Interface index.
        index: u32,
        /// It is a permanent one.
        permanent: bool,
    },
    /// A next-hop object changed.
    Nexthop {
        /// It carries our protocol number, or has an id that we took for one of ours.
        ours: bool,
    },
    /// A route of table main changed.
    Route {
        /// Destination and metric.
        key: RouteKey,
        /// What has the key now: `Some` if it is a route of ours.
        via: Option<Via>,
        /// The event tells that a route of ours may be gone or changed.
        ours: bool,
    },
    /// A sysctl of an interface, or of all.
    Sysctl,
    /// A rule, or a route of a table, by which probes go.
    ProbeRouting,
    /// What is known of a way to a node has changed.
    PathState {
        /// The node's tunnel address.
        address: Ipv4Addr,
        /// The way.
        path: TunnelPath,
        /// What is known now.
        state: PathState,
    },
    /// Events were lost.
    Overrun,
}

/// What is heard of a kernel.
#[derive(Debug)]
pub enum Wakeup {
    /// The oldest of the batches that were submitted is completed: what was refused of it, by position, in order.
    Completed(Vec<(usize, DataplaneError)>),
    /// Changes that others made: all that are there.
    Events(Vec<KernelEvent>),
}

/// Reads and writes kernel state.
pub trait Dataplane: Send + 'static {
    /// Takes the picture of all but routes.
    ///
    /// # Errors
    /// The kernel's answer to a dump.
    fn observe(&mut self, config: &Config) -> Result<ObservedState, DataplaneError>;

    /// Begins to list the routes of ours. Nothing may have been submitted that is not completed.
    fn list_routes(&mut self, config: &Config);

    /// More of the list that was begun; `None` at its end.
    ///
    /// # Errors
    /// The kernel's answer to a dump, which ends the list.
    fn listed(&mut self) -> impl Future<Output = Result<Option<Vec<ListedRoute>>, DataplaneError>> + Send;

    /// Carries out operations, in order; one result for each. Nothing that depends on them may have been submitted
    /// without being completed.
    fn apply(
        &mut self,
        config: &Config,
        ops: &[Op],
    ) -> impl Future<Output = Vec<Result<(), DataplaneError>>> + Send;

    /// Has changes of routes carried out, at most [`MAX_BATCH`] of them, while the caller goes on.
    fn submit(&mut self, config: &Config, ops: &[RouteOp]);

    /// Waits until the oldest of the batches that were submitted is completed: what was refused of it, by position,
    /// in order. Not to be called without one.
    fn completed(&mut self) -> impl Future<Output = Vec<(usize, DataplaneError)>> + Send;

    /// The same without waiting; `None` if it is not completed yet.
    fn try_completed(&mut self) -> Option<Vec<(usize, DataplaneError)>>;

    /// How the kernel reaches an address by its own routes.
    fn reach(&mut self, address: IpAddr, observed: &ObservedState) -> Reach;

    /// Takes whom to ask after by probes; [`KernelEvent::PathState`] tells what comes of it.
    fn probe(&mut self, config: &Config, observed: &ObservedState, targets: &[ProbeTarget]);

    /// What was seen of the ways to the node with this tunnel address, in [`TunnelPath::ALL`]'s order.
    fn probed(&self, address: Ipv4Addr) -> Option<[PathMeasurement; 3]>;

    /// Probes sent since the start, and those of them that were not answered.
    fn probe_counts(&self) -> (u64, u64) {
        (0, 0)
    }

    /// What keeps probes from being sent or believed, and what to do, in one line.
    fn probe_problem(&self) -> Option<String>;

    /// The name of the interface with this index, as of the last observation.
    fn interface_name(&self, index: u32) -> Option<String>;

    /// Checks and sets the sysctls that forwarding depends on.
    fn tune(&mut self, config: &Config, observed: &ObservedState) -> Vec<Sysctl>;

    /// Waits for changes made by others, and with `submitted`, which is true only if there is one, for the oldest batch.
    /// Safe to cancel.
    fn wait(&mut self, submitted: bool) -> impl Future<Output = Wakeup> + Send;
}
