//! The store of resources in etcd, which all nodes share.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use timing::Retry;
use tokio::sync::{mpsc, watch};

use super::backend::{Backend, BackendError, Commit, Condition, KeyChange};
use super::client::EtcdBackend;
use super::keys::Keys;
use super::replica::Replica;
use super::settings::EtcdSettings;
use super::snapshot_cache::SnapshotCache;

use super::follower;
use crate::{Contents, Manifest, Revision, Store, StoreError, StoreHealth, StoreState, StoreUpdate};
use resource::{Document, Key, Mistake, assemble};

/// The largest number of changes in one commit. The limit of etcd is 128 (`--max-txn-ops`), of
/// which one is the deletion key.
const MAX_CHANGES: usize = 100;
/// The largest commit, in octets. The limit of etcd is 1.5 MiB (`--max-request-bytes`).
const MAX_COMMIT_BYTES: usize = 1024 * 1024;
/// The largest number of attempts to commit while others change the store.
const ATTEMPTS: u32 = 20;
/// The longest pause before the next attempt, times the number of attempts so far.
const PAUSE: Duration = Duration::from_millis(20);
/// The largest number of members that are tried for one request of a user.
const MEMBERS: usize = 3;

/// A store of resources in etcd.
#[derive(Clone)]
pub struct EtcdStore {
    pub(super) backend: Arc<EtcdBackend>,
    pub(super) keys: Keys,
    cache: Option<SnapshotCache>,
    health: watch::Sender<StoreHealth>,
    seed: u64,
}

impl EtcdStore {
    /// Creates a store, which connects at the first request. With `state_dir` the last valid
    /// snapshot is kept there.
    pub fn open(settings: EtcdSettings, state_dir: Option<&Path>) -> Self {
        // A hasher with a random key gives numbers that differ between processes.
        let seed = RandomState::new().hash_one(&settings.prefix);
        let keys = Keys::new(&settings.prefix);
        let cache = state_dir.map(|directory| SnapshotCache::new(directory, &settings.prefix));
        let endpoint = settings.endpoints.first().cloned().unwrap_or_default();
        let health = StoreHealth {
            connected: false,
            endpoint,
            last_in_step: None,
            since: Timestamp::now(),
            problem: Some("no answer yet".into()),
            from_snapshot: false,
            relists: 0,
        };
        let backend = Arc::new(EtcdBackend::new(settings, seed));
        EtcdStore { backend, keys, cache, health: watch::Sender::new(health), seed }
    }

    /// Returns the URL of the member in use.
    pub fn member(&self) -> String {
        self.backend.endpoint()
    }

    /// Returns the snapshot in the state directory, if it can be used.
    pub fn last_valid(&self) -> Option<StoreState> {
        let listing = self.cache.as_ref()?.read().ok()??;
        let mut replica = Replica::new(self.keys.clone());
        replica.relist(listing).ok()?;
        Some(replica.validation().run().state)
    }

    /// Lists all resources from the first member that answers.
    pub(super) async fn replica(&self) -> Result<Replica, StoreError> {
        let mut tries = 1;
        let listing = loop {
            match self.backend.list(self.keys.resources()).await {
                Ok(listing) => break listing,
                Err(BackendError::Away(_)) if tries < MEMBERS => {
                    tries += 1;
                    self.backend.fail_over();
                }
                Err(error) => return Err(read_error(&error)),
            }
        };
        let mut replica = Replica::new(self.keys.clone());
        replica.relist(listing).map_err(|error| read_error(&error))?;
        Ok(replica)
    }

    /// Applies a change to the present resources. Repeats if others change the store meanwhile.
    async fn change(
        &self,
        expected: Option<Revision>,
        edit: impl Fn(&Replica) -> Result<Vec<KeyChange>, StoreError>,
    ) -> Result<Revision, StoreError> {
        let conflict = |revision: i64| StoreError::Conflict { expected: Revision(revision.to_string()) };
        let than = match &expected {
            Some(revision) => match revision.0.parse::<i64>() {
                Ok(number) => Some(number),
                Err(_) => return Err(StoreError::Conflict { expected: revision.clone() }),
            },
            None => None,
        };
        let mut retry = Retry::new(ATTEMPTS, PAUSE, PAUSE * ATTEMPTS);
        loop {
            let replica = self.replica().await?;
            let against = than.unwrap_or(replica.revision());
            let changes = edit(&replica)?;
            match self.commit(changes, against).await? {
                Some(revision) => return Ok(Revision(revision.to_string())),
                None if than.is_none() && retry.pause().await => {}
                None => return Err(conflict(against)),
            }
        }
    }

