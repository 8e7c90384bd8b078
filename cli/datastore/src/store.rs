//! The interface of a store.

use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch as latest};

use super::{Contents, Manifest, Revision, StoreError, StoreHealth, StoreUpdate};
use resource::Key;

/// A store of resources.
///
/// A store holds documents, keyed by kind and name, and validates them as a whole. A change is made
/// of one or more resources and happens entirely or not at all.
///
/// # Revisions
///
/// A [`Revision`] identifies the contents of a store at one moment: two revisions are equal if
/// nothing has changed in between, and have no order. [`Store::put`] and [`Store::delete`] with an
/// expected revision change nothing if the store has another one ([`StoreError::Conflict`]);
/// without one they apply to the present contents. Both return the revision after the change.
///
/// # Cancellation
///
/// The futures of [`Store::load`] may be dropped at any time. The future of a put or delete may be
/// dropped too, but the change may then have been made, or still be made: load to find out. The
/// same holds after [`StoreError::Unavailable`]. In a store of files a change that was begun is
/// finished.
///
/// # Errors
///
/// [`StoreError::Invalid`] lists the mistakes that the contents have or would have. No other error
/// changes the store, except those after which the outcome is unknown, as above.
pub trait Store: Send + Sync + 'static {
    /// Starts a watch, which yields the present state and then each state that differs from the
    /// last.
    ///
    /// Intermediate states may be skipped: the receiver always gets the latest one. An invalid
    /// state is reported as its mistakes, and the last valid one stays in force. The watch ends
    /// when the receiver is dropped.
    ///
    /// # Errors
    /// The store can't be watched at all.
    fn watch(&self) -> Result<mpsc::Receiver<StoreUpdate>, StoreError>;

    /// Returns the health of the connection; `None` for a store that is always reachable.
    fn health(&self) -> Option<latest::Receiver<StoreHealth>> {
        None
    }

    /// Reads all resources.
    ///
    /// # Errors
    /// The stored resources are not valid ([`StoreError::Invalid`]) or can't be read.
    fn load(&self) -> BoxFuture<'_, Result<Contents, StoreError>>;

    /// Stores resources, all or none. A resource with the same kind and name is replaced. With
    /// `expected` the resources are stored only if nothing has changed since that revision.
    ///
    /// # Errors
    /// The result would not be valid, the revision is not the expected one, or it can't be written.
    fn put(
        &self,
        manifests: Vec<Manifest>,
        expected: Option<Revision>,
    ) -> BoxFuture<'_, Result<Revision, StoreError>>;

    /// Deletes resources, all or none, under the same conditions.
    ///
    /// # Errors
    /// The errors of [`Store::put`], or [`StoreError::NotFound`] for a resource that doesn't exist.
    fn delete(
        &self,
        keys: Vec<Key>,
        expected: Option<Revision>,
    ) -> BoxFuture<'_, Result<Revision, StoreError>>;
}
