//! The static peer table. A node's blocks become paths once BGP has had the time to provide better
//! ones, and rank below BGP paths from then on.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::node_config::StaticPaths;

/// A block and the address of its node.
type Path = (IpNet, IpAddr);

/// The nodes of the static table, each with the time at which it was added.
#[derive(Debug, Default)]
pub(crate) struct StaticTable {
    nodes: Vec<StaticPaths>,
    added: HashMap<String, Instant>,
    wait: Duration,
    /// The time for which [`StaticTable::paths`] last returned the paths.
    last_returned: Option<Instant>,
}

impl StaticTable {
    /// Sets the table. A new node's paths are due after `wait` (`fallbackAfter`; 0 without BGP).
    pub(crate) fn set(&mut self, nodes: Vec<StaticPaths>, wait: Duration, now: Instant) {
        self.added.retain(|name, _| nodes.iter().any(|node| node.node == *name));
        for node in &nodes {
            self.added.entry(node.node.clone()).or_insert(now);
        }
        (self.nodes, self.wait) = (nodes, wait);
    }

    /// Returns the paths that are due now, and those that are not yet due.
    pub(crate) fn paths(&mut self, now: Instant) -> (Vec<Path>, Vec<Path>) {
        self.last_returned = Some(now);
        let is_due = |node: &&StaticPaths| self.due(&node.node).is_some_and(|due| due <= now);
        let (due, awaited): (Vec<_>, Vec<_>) = self.nodes.iter().partition(is_due);
        let paths =
            |nodes: Vec<&StaticPaths>| nodes.iter().flat_map(|node| node.paths.iter().copied()).collect();
        (paths(due), paths(awaited))
    }

    /// Returns the time at which more paths become due than were last returned; it may be past.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let is_new = |due: &Instant| self.last_returned.is_none_or(|last| *due > last);
        self.nodes.iter().filter_map(|node| self.due(&node.node)).filter(is_new).min()
    }

    fn due(&self, node: &str) -> Option<Instant> {
        self.added.get(node).map(|added| *added + self.wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_nodes_paths_are_due_once_after_the_wait() {
        let node = |name: &str, block: &str| StaticPaths {
            node: name.into(),
            paths: vec![(block.parse().expect("a prefix"), IpAddr::from([192, 168, 0, 2]))],
        };
        // The deadline stays in the past until the paths are read.
        let wait = Duration::from_secs(1);
        let start = Instant::now().checked_sub(5 * wait).expect("a clock that runs for longer");
        let mut table = StaticTable::default();
        table.set(vec![node("b", "10.1.2.0/26")], wait, start);
        assert_eq!((table.paths(start).0.len(), table.paths(start).1.len()), (0, 1));
        assert_eq!(table.deadline(), Some(start + wait));
        let later = start + wait;
        table.set(vec![node("b", "10.1.2.0/26"), node("c", "10.1.3.0/26")], wait, later);
        assert_eq!(table.paths(later).0.len(), 1);
        assert_eq!(table.deadline(), Some(later + wait));
        assert_eq!((table.paths(later + wait).0.len(), table.deadline()), (2, None));
    }
}
