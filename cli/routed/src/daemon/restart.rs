//! Whether this start follows an earlier run on a machine that has been up all the time: then the kernel
//! forwards as before, peers keep this node's routes (RFC 4724), and they must not be told too early
//! that they have all of them again.

use std::io;
use std::path::Path;
use std::time::Duration;

use bgp::{Families, PeerId};
use routing::actor::RibHandle;

/// The file in `stateDir` that a run leaves behind.
const FILE: &str = "boot-id";
/// The kernel's name for the time since the machine was started.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How long peers that have restarted too are waited for, once all others are there: each of two that
/// wait for the other would wait for ever.
const WAIT_FOR_RESTARTING: Duration = Duration::from_secs(45);

/// For which families forwarding has gone on since an earlier run, all or none; and leaves the mark for
/// the next start.
pub(crate) fn forwarding_since_before(state_dir: &Path) -> Families {
    let Ok(now) = std::fs::read_to_string(BOOT_ID) else { return Families::NONE };
    let file = state_dir.join(FILE);
    let before = std::fs::read_to_string(&file).ok();
    if before.as_deref() == Some(now.as_str()) {
        return Families::BOTH;
    }
    if let Err(error) = leave(state_dir, &file, &now) {
        tracing::warn!(
            file = %file.display(),
            %error,
            "a restart won't be recognised: peers may drop this node's routes then; make stateDir writable"
        );
    }
    Families::NONE
}

fn leave(state_dir: &Path, file: &Path, boot_id: &str) -> io::Result<()> {
    std::fs::create_dir_all(state_dir)?;
    let new = file.with_extension("new");
    std::fs::write(&new, boot_id)?;
    std::fs::rename(new, file)
}

/// Waits until this node knows what its peers know, at most `limit`.
pub(crate) async fn caught_up(rib: RibHandle, peers: Vec<PeerId>, limit: Duration) {
    let all = async {
        let _ = rib.caught_up(peers.clone()).await;
        let _ = tokio::time::timeout(WAIT_FOR_RESTARTING, rib.settled(peers)).await;
    };
    let _ = tokio::time::timeout(limit, all).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_start_after_an_earlier_one_since_the_machine_is_up_is_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(forwarding_since_before(dir.path()), Families::NONE);
        assert_eq!(forwarding_since_before(dir.path()), Families::BOTH);
        std::fs::write(dir.path().join(FILE), "another\n").expect("written");
        assert_eq!(forwarding_since_before(dir.path()), Families::NONE);
        assert_eq!(forwarding_since_before(dir.path()), Families::BOTH);
    }
}
