//! The passwords of sessions and the key of probes, each in a file of this node.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bgp::net::{Md5Key, PASSWORD_MAX, Password};
use tunnel::probe::packet::ProbeKey;

use crate::node_config::Plan;

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

/// Why probes have no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("probe key file {}: {reason}; write the same key into it on every node", path.display())]
struct ProbeKeyError {
    path: PathBuf,
    /// The operating system's error, or the rule that the key breaks.
    reason: String,
}

/// What was in the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passwords {
    /// Of sessions, by path.
    sessions: BTreeMap<PathBuf, Md5Key>,
    /// The probes' key, if there is to be one, or why there is none.
    probes: Option<(PathBuf, Result<ProbeKey, ProbeKeyError>)>,
}

impl Passwords {
    /// Reads the files that a plan names.
    pub(crate) fn of(plan: &Plan) -> Passwords {
        let paths = plan.peers.iter().filter_map(|peer| peer.peering.security.password_file.as_deref());
        Passwords::read(paths, plan.probe_key_file.as_deref())
    }

    pub(crate) fn read<'a>(paths: impl Iterator<Item = &'a Path>, probes: Option<&Path>) -> Passwords {
        let mut sessions = BTreeMap::new();
        for path in paths {
            if !sessions.contains_key(path) {
                sessions.insert(path.to_owned(), key(path));
            }
        }
        Passwords { sessions, probes: probes.map(|path| (path.to_owned(), probe_key(path))) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.probes.is_none()
    }

    pub(crate) fn again(&self) -> Passwords {
        let probes = self.probes.as_ref().map(|(path, _)| path.as_path());
        Passwords::read(self.sessions.keys().map(PathBuf::as_path), probes)
    }

    /// Gives each session its password, and the probes their key; what lacks what it should have is kept from opening.
    /// Says what that is.
    pub(crate) fn give(&self, plan: &mut Plan) -> Vec<String> {
        let mut problems = Vec::new();
        match self.probes.as_ref().map(|(_, key)| key) {
            Some(Ok(key)) => plan.tunnel.probing.key = Some(key.clone()),
            Some(Err(why)) => {
                plan.tunnel.probing.enabled = false;
                problems
                    .push(format!("no probes, so nodes that IP-in-IP does not reach are not noticed: {why}"));
            }
            None => {}
        }
        for peer in &mut plan.peers {
            let Some(path) = &peer.peering.security.password_file else { continue };
            let key = self.sessions.get(path).cloned().unwrap_or_default();
            if let Md5Key::Unknown(why) = &key {
                problems
                    .push(format!("no session with {} ({}): {why}", peer.peering.name, peer.peering.address));
            }
            peer.address.protection.key = key;
        }
        problems
    }
}

fn key(path: &Path) -> Md5Key {
    match read(path) {
        Ok(password) => Md5Key::Password(password),
        Err(error) => Md5Key::Unknown(format!("password file {}: {error}", path.display()).into()),
    }
}

fn probe_key(path: &Path) -> Result<ProbeKey, ProbeKeyError> {
    let fail =
        |reason: &dyn std::fmt::Display| ProbeKeyError { path: path.to_owned(), reason: reason.to_string() };
    let file = File::open(path).map_err(|error| fail(&error))?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(fail(&"is not a file"));
    }
    let mut octets = Vec::new();
    // Room for white space around the longest.
    file.take(ProbeKey::MOST as u64 + 16).read_to_end(&mut octets).map_err(|error| fail(&error))?;
    ProbeKey::new(&octets).map_err(|error| fail(&error))
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
        let password = |text: &[u8]| Md5Key::Password(Password::new(text).unwrap());
        assert_eq!(of(b"secret\n"), password(b"secret"));
        assert_eq!(of(b" two words \r\n"), password(b" two words "));
        assert_eq!(of(&[b'x'; 80]), password(&[b'x'; 80]));
        assert_eq!(of(&[&[b'x'; 80][..], b"\r\n"].concat()), password(&[b'x'; 80]));
        let wrong = |octets: &[u8], rule: &str| match of(octets) {
            Md5Key::Unknown(why) => assert!(why.contains(rule), "{why}"),
            key => panic!("{key:?}"),
        };
        wrong(b"", "is empty");
        wrong(b"\n", "is empty");
        wrong(&[b'x'; 81], "more than 80 octets");
        wrong(&[b'x'; 9999], "more than 80 octets");
        for (path, rule) in
            [(directory.path().join("none"), "No such file"), (directory.path().into(), "is not a file")]
        {
            assert!(matches!(key(&path), Md5Key::Unknown(why) if why.contains(rule)));
        }
    }
}
