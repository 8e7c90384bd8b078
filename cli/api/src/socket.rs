//! The control sockets.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use tokio::net::UnixListener;

/// The mode of the sockets: owner and group may connect.
const MODE: u32 = 0o660;

/// The reason why a socket can't be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon listens on the path.
    #[error("{}: another routed listens here: stop it, or set `socket` to another path", .0.display())]
    Live(PathBuf),
    /// The path is not a socket.
    #[error("{}: is in the way and not a socket: remove it, or set `socket` to another path", .0.display())]
    NotASocket(PathBuf),
    /// The group does not exist.
    #[error("{}: no group {group:?}: make it, or set `readGroup` to another", path.display())]
    NoGroup {
        /// The socket's path.
        path: PathBuf,
        /// The group's name.
        group: String,
    },
    /// The socket can't be given to the group.
    #[error(
        "{}: can't be given to group {group:?} ({source}): routed's user has to be a member of it (SupplementaryGroups= \
         in its unit)", path.display()
    )]
    Group {
        /// The socket's path.
        path: PathBuf,
        /// The group's name.
        group: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The operating system refused.
    #[error("{}: can't listen here: {source}", path.display())]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Returns the path of the socket of readers, next to the control socket: `routed-read.sock` for
/// `routed.sock`.
pub fn read_socket(socket: &Path) -> PathBuf {
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    match socket.extension() {
        Some(extension) => socket.with_file_name(format!(
            "{}-read.{}",
            part(socket.file_stem()),
            extension.to_string_lossy()
        )),
        None => socket.with_file_name(format!("{}-read", part(socket.file_name()))),
    }
}

/// Binds `path` with mode 0660 for a group other than the daemon's own. Call inside a Tokio
/// runtime.
///
/// # Errors
/// The errors of [`bind`]; the group does not exist, or can't be given the socket.
pub fn bind_for_group(path: &Path, group: &str) -> Result<UnixListener, BindError> {
    let found = Group::from_name(group).ok().flatten();
    let group = found.ok_or_else(|| BindError::NoGroup { path: path.to_owned(), group: group.to_owned() })?;
    bind_as(path, Some(&group))
}

/// Binds `path` with mode 0660. A socket without a listener is replaced, and a missing directory is
/// created. Call inside a Tokio runtime.
///
/// # Errors
/// A live socket or another file has the path, or the operating system refuses.
pub fn bind(path: &Path) -> Result<UnixListener, BindError> {
    bind_as(path, None)
}

fn bind_as(path: &Path, group: Option<&Group>) -> Result<UnixListener, BindError> {
    let refused = |source: io::Error| BindError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {
            if StdUnixStream::connect(path).is_ok() {
                return Err(BindError::Live(path.to_owned()));
            }
        }
        Ok(_) => return Err(BindError::NotASocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(refused)?;
            }
        }
        Err(error) => return Err(refused(error)),
    }
    // The socket is bound under another name and renamed, so that no client finds it before its
    // mode is set, and a stale socket is replaced atomically.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let fresh = path.with_file_name(name);
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(refused)?;
    let assigned = match group {
        // Before the mode: the daemon's own group must not get access.
        Some(group) => chown(&fresh, None, Some(group.gid.as_raw())).map_err(|source| BindError::Group {
            path: path.to_owned(),
            group: group.name.clone(),
            source,
        }),
        None => Ok(()),
    };
    let placed = assigned.and_then(|()| {
        fs::set_permissions(&fresh, fs::Permissions::from_mode(MODE))
            .and_then(|()| fs::rename(&fresh, path))
            .map_err(refused)
    });
    if let Err(error) = placed {
        let _ = fs::remove_file(&fresh);
        return Err(error);
    }
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_read_socket_is_next_to_the_control_socket() {
        let read = |path: &str| read_socket(Path::new(path)).display().to_string();
        assert_eq!(read("/run/routed/routed.sock"), "/run/routed/routed-read.sock");
        assert_eq!(read("/run/x"), "/run/x-read");
    }
}