    /// Commits changes if nothing has changed after a revision, in as few transactions as
    /// etcd's limits allow.
    async fn commit(&self, changes: Vec<KeyChange>, mut than: i64) -> Result<Option<i64>, StoreError> {
        let total = changes.len();
        let mut done = 0;
        let mut changes = changes.into_iter().peekable();
        while let Some(first) = changes.next() {
            let mut bytes = first.size();
            let mut together = vec![first];
            while let Some(next) =
                changes.next_if(|next| together.len() < MAX_CHANGES && bytes + next.size() < MAX_COMMIT_BYTES)
            {
                bytes += next.size();
                together.push(next);
            }
            let count = together.len();
            if together.iter().any(|change| matches!(change, KeyChange::Delete { .. })) {
                together.push(KeyChange::Put { key: self.keys.deletion(), value: Vec::new() });
            }
            let conditions = [self.keys.resources().to_owned(), self.keys.deletion()]
                .map(|prefix| Condition::NothingNewer { prefix, than })
                .into();
            let commit = Commit { conditions, changes: together };
            let committed = self.backend.commit(commit).await;
            match committed {
                Ok(Some(revision)) => than = revision,
                Ok(None) if done == 0 => return Ok(None),
                Ok(None) => {
                    return Err(partial_change_error(done, total, "others changed the store meanwhile"));
                }
                Err(error) if done > 0 => return Err(partial_change_error(done, total, &error.to_string())),
                Err(error) => {
                    if matches!(error, BackendError::Away(_)) {
                        self.backend.fail_over();
                    }
                    // The result is unknown. Repeating is harmless, but the
                    // user decides.
                    let reason =
                        format!("{error}; it may have been done all the same: look, or repeat the command");
                    return Err(StoreError::Unavailable { doing: "was not changed", reason });
                }
            }
            done += count;
        }
        Ok(Some(than))
    }
}

pub(super) fn read_error(reason: &impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable { doing: "was not read", reason: reason.to_string() }
}

fn partial_change_error(done: usize, total: usize, reason: &str) -> StoreError {
    let reason = format!("{done} of {total} resources, then {reason}: repeat the command");
    StoreError::Unavailable { doing: "was changed in part", reason }
}

/// Checks the running resources after a change.
pub(super) fn validate(replica: &Replica, replaced: &[Key], new: &[&Document]) -> Result<(), StoreError> {
    let result = replica.validation().run();
    let replaced: HashSet<&Key> = replaced.iter().collect();
    let kept = result.running().filter(|document| !replaced.contains(&document.key()));
    let mistakes: Vec<Mistake> = assemble(kept.chain(new.iter().copied())).mistakes;
    if mistakes.is_empty() { Ok(()) } else { Err(StoreError::Invalid(mistakes)) }
}

impl Store for EtcdStore {
    fn watch(&self) -> Result<mpsc::Receiver<StoreUpdate>, StoreError> {
        let (backend, keys) = (Arc::clone(&self.backend), self.keys.clone());
        Ok(follower::start(backend, keys, self.cache.clone(), self.health.clone(), self.seed))
    }

    fn health(&self) -> Option<watch::Receiver<StoreHealth>> {
        Some(self.health.subscribe())
    }

    fn load(&self) -> BoxFuture<'_, Result<Contents, StoreError>> {
        async {
            let replica = self.replica().await?;
            let documents = replica.documents();
            let validation = replica.validation();
            let result = tokio::task::spawn_blocking(move || validation.run()).await;
            Ok(Contents { documents, state: result.map_err(|_| StoreError::Ended)?.state })
        }
        .boxed()
    }

    fn put(
        &self,
        manifests: Vec<Manifest>,
        expected: Option<Revision>,
    ) -> BoxFuture<'_, Result<Revision, StoreError>> {
        async move {
            let edit = |replica: &Replica| {
                let replaced: Vec<Key> = manifests.iter().map(|manifest| manifest.document.key()).collect();
                let new: Vec<&Document> = manifests.iter().map(|manifest| &manifest.document).collect();
                validate(replica, &replaced, &new)?;
                let changes = manifests.iter().zip(&replaced).map(|(manifest, key)| KeyChange::Put {
                    key: self.keys.etcd_key(key),
                    value: manifest.text.clone().into_bytes(),
                });
                Ok(changes.collect())
            };
            self.change(expected, edit).await
        }
        .boxed()
    }

    fn delete(
        &self,
        keys: Vec<Key>,
        expected: Option<Revision>,
    ) -> BoxFuture<'_, Result<Revision, StoreError>> {
        async move {
            let edit = |replica: &Replica| {
                let distinct: HashSet<&Key> = keys.iter().collect();
                let missing = distinct.iter().find(|key| !replica.has(&self.keys.etcd_key(key)));
                if let Some(missing) = missing {
                    return Err(StoreError::NotFound((*missing).clone()));
                }
                validate(replica, &keys, &[])?;
                Ok(distinct
                    .into_iter()
                    .map(|key| KeyChange::Delete { key: self.keys.etcd_key(key) })
                    .collect())
            };
            self.change(expected, edit).await
        }
        .boxed()
    }
}
