//! The replica: the contents of the store, from a listing and the events after it. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::backend::{Digest, KeyEvent, Listing, StoredValue};
use super::keys::Keys;
use super::valid_subset::{Candidate, ValidSubset, valid_subset};
use crate::{Revision, StoreState};
use resource::{Document, Mistake, ParseCache, Warning, parse_file_cached};

/// The largest number of resources. A cluster of 5,000 nodes has about 15,000.
pub(crate) const MAX_ENTRIES: usize = 50_000;
/// The largest size of all resources together, in octets.
pub(crate) const MAX_TOTAL_BYTES: usize = 256 * 1024 * 1024;
/// The largest size of one resource, in octets. The limit of etcd is 1.5 MiB.
const MAX_VALUE_BYTES: usize = 256 * 1024;

/// A version of a resource, with its text.
#[derive(Clone, Debug)]
pub(crate) struct ResourceVersion {
    pub(crate) document: Arc<Document>,
    pub(crate) text: Arc<str>,
}

#[derive(Clone, Debug)]
struct Entry {
    create_revision: i64,
    mod_revision: i64,
    bytes: usize,
    current: Result<ResourceVersion, Vec<Mistake>>,
    warnings: Vec<Warning>,
    /// The version that ran last.
    ran: Option<ResourceVersion>,
}

/// The effect of a listing or of events on the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplicaChange {
    /// A resource has changed.
    Changed,
    /// No resource has changed.
    Unchanged,
    /// Events were lost or came out of order. A new listing is required.
    OutOfSync,
}

/// The reason why a listing is refused. The replica does not change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListingError {
    /// The listing exceeds the limits.
    #[error(
        "more than {MAX_ENTRIES} resources or {MAX_TOTAL_BYTES} octets: what was known runs on; delete some"
    )]
    TooMuch,
    /// The listing is empty and comes from another or restored cluster.
    #[error(
        "this etcd has nothing below {prefix} and is not the one that was known (cluster {cluster_id:x}, revision \
         {revision}): what was known runs on; restore it, or delete {SNAPSHOT} in stateDir and restart routed"
    )]
    Emptied {
        /// The prefix of the keys.
        prefix: String,
        /// The ID of the cluster.
        cluster_id: u64,
        /// Its revision.
        revision: i64,
    },
}

/// The name of the snapshot in the state directory.
pub(crate) const SNAPSHOT: &str = "snapshot.json";

/// The replica of all resources.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    keys: Keys,
    entries: BTreeMap<String, Entry>,
    cluster_id: u64,
    revision: i64,
    bytes: usize,
}

impl Replica {
    /// Creates an empty replica.
    pub(crate) fn new(keys: Keys) -> Self {
        Replica { keys, entries: BTreeMap::new(), cluster_id: 0, revision: 0, bytes: 0 }
    }

    /// Returns the revision of the replica: all changes up to it are included.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// Replaces the contents by a listing. Unchanged resources are not parsed again.
    pub(crate) fn relist(&mut self, listing: Listing) -> Result<ReplicaChange, ListingError> {
        let bytes: usize = listing.entries.iter().map(|stored| stored.value.len().min(MAX_VALUE_BYTES)).sum();
        if listing.entries.len() > MAX_ENTRIES || bytes > MAX_TOTAL_BYTES {
            return Err(ListingError::TooMuch);
        }
        let is_other = self.cluster_id != listing.cluster_id || listing.revision < self.revision;
        if listing.entries.is_empty() && !self.entries.is_empty() && is_other {
            let Listing { cluster_id, revision, .. } = listing;
            // The next listing is not comparable with the present contents.
            self.cluster_id = 0;
            return Err(ListingError::Emptied {
                prefix: self.keys.resources().to_owned(),
                cluster_id,
                revision,
            });
        }
        // In another cluster, or an earlier state of this one, the same revision may have
        // another text.
        let comparable = self.cluster_id == listing.cluster_id && listing.revision >= self.revision;
        let mut before = std::mem::take(&mut self.entries);
        let mut change = ReplicaChange::Unchanged;
        self.bytes = 0;
        for stored in listing.entries {
            let key = stored.key.clone();
            match before.remove(&key) {
                Some(entry) if comparable && entry.mod_revision == stored.mod_revision => {
                    self.bytes += entry.bytes;
                    self.entries.insert(key, entry);
                }
                old => {
                    change = ReplicaChange::Changed;
                    self.insert(stored, old);
                }
            }
        }
        if !before.is_empty() {
            change = ReplicaChange::Changed;
        }
        (self.cluster_id, self.revision) = (listing.cluster_id, listing.revision);
        Ok(change)
    }

