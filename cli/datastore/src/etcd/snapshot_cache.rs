//! The snapshot file in the state directory: the last valid state, for a start while the store is
//! unavailable.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::backend::{Listing, StoredValue};
use super::replica::{MAX_TOTAL_BYTES, SNAPSHOT};

/// The version of the file format. A file of another version is not read.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct SnapshotFile {
    version: u32,
    prefix: String,
    cluster_id: u64,
    revision: i64,
    resources: Vec<CachedResource>,
}

#[derive(Serialize, Deserialize)]
struct CachedResource {
    key: String,
    create_revision: i64,
    mod_revision: i64,
    text: String,
}

/// The snapshot file of one store.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotCache {
    directory: PathBuf,
    prefix: String,
}

/// An error of the snapshot file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// The file can't be used.
    #[error("{}: {reason}: it is not used", path.display())]
    Unusable {
        /// The snapshot file of one store.
        path: PathBuf,
        /// The reason.
        reason: UnusableSnapshot,
    },
    /// The file can't be written.
    #[error("{}: {source}: a start while the store is away will not have it; make stateDir writable", path.display())]
    Write {
        /// The snapshot file of one store.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The task that writes ended early.
    #[cfg(feature = "driver")]
    #[error("writing the snapshot: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// The reason why a snapshot can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnusableSnapshot {
    /// The file can't be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file is larger than any snapshot; the size in octets.
    #[error("larger than any snapshot ({0} bytes)")]
    TooLarge(u64),
    /// The file is not JSON of this format.
    #[error("not a snapshot ({0})")]
    Json(#[from] serde_json::Error),
    /// Another version wrote the file.
    #[error("of version {0}, this routed reads {VERSION}")]
    Version(u32),
    /// The file is of a store below another prefix.
    #[error("of the store below {found}, not {expected}")]
    OtherStore {
        /// The prefix in the file.
        found: String,
        /// The configured prefix.
        expected: String,
    },
}

impl SnapshotCache {
    /// Creates the access to the snapshot in `directory` of the store below `prefix`.
    pub(crate) fn new(directory: &Path, prefix: &str) -> Self {
        SnapshotCache { directory: directory.to_owned(), prefix: prefix.to_owned() }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(SNAPSHOT)
    }

    /// Reads the snapshot. Returns `None` if there is no file.
    ///
    /// # Errors
    /// The file exists and can't be used.
    pub(crate) fn read(&self) -> Result<Option<Listing>, SnapshotError> {
        let path = self.path();
        let fail = |reason: UnusableSnapshot| SnapshotError::Unusable { path: path.clone(), reason };
        let size = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error.into())),
        };
        // JSON escapes at most double the size.
        if size > 2 * MAX_TOTAL_BYTES as u64 {
            return Err(fail(UnusableSnapshot::TooLarge(size)));
        }
        let bytes = fs::read(&path).map_err(|error| fail(error.into()))?;
        let file: SnapshotFile = serde_json::from_slice(&bytes).map_err(|error| fail(error.into()))?;
        if file.version != VERSION {
            return Err(fail(UnusableSnapshot::Version(file.version)));
        }
        if file.prefix != self.prefix {
            return Err(fail(UnusableSnapshot::OtherStore {
                found: file.prefix,
                expected: self.prefix.clone(),
            }));
        }
        let stored = |kept: CachedResource| StoredValue {
            key: kept.key,
            value: kept.text.into_bytes(),
            create_revision: kept.create_revision,
            mod_revision: kept.mod_revision,
        };
        Ok(Some(Listing {
            cluster_id: file.cluster_id,
            revision: file.revision,
            entries: file.resources.into_iter().map(stored).collect(),
        }))
    }

    /// Replaces the snapshot. After a crash the file has the old or the new contents.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn write(&self, listing: Listing) -> Result<(), SnapshotError> {
        let kept = |stored: StoredValue| {
            let text = String::from_utf8(stored.value).ok()?;
            let StoredValue { key, create_revision, mod_revision, .. } = stored;
            Some(CachedResource { key, create_revision, mod_revision, text })
        };
        let file = SnapshotFile {
            version: VERSION,
            prefix: self.prefix.clone(),
            cluster_id: listing.cluster_id,
            revision: listing.revision,
            resources: listing.entries.into_iter().filter_map(kept).collect(),
        };
        let path = self.path();
        let fail = |source: std::io::Error| SnapshotError::Write { path: path.clone(), source };
        let bytes = serde_json::to_vec(&file).map_err(|error| fail(error.into()))?;
        let new = self.directory.join(format!(".{SNAPSHOT}.new"));
        fs::create_dir_all(&self.directory).map_err(fail)?;
        let write = || {
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            fs::File::open(&self.directory)?.sync_all()
        };
        write().map_err(fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        let stored = StoredValue {
            key: "/r/resources/v3/nodes/a".into(),
            value: b"x: \"\n\"".to_vec(),
            create_revision: 2,
            mod_revision: 3,
        };
        Listing { cluster_id: u64::MAX, revision: 7, entries: vec![stored] }
    }

    #[test]
    fn a_snapshot_is_read_back_and_one_of_another_store_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let cache = SnapshotCache::new(directory.path(), "/r");
        assert_eq!(cache.read().unwrap(), None);
        cache.write(listing()).unwrap();
        cache.write(listing()).unwrap();
        assert_eq!(cache.read().unwrap(), Some(listing()));
        assert!(
            SnapshotCache::new(directory.path(), "/other")
                .read()
                .unwrap_err()
                .to_string()
                .contains("below /r")
        );
    }

    #[test]
    fn a_torn_snapshot_and_one_of_another_version_are_named_and_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let cache = SnapshotCache::new(directory.path(), "/r");
        cache.write(listing()).unwrap();
        let whole = fs::read(cache.path()).unwrap();
        for end in 0..whole.len() {
            fs::write(cache.path(), &whole[..end]).unwrap();
            assert!(cache.read().unwrap_err().to_string().contains("not a snapshot"), "{end}");
        }
        let text = String::from_utf8(whole).unwrap().replace("\"version\":1", "\"version\":2");
        fs::write(cache.path(), text).unwrap();
        assert!(cache.read().unwrap_err().to_string().contains("of version 2"));
    }
}
