//! Checks cheaply whether the kernel has all routes, or none.

use std::{fs, net::IpAddr, time::Duration};

use anyhow::{Context, Result, anyhow};
use tunnel::{kernel::query_reach, netlink::RequestSocket, resolve::Reach};

use crate::load::NextHopLoad;

/// Blocks that are looked up while the rest is not there: a lookup takes a microsecond, counting all some milliseconds.
const SAMPLES: u32 = 64;
/// The interval of the checks.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Watches the routes of some blocks in the calling thread's namespace.
pub(super) struct Watch {
    socket: RequestSocket,
    samples: Vec<IpAddr>,
    /// Prefixes of table main before.
    others: u64,
    blocks: u64,
}

impl Watch {
    /// Begins while none of the routes is there.
    pub(super) fn of(blocks: &NextHopLoad) -> Result<Self> {
        let count = blocks.blocks();
        let samples = (0..SAMPLES).map(|i| u64::from(i) * u64::from(count - 1) / u64::from(SAMPLES - 1));
        let samples = samples.map(|number| blocks.block(u32::try_from(number).unwrap_or(0)).into());
        let socket = RequestSocket::open().context("can't open a netlink socket")?;
        Ok(Self { socket, samples: samples.collect(), others: prefixes()?, blocks: count.into() })
    }

    /// Counts the present routes as not of the blocks: what a daemon installs at its start comes
    /// late.
    pub(super) fn begin_anew(&mut self) -> Result<()> {
        self.others = prefixes()?;
        Ok(())
    }

    /// Returns whether all routes are installed (`all`), or none.
    pub(super) fn is(&mut self, all: bool) -> Result<bool> {
        // From the last on: the first are written first, mostly.
        for address in self.samples.iter().rev() {
            let reach = query_reach(&mut self.socket, *address).map_err(|error| anyhow!("{error}"))?;
            if matches!(reach, Reach::Unreachable) == all {
                return Ok(false);
            }
        }
        Ok(prefixes()? == self.others + if all { self.blocks } else { 0 })
    }

    /// Returns how many of the routes are installed.
    pub(super) fn count(&self) -> Result<u64> {
        Ok(prefixes()?.saturating_sub(self.others))
    }
}

/// Returns the number of prefixes in table main of the calling thread's namespace.
///
/// # Errors
/// When /proc has no statistics of it (`CONFIG_IP_FIB_TRIE_STATS`).
fn prefixes() -> Result<u64> {
    const FILE: &str = "/proc/thread-self/net/fib_triestat";
    let text = fs::read_to_string(FILE)
        .with_context(|| format!("can't read {FILE}: the kernel has no CONFIG_IP_FIB_TRIE_STATS"))?;
    let mut main = false;
    for line in text.lines() {
        if line.ends_with(':') && !line.contains('\t') {
            main = line.trim() == "Main:";
        }
        if let (true, Some(count)) = (main, line.trim().strip_prefix("Prefixes:")) {
            return count.trim().parse().with_context(|| format!("{FILE}: {line:?}"));
        }
    }
    // A table without a route is not listed.
    Ok(0)
}
