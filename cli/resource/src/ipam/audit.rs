//! Audit of the blocks of all nodes.

use std::fmt;

use ipnet::IpNet;

use crate::{AffinityState, BlockAffinity, IpPool, Node};

/// A problem with a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockFinding {
    /// A block of a deleted node.
    Leaked {
        /// The affinity's name.
        affinity: String,
        /// The block.
        block: IpNet,
        /// The deleted node.
        node: String,
    },
    /// A block that overlaps one of another node.
    Overlap {
        /// The block.
        block: IpNet,
        /// Its node.
        node: String,
        /// The other block.
        other: IpNet,
        /// The other block's node.
        other_node: String,
    },
    /// A block that is in no pool.
    OutsidePools {
        /// The block.
        block: IpNet,
        /// Its node.
        node: String,
    },
    /// A block whose claim was not finished: neither owned nor free.
    Unfinished {
        /// The affinity's name.
        affinity: String,
        /// The block.
        block: IpNet,
        /// Its node.
        node: String,
    },
}

impl fmt::Display for BlockFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockFinding::Leaked { affinity, block, node } => write!(
                f,
                "{block} is held for node {node}, which is no more: routectl ipam release {block} (BlockAffinity {affinity})"
            ),
            BlockFinding::Overlap { block, node, other, other_node } => {
                write!(
                    f,
                    "{block} of node {node} overlaps {other} of node {other_node}: take one of them away"
                )
            }
            BlockFinding::OutsidePools { block, node } => {
                write!(f, "{block} of node {node} is in no IPPool: apply one that holds it, or take it away")
            }
            BlockFinding::Unfinished { affinity, block, node } => write!(
                f,
                "{block} is neither node {node}'s nor free, as its claim was not finished: routectl ipam release {block} \
                 (BlockAffinity {affinity})"
            ),
        }
    }
}

/// Returns all problems, in the order of the blocks.
pub fn audit(nodes: &[Node], pools: &[IpPool], affinities: &[BlockAffinity]) -> Vec<BlockFinding> {
    let mut findings = Vec::new();
    let mut blocks: Vec<(IpNet, &str)> = nodes
        .iter()
        .flat_map(|node| node.pod_cidrs.iter().map(|cidr| (*cidr, node.name.as_str())))
        .chain(affinities.iter().map(|affinity| (affinity.cidr, affinity.node.as_str())))
        .collect();
    blocks.sort();
    for affinity in affinities {
        let (name, block, node) = (affinity.name.clone(), affinity.cidr, affinity.node.clone());
        if !nodes.iter().any(|one| one.name == affinity.node) {
            findings.push(BlockFinding::Leaked { affinity: name, block, node });
        } else if affinity.state != AffinityState::Confirmed || affinity.deleted {
            findings.push(BlockFinding::Unfinished { affinity: name, block, node });
        }
    }
    // Prefixes nest or are disjoint, so a stack of those that contain the current one finds
    // every overlap. A borrowed address is a /32 of another node inside a block and is no
    // problem.
    let mut stack: Vec<(IpNet, &str)> = Vec::new();
    for (block, node) in &blocks {
        while stack.last().is_some_and(|(outer, _)| !outer.contains(block)) {
            stack.pop();
        }
        if let Some((other, other_node)) = stack.last() {
            let borrowed = block.prefix_len() == block.max_prefix_len() && block != other;
            if other_node != node && !borrowed {
                findings.push(BlockFinding::Overlap {
                    block: *block,
                    node: (*node).to_owned(),
                    other: *other,
                    other_node: (*other_node).to_owned(),
                });
            }
        }
        stack.push((*block, node));
    }
    for (block, node) in &blocks {
        let family = |pool: &&IpPool| pool.cidr.addr().is_ipv4() == block.addr().is_ipv4();
        let of_family: Vec<&IpPool> = pools.iter().filter(family).collect();
        if !of_family.is_empty() && !of_family.iter().any(|pool| pool.cidr.contains(block)) {
            findings.push(BlockFinding::OutsidePools { block: *block, node: (*node).to_owned() });
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Resource, parse_file};

    #[test]
    fn leaks_double_claims_unfinished_claims_and_blocks_outside_pools_are_found() {
        const HEAD: &str = "apiVersion: projectcalico.org/v3\n";
        let affinity = |name: &str, cidr: &str, node: &str, state: &str| {
            format!(
                "---\n{HEAD}kind: BlockAffinity\nmetadata: {{name: {name}}}\nspec: {{node: {node}, cidr: {cidr}, state: {state}}}\n"
            )
        };
        let text = format!(
            "{HEAD}kind: IPPool\nmetadata: {{name: p}}\nspec: {{cidr: 10.0.0.0/16}}\n---\n{HEAD}kind: Node\nmetadata: {{name: a}}\n\
             spec: {{podCIDRs: [10.0.0.0/26]}}\n---\n{HEAD}kind: Node\nmetadata: {{name: b}}\n"
        ) + &affinity("fine", "10.0.1.0/26", "b", "confirmed")
            + &affinity("borrowed", "10.0.1.7/32", "a", "confirmed")
            + &affinity("twice", "10.0.0.0/26", "b", "confirmed")
            + &affinity("leaked", "10.0.2.0/26", "gone", "confirmed")
            + &affinity("outside", "10.1.0.0/26", "a", "confirmed")
            + &affinity("pending", "10.0.3.0/26", "a", "pending");
        let parsed = parse_file("f", &text);
        assert_eq!(parsed.mistakes, []);
        let (mut nodes, mut pools, mut affinities) = (Vec::new(), Vec::new(), Vec::new());
        for document in parsed.documents {
            match document.resource {
                Resource::Node(node) => nodes.push(node),
                Resource::IpPool(pool) => pools.push(pool),
                Resource::BlockAffinity(affinity) => affinities.push(affinity),
                other => panic!("{other:?}"),
            }
        }
        let found: Vec<String> = audit(&nodes, &pools, &affinities).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "10.0.2.0/26 is held for node gone, which is no more: routectl ipam release 10.0.2.0/26 (BlockAffinity leaked)",
                "10.0.3.0/26 is neither node a's nor free, as its claim was not finished: routectl ipam release 10.0.3.0/26 (BlockAffinity pending)",
                "10.0.0.0/26 of node b overlaps 10.0.0.0/26 of node a: take one of them away",
                "10.1.0.0/26 of node a is in no IPPool: apply one that holds it, or take it away",
            ]
        );
    }
}
