//! Files that others read while they are written: they see the old one or the new one, whole.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Everybody may read it.
const MODE: u32 = 0o644;

/// Makes `path` have this content, if it hasn't; says whether it was written.
///
/// # Errors
/// Those of the file system; the old content is there still.
pub(super) fn replace(path: &Path, content: &str) -> io::Result<bool> {
    if fs::read(path).is_ok_and(|old| old == content.as_bytes()) {
        return Ok(false);
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // Hidden, and by none of the names that container runtimes read.
    let new = directory.join(format!(".{}.new", name.to_string_lossy()));
    let written = write(&new, content).and_then(|()| fs::rename(&new, path));
    if let Err(error) = written {
        // What can't be written may not be there at all.
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    File::open(directory)?.sync_all()?;
    Ok(true)
}

fn write(path: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(path)?;
    // The process' umask may have taken something away.
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

/// Removes a file; one that isn't there is fine.
///
/// # Errors
/// Those of the file system.
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
    fn a_file_is_written_when_it_differs_and_whole_or_not_at_all() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("10-routed.conflist");
        assert!(replace(&path, "one").expect("written"));
        let first = fs::metadata(&path).expect("there");
        assert_eq!(first.mode() & 0o777, MODE);
        assert!(!replace(&path, "one").expect("the same"));
        assert_eq!(fs::metadata(&path).expect("there").ino(), first.ino(), "it was written anew");
        // Whoever has it open reads on what it was.
        let mut open = File::open(&path).expect("open");
        assert!(replace(&path, "two").expect("written"));
        let mut text = String::new();
        io::Read::read_to_string(&mut open, &mut text).expect("read");
        assert_eq!((text.as_str(), fs::read_to_string(&path).expect("read").as_str()), ("one", "two"));
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1, "nothing else is left");

        let in_the_way = directory.path().join("x");
        fs::create_dir_all(in_the_way.join("y")).expect("a directory");
        assert!(replace(&in_the_way, "three").is_err());
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 2, "nothing else is left");
        assert!(replace(&directory.path().join("none/x"), "").is_err());
        remove(&path).expect("removed");
        remove(&path).expect("there is nothing to remove");
    }
}
