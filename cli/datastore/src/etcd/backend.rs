//! What the store asks of etcd; the simulation answers the same.

use std::fmt;

use futures::future::BoxFuture;
use futures::stream::BoxStream;

/// A key with its value, and the revisions of its making and of its last change.
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
    /// Which etcd cluster said it; another one's revisions mean nothing.
    pub(crate) cluster_id: u64,
    pub(crate) revision: i64,
    pub(crate) entries: Vec<StoredValue>,
}

/// What happened to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyEvent {
    Put(StoredValue),
    Delete { key: String, mod_revision: i64 },
}

/// Which resources there are, in two numbers: how many, and the latest change of any that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) cluster_id: u64,
    pub(crate) revision: i64,
    pub(crate) count: i64,
    pub(crate) newest: i64,
}

/// What must hold for a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// There is no such key.
    Absent(String),
    /// The key is there as it was last changed by that revision.
    At { key: String, mod_revision: i64 },
    /// Nothing that begins so has been changed after that revision.
    NothingNewer { prefix: String, than: i64 },
}

/// What a commit does to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyChange {
    Put { key: String, value: Vec<u8> },
    Delete { key: String },
}

impl KeyChange {
    /// Octets of the request that it takes, about.
    pub(crate) fn size(&self) -> usize {
        match self {
            KeyChange::Put { key, value } => key.len() + value.len(),
            KeyChange::Delete { key } => key.len(),
        }
    }
}

/// Changes that are made all or none, and only if all conditions hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) changes: Vec<KeyChange>,
}

/// Why etcd did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BackendError {
    /// The revision is no longer kept: list again.
    Compacted,
    /// This member can't be reached, doesn't answer, or doesn't know the others: another may.
    Away(String),
    /// It answers, and says no.
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

/// Changes in the order in which they happened; those of one revision are never parted.
pub(crate) type KeyEventStream = BoxStream<'static, Result<Vec<KeyEvent>, BackendError>>;

/// An etcd cluster, of which one member at a time is spoken to.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Returns every key that begins with `prefix`.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, BackendError>>;
    /// Returns the changes of them from a revision on.
    fn watch<'a>(&'a self, prefix: &'a str, from: i64)
    -> BoxFuture<'a, Result<KeyEventStream, BackendError>>;
    /// What a majority agrees on now, in two numbers.
    fn digest<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Digest, BackendError>>;
    /// Returns the revision now, as a majority agrees on it.
    fn revision(&self) -> BoxFuture<'_, Result<i64, BackendError>>;
    /// Changes keys; `None`: a condition doesn't hold. After [`BackendError::Away`] it may have been done.
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Option<i64>, BackendError>>;
    /// Speaks to the next member from now on.
    fn fail_over(&self);
    /// Returns the member that is spoken to.
    fn endpoint(&self) -> String;
}
