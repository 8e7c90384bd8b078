//! Stores of resources: a directory of YAML files, and etcd.
//!
//! Both implement [`Store`]: load, put, delete, and a watch that yields each valid state.
//!
//! | Module | Contents |
//! |---|---|
//! | `state`, `error` | [`Revision`], [`StoreState`], [`Contents`], [`Manifest`], [`StoreHealth`], [`StoreError`] |
//! | `directory` | Reading of a directory of files |
//! | `edit` | New texts of files for a put or a delete |
//! | `host_local` | Addresses of pods, which the CNI plugin `host-local` stores |
//! | [`etcd`] | Keys, replica, valid subset, settings and snapshot file |
//! | `store` (driver) | The trait [`Store`] |
//! | `file`, `directory_watch` (driver) | [`FileStore`] and its watch with inotify |
//! | [`etcd`] (driver) | [`EtcdStore`], its client, its feed of changes and its follower |
//!
//! The feature `driver` (default) brings tokio, the etcd client and inotify. The modules without it
//! are pure or read files only.

// Only the driver uses many items of the pure modules.
#![cfg_attr(not(feature = "driver"), allow(dead_code, unused_imports))]

mod directory;
#[cfg(feature = "driver")]
mod directory_watch;
mod edit;
mod error;
pub mod etcd;
#[cfg(feature = "driver")]
mod file;
mod host_local;
mod state;
#[cfg(feature = "driver")]
mod store;

pub use error::StoreError;
#[cfg(feature = "driver")]
pub use etcd::EtcdStore;
pub use etcd::{EtcdSettings, host_and_port};
#[cfg(feature = "driver")]
pub use file::FileStore;
pub use host_local::used_addresses;
pub use state::{Contents, Manifest, Revision, StoreHealth, StoreState, StoreUpdate};
#[cfg(feature = "driver")]
pub use store::Store;
