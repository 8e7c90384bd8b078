//! Where resources come from: the trait of a store, the embedded one that keeps files, and the one that all
//! nodes share.

mod directory;
mod directory_watch;
mod edit;
pub mod etcd;
mod file;
mod host_local;

use std::fmt;
use std::path::PathBuf;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch as latest};

pub use etcd::{EtcdSettings, EtcdStore, host_and_port};
pub use file::FileStore;
pub use host_local::used_addresses;

use resource::{Document, Key, Mistake, Snapshot, Warning};

/// What a store held at one moment; opaque, equal where nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub String);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A valid state of the cluster.
#[derive(Clone, Debug)]
pub struct StoreState {
    /// The resources.
    pub snapshot: Snapshot,
    /// What the user should know of.
    pub warnings: Vec<Warning>,
    /// The state this was read from.
    pub revision: Revision,
    /// In a shared store, resources that don't run for what is wrong with them, while the rest does.
    pub refused: Vec<Mistake>,
}

/// All resources as they were written.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The resources, the older first.
    pub documents: Vec<Document>,
    /// The same, checked against each other.
    pub state: StoreState,
}

/// A resource to be stored.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The resource as parsed; its origin is where the user wrote it, for mistakes.
    pub document: Document,
    /// Its text, one YAML document.
    pub text: String,
}

/// Why a store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The result would not be valid, or what is stored isn't.
    #[error("{} in the resources", count(.0))]
    Invalid(Vec<Mistake>),
    /// The store has changed since `expected`.
    #[error("the resources have changed since revision {expected}: read them again and repeat")]
    Conflict {
        /// The revision that the change was meant for.
        expected: Revision,
    },
    /// The resource has changed since the caller read it.
    #[error(
        "{} {:?} has changed: its resourceVersion is {current}, not {given}; read it again with `routectl get {} {} -o yaml`",
        .key.kind.name(), .key.name, .key.kind.plural(), .key.name
    )]
    Outdated {
        /// The resource.
        key: Key,
        /// The version that the caller read.
        given: String,
        /// The version that is stored.
        current: String,
    },
    /// What is to be made is there already.
    #[error("{} there already", exist(.0))]
    Exists(Vec<Mistake>),
    /// The change is none that can be made; one line that says why.
    #[error("{0}")]
    Forbidden(String),
    /// No such resource.
    #[error("no {} {:?}: `routectl get {}` lists what there is", .0.kind.name(), .0.name, .0.kind.plural())]
    NotFound(Key),
    /// The operating system refused.
    #[error("{}: {doing}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The refusal.
        source: std::io::Error,
    },
    /// The shared store did not answer, or said no.
    #[error("the datastore {doing}: {reason}; `routectl show status` says whether it can be reached")]
    Unavailable {
        /// What was being done.
        doing: &'static str,
        /// What it or the network said.
        reason: String,
    },
    /// A task of the store ended early.
    #[error("the store's task has ended: restart routed")]
    Ended,
}

fn count(mistakes: &[Mistake]) -> String {
    if mistakes.len() == 1 { "1 mistake".into() } else { format!("{} mistakes", mistakes.len()) }
}

fn exist(mistakes: &[Mistake]) -> String {
    if mistakes.len() == 1 { "1 resource is".into() } else { format!("{} resources are", mistakes.len()) }
}

/// How a shared store is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreHealth {
    /// True if what runs is what the store says now.
    pub connected: bool,
    /// The member that is spoken to, or was tried last.
    pub endpoint: String,
    /// When it was last known to be so; `null`: not since the start.
    pub last_in_step: Option<jiff::Timestamp>,
    /// Since when it has been so, or has not.
    pub since: jiff::Timestamp,
    /// Why it is not connected, or why what it says is not taken.
    pub problem: Option<String>,
    /// True if what runs is the snapshot in the state directory, as the store was away at the start.
    pub from_snapshot: bool,
    /// How often everything was read anew, since the start.
    pub relists: u64,
}

impl StoreHealth {
    /// Seconds for which what runs may differ from what the store says.
    pub fn lag_s(&self, now: jiff::Timestamp) -> u64 {
        if self.connected {
            return 0;
        }
        let from = self.last_in_step.unwrap_or(self.since);
        u64::try_from(now.duration_since(from).as_secs()).unwrap_or(0)
    }
}

/// What a watch yields: a new valid state, or why there is none (what runs keeps running).
pub type StoreUpdate = Result<StoreState, Vec<Mistake>>;

/// Where resources come from.
pub trait Store: Send + Sync + 'static {
    /// Yields the state now, and again whenever it changes; ends when the receiver is dropped.
    ///
    /// # Errors
    /// The store can't be watched at all.
    fn watch(&self) -> Result<mpsc::Receiver<StoreUpdate>, StoreError>;

    /// How the store is reached, where it is one that can be out of reach.
    fn health(&self) -> Option<latest::Receiver<StoreHealth>> {
        None
    }

    /// Reads everything.
    ///
    /// # Errors
    /// What is stored is not valid, or can't be read.
    fn load(&self) -> BoxFuture<'_, Result<Contents, StoreError>>;

    /// Stores resources, all or none: an existing one (same kind and name) is replaced. With
    /// `expected` only if nothing has changed since that revision.
    ///
    /// # Errors
    /// The whole would not be valid, the revision is not the expected one, or it can't be written.
    fn put(
        &self,
        manifests: Vec<Manifest>,
        expected: Option<Revision>,
    ) -> BoxFuture<'_, Result<Revision, StoreError>>;

    /// Deletes resources, all or none, under the same conditions.
    ///
    /// # Errors
    /// As for [`Store::put`], or one of them doesn't exist.
    fn delete(
        &self,
        keys: Vec<Key>,
        expected: Option<Revision>,
    ) -> BoxFuture<'_, Result<Revision, StoreError>>;
}
