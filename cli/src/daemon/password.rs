//! The passwords of sessions, each in a file of this node.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bgp::net::{Key, PASSWORD_MAX, Password};
use tokio::sync::{mpsc, watch};

use super::compose::Daemon;
use super::plan::PeerPlan;
use crate::store::Loaded;

/// How often files are looked at. Secrets are replaced in many ways, links to links among them, of which
/// the kernel tells too little.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
enum PasswordError {
    #[error("{0}: write the session's password into it, readable by routed, or remove passwordFile")]
    Unreadable(#[from] io::Error),
    #[error("is not a file: write the session's password into a file")]
    NotAFile,
    #[error("is empty: write the session's password into it, or remove passwordFile")]
    Empty,
    #[error(
        "holds more than {PASSWORD_MAX} octets, which is all that TCP-MD5 takes: choose a shorter password"
    )]
    TooLong,
}

/// What was in the files, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Passwords(BTreeMap<PathBuf, Key>);

impl Passwords {
    /// Reads the files of some sessions.
    pub(super) fn of(peers: &[PeerPlan]) -> Passwords {
        let paths = peers.iter().filter_map(|peer| peer.peering.security.password_file.as_deref());
        Passwords::read(paths)
    }

    fn read<'a>(paths: impl Iterator<Item = &'a Path>) -> Passwords {
        let mut found = BTreeMap::new();
        for path in paths {
            if !found.contains_key(path) {
                found.insert(path.to_owned(), key(path));
            }
        }
        Passwords(found)
    }

    fn again(&self) -> Passwords {
        Passwords::read(self.0.keys().map(PathBuf::as_path))
    }

    /// Gives each session its password; one without what it should have is kept from opening. Says which
    /// those are.
    pub(super) fn give(&self, peers: &mut [PeerPlan]) -> Vec<String> {
        let mut problems = Vec::new();
        for peer in peers {
            let Some(path) = &peer.peering.security.password_file else { continue };
            let key = self.0.get(path).cloned().unwrap_or_default();
            if let Key::Unknown(why) = &key {
                problems
                    .push(format!("no session with {} ({}): {why}", peer.peering.name, peer.peering.address));
            }
            peer.address.protection.key = key;
        }
        problems
    }
}

fn key(path: &Path) -> Key {
    match read(path) {
        Ok(password) => Key::Password(password),
        Err(error) => Key::Unknown(format!("password file {}: {error}", path.display()).into()),
    }
}

/// A password is what the file holds but for the end of its line.
fn read(path: &Path) -> Result<Password, PasswordError> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(PasswordError::NotAFile);
    }
    let mut octets = Vec::new();
    // Room for a line's end beyond the longest.
    file.take(PASSWORD_MAX as u64 + 3).read_to_end(&mut octets)?;
    let octets = octets.strip_suffix(b"\n").unwrap_or(&octets);
    let octets = octets.strip_suffix(b"\r").unwrap_or(octets);
    if octets.is_empty() {
        return Err(PasswordError::Empty);
    }
    Password::new(octets).ok_or(PasswordError::TooLong)
}

impl Daemon {
    /// Says when a password is another than it was: then [`Daemon::read_passwords`].
    pub(super) fn password_changes(&self) -> mpsc::Receiver<()> {
        let (changed, changes) = mpsc::channel(1);
        tokio::spawn(watch(self.passwords.subscribe(), changed));
        changes
    }

    /// Arranges anew what depends on passwords.
    pub(super) async fn read_passwords(&mut self) {
        let roster = self.roster.borrow().clone();
        let Some(revision) = roster.revision.clone() else { return };
        tracing::info!("a password file has changed");
        let (snapshot, warnings) = (roster.snapshot.clone(), roster.warnings.clone());
        self.arrange(Loaded { snapshot, warnings, revision }).await;
    }
}

/// Says when a file holds something else than it did.
async fn watch(mut passwords: watch::Receiver<Arc<Passwords>>, changed: mpsc::Sender<()>) {
    loop {
        let known = passwords.borrow_and_update().clone();
        let news = if known.0.is_empty() {
            passwords.changed().await
        } else {
            // why: the interval at which files are looked at.
            tokio::time::timeout(LOOK_AGAIN, passwords.changed()).await.unwrap_or(Ok(()))
        };
        if news.is_err() {
            return;
        }
        if passwords.has_changed().unwrap_or(false) || known.0.is_empty() {
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

    #[test]
    fn a_password_is_the_line_of_its_file_and_what_is_wrong_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        let of = |octets: &[u8]| {
            std::fs::write(&path, octets).unwrap();
            key(&path)
        };
        let password = |text: &[u8]| Key::Password(Password::new(text).unwrap());
        assert_eq!(of(b"secret\n"), password(b"secret"));
        assert_eq!(of(b" two words \r\n"), password(b" two words "));
        assert_eq!(of(&[b'x'; 80]), password(&[b'x'; 80]));
        assert_eq!(of(&[&[b'x'; 80][..], b"\r\n"].concat()), password(&[b'x'; 80]));
        let wrong = |octets: &[u8], rule: &str| match of(octets) {
            Key::Unknown(why) => assert!(why.contains(rule), "{why}"),
            key => panic!("{key:?}"),
        };
        wrong(b"", "is empty");
        wrong(b"\n", "is empty");
        wrong(&[b'x'; 81], "more than 80 octets");
        wrong(&[b'x'; 9999], "more than 80 octets");
        for (path, rule) in
            [(directory.path().join("none"), "No such file"), (directory.path().into(), "is not a file")]
        {
            assert!(matches!(key(&path), Key::Unknown(why) if why.contains(rule)));
        }
    }

    #[tokio::test]
    async fn a_file_that_changes_is_told_of() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, "one").unwrap();
        let now = || Arc::new(Passwords::read([path.as_path()].into_iter()));
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
