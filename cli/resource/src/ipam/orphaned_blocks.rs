//! Blocks of deleted nodes, and the order in which the other nodes release them.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::AffinityRef;
use crate::Snapshot;

/// The interval between the turns of two nodes, in case the first does not release the block.
const TURN: Duration = Duration::from_secs(10);

/// A block of a deleted node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanedBlock {
    /// The affinity and the deleted node.
    pub affinity: AffinityRef,
    /// The block.
    pub block: IpNet,
}

/// All blocks of deleted nodes, with the time since which this node has observed each.
#[derive(Clone, Debug, Default)]
pub struct OrphanedBlocks {
    since: BTreeMap<String, (OrphanedBlock, Instant)>,
}

impl OrphanedBlocks {
    /// Updates the blocks from a snapshot. The time of a block starts again if its node was
    /// back in the meantime.
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

    /// Removes all blocks. Call it when the observation is interrupted: a node may have been
    /// back unobserved.
    pub fn forget(&mut self) {
        self.since.clear();
    }

    /// Returns whether no block is orphaned.
    pub fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    /// Returns the blocks that node `own` should release now.
    ///
    /// Each block has an order of the nodes, which all nodes compute alike. The first node is
    /// due `grace` after the deletion of the block's node, and each further one turn interval later.
    pub fn due(&self, snapshot: &Snapshot, own: &str, grace: Duration, now: Instant) -> Vec<OrphanedBlock> {
        let is_due = |(left, since): &&(OrphanedBlock, Instant)| {
            let gone_for = now.saturating_duration_since(*since);
            // The usual case ends here: the computation of the turn visits all nodes.
            gone_for >= grace
                && turn(snapshot, own, &left.affinity.name)
                    .is_some_and(|turn| gone_for >= grace + TURN * turn)
        };
        self.since.values().filter(is_due).map(|(left, _)| left.clone()).collect()
    }
}

/// Returns the number of nodes before `own` in the order of an affinity; `None` if `own` is not a
/// node.
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
    fn nodes_take_turns_in_an_order_that_differs_from_block_to_block() {
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
        // The work is distributed over the nodes.
        assert!(nodes.iter().all(|own| due(own, GRACE) > 0));
        assert_eq!(due("stranger", GRACE * 100), 0);
    }

    #[test]
    fn a_node_that_was_back_for_a_moment_has_the_full_grace_time_again() {
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
    fn a_block_that_moved_to_another_deleted_node_has_the_full_grace_time_again() {
        let start = Instant::now();
        let mut left = OrphanedBlocks::default();
        left.observe(&cluster(&["a"], &[("x", "10.0.0.0/26", "gone")]), start);
        let later = cluster(&["a"], &[("x", "10.0.0.0/26", "other")]);
        left.observe(&later, start + GRACE);
        assert_eq!(left.due(&later, "a", GRACE, start + GRACE), []);
        assert_eq!(left.due(&later, "a", GRACE, start + GRACE * 2)[0].affinity.node, "other");
    }
}
