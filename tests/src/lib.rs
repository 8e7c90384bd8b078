//! Code that the test programs share.

pub mod capture;
pub mod cluster;
pub mod etcd;
pub mod interop;
pub mod malformed;
pub mod route_monitor;
pub mod streams;

use std::path::PathBuf;

/// Returns the directory of independent test material: `CORPUS`, or `../shared/corpus` next to the
/// workspace.
///
/// # Panics
/// When it is not there: a test without its material is not passed.
pub fn corpus() -> PathBuf {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let path = std::env::var_os("CORPUS").map_or(default, PathBuf::from);
    assert!(path.is_dir(), "no corpus at {}: set CORPUS to its directory", path.display());
    path
}

/// Octets from their hexadecimal form; white space doesn't matter.
///
/// # Panics
/// On anything else.
pub fn hex(text: &str) -> Vec<u8> {
    let digit = |c: u8| (c as char).to_digit(16).expect("a hexadecimal digit");
    let digits: Vec<u8> = text.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    assert!(digits.len().is_multiple_of(2), "whole octets");
    let pairs = digits.chunks(2);
    pairs.map(|pair| pair.iter().fold(0, |octet, c| octet << 4 | digit(*c)) as u8).collect()
}
