//! The state of a store: revisions, valid states, stored resources and the health of a store.

use std::fmt;

use serde::{Deserialize, Serialize};

use resource::{Document, Mistake, Snapshot, Warning};

/// The revision of a store: an opaque identifier of its contents at one moment. Two revisions are
/// equal if nothing has changed in between.
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
    /// The warnings.
    pub warnings: Vec<Warning>,
    /// The revision of the store.
    pub revision: Revision,
    /// The mistakes of resources that don't run. In a shared store the other resources run
    /// nevertheless.
    pub refused: Vec<Mistake>,
}

/// All resources as they were written.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The resources, older ones first.
    pub documents: Vec<Document>,
    /// The valid state of these resources.
    pub state: StoreState,
}

/// A resource to be stored.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The parsed resource. Its origin is the user's file, for mistakes.
    pub document: Document,
    /// Its text, one YAML document.
    pub text: String,
}

/// An update of a watch: a new valid state, or the mistakes of an invalid one (the last valid one
/// keeps running).
pub type StoreUpdate = Result<StoreState, Vec<Mistake>>;

/// The health of the connection to a shared store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreHealth {
    /// True if the running state is the present state of the store.
    pub connected: bool,
    /// The URL of the member in use, or tried last.
    pub endpoint: String,
    /// The time at which the state was last known to be current; `null` if never since the
    /// start.
    pub last_in_step: Option<jiff::Timestamp>,
    /// The time of the last change of `connected`.
    pub since: jiff::Timestamp,
    /// The reason why the store is not connected, or why its listing is refused.
    pub problem: Option<String>,
    /// True if the running state is the snapshot in the state directory, since the store was
    /// unavailable at the start.
    pub from_snapshot: bool,
    /// The number of complete listings since the start.
    pub relists: u64,
}

impl StoreHealth {
    /// Returns the seconds for which the running state may differ from the store.
    pub fn lag_s(&self, now: jiff::Timestamp) -> u64 {
        if self.connected {
            return 0;
        }
        let from = self.last_in_step.unwrap_or(self.since);
        u64::try_from(now.duration_since(from).as_secs()).unwrap_or(0)
    }
}