    /// Applies a batch of events.
    pub(crate) fn apply(&mut self, events: Vec<KeyEvent>) -> ReplicaChange {
        let known = self.revision;
        let mut change = ReplicaChange::Unchanged;
        for event in events {
            let (key, revision) = match &event {
                KeyEvent::Put(stored) => (&stored.key, stored.mod_revision),
                KeyEvent::Delete { key, mod_revision } => (key, *mod_revision),
            };
            let has = self.entries.get(key).map(|entry| entry.mod_revision);
            if revision <= known || revision < self.revision {
                // A repeated event is included already. Any other should have come
                // earlier.
                let is_repeated = match (&event, has) {
                    (_, Some(has)) if has > revision => true,
                    (KeyEvent::Put(_), Some(has)) => has == revision,
                    (KeyEvent::Put(_), None) => false,
                    (KeyEvent::Delete { .. }, has) => has.is_none(),
                };
                if is_repeated {
                    continue;
                }
                return ReplicaChange::OutOfSync;
            }
            self.revision = revision;
            change = ReplicaChange::Changed;
            match event {
                KeyEvent::Put(stored) => {
                    let old = self.remove(&stored.key);
                    self.insert(stored, old);
                }
                KeyEvent::Delete { key, .. } => _ = self.remove(&key),
            }
        }
        if self.entries.len() > MAX_ENTRIES || self.bytes > MAX_TOTAL_BYTES {
            ReplicaChange::OutOfSync
        } else {
            change
        }
    }

    /// Returns whether the replica has the digest.
    pub(crate) fn agrees(&self, digest: &Digest) -> bool {
        let newest = self.entries.values().map(|entry| entry.mod_revision).max().unwrap_or(0);
        let count = i64::try_from(self.entries.len()).unwrap_or(i64::MAX);
        self.cluster_id == digest.cluster_id && (count, newest) == (digest.count, digest.newest)
    }

