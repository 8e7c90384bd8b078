//! Addresses of pods, which the CNI plugin `host-local` stores.

use std::net::IpAddr;
use std::path::Path;

/// The directory of `host-local`: a directory per network, with one file for each address in use.
const DIRECTORY: &str = "/var/lib/cni/networks";
/// The largest number of files that are read. A node has some hundred pods.
const MAX_FILES: usize = 100_000;

/// Returns the addresses that pods of this node have.
pub fn used_addresses() -> Vec<IpAddr> {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let networks = entries(Path::new(DIRECTORY)).map(|entry| entry.path());
    let files = networks.flat_map(|network| entries(&network).collect::<Vec<_>>()).take(MAX_FILES);
    files.filter_map(|file| file.file_name().to_str()?.replace('_', ":").parse().ok()).collect()
}
