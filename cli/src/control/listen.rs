//! The control socket.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Owner and group may speak to the daemon.
const MODE: u32 = 0o660;

/// Why the control socket can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A daemon answers there.
    #[error("{}: another routed listens here: stop it, or set `socket` to another path", .0.display())]
    Live(PathBuf),
    /// Something else has the name.
    #[error("{}: is in the way and not a socket: remove it, or set `socket` to another path", .0.display())]
    NotASocket(PathBuf),
    /// The operating system refused.
    #[error("{}: can't listen here: {source}", path.display())]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
}

/// Listens at `path` with mode 0660. A socket that nobody answers is replaced; its directory is
/// made if it is missing. Call inside a Tokio runtime.
///
/// # Errors
/// A live socket or another file is there, or the operating system refuses.
pub fn bind(path: &Path) -> Result<UnixListener, BindError> {
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
    // Bound under another name and renamed, so that no one meets it before it has its mode, and
    // the stale one is replaced at once.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let fresh = path.with_file_name(name);
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(refused)?;
    let placed =
        fs::set_permissions(&fresh, fs::Permissions::from_mode(MODE)).and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = placed {
        let _ = fs::remove_file(&fresh);
        return Err(refused(error));
    }
    Ok(listener)
}
