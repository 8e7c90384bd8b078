//! Watches the password files and applies their changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use datastore::StoreState;

use crate::daemon::Daemon;
use crate::node_config::password::Passwords;

/// The interval at which the files are read. Secrets are replaced in many ways, chains of symbolic
/// links among them, and inotify does not report all of them.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

impl Daemon {
    /// Returns a channel that receives whenever a password file has changed.
    /// [`Daemon::read_passwords`] applies the change.
    pub(crate) fn password_changes(&self) -> mpsc::Receiver<()> {
        let (changed, changes) = mpsc::channel(1);
        tokio::spawn(watch(self.passwords.subscribe(), changed));
        changes
    }

    /// Applies the resources again, with the passwords that the files contain now.
    pub(crate) async fn read_passwords(&mut self) {
        let state = self.state.borrow().clone();
        let Some(revision) = state.revision.clone() else { return };
        tracing::info!("a password file has changed");
        let (snapshot, warnings) = (state.snapshot.clone(), state.warnings.clone());
        self.apply_resources(StoreState { snapshot, warnings, revision, refused: state.refused.clone() })
            .await;
    }
}

/// Sends to `changed` when the contents of a file differ from what is in use.
async fn watch(mut passwords: watch::Receiver<Arc<Passwords>>, changed: mpsc::Sender<()>) {
    loop {
        let known = passwords.borrow_and_update().clone();
        let changed_files = if known.is_empty() {
            passwords.changed().await
        } else {
            // why: the interval at which the files are read
            tokio::time::timeout(POLL_INTERVAL, passwords.changed()).await.unwrap_or(Ok(()))
        };
        if changed_files.is_err() {
            return;
        }
        if passwords.has_changed().unwrap_or(false) || known.is_empty() {
            continue;
        }
        let before = Arc::clone(&known);
        let now = tokio::task::spawn_blocking(move || before.reread()).await;
        if now.is_ok_and(|now| now != *known) && changed.send(()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_of_a_password_file_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, "one").unwrap();
        let now = || Arc::new(Passwords::read([path.as_path()].into_iter(), None));
        let (sender, receiver) = watch::channel(Arc::new(Passwords::default()));
        let (changes, mut changed) = mpsc::channel(1);
        tokio::spawn(watch(receiver, changes));
        sender.send_replace(now());
        std::fs::write(&path, "two").unwrap();
        tokio::time::timeout(POLL_INTERVAL * 5, changed.recv()).await.unwrap().unwrap();
        sender.send_replace(now());
        std::fs::remove_file(&path).unwrap();
        tokio::time::timeout(POLL_INTERVAL * 5, changed.recv()).await.unwrap().unwrap();
    }
}
