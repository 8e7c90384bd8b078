//! Errors of a store.

use std::path::PathBuf;

use super::Revision;
use resource::{Key, Mistake};

/// An error of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The stored resources are not valid, or would not be after the change.
    #[error("{} in the resources", count(.0))]
    Invalid(Vec<Mistake>),
    /// The store has changed since `expected`.
    #[error("the resources have changed since revision {expected}: read them again and repeat")]
    Conflict {
        /// The expected revision.
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
    /// A resource to create exists already.
    #[error("{} there already", exist(.0))]
    Exists(Vec<Mistake>),
    /// The change is not permitted; the reason, in one line.
    #[error("{0}")]
    Forbidden(String),
    /// The resource does not exist.
    #[error("no {} {:?}: `routectl get {}` lists what there is", .0.kind.name(), .0.name, .0.kind.plural())]
    NotFound(Key),
    /// The operating system reported an error.
    #[error("{}: {doing}: {source}", path.display())]
    Io {
        /// The operation.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// The shared store did not answer, or refused the request.
    #[error("the datastore {doing}: {reason}; `routectl show status` says whether it can be reached")]
    Unavailable {
        /// The operation.
        doing: &'static str,
        /// The message of the store or the network.
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
