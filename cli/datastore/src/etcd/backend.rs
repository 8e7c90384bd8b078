//! The operations that the store needs of etcd. The simulation in the tests implements them too.

use std::fmt;

use futures::future::BoxFuture;
use futures::stream::BoxStream;

/// A key with its value, and the revisions of its creation and last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredValue {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
}

/// All resources at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    /// The ID of the etcd cluster. Revisions of different clusters are not comparable.
    pub(crate) cluster_id: u64,
    pub(crate) revision: i64,
    pub(crate) entries: Vec<StoredValue>,
}

/// A change of one key, as a watch reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyEvent {
    Put(StoredValue),
    Delete { key: String, mod_revision: i64 },
}

/// A digest of all keys: their number and the latest revision that changed one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) cluster_id: u64,
    pub(crate) revision: i64,
    pub(crate) count: i64,
    pub(crate) newest: i64,
}

/// A condition of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The key does not exist.
    Absent(String),
    /// The key exists, and that revision was the last to change it.
    At { key: String, mod_revision: i64 },
    /// No key with the prefix has changed after that revision.
    NothingNewer { prefix: String, than: i64 },
}

/// A change of one key by a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyChange {
    Put { key: String, value: Vec<u8> },
    Delete { key: String },
}

impl KeyChange {
    /// Returns the approximate size in the request, in octets.
    pub(crate) fn size(&self) -> usize {
        match self {
            KeyChange::Put { key, value } => key.len() + value.len(),
            KeyChange::Delete { key } => key.len(),
        }
    }
}

/// A transaction: all changes are made if all conditions hold, otherwise none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) changes: Vec<KeyChange>,
}

/// An error of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BackendError {
    /// The revision has been compacted. List again.
    Compacted,
    /// This member can't be reached, doesn't answer, or has no leader. Another one may work.
    Away(String),
    /// The member refuses the request.
    Refused(String),
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendError::Compacted => f.write_str("the revision is no longer kept"),
            BackendError::Away(reason) | BackendError::Refused(reason) => f.write_str(reason),
        }
    }
}

/// A stream of changes in the order of their revisions. Changes of one revision are in one batch.
pub(crate) type KeyEventStream = BoxStream<'static, Result<Vec<KeyEvent>, BackendError>>;

/// A client of an etcd cluster, which uses one member at a time.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Lists every key that begins with `prefix`.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, BackendError>>;
    /// Watches the keys that begin with `prefix`, from a revision on.
    fn watch<'a>(&'a self, prefix: &'a str, from: i64)
    -> BoxFuture<'a, Result<KeyEventStream, BackendError>>;
    /// Returns the present digest of the keys, by a linearizable read.
    fn digest<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Digest, BackendError>>;
    /// Returns the present revision, by a linearizable read.
    fn revision(&self) -> BoxFuture<'_, Result<i64, BackendError>>;
    /// Commits a transaction. Returns its revision, or `None` if a condition does not hold.
    /// After [`BackendError::Away`] the transaction may have been committed.
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Option<i64>, BackendError>>;
    /// Switches to the next member.
    fn fail_over(&self);
    /// Returns the URL of the member in use.
    fn endpoint(&self) -> String;
}
