//! The embedded store: a directory of YAML files.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use tokio::sync::{Mutex, mpsc};

use super::directory::{self, DirectoryTree, io_error};
use super::edit::{self, FileChanges};
use super::{Contents, Manifest, Revision, Store, StoreError, StoreState, StoreUpdate, directory_watch};
use resource::{Key, Mistake, ParsedFile};

/// A store of the YAML files below a directory.
#[derive(Clone, Debug)]
pub struct FileStore {
    directory: PathBuf,
    /// The lock of the writer: changes are made one after the other.
    writing: Arc<Mutex<()>>,
    /// The files that [`FileStore::read`] read, for the watch that follows it at the start.
    previous: Arc<std::sync::Mutex<DirectoryTree>>,
}

impl FileStore {
    /// Creates a store of the files in `directory`.
    ///
    /// # Errors
    /// The directory is missing, not a directory or not readable. The mistake names the remedy.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, Mistake> {
        let directory = directory.into();
        let refuse = |rule: String| Mistake {
            file: directory.display().to_string(),
            line: 0,
            field: String::new(),
            rule,
        };
        match fs::metadata(&directory) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(refuse("is not a directory: correct datastore.file".into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(refuse("no such directory: create it, or correct datastore.file".into()));
            }
            Err(error) => return Err(refuse(format!("can't be read: {error}"))),
        }
        Ok(FileStore { directory, writing: Arc::default(), previous: Arc::default() })
    }

    /// Reads all files synchronously, for the start and for `--check`.
    ///
    /// # Errors
    /// Every mistake in every file.
    pub fn read(&self) -> Result<StoreState, Vec<Mistake>> {
        let tree = directory::read(&self.directory, Vec::new());
        let state = tree.state();
        if let Ok(mut previous) = self.previous.lock() {
            *previous = tree;
        }
        state
    }

    /// Parses every file by itself, without the rules between resources.
    pub fn parse(&self) -> ParsedFile {
        let tree = directory::read(&self.directory, Vec::new());
        ParsedFile {
            mistakes: tree.file_mistakes(),
            documents: tree.documents().cloned().collect(),
            clusters: Vec::new(),
            warnings: tree.files.into_iter().flat_map(|file| file.parsed.warnings).collect(),
        }
    }

    /// Applies a change to the present files and writes them.
    async fn change(
        &self,
        expected: Option<Revision>,
        edit: impl FnOnce(&Path, &DirectoryTree) -> Result<FileChanges, StoreError> + Send + 'static,
    ) -> Result<Revision, StoreError> {
        let _writing = self.writing.lock().await;
        let directory = self.directory.clone();
        let work = move || {
            let tree = directory::read(&directory, Vec::new());
            if let Some(expected) = expected
                && expected != tree.revision()
            {
                return Err(StoreError::Conflict { expected });
            }
            let changes = edit(&directory, &tree)?;
            edit::verify(&changes)?;
            write(&changes)?;
            Ok(directory::read(&directory, tree.files).revision())
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Ended)?
    }
}

impl Store for FileStore {
    fn watch(&self) -> Result<mpsc::Receiver<StoreUpdate>, StoreError> {
        let previous =
            self.previous.lock().map(|mut previous| std::mem::take(&mut *previous)).unwrap_or_default();
        directory_watch::start(self.directory.clone(), previous, Arc::clone(&self.writing))
    }

    fn load(&self) -> BoxFuture<'_, Result<Contents, StoreError>> {
        let directory = self.directory.clone();
        Box::pin(async move {
            let work =
                move || directory::read(&directory, Vec::new()).contents().map_err(StoreError::Invalid);
            tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Ended)?
        })
    }

    fn put(
        &self,
        manifests: Vec<Manifest>,
        expected: Option<Revision>,
    ) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(self.change(expected, move |directory, tree| edit::put(directory, tree, &manifests)))
    }

    fn delete(
        &self,
        keys: Vec<Key>,
        expected: Option<Revision>,
    ) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(self.change(expected, move |_, tree| edit::delete(tree, &keys)))
    }
}

/// Writes all new texts to temporary files, then renames them, then deletes files: after a crash
/// every file has either its old or its new contents.
fn write(changes: &FileChanges) -> Result<(), StoreError> {
    let mut ready = Vec::new();
    for (path, text) in changes {
        if let Some(text) = text {
            // For a symbolic link the target is replaced, not the link.
            let target = if path.exists() { fs::canonicalize(path) } else { Ok(path.clone()) };
            let target = target.map_err(io_error("finding the file", path))?;
            ready.push((TemporaryFile::write(&target, text)?, target));
        }
    }
    for (mut temporary, target) in ready {
        fs::rename(&temporary.path, &target).map_err(io_error("replacing the file", &target))?;
        temporary.renamed = true;
        sync_directory(&target)?;
    }
    for (path, _) in changes.iter().filter(|(_, text)| text.is_none()) {
        fs::remove_file(path).map_err(io_error("deleting the file", path))?;
        sync_directory(path)?;
    }
    Ok(())
}

fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::File::open(parent).and_then(|directory| directory.sync_all()).map_err(io_error("syncing", parent))
}

/// A temporary file, which is deleted when dropped unless it was renamed.
struct TemporaryFile {
    path: PathBuf,
    renamed: bool,
}

impl TemporaryFile {
    fn write(target: &Path, text: &str) -> Result<Self, StoreError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        // Readers ignore names with a leading dot.
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!(".routed-{}-{number}.tmp", std::process::id());
        let temporary = TemporaryFile { path: target.with_file_name(name), renamed: false };
        let fail = || io_error("writing", &temporary.path);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&temporary.path)
            .map_err(io_error("creating", &temporary.path))?;
        if let Ok(metadata) = fs::metadata(target) {
            file.set_permissions(metadata.permissions()).map_err(fail())?;
        }
        file.write_all(text.as_bytes()).map_err(fail())?;
        file.sync_all().map_err(fail())?;
        Ok(temporary)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if !self.renamed {
            // A failure is harmless: readers ignore the file.
            let _ = fs::remove_file(&self.path);
        }
    }
}
