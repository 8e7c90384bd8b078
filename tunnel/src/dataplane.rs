//! The interface of the reconciler to the kernel.

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

/// Maximum number of changes in one batch. If all of them are refused, the errors (about 800 octets
/// of buffer each) still fit into the default receive buffer.
pub const MAX_BATCH: usize = 256;
/// Maximum number of batches in flight: enough that the kernel has its next batch while results are
/// read, few enough that other work takes place in between.
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

/// A route of ours in the kernel, as the listing returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedRoute {
    /// Destination and metric.
    pub key: RouteKey,
    /// Next hop.
    pub via: Via,
}

/// A change that another program made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelEvent {
    /// Addition, change or removal of a link.
    Link {
        /// Interface index.
        index: u32,
        /// Name.
        name: String,
    },
    /// Addition or removal of an address.
    Address {
        /// Interface index.
        index: u32,
        /// True for a removal. Routes go with the address, without an event.
        gone: bool,
    },
    /// Change of a neighbor or forwarding entry.
    Neighbour {
        /// Interface index.
        index: u32,
        /// True for a permanent entry.
        permanent: bool,
    },
    /// Change of a next-hop object.
    Nexthop {
        /// True if the object carries our protocol number or has an id of ours.
        ours: bool,
    },
    /// Change of a route of table main.
    Route {
        /// Destination and metric.
        key: RouteKey,
        /// Next hop of the route that has the key now, if it is ours.
        via: Option<Via>,
        /// True if a route of ours may be gone or changed.
        ours: bool,
    },
    /// Change of a sysctl of an interface, or of all.
    Sysctl,
    /// Change of a rule or of a table that probes use.
    ProbeRouting,
    /// Change of the state of a tunnel path to a node.
    PathState {
        /// Tunnel address of the node.
        address: Ipv4Addr,
        /// Tunnel path.
        path: TunnelPath,
        /// State.
        state: PathState,
    },
    /// Loss of events.
    Overrun,
}

/// A reason to wake up.
#[derive(Debug)]
pub enum Wakeup {
    /// Completion of the oldest batch in flight: errors by position, in order.
    Completed(Vec<(usize, DataplaneError)>),
    /// Changes that other programs made, all that are queued.
    Events(Vec<KernelEvent>),
}

/// Access to kernel state.
///
/// # Contract
/// - The caller calls one method at a time. Route batches are completed in the order of submission:
///   between [`submit`](Self::submit) and the completion at most [`MAX_IN_FLIGHT`] batches may be
///   outstanding.
/// - [`observe`](Self::observe), [`list_routes`](Self::list_routes) and [`apply`](Self::apply) of
///   operations that routes depend on require that no batch is in flight.
/// - The future of [`wait`](Self::wait) may be dropped at any time without loss of an event or a
///   completion. The futures of [`next_listed`](Self::next_listed), [`apply`](Self::apply) and
///   [`completed`](Self::completed) must be awaited to their end.
/// - Events of changes made through this dataplane are left out where the kernel reports the cause;
///   the caller must tolerate the others. Events may be lost, which [`KernelEvent::Overrun`]
///   reports.
/// - Time is monotonic (`Instant`); nothing here depends on the wall clock.
pub trait Dataplane: Send + 'static {
    /// Reads everything except routes.
    ///
    /// # Errors
    /// The kernel's refusal.
    fn observe(&mut self, config: &Config) -> Result<ObservedState, DataplaneError>;

    /// Begins to list the routes of ours. No batch may be in flight.
    fn list_routes(&mut self, config: &Config);

    /// Returns the next part of the listing; `None` at its end.
    ///
    /// # Errors
    /// The kernel's refusal, which ends the listing.
    fn next_listed(
        &mut self,
    ) -> impl Future<Output = Result<Option<Vec<ListedRoute>>, DataplaneError>> + Send;

    /// Executes operations in order and returns one result for each. No batch that depends on them
    /// may be in flight.
    fn apply(
        &mut self,
        config: &Config,
        ops: &[Op],
    ) -> impl Future<Output = Vec<Result<(), DataplaneError>>> + Send;

    /// Submits changes of routes, at most [`MAX_BATCH`], without waiting for their completion.
    fn submit(&mut self, config: &Config, ops: &[RouteOp]);

    /// Waits for the completion of the oldest batch and returns its errors by position, in order.
    /// Must not be called without a batch in flight.
    fn completed(&mut self) -> impl Future<Output = Vec<(usize, DataplaneError)>> + Send;

    /// Returns the errors of the oldest batch if it is completed; `None` otherwise.
    fn try_completed(&mut self) -> Option<Vec<(usize, DataplaneError)>>;

    /// Returns how the kernel reaches an address by routes other than ours.
    fn reach(&mut self, address: IpAddr, observed: &ObservedState) -> Reach;

    /// Sets the nodes to probe; [`KernelEvent::PathState`] reports the results.
    fn probe(&mut self, config: &Config, observed: &ObservedState, targets: &[ProbeTarget]);

    /// Returns the measurements of the tunnel paths to the node with this tunnel address, in the
    /// order of [`TunnelPath::ALL`].
    fn path_measurements(&self, address: Ipv4Addr) -> Option<[PathMeasurement; 3]>;

    /// Returns the number of probes sent since the start, and of those without an answer.
    fn probe_counts(&self) -> (u64, u64) {
        (0, 0)
    }

    /// Returns the problem that keeps probes from being sent or accepted, with its remedy, in one
    /// line.
    fn probe_problem(&self) -> Option<String>;

    /// Returns the name of the interface with this index, as of the last observation.
    fn interface_name(&self, index: u32) -> Option<String>;

    /// Checks and sets the sysctls that forwarding depends on.
    fn tune(&mut self, config: &Config, observed: &ObservedState) -> Vec<Sysctl>;

    /// Waits for changes made by other programs, and with `submitted`, which requires a batch in
    /// flight, for the completion of the oldest batch. Safe to cancel.
    fn wait(&mut self, submitted: bool) -> impl Future<Output = Wakeup> + Send;
}
