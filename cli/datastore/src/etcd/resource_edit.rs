//! Changes of one resource by the daemon itself: compare-and-swap on that resource alone, so that
//! many nodes can change their resources at the same time. If two changes conflict, the newer
//! resource is refused by name.

use std::time::Duration;

use serde_json::Value as Json;
use timing::Retry;

use super::backend::{Commit, Condition, KeyChange};
use super::replica::Replica;
use super::store::{EtcdStore, read_error, validate};
use crate::{Manifest, StoreError};
use resource::{Document, Key, Kind};

/// The largest number of attempts to change a resource that others change too.
const ATTEMPTS: u32 = 5;
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

impl EtcdStore {
    /// Creates a resource. Returns false if it exists.
    ///
    /// # Errors
    /// The result would not be valid, or the store is unavailable.
    pub async fn create(&self, manifest: Manifest) -> Result<bool, StoreError> {
        let replica = self.replica().await?;
        let key = self.keys.etcd_key(&manifest.document.key());
        if replica.has(&key) {
            return Ok(false);
        }
        validate(&replica, &[], &[&manifest.document])?;
        self.put_one(Condition::Absent(key.clone()), key, manifest.text).await
    }

    /// Changes this node's own resource. Returns false if `edit` returns `None` or the resource
    /// does not exist.
    ///
    /// # Errors
    /// The errors of [`EtcdStore::create`].
    pub async fn edit_node(
        &self,
        name: &str,
        edit: impl Fn(Json) -> Option<Manifest>,
    ) -> Result<bool, StoreError> {
        let key = Key { kind: Kind::Node, name: name.to_owned() };
        let mut retry = Retry::new(ATTEMPTS, PAUSE, PAUSE);
        loop {
            let replica = self.replica().await?;
            let Some((document, mod_revision)) = find(&replica, &key) else { return Ok(false) };
            let Some(manifest) = edit(resource::without_version(document.manifest.clone())) else {
                return Ok(false);
            };
            validate(&replica, std::slice::from_ref(&key), &[&manifest.document])?;
            let stored = self.keys.etcd_key(&key);
            if self
                .put_one(Condition::At { key: stored.clone(), mod_revision }, stored, manifest.text)
                .await?
            {
                return Ok(true);
            }
            if !retry.pause().await {
                return Err(StoreError::Conflict { expected: crate::Revision("of a moment ago".into()) });
            }
        }
    }

    async fn put_one(&self, condition: Condition, key: String, text: String) -> Result<bool, StoreError> {
        let changes = vec![KeyChange::Put { key, value: text.into_bytes() }];
        self.commit_one(Commit { conditions: vec![condition], changes }).await
    }

    /// Commits a transaction. Returns false if a condition does not hold.
    pub(super) async fn commit_one(&self, commit: Commit) -> Result<bool, StoreError> {
        use super::backend::{Backend, BackendError};
        match self.backend.commit(commit).await {
            Ok(done) => Ok(done.is_some()),
            Err(error) => {
                if matches!(error, BackendError::Away(_)) {
                    self.backend.fail_over();
                }
                Err(read_error(&error))
            }
        }
    }
}

/// Returns a resource and the revision of its last change.
fn find(replica: &Replica, key: &Key) -> Option<(Document, i64)> {
    let document = replica.documents().into_iter().find(|document| document.key() == *key)?;
    let revision = document.resource_version()?.parse().ok()?;
    Some((document, revision))
}
