//! The store's content as this node knows it: a listing, kept up with events. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::backend::{Digest, KeyEvent, Listing, StoredValue};
use super::keys::Keys;
use super::valid_subset::{Candidate, ValidSubset, valid_subset};
use crate::{Revision, StoreState};
use resource::{Document, Mistake, ParseCache, Warning, parse_file_cached};

/// Resources at which the whole is refused; a cluster of 5,000 nodes has some 15,000.
pub(crate) const MAX_ENTRIES: usize = 50_000;
/// Octets of all resources together at which the whole is refused.
pub(crate) const MAX_TOTAL_BYTES: usize = 256 * 1024 * 1024;
/// Octets at which one resource is refused; etcd itself takes no more than 1.5 MiB.
const MAX_VALUE_BYTES: usize = 256 * 1024;

/// A resource with its text.
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
    /// What last ran of it.
    ran: Option<ResourceVersion>,
}

/// What an event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplicaChange {
    /// Something is otherwise now.
    Changed,
    /// It was known.
    Unchanged,
    /// KeyEventStream were lost or came out of order: list again.
    OutOfSync,
}

/// Why a listing is not taken; what was known stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListingError {
    /// More than there can be.
    #[error(
        "more than {MAX_ENTRIES} resources or {MAX_TOTAL_BYTES} octets: what was known runs on; delete some"
    )]
    TooMuch,
    /// It is somebody else's, and there is nothing in it.
    #[error(
        "this etcd has nothing below {prefix} and is not the one that was known (cluster {cluster_id:x}, revision \
         {revision}): what was known runs on; restore it, or delete {SNAPSHOT} in stateDir and restart routed"
    )]
    Emptied {
        /// What the keys begin with.
        prefix: String,
        /// Which cluster says so.
        cluster_id: u64,
        /// Its revision.
        revision: i64,
    },
}

/// The name of the snapshot in the state directory.
pub(crate) const SNAPSHOT: &str = "snapshot.json";

/// All resources as they were last heard of.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    keys: Keys,
    entries: BTreeMap<String, Entry>,
    cluster_id: u64,
    revision: i64,
    bytes: usize,
}

impl Replica {
    /// Knows nothing yet.
    pub(crate) fn new(keys: Keys) -> Self {
        Replica { keys, entries: BTreeMap::new(), cluster_id: 0, revision: 0, bytes: 0 }
    }

    /// Returns the revision up to which everything is known.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// Takes a listing in place of what was known. What is there unchanged is not read again.
    pub(crate) fn relist(&mut self, listing: Listing) -> Result<ReplicaChange, ListingError> {
        let bytes: usize = listing.entries.iter().map(|stored| stored.value.len().min(MAX_VALUE_BYTES)).sum();
        if listing.entries.len() > MAX_ENTRIES || bytes > MAX_TOTAL_BYTES {
            return Err(ListingError::TooMuch);
        }
        let is_other = self.cluster_id != listing.cluster_id || listing.revision < self.revision;
        if listing.entries.is_empty() && !self.entries.is_empty() && is_other {
            let Listing { cluster_id, revision, .. } = listing;
            // Whatever comes next is not a later state of what is known: its revisions mean nothing.
            self.cluster_id = 0;
            return Err(ListingError::Emptied {
                prefix: self.keys.resources().to_owned(),
                cluster_id,
                revision,
            });
        }
        // Revisions of another cluster, or of an earlier state of this one, may say the same of other texts.
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

    /// Takes events that were seen together.
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
                // What is told again is known; anything else should have come earlier.
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

    /// Returns whether the same is known here.
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

    /// Returns the entries, the older first.
    fn by_age(&self) -> Vec<(&String, &Entry)> {
        let mut entries: Vec<(&String, &Entry)> = self.entries.iter().collect();
        entries.sort_by_key(|(key, entry)| (entry.create_revision, *key));
        entries
    }

    /// What is to be checked, and how to say what came of it; to be carried out elsewhere, as it takes a while.
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

    /// Notes what runs.
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

    /// Returns the documents as they are stored, the older first, each with its revision as `resourceVersion`.
    pub(crate) fn documents(&self) -> Vec<Document> {
        let versioned = |(_, entry): (&String, &Entry)| {
            let mut document = entry.current.as_ref().ok()?.document.as_ref().clone();
            document.set_resource_version(&entry.mod_revision.to_string());
            Some(document)
        };
        self.by_age().into_iter().filter_map(versioned).collect()
    }

    /// Returns whether there is such a key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// What ran, with its texts and revisions; 0 where what is stored now is another text.
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

/// What is to be checked against each other.
#[derive(Clone, Debug)]
pub(crate) struct Validation {
    revision: i64,
    keys: Vec<String>,
    candidates: Vec<Candidate>,
    mistakes: Vec<Mistake>,
    warnings: Vec<Warning>,
}

/// What runs.
#[derive(Clone, Debug)]
pub(crate) struct ValidationResult {
    keys: Vec<String>,
    runs: Vec<Option<Arc<Document>>>,
    pub(crate) state: StoreState,
}

impl ValidationResult {
    /// What runs, the older first.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Document> {
        self.runs.iter().flatten().map(AsRef::as_ref)
    }
}

impl Validation {
    /// Checks everything.
    pub(crate) fn run(self) -> ValidationResult {
        let Validation { revision, keys, candidates, mut mistakes, mut warnings } = self;
        let ValidSubset { snapshot, warnings: between, runs, refused } = valid_subset(&candidates);
        mistakes.extend(refused);
        warnings.extend(between);
        let revision = Revision(revision.to_string());
        ValidationResult { keys, runs, state: StoreState { snapshot, warnings, revision, refused: mistakes } }
    }
}
