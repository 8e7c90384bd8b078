//! Arguments `-f`: files of resources, directories of them, and standard input.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::{Failure, output};
use api::ResourceFile;
use resource::{MAX_FILE_BYTES, Mistake, parse_file};

/// The deepest nesting of directories.
const MAX_DEPTH: usize = 16;
/// The largest number of files of one command.
const MAX_FILES: usize = 10_000;
/// The largest size of all files together in bytes, the limit of one request to the daemon.
const MAX_TOTAL_BYTES: usize = 4 * MAX_FILE_BYTES;

/// Required files.
#[derive(Debug, Args)]
pub(super) struct Files {
    /// A file of YAML or JSON documents, a directory of such files, or `-` for standard input.
    /// Repeatable.
    #[arg(short, long = "filename", alias = "file", required = true, value_name = "FILE|DIR")]
    file: Vec<PathBuf>,
    #[command(flatten)]
    how: FileOptions,
}

/// Optional files, an alternative to names.
#[derive(Debug, Args)]
pub(super) struct OptionalFiles {
    /// A file that names resources, a directory of such files, or `-` for standard input.
    /// Repeatable.
    #[arg(short, long = "filename", alias = "file", value_name = "FILE|DIR", conflicts_with = "kind")]
    file: Vec<PathBuf>,
    #[command(flatten)]
    how: FileOptions,
}

/// Options for directories and empty files.
#[derive(Debug, Args)]
struct FileOptions {
    /// Read directories recursively.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Accept files and directories without resources.
    #[arg(long)]
    skip_empty: bool,
}

impl Files {
    /// Reads the files. Returns `None` if they have no resources and `--skip-empty` is set.
    pub(super) fn read(&self) -> Result<Option<Vec<ResourceFile>>, Failure> {
        self.how.read(&self.file)
    }

    /// Reads the files, empty ones included.
    pub(super) fn texts(&self) -> Result<Vec<ResourceFile>, Failure> {
        self.how.texts(&self.file)
    }
}

impl OptionalFiles {
    /// Reads the files as [`Files::read`] does.
    pub(super) fn read(&self) -> Result<Option<Vec<ResourceFile>>, Failure> {
        self.how.read(&self.file)
    }
}

impl FileOptions {
    /// Reads all files. Refuses the sizes that the daemon would refuse, with the user's file
    /// names.
    fn read(&self, paths: &[PathBuf]) -> Result<Option<Vec<ResourceFile>>, Failure> {
        let files = self.texts(paths)?;
        let (mut mistakes, mut holds) = (Vec::new(), false);
        for file in &files {
            let parsed = parse_file(&file.name, &file.text);
            holds |= !parsed.documents.is_empty() || !parsed.clusters.is_empty();
            mistakes.extend(parsed.mistakes);
        }
        if !mistakes.is_empty() {
            return Err(Failure::Mistakes(mistakes));
        }
        if !holds && self.skip_empty {
            return Ok(None);
        }
        if !holds {
            let file = paths.iter().map(|path| name(path)).collect::<Vec<_>>().join(", ");
            let rule = "holds no resource".to_owned();
            return Err(Failure::Mistakes(vec![Mistake { file, line: 0, field: String::new(), rule }]));
        }
        Ok(Some(files))
    }

    fn texts(&self, paths: &[PathBuf]) -> Result<Vec<ResourceFile>, Failure> {
        if paths.iter().filter(|path| is_stdin(path)).count() > 1 {
            return Err(Failure::Usage("-f - can be given once".into()));
        }
        let mut walk = FileWalk {
            recursive: self.recursive,
            seen: HashSet::new(),
            found: Vec::new(),
            below: Vec::new(),
        };
        for path in paths {
            if !is_stdin(path) && path.is_dir() {
                walk.directory(path, 0).map_err(Failure::Io)?;
            } else {
                walk.found.push(path.clone());
            }
        }
        for directory in &walk.below {
            eprintln!("{}: not read: -R reads what is in directories below", output::clean(&name(directory)));
        }
        let mut files = Vec::new();
        let mut total = 0;
        for path in &walk.found {
            let file = read_file(path).map_err(Failure::Io)?;
            total += file.text.len();
            if total > MAX_TOTAL_BYTES {
                let error =
                    anyhow::anyhow!("more than {MAX_TOTAL_BYTES} bytes together: give fewer files at once");
                return Err(Failure::Io(error));
            }
            files.push(file);
        }
        Ok(files)
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn name(path: &Path) -> String {
    if is_stdin(path) { "stdin".into() } else { path.display().to_string() }
}

/// The state of a walk through directories.
struct FileWalk {
    recursive: bool,
    /// The directories that were read, so that a symbolic link to one is not followed.
    seen: HashSet<PathBuf>,
    /// The files, sorted within each directory.
    found: Vec<PathBuf>,
    /// The directories that were not read.
    below: Vec<PathBuf>,
}

impl FileWalk {
    fn directory(&mut self, directory: &Path, depth: usize) -> anyhow::Result<()> {
        let place = || directory.display().to_string();
        anyhow::ensure!(depth <= MAX_DEPTH, "{}: nested deeper than {MAX_DEPTH} directories", place());
        if !self.seen.insert(fs::canonicalize(directory).with_context(place)?) {
            return Ok(());
        }
        let mut below = Vec::new();
        let mut here = Vec::new();
        for entry in fs::read_dir(directory).with_context(place)? {
            let path = entry.with_context(place)?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if hidden {
                continue; // editors' and Kubernetes' own
            }
            let extension = path.extension().and_then(|extension| extension.to_str());
            if path.is_dir() {
                below.push(path);
            } else if matches!(extension, Some("yaml" | "yml" | "json")) {
                here.push(path);
            }
        }
        here.sort();
        below.sort();
        self.found.append(&mut here);
        anyhow::ensure!(self.found.len() <= MAX_FILES, "{}: more than {MAX_FILES} files", place());
        if !self.recursive {
            self.below.append(&mut below);
            return Ok(());
        }
        below.iter().try_for_each(|path| self.directory(path, depth + 1))
    }
}

/// Reads a file, or standard input for `-`, up to the largest size of a file.
fn read_file(path: &Path) -> anyhow::Result<ResourceFile> {
    let mut bytes = Vec::new();
    let limit = MAX_FILE_BYTES as u64 + 1;
    let name = name(path);
    if is_stdin(path) {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).context("stdin")?;
    } else {
        let file = fs::File::open(path).with_context(|| name.clone())?;
        file.take(limit).read_to_end(&mut bytes).with_context(|| name.clone())?;
    }
    // One byte more than the limit is kept, so that the parser reports the limit.
    let text = String::from_utf8(bytes).with_context(|| name.clone())?;
    Ok(ResourceFile { name, text })
}
