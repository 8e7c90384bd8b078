//! Blocks of nodes that are no more, and whose turn it is to release them.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::AffinityRef;
use crate::Snapshot;

/// How much later the next node's turn is, should the one before it not do it.
const TURN: Duration = Duration::from_secs(10);

/// A block that is held for nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanedBlock {
    /// Its affinity and its node that is no more.
    pub affinity: AffinityRef,
    /// The block.
    pub block: IpNet,
}

/// Since when blocks have been held for nobody, as far as this node has seen.
#[derive(Clone, Debug, Default)]
pub struct OrphanedBlocks {
    since: BTreeMap<String, (OrphanedBlock, Instant)>,
}

impl OrphanedBlocks {
    /// Takes a look: affinities whose node is no more, from the moment that was first seen; a node that is back
    /// begins anew.
    pub fn observe(&mut self, snapshot: &Snapshot, now: Instant) {
        let is_there =
            |name: &str| snapshot.nodes.binary_search_by(|node| node.name.as_str().cmp(name)).is_ok();
        let mut before = std::mem::take(&mut self.since);
        for affinity in snapshot.affinities.iter().filter(|affinity| !is_there(&affinity.node)) {
            let reference = AffinityRef { name: affinity.name.clone(), node: affinity.node.clone() };
            let left = OrphanedBlock { affinity: reference, block: affinity.cidr };
            let since =
                before.remove(&affinity.name).filter(|(same, _)| *same == left).map(|(_, since)| since);
            self.since.insert(affinity.name.clone(), (left, since.unwrap_or(now)));
        }
    }

    /// Forgets since when: what was not seen all the time was perhaps not so all the time.
    pub fn forget(&mut self) {
        self.since.clear();
    }

    /// Returns whether nothing is held for nobody.
    pub fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    /// Those that it is `own`'s turn to release: `grace` after the node was gone, and a while later for each node
    /// that stands before it in an order that differs from block to block and is the same for everybody.
    pub fn due(&self, snapshot: &Snapshot, own: &str, grace: Duration, now: Instant) -> Vec<OrphanedBlock> {
        let is_due = |(left, since): &&(OrphanedBlock, Instant)| {
            let gone_for = now.saturating_duration_since(*since);
            // Most looks end here; whose turn it is takes a walk over all nodes.
            gone_for >= grace
                && turn(snapshot, own, &left.affinity.name)
                    .is_some_and(|turn| gone_for >= grace + TURN * turn)
        };
        self.since.values().filter(is_due).map(|(left, _)| left.clone()).collect()
    }
}

/// Returns the number of nodes come before `own` for an affinity; `None`: it is no node.
fn turn(snapshot: &Snapshot, own: &str, affinity: &str) -> Option<u32> {
    let place = |node: &str| {
        let mut hasher = DefaultHasher::new();
        (affinity, node).hash(&mut hasher);
        (hasher.finish(), node.to_owned())
    };
    let is_there = snapshot.nodes.iter().any(|node| node.name == own);
    let mine = is_there.then(|| place(own))?;
    let before = snapshot.nodes.iter().filter(|node| place(&node.name) < mine).count();
    u32::try_from(before).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{assemble, parse_file};

    fn cluster(nodes: &[&str], affinities: &[(&str, &str, &str)]) -> Snapshot {
        const HEAD: &str = "---\napiVersion: projectcalico.org/v3\n";
        let node = |name: &&str| format!("{HEAD}kind: Node\nmetadata: {{name: {name}}}\n");
        let affinity = |(name, cidr, node): &(&str, &str, &str)| {
            format!(
                "{HEAD}kind: BlockAffinity\nmetadata: {{name: {name}}}\nspec: {{node: {node}, cidr: {cidr}, state: confirmed}}\n"
            )
        };
        let text = nodes.iter().map(node).chain(affinities.iter().map(affinity)).collect::<String>();
        let parsed = parse_file("f", &text);
        assert_eq!(parsed.mistakes, []);
        assemble(&parsed.documents).snapshot
    }

    const GRACE: Duration = Duration::from_secs(300);

    #[test]
    fn each_block_has_one_node_that_is_first_and_the_others_follow_one_by_one() {
        let nodes = ["a", "b", "c", "d"];
        let all: Vec<(String, String)> =
            (0..40).map(|number| (format!("block-{number}"), format!("10.0.{number}.0/26"))).collect();
        let affinities: Vec<_> =
            all.iter().map(|(name, cidr)| (name.as_str(), cidr.as_str(), "gone")).collect();
        let snapshot = cluster(&nodes, &affinities);
        let now = Instant::now();
        let mut left = OrphanedBlocks::default();
        left.observe(&snapshot, now);
        let due = |own: &str, after: Duration| left.due(&snapshot, own, GRACE, now + after).len();
        for own in nodes {
            assert_eq!(due(own, GRACE - Duration::from_secs(1)), 0, "{own}");
        }
        for turn in 0..4u32 {
            let by_now: usize = nodes.iter().map(|own| due(own, GRACE + TURN * turn)).sum();
            assert_eq!(by_now, 40 * (turn as usize + 1), "turn {turn}");
        }
        // It is not always the same one's work.
        assert!(nodes.iter().all(|own| due(own, GRACE) > 0));
        assert_eq!(due("stranger", GRACE * 100), 0);
    }

    #[test]
    fn a_node_that_was_back_for_a_moment_has_the_whole_grace_again() {
        let block = [("x", "10.0.0.0/26", "gone")];
        let (without, with) = (cluster(&["a"], &block), cluster(&["a", "gone"], &block));
        let start = Instant::now();
        let mut left = OrphanedBlocks::default();
        left.observe(&without, start);
        left.observe(&with, start + GRACE / 2);
        assert!(left.is_empty());
        left.observe(&without, start + GRACE / 2);
        assert_eq!(left.due(&without, "a", GRACE, start + GRACE), []);
        assert_eq!(left.due(&without, "a", GRACE, start + GRACE * 3 / 2).len(), 1);
    }

    #[test]
    fn a_block_that_another_lost_node_has_taken_meanwhile_begins_anew() {
        let start = Instant::now();
        let mut left = OrphanedBlocks::default();
        left.observe(&cluster(&["a"], &[("x", "10.0.0.0/26", "gone")]), start);
        let later = cluster(&["a"], &[("x", "10.0.0.0/26", "other")]);
        left.observe(&later, start + GRACE);
        assert_eq!(left.due(&later, "a", GRACE, start + GRACE), []);
        assert_eq!(left.due(&later, "a", GRACE, start + GRACE * 2)[0].affinity.node, "other");
    }
}
