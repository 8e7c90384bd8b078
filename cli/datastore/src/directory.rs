//! Reads a directory of resource files.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Contents, Revision, StoreError, StoreState};
use resource::{
    Assembly, Document, MAX_FILE_BYTES, Mistake, ParseCache, ParsedFile, Warning, assemble, parse_file_cached,
};

/// The deepest nesting of directories.
const MAX_DEPTH: usize = 16;
/// The largest number of files and directories.
const MAX_ENTRIES: usize = 50_000;
/// The largest size of all files together, in bytes.
const MAX_TOTAL_BYTES: usize = 256 * 1024 * 1024;

/// A file with its parsed contents.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    /// The path including the directory, as mistakes name it.
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) parsed: ParsedFile,
}

/// All files below a directory, sorted by path, and the mistakes about the tree itself.
#[derive(Clone, Debug, Default)]
pub(super) struct DirectoryTree {
    pub(super) files: Vec<SourceFile>,
    /// Every directory to watch for changes.
    pub(super) directories: Vec<PathBuf>,
    pub(super) mistakes: Vec<Mistake>,
}

/// Reads every `*.yaml` and `*.yml` below `directory`.
///
/// Names that begin with `.` are ignored (files of editors and Kubernetes). Symbolic links are
/// followed, and each directory is read once. A file with the same text as in `previous` is not
/// parsed again.
pub(super) fn read(directory: &Path, previous: Vec<SourceFile>) -> DirectoryTree {
    read_cached(directory, previous, &ParseCache::default())
}

/// Returns the same, but documents that are known are recalled: what is asked of them is
/// [`DirectoryTree::loaded`] alone.
pub(super) fn read_cached(directory: &Path, previous: Vec<SourceFile>, cache: &ParseCache) -> DirectoryTree {
    let mut previous: HashMap<PathBuf, SourceFile> =
        previous.into_iter().map(|file| (file.path.clone(), file)).collect();
    let mut tree = DirectoryTree::default();
    let mut walk = DirectoryWalk { visited: HashSet::new(), entries: 0, found: Vec::new() };
    walk.directory(directory, 0, &mut tree);
    walk.found.sort();
    let mut total = 0;
    for path in walk.found {
        match read_file(&path) {
            Ok(None) => {}
            Ok(Some(text)) => {
                total += text.len();
                if total > MAX_TOTAL_BYTES {
                    let rule = format!("the files below hold more than {MAX_TOTAL_BYTES} bytes");
                    tree.mistakes.push(mistake(directory, rule));
                    break;
                }
                // The target of a symbolic link may be outside the watched
                // directories.
                if path.is_symlink()
                    && let Some(parent) =
                        fs::canonicalize(&path).ok().and_then(|to| to.parent().map(Path::to_owned))
                {
                    tree.directories.push(parent);
                }
                let file = match previous.remove(&path).filter(|file| file.text == text) {
                    Some(file) => file,
                    None => {
                        let parsed = parse_file_cached(&path.display().to_string(), &text, cache);
                        SourceFile { path, text, parsed }
                    }
                };
                tree.files.push(file);
            }
            Err((line, rule)) => tree.mistakes.push(Mistake { line, ..mistake(&path, rule) }),
        }
    }
    tree.directories.sort();
    tree.directories.dedup();
    tree
}

fn mistake(path: &Path, rule: String) -> Mistake {
    Mistake { file: path.display().to_string(), line: 0, field: String::new(), rule }
}

struct DirectoryWalk {
    visited: HashSet<PathBuf>,
    entries: usize,
    found: Vec<PathBuf>,
}

impl DirectoryWalk {
    fn directory(&mut self, directory: &Path, depth: usize, tree: &mut DirectoryTree) {
        let canonical = match fs::canonicalize(directory) {
            Ok(canonical) => canonical,
            Err(error) if error.kind() == io::ErrorKind::NotFound && depth == 0 => {
                let rule = "no such directory: create it, or correct datastore.file".to_owned();
                tree.mistakes.push(mistake(directory, rule));
                return;
            }
            Err(error) => {
                tree.mistakes.push(mistake(directory, format!("can't be read: {error}")));
                return;
            }
        };
        if !self.visited.insert(canonical) {
            return; // a symbolic link to a directory that has been read
        }
        if depth > MAX_DEPTH {
            tree.mistakes.push(mistake(directory, format!("is nested deeper than {MAX_DEPTH} directories")));
            return;
        }
        tree.directories.push(directory.to_owned());
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => {
                tree.mistakes.push(mistake(directory, format!("can't be read: {error}")));
                return;
            }
        };
        let mut below = Vec::new();
        for entry in entries.flatten() {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                if self.entries == MAX_ENTRIES + 1 {
                    let rule = format!("more than {MAX_ENTRIES} files and directories");
                    tree.mistakes.push(mistake(directory, rule));
                }
                return;
            }
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => below.push(path),
                // Any other *.yaml is read; what is not a regular file is refused
                // by name.
                _ if is_yaml => self.found.push(path),
                _ => {}
            }
        }
        below.sort();
        for path in below {
            self.directory(&path, depth + 1, tree);
        }
    }
}

