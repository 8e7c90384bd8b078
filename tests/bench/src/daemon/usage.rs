//! CPU time and memory of processes, from /proc.

use std::{collections::BTreeMap, fs, ops::Add, time::Duration};

/// CPU time of a process and its children, by thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu(BTreeMap<u32, Duration>);

impl Cpu {
    /// Returns the CPU time of a process and its descendants (`schedstat`, in nanoseconds).
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let mut threads = BTreeMap::new();
        for pid in family(pid) {
            for thread in entries(&format!("/proc/{pid}/task")) {
                let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat"));
                let spent = text.ok().and_then(|text| text.split(' ').next()?.parse().ok());
                threads.insert(thread, Duration::from_nanos(spent.unwrap_or_default()));
            }
        }
        Self(threads)
    }

    /// Returns the CPU time between two measurements, of the threads that still exist.
    #[must_use]
    pub fn since(&self, before: &Self) -> Duration {
        let earlier = |thread| before.0.get(thread).copied().unwrap_or_default();
        self.0.iter().map(|(thread, spent)| spent.saturating_sub(earlier(thread))).sum()
    }
}

/// Resident memory of a process and its children, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Now (`VmRSS`).
    pub rss: u64,
    /// At most so far (`VmHWM`; each process's own peak, added up).
    pub peak: u64,
}

impl Memory {
    /// Returns the memory of a process and its descendants.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        family(pid)
            .into_iter()
            .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
            .map(|status| Memory { rss: kilobytes(&status, "VmRSS:"), peak: kilobytes(&status, "VmHWM:") })
            .fold(Memory::default(), Add::add)
    }
}

impl Add for Memory {
    type Output = Memory;

    fn add(self, other: Memory) -> Memory {
        Memory { rss: self.rss + other.rss, peak: self.peak + other.peak }
    }
}

/// The value of a field of /proc/PID/status, in bytes.
fn kilobytes(status: &str, field: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    value.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// A process and all below it.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(&pid) = all.get(next) {
        for thread in entries(&format!("/proc/{pid}/task")) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{thread}/children"));
            all.extend(
                children.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        next += 1;
    }
    all
}

/// The numbers among the names in a directory; none if it has gone.
fn entries(directory: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_as_cpu_time_and_memory() {
        let own = std::process::id();
        let before = Cpu::of(own);
        let began = std::time::Instant::now();
        let mut sum = 0u64;
        while began.elapsed() < Duration::from_millis(60) {
            sum = std::hint::black_box(sum + 1);
        }
        let spent = Cpu::of(own).since(&before);
        assert!(spent > Duration::from_millis(5), "{spent:?}");
        let memory = Memory::of(own);
        assert!(memory.rss > 100_000 && memory.peak >= memory.rss, "{memory:?}");
    }

    #[test]
    fn a_field_of_status_is_in_bytes() {
        assert_eq!(kilobytes("Name:\tbird\nVmHWM:\t   12 kB\nVmRSS:\t    8 kB\n", "VmHWM:"), 12 * 1024);
    }
}
