//! Atomic replacement of files: a reader sees either the old or the new contents.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The mode of written files: readable for everyone.
const MODE: u32 = 0o644;

/// Replaces the contents of `path` if they differ. Returns whether the file was written.
///
/// # Errors
/// Errors of the file system. The old contents are unchanged.
pub(super) fn replace(path: &Path, content: &str) -> io::Result<bool> {
    if fs::read(path).is_ok_and(|old| old == content.as_bytes()) {
        return Ok(false);
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // A hidden name without an extension that container runtimes read.
    let new = directory.join(format!(".{}.new", name.to_string_lossy()));
    let written = write(&new, content).and_then(|()| fs::rename(&new, path));
    if let Err(error) = written {
        // A partially written file must not remain.
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    File::open(directory)?.sync_all()?;
    Ok(true)
}

fn write(path: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(path)?;
    // The process' umask may have removed permissions.
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

/// Removes a file. A missing file is no error.
///
/// # Errors
/// Errors of the file system.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_atomically_when_it_differs() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("10-routed.conflist");
        assert!(replace(&path, "one").expect("written"));
        let first = fs::metadata(&path).expect("there");
        assert_eq!(first.mode() & 0o777, MODE);
        assert!(!replace(&path, "one").expect("the same"));
        assert_eq!(fs::metadata(&path).expect("there").ino(), first.ino(), "the file was written again");
        // An open file keeps the old contents.
        let mut open = File::open(&path).expect("open");
        assert!(replace(&path, "two").expect("written"));
        let mut text = String::new();
        io::Read::read_to_string(&mut open, &mut text).expect("read");
        assert_eq!((text.as_str(), fs::read_to_string(&path).expect("read").as_str()), ("one", "two"));
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1, "nothing else is left");

        let occupied = directory.path().join("x");
        fs::create_dir_all(occupied.join("y")).expect("a directory");
        assert!(replace(&occupied, "three").is_err());
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 2, "nothing else is left");
        assert!(replace(&directory.path().join("none/x"), "").is_err());
        remove(&path).expect("removed");
        remove(&path).expect("there is nothing to remove");
    }
}
