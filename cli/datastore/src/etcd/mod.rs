//! The store that all nodes share, on etcd: one key for each resource.
//!
//! The pure part is the `keys`, the `replica` with its `valid_subset`, the `settings` and
//! the snapshot file (`snapshot_cache`). The driver is the `client` of etcd, the `feed` of
//! changes, the `follower` that turns them into states of the replica, and the [`EtcdStore`].

mod backend;
#[cfg(feature = "driver")]
mod claims;
#[cfg(feature = "driver")]
mod client;
#[cfg(feature = "driver")]
mod feed;
#[cfg(feature = "driver")]
mod follower;
mod keys;
mod replica;
#[cfg(feature = "driver")]
mod resource_edit;
mod settings;
#[cfg(test)]
#[cfg(feature = "driver")]
mod simulation;
mod snapshot_cache;
#[cfg(feature = "driver")]
mod store;
mod valid_subset;

#[cfg(feature = "driver")]
pub use claims::ClaimOutcome;
pub use settings::{EtcdSettings, host_and_port};
#[cfg(feature = "driver")]
pub use store::EtcdStore;