    fn remove(&mut self, key: &str) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.bytes -= entry.bytes;
        Some(entry)
    }

    fn insert(&mut self, stored: StoredValue, old: Option<Entry>) {
        let (current, warnings) = self.read(&stored.key, &stored.value);
        let bytes = stored.value.len().min(MAX_VALUE_BYTES);
        self.bytes += bytes;
        let StoredValue { key, create_revision, mod_revision, .. } = stored;
        let ran = old.and_then(|old| old.ran);
        self.entries.insert(key, Entry { create_revision, mod_revision, bytes, current, warnings, ran });
    }

    fn read(&self, key: &str, value: &[u8]) -> (Result<ResourceVersion, Vec<Mistake>>, Vec<Warning>) {
        let place = Keys::place(key);
        let refuse = |line: u64, field: &str, rule: String| {
            (Err(vec![Mistake { file: place.clone(), line, field: field.to_owned(), rule }]), Vec::new())
        };
        let Some(wanted) = self.keys.resource_key(key) else {
            return refuse(
                0,
                "",
                "is no resource's key (PREFIX/resources/v3/KIND/NAME): delete it with etcdctl".into(),
            );
        };
        if value.len() > MAX_VALUE_BYTES {
            return refuse(0, "", format!("must be at most {MAX_VALUE_BYTES} bytes (got {})", value.len()));
        }
        let Ok(text) = std::str::from_utf8(value) else { return refuse(0, "", "is not UTF-8 text".into()) };
        let mut parsed = parse_file_cached(&place, text, &ParseCache::default());
        if !parsed.mistakes.is_empty() {
            return (Err(parsed.mistakes), Vec::new());
        }
        if parsed.documents.len() != 1 || !parsed.clusters.is_empty() {
            return refuse(0, "", "must be one resource".into());
        }
        let Some(document) = parsed.documents.pop() else {
            return refuse(0, "", "must be one resource".into());
        };
        let found = document.key();
        if found != wanted {
            let rule = format!(
                "must be the key's (got {} {:?}, its key says {} {:?})",
                found.kind.name(),
                found.name,
                wanted.kind.name(),
                wanted.name
            );
            return refuse(document.line("metadata.name"), "metadata.name", rule);
        }
        (Ok(ResourceVersion { document: Arc::new(document), text: text.into() }), parsed.warnings)
    }

    /// Returns the entries, older ones first.
    fn by_age(&self) -> Vec<(&String, &Entry)> {
        let mut entries: Vec<(&String, &Entry)> = self.entries.iter().collect();
        entries.sort_by_key(|(key, entry)| (entry.create_revision, *key));
        entries
    }

    /// Returns the validation of the present contents. It takes time and should run on a
    /// blocking thread.
    pub(crate) fn validation(&self) -> Validation {
        let mut validation = Validation {
            revision: self.revision,
            keys: Vec::new(),
            candidates: Vec::new(),
            mistakes: Vec::new(),
            warnings: Vec::new(),
        };
        for (key, entry) in self.by_age() {
            validation.warnings.extend(entry.warnings.iter().cloned());
            let before = entry.ran.as_ref().map(|ran| Arc::clone(&ran.document));
            let candidate = match &entry.current {
                Ok(version) => {
                    let document = Arc::clone(&version.document);
                    let before = before.filter(|before| !Arc::ptr_eq(before, &document));
                    Some(Candidate { document, before })
                }
                Err(mistakes) => {
                    validation.mistakes.extend(mistakes.iter().cloned().map(|mut mistake| {
                        if before.is_some() {
                            mistake.rule.push_str("; the version before runs on");
                        }
                        mistake
                    }));
                    before.map(|document| Candidate { document, before: None })
                }
            };
            if let Some(candidate) = candidate {
                validation.keys.push(key.clone());
                validation.candidates.push(candidate);
            }
        }
        validation
    }

    /// Records the versions that run.
    pub(crate) fn record(&mut self, result: &ValidationResult) {
        for (key, document) in result.keys.iter().zip(&result.runs) {
            let (Some(entry), Some(document)) = (self.entries.get_mut(key), document) else { continue };
            if let Ok(version) = &entry.current
                && Arc::ptr_eq(&version.document, document)
            {
                entry.ran = Some(version.clone());
            }
        }
    }

    /// Returns the stored documents, older ones first, each with its revision as
    /// `resourceVersion`.
    pub(crate) fn documents(&self) -> Vec<Document> {
        let versioned = |(_, entry): (&String, &Entry)| {
            let mut document = entry.current.as_ref().ok()?.document.as_ref().clone();
            document.set_resource_version(&entry.mod_revision.to_string());
            Some(document)
        };
        self.by_age().into_iter().filter_map(versioned).collect()
    }

    /// Returns whether the key exists.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Returns the versions that ran last, with texts and revisions. The revision is 0 if the
    /// stored text is another.
    pub(crate) fn ran(&self) -> impl Iterator<Item = StoredValue> {
        self.entries.iter().filter_map(|(key, entry)| {
            let ran = entry.ran.as_ref()?;
            let is_current =
                entry.current.as_ref().is_ok_and(|version| Arc::ptr_eq(&version.document, &ran.document));
            let (create_revision, mod_revision) =
                (entry.create_revision, if is_current { entry.mod_revision } else { 0 });
            Some(StoredValue {
                key: key.clone(),
                value: ran.text.as_bytes().to_vec(),
                create_revision,
                mod_revision,
            })
        })
    }
}

/// The validation of all resources against each other.
#[derive(Clone, Debug)]
pub(crate) struct Validation {
    revision: i64,
    keys: Vec<String>,
    candidates: Vec<Candidate>,
    mistakes: Vec<Mistake>,
    warnings: Vec<Warning>,
}

/// The result of a validation.
#[derive(Clone, Debug)]
pub(crate) struct ValidationResult {
    keys: Vec<String>,
    runs: Vec<Option<Arc<Document>>>,
    pub(crate) state: StoreState,
}

impl ValidationResult {
    /// Returns the documents that run, older ones first.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Document> {
        self.runs.iter().flatten().map(AsRef::as_ref)
    }
}

impl Validation {
    /// Runs the validation.
    pub(crate) fn run(self) -> ValidationResult {
        let Validation { revision, keys, candidates, mut mistakes, mut warnings } = self;
        let ValidSubset { snapshot, warnings: between, runs, refused } = valid_subset(&candidates);
        mistakes.extend(refused);
        warnings.extend(between);
        let revision = Revision(revision.to_string());
        ValidationResult { keys, runs, state: StoreState { snapshot, warnings, revision, refused: mistakes } }
    }
}
