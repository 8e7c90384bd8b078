//! Watches the password files and applies their changes.

use std::sync::Arc;
use std::time::Duration;

use datastore::StoreState;
use tokio::sync::{mpsc, watch};

use crate::daemon::Daemon;
use crate::node_config::password::Passwords;

/// How often files are looked at. Secrets are replaced in many ways, links to links among them, of which
/// the kernel tells too little.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

impl Daemon {
    /// Says when a password is another than it was: then [`Daemon::read_passwords`].
    pub(crate) fn password_changes(&self) -> mpsc::Receiver<()> {
        let (changed, changes) = mpsc::channel(1);
        tokio::spawn(watch(self.passwords.subscribe(), changed));
        changes
    }

    /// Arranges anew what depends on passwords.
    pub(crate) async fn read_passwords(&mut self) {
        let roster = self.roster.borrow().clone();
        let Some(revision) = roster.revision.clone() else { return };
        tracing::info!("a password file has changed");
        let (snapshot, warnings) = (roster.snapshot.clone(), roster.warnings.clone());
        self.arrange(StoreState { snapshot, warnings, revision, refused: roster.refused.clone() }).await;
    }
}

/// Says when a file holds something else than it did.
async fn watch(mut passwords: watch::Receiver<Arc<Passwords>>, changed: mpsc::Sender<()>) {
    loop {
        let known = passwords.borrow_and_update().clone();
        let news = if known.is_empty() {
            passwords.changed().await
        } else {
            // why: the interval at which files are looked at.
            tokio::time::timeout(LOOK_AGAIN, passwords.changed()).await.unwrap_or(Ok(()))
        };
        if news.is_err() {
            return;
        }
        if passwords.has_changed().unwrap_or(false) || known.is_empty() {
            continue;
        }
        let before = Arc::clone(&known);
        let now = tokio::task::spawn_blocking(move || before.again()).await;
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
        tokio::time::timeout(LOOK_AGAIN * 5, changed.recv()).await.unwrap().unwrap();
        sender.send_replace(now());
        std::fs::remove_file(&path).unwrap();
        tokio::time::timeout(LOOK_AGAIN * 5, changed.recv()).await.unwrap().unwrap();
    }
}
