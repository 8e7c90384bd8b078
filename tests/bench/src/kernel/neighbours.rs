//! The kernel's limits on neighbours, which all namespaces of the machine share.

use std::{fs, fs::File, thread};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

/// The limit that a mesh of some hundred nodes needs.
const WANTED: &str = "65536";
/// From the largest on, since none may be larger than the next.
const NAMES: [&str; 3] = ["gc_thresh3", "gc_thresh2", "gc_thresh1"];

/// NeighbourLimits limits, which are put back when this is dropped.
pub(super) struct NeighbourLimits {
    before: Vec<(&'static str, String)>,
}

impl NeighbourLimits {
    /// Raises them, where they are smaller.
    pub(super) fn new() -> Result<Self> {
        let before = outside(|| {
            NAMES
                .into_iter()
                .map(|name| {
                    let value = fs::read_to_string(path(name))?;
                    fs::write(path(name), WANTED)?;
                    Ok((name, value))
                })
                .collect::<Result<Vec<_>>>()
        });
        Ok(Self { before: before.context("can't raise net.ipv4.neigh.default.gc_thresh*")? })
    }
}

impl Drop for NeighbourLimits {
    fn drop(&mut self) {
        let before = std::mem::take(&mut self.before);
        // The smallest first.
        let back = outside(|| {
            before.iter().rev().try_for_each(|(name, value)| Ok(fs::write(path(name), value.trim())?))
        });
        if let Err(error) = back {
            eprintln!("net.ipv4.neigh.default.gc_thresh* can't be put back ({error:#}): {before:?}");
        }
    }
}

fn path(name: &str) -> String {
    format!("/proc/sys/net/ipv4/neigh/default/{name}")
}

/// Runs `work` in the namespace that the program was started in: the limits are visible there
/// alone.
fn outside<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(File::open("/proc/self/ns/net")?, CloneFlags::CLONE_NEWNET)?;
            work()
        });
        thread.join().map_err(|_| anyhow!("panicked (see above)"))?
    })
}
