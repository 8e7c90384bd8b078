//! The passwords of sessions and the key of probes, each in a file on this node.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bgp::net::{Md5Key, PASSWORD_MAX, Password};
use tunnel::probe::packet::ProbeKey;

use crate::node_config::NodeConfig;

/// An error of a password file.
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

/// An error of the probe key file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("probe key file {}: {reason}; write the same key into it on every node", path.display())]
struct ProbeKeyError {
    path: PathBuf,
    /// The operating system's error, or the rule that the key breaks.
    reason: String,
}

/// The contents of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passwords {
    /// Passwords of sessions, by path.
    sessions: BTreeMap<PathBuf, Md5Key>,
    /// The path of the probe key file with the key or its error; `None` without such a file.
    probes: Option<(PathBuf, Result<ProbeKey, ProbeKeyError>)>,
}

impl Passwords {
    /// Reads the files that a configuration names.
    pub(crate) fn read_for(node_config: &NodeConfig) -> Passwords {
        let paths =
            node_config.peers.iter().filter_map(|peer| peer.peering.security.password_file.as_deref());
        Passwords::read(paths, node_config.probe_key_file.as_deref())
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

    pub(crate) fn reread(&self) -> Passwords {
        let probes = self.probes.as_ref().map(|(path, _)| path.as_path());
        Passwords::read(self.sessions.keys().map(PathBuf::as_path), probes)
    }

    /// Sets the passwords of the sessions and the key of the probes in a configuration. A session
    /// without its password stays closed, and probes without their key stay disabled; each is
    /// returned as one line.
    pub(crate) fn apply_to(&self, node_config: &mut NodeConfig) -> Vec<String> {
        let mut problems = Vec::new();
        match self.probes.as_ref().map(|(_, key)| key) {
            Some(Ok(key)) => node_config.tunnel.probing.key = Some(key.clone()),
            Some(Err(error)) => {
                node_config.tunnel.probing.enabled = false;
                problems.push(format!(
                    "no probes, so nodes that IP-in-IP does not reach are not noticed: {error}"
                ));
            }
            None => {}
        }
        for peer in &mut node_config.peers {
            let Some(path) = &peer.peering.security.password_file else { continue };
            let key = self.sessions.get(path).cloned().unwrap_or_default();
            if let Md5Key::Unknown(error) = &key {
                problems.push(format!(
                    "no session with {} ({}): {error}",
                    peer.peering.name, peer.peering.address
                ));
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
    // The limit leaves room for white space around the longest key.
    file.take(ProbeKey::MOST as u64 + 16).read_to_end(&mut octets).map_err(|error| fail(&error))?;
    ProbeKey::new(&octets).map_err(|error| fail(&error))
}

/// Reads a password: the contents of the file without the end of the line.
fn read(path: &Path) -> Result<Password, PasswordError> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(PasswordError::NotAFile);
    }
    let mut octets = Vec::new();
    // The limit leaves room for an end of line after the longest password.
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
    fn a_password_is_the_line_of_its_file_and_other_contents_are_refused() {
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
            Md5Key::Unknown(error) => assert!(error.contains(rule), "{error}"),
            key => panic!("{key:?}"),
        };
        wrong(b"", "is empty");
        wrong(b"\n", "is empty");
        wrong(&[b'x'; 81], "more than 80 octets");
        wrong(&[b'x'; 9999], "more than 80 octets");
        for (path, rule) in
            [(directory.path().join("none"), "No such file"), (directory.path().into(), "is not a file")]
        {
            assert!(matches!(key(&path), Md5Key::Unknown(error) if error.contains(rule)));
        }
    }
}
