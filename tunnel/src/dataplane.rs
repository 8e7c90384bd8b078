//! What the task needs of a kernel.

use std::{future::Future, net::IpAddr};

use crate::{
    desired::RouteKey,
    diff::Op,
    netlink::KernelError,
    node::Config,
    observed::{Observed, Via},
    resolve::Reach,
    sysctl::Sysctl,
};

/// A change that others made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
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
    /// Events were lost.
    Overrun,
}

/// Reads and writes kernel state.
pub trait Dataplane: Send + 'static {
    /// Takes the whole picture.
    ///
    /// # Errors
    /// The kernel's answer to a dump.
    fn observe(&mut self, config: &Config) -> Result<Observed, KernelError>;

    /// Carries out operations, in order; one result for each.
    fn apply(
        &mut self,
        config: &Config,
        ops: &[Op],
    ) -> impl Future<Output = Vec<Result<(), KernelError>>> + Send;

    /// How the kernel reaches an address by its own routes.
    fn reach(&mut self, address: IpAddr, observed: &Observed) -> Reach;

    /// The name of the interface with this index, as of the last observation.
    fn interface_name(&self, index: u32) -> Option<String>;

    /// Checks and sets the sysctls that forwarding depends on.
    fn tune(&mut self, config: &Config, observed: &Observed) -> Vec<Sysctl>;

    /// Waits for changes made by others and returns all that are there. Safe to cancel.
    fn events(&mut self) -> impl Future<Output = Vec<Event>> + Send;
}