/// Reads the text of a file. Returns `None` if it was deleted meanwhile. An error has a line (or 0)
/// and a rule.
fn read_file(path: &Path) -> Result<Option<String>, (u64, String)> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => return Ok(None),
        Err(error) => return Err((0, format!("can't be read: {error}"))),
    };
    if !metadata.is_file() {
        return Err((0, "is not a regular file".into()));
    }
    // One octet more than the file has: the same call then detects a file that has grown.
    let expected = usize::try_from(metadata.len()).unwrap_or(MAX_FILE_BYTES).min(MAX_FILE_BYTES);
    let mut bytes = Vec::with_capacity(expected + 1);
    let read =
        fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err((0, format!("can't be read: {error}"))),
        Ok(_) if bytes.len() > MAX_FILE_BYTES => Err((0, format!("must be at most {MAX_FILE_BYTES} bytes"))),
        Ok(_) => String::from_utf8(bytes).map(Some).map_err(|error| {
            let valid = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
            let newlines = valid.filter(|byte| **byte == b'\n').count() as u64;
            (newlines + 1, "is not UTF-8 text".into())
        }),
    }
}

impl DirectoryTree {
    /// Returns every document of every file, in the order of files and lines.
    pub(super) fn documents(&self) -> impl Iterator<Item = &Document> {
        self.files.iter().flat_map(|file| file.parsed.documents.iter())
    }

    /// Returns a hash of the files and texts.
    pub(super) fn revision(&self) -> Revision {
        let mut hasher = DefaultHasher::new();
        for file in &self.files {
            (&file.path, &file.text).hash(&mut hasher);
        }
        Revision(format!("{:016x}", hasher.finish()))
    }

    /// Returns the mistakes of the tree and of each file by itself.
    pub(super) fn file_mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes.clone();
        for file in &self.files {
            mistakes.extend(file.parsed.mistakes.iter().cloned());
            mistakes.extend(file.parsed.clusters.iter().map(|cluster| Mistake {
                file: cluster.origin.file.clone(),
                line: cluster.origin.line,
                field: "kind".into(),
                rule: "ClusterConfiguration is no resource: give it to `routectl apply -f`".into(),
            }));
        }
        mistakes
    }

    /// Returns all resources with their manifests, if they are valid as a whole.
    pub(super) fn contents(&self) -> Result<Contents, Vec<Mistake>> {
        let versioned = |document: &Document| {
            let mut document = document.clone();
            document.set_resource_version(&version(&document));
            document
        };
        Ok(Contents { state: self.state()?, documents: self.documents().map(versioned).collect() })
    }

    /// Returns the state, if the resources are valid as a whole.
    pub(super) fn state(&self) -> Result<StoreState, Vec<Mistake>> {
        let mut mistakes = self.file_mistakes();
        let Assembly { snapshot, mistakes: between, warnings } = assemble(self.documents());
        mistakes.extend(between);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let own = self.files.iter().flat_map(|file| file.parsed.warnings.iter().cloned());
        let warnings: Vec<Warning> = own.chain(warnings).collect();
        Ok(StoreState { snapshot, warnings, revision: self.revision(), refused: Vec::new() })
    }

    /// Converts the tree into a cache for the next reading.
    pub(super) fn into_parse_cache(self) -> ParseCache {
        let mut cache = ParseCache::default();
        for SourceFile { text, parsed, .. } in self.files {
            cache.insert(&text, parsed);
        }
        cache
    }
}

/// Returns a hash of the manifest, which serves as `resourceVersion`: a file has no revisions.
fn version(document: &Document) -> String {
    let mut hasher = DefaultHasher::new();
    document.manifest.to_string().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Returns a function that adds the operation and the path to an error of the operating system.
pub(super) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { doing, path, source }
}
