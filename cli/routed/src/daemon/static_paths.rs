//! When the static peer table counts: a node's blocks become paths once BGP has had the time to
//! bring better ones, and stay below them from then on.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::node_config::StaticPaths;

/// A block and the address of its node.
type Path = (IpNet, IpAddr);

/// The nodes of the static table, each with the time it came.
#[derive(Debug, Default)]
pub(crate) struct Statics {
    nodes: Vec<StaticPaths>,
    seen: HashMap<String, Instant>,
    wait: Duration,
    /// For when the paths were last told.
    told: Option<Instant>,
}

impl Statics {
    /// Takes the table; a node new to it counts after `wait` (`fallbackAfter`, 0 where there is no BGP).
    pub(crate) fn set(&mut self, nodes: Vec<StaticPaths>, wait: Duration, now: Instant) {
        self.seen.retain(|name, _| nodes.iter().any(|node| node.node == *name));
        for node in &nodes {
            self.seen.entry(node.node.clone()).or_insert(now);
        }
        (self.nodes, self.wait) = (nodes, wait);
    }

    /// The paths that count now, and those that BGP has still time to bring better ones of.
    pub(crate) fn paths(&mut self, now: Instant) -> (Vec<Path>, Vec<Path>) {
        self.told = Some(now);
        let counts = |node: &&StaticPaths| self.due(&node.node).is_some_and(|due| due <= now);
        let (due, awaited): (Vec<_>, Vec<_>) = self.nodes.iter().partition(counts);
        let paths =
            |nodes: Vec<&StaticPaths>| nodes.iter().flat_map(|node| node.paths.iter().copied()).collect();
        (paths(due), paths(awaited))
    }

    /// When more paths count than were told last: that time may be past.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let untold = |due: &Instant| self.told.is_none_or(|told| *due > told);
        self.nodes.iter().filter_map(|node| self.due(&node.node)).filter(untold).min()
    }

    fn due(&self, node: &str) -> Option<Instant> {
        self.seen.get(node).map(|seen| *seen + self.wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_counts_after_the_wait_and_not_again_when_it_stays() {
        let node = |name: &str, block: &str| StaticPaths {
            node: name.into(),
            paths: vec![(block.parse().expect("a prefix"), IpAddr::from([192, 168, 0, 2]))],
        };
        // Over when it is asked: a time that nobody has dealt with is still to come.
        let wait = Duration::from_secs(1);
        let start = Instant::now().checked_sub(5 * wait).expect("a clock that runs for longer");
        let mut statics = Statics::default();
        statics.set(vec![node("b", "10.1.2.0/26")], wait, start);
        assert_eq!((statics.paths(start).0.len(), statics.paths(start).1.len()), (0, 1));
        assert_eq!(statics.deadline(), Some(start + wait));
        let later = start + wait;
        statics.set(vec![node("b", "10.1.2.0/26"), node("c", "10.1.3.0/26")], wait, later);
        assert_eq!(statics.paths(later).0.len(), 1);
        assert_eq!(statics.deadline(), Some(later + wait));
        assert_eq!((statics.paths(later + wait).0.len(), statics.deadline()), (2, None));
    }
}
