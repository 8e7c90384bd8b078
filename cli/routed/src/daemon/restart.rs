//! Detection of a daemon restart on a machine that has been up since the previous run. The kernel
//! has forwarded meanwhile, so peers retain this node's routes (RFC 4724), and End-of-RIB must not
//! be sent before all routes are advertised again.

use std::io;
use std::path::Path;
use std::time::Duration;

use bgp::{Families, PeerId};
use routing::actor::RibHandle;

/// The file in `stateDir` that identifies the boot of the previous run.
const FILE: &str = "boot-id";
/// The kernel's identifier of the current boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The time limit for peers that restart at the same time, after all other peers are done: two such
/// peers would wait for each other forever.
const RESTARTING_PEER_TIMEOUT: Duration = Duration::from_secs(45);

/// Returns the families whose forwarding state was preserved since the previous run, all or none,
/// and writes the boot ID for the next start.
pub(crate) fn preserved_families(state_dir: &Path) -> Families {
    let Ok(now) = std::fs::read_to_string(BOOT_ID) else { return Families::NONE };
    let file = state_dir.join(FILE);
    let before = std::fs::read_to_string(&file).ok();
    if before.as_deref() == Some(now.as_str()) {
        return Families::BOTH;
    }
    if let Err(error) = write_boot_id(state_dir, &file, &now) {
        tracing::warn!(
            file = %file.display(),
            %error,
            "a restart won't be recognised: peers may drop this node's routes then; make stateDir writable"
        );
    }
    Families::NONE
}

fn write_boot_id(state_dir: &Path, file: &Path, boot_id: &str) -> io::Result<()> {
    std::fs::create_dir_all(state_dir)?;
    let new = file.with_extension("new");
    std::fs::write(&new, boot_id)?;
    std::fs::rename(new, file)
}

/// Waits until this node has received the routes of its peers, at most `limit`.
pub(crate) async fn wait_until_caught_up(rib: RibHandle, peers: Vec<PeerId>, limit: Duration) {
    let all = async {
        let _ = rib.caught_up(peers.clone()).await;
        let _ = tokio::time::timeout(RESTARTING_PEER_TIMEOUT, rib.settled(peers)).await;
    };
    let _ = tokio::time::timeout(limit, all).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarding_is_preserved_only_after_an_earlier_start_in_the_same_boot() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(preserved_families(dir.path()), Families::NONE);
        assert_eq!(preserved_families(dir.path()), Families::BOTH);
        std::fs::write(dir.path().join(FILE), "another\n").expect("written");
        assert_eq!(preserved_families(dir.path()), Families::NONE);
        assert_eq!(preserved_families(dir.path()), Families::BOTH);
    }
}
