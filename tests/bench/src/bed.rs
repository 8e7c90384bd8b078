//! The place of a trial: a network namespace and a directory, both removed when it ends.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use testbed::Namespace;

/// The daemon's address. It is on a device whose subnet holds all clients, so that every
/// daemon takes them for neighbours on a link.
pub const DAEMON: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);

/// The beginning of the directories' names, before the process id.
const PREFIX: &str = "routed-bench.";

/// Removes directories of processes that were killed; namespaces and daemons went with them.
fn remove_orphans() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('.').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // Another process may remove it at the same time.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A namespace that the calling thread is in, and a directory.
///
/// Everything in 10.0.0.0/8 is local there: clients bind any source address in it and need neither
/// interfaces nor neighbour entries (127.0.0.0/8, which works so by itself, is refused by BIRD).
pub struct Bed {
    directory: TempDir,
}

impl Bed {
    /// Runs `work` in a new namespace, on a thread of its own; programs and sockets that it opens are in it too.
    ///
    /// # Errors
    /// Without the privilege (run as root), without `ip`, and those of `work`.
    pub fn with<T: Send>(work: impl FnOnce(&Bed) -> Result<T> + Send) -> Result<T> {
        let outcome = Namespace::scoped(|| {
            remove_orphans();
            let prefix = format!("{PREFIX}{}.", std::process::id());
            let directory = tempfile::Builder::new().prefix(&prefix).tempdir()?;
            let bed = Bed { directory };
            bed.wire()?;
            work(&bed)
        });
        outcome.context("can't make a network namespace: run this as root")?
    }

    fn wire(&self) -> Result<()> {
        // Daemons that drop to a user of their own must reach their sockets in here.
        fs::set_permissions(self.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        self.ip("link set lo up")?;
        // A veth pair has carrier; a dummy device would do, but not every kernel has it.
        self.ip("link add bench0 type veth peer name bench1")?;
        self.ip("link set bench1 up")?;
        self.ip(&format!("address add {DAEMON}/8 dev bench0"))?;
        self.ip("link set bench0 up")?;
        self.ip("route add local 10.0.0.0/8 dev lo")?;
        Ok(())
    }

    /// Runs `ip` with these words, separated by blanks, in the calling thread's namespace.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn ip(&self, words: &str) -> Result<String> {
        let output = Command::new("ip")
            .args(words.split_whitespace())
            .output()
            .context("can't run ip: install iproute2")?;
        if !output.status.success() {
            bail!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A path in the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The directory, which everybody may write to.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file in the directory, with its parent directories; returns its path.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))?;
        Ok(path)
    }
}
