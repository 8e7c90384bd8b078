//! Choice of the next block for a node.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use ipnet::IpNet;

use super::count_blocks;
use crate::{BlockAffinity, IpPool, Node, Selector, Snapshot};

/// The largest number of blocks of one pool that a search examines. An IPv6 pool can have more.
const MAX_LOOKED_AT: u128 = 1 << 20;

/// A block to be claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextBlock {
    /// The block.
    pub block: IpNet,
    /// The name of its pool.
    pub pool: String,
    /// The block's present affinity, of a deleted node.
    pub reclaimed: Option<AffinityRef>,
}

/// The name of an affinity and its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AffinityRef {
    /// `metadata.name`.
    pub name: String,
    /// `spec.node`.
    pub node: String,
}

/// The error that every pool for a node is full.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no block is left for node {node:?} in pool {}: apply another IPPool, or see `routectl ipam check`", pools.join(", "))]
pub struct PoolExhausted {
    /// The node.
    pub node: String,
    /// The pools that the node may take blocks from.
    pub pools: Vec<String>,
}

/// Returns the pools of an address family that a node may take blocks from.
pub fn eligible_pools<'a>(snapshot: &'a Snapshot, node: &Node, v4: bool) -> Vec<&'a IpPool> {
    let is_for = |pool: &&IpPool| {
        pool.cidr.addr().is_ipv4() == v4
            && !pool.disabled
            && pool.for_workloads
            && pool.assignment_mode == "Automatic"
            && Selector::parse(&pool.node_selector).is_ok_and(|selector| selector.matches(&node.labels))
    };
    snapshot.pools.iter().filter(is_for).collect()
}

/// Chooses the next block for a node: a free one or, if there is none, one of a deleted node.
///
/// The search begins at a block that depends on the node's name, so that nodes that claim at the
/// same time rarely choose the same block. `affinities` are all stored ones, including those that
/// are not part of the snapshot. Returns `None` if no pool is for this node.
///
/// # Errors
/// Every pool for the node is full.
pub fn next_block(
    snapshot: &Snapshot,
    affinities: &[BlockAffinity],
    node: &Node,
    v4: bool,
) -> Result<Option<NextBlock>, PoolExhausted> {
    let pools = eligible_pools(snapshot, node, v4);
    if pools.is_empty() {
        return Ok(None);
    }
    let taken: Vec<IpNet> = affinities
        .iter()
        .map(|affinity| affinity.cidr)
        .chain(snapshot.nodes.iter().flat_map(|node| node.pod_cidrs.iter().copied()))
        .collect();
    for pool in &pools {
        let is_taken = overlaps(&taken, &pool.cidr);
        let count = count_blocks(&pool.cidr, pool.block_size);
        if count == 0 {
            continue;
        }
        let mut hasher = DefaultHasher::new();
        (&node.name, &pool.name).hash(&mut hasher);
        let begin = u128::from(hasher.finish()) % count;
        for step in 0..count.min(MAX_LOOKED_AT) {
            let Some(block) = nth(&pool.cidr, pool.block_size, (begin + step) % count) else { continue };
            if !is_taken(&block) {
                return Ok(Some(NextBlock { block, pool: pool.name.clone(), reclaimed: None }));
            }
        }
    }
    for pool in &pools {
        let is_left = |affinity: &&BlockAffinity| {
            pool.cidr.contains(&affinity.cidr)
                && affinity.cidr.prefix_len() == pool.block_size
                && !snapshot.nodes.iter().any(|node| node.name == affinity.node)
        };
        if let Some(left) = affinities.iter().find(is_left) {
            let reclaimed = Some(AffinityRef { name: left.name.clone(), node: left.node.clone() });
            return Ok(Some(NextBlock { block: left.cidr, pool: pool.name.clone(), reclaimed }));
        }
    }
    let pools = pools.iter().map(|pool| pool.name.clone()).collect();
    Err(PoolExhausted { node: node.name.clone(), pools })
}

/// Returns a predicate that tells whether a block of `pool` overlaps one of `taken`.
fn overlaps(taken: &[IpNet], pool: &IpNet) -> impl Fn(&IpNet) -> bool {
    let mut inside: Vec<IpNet> =
        taken.iter().copied().filter(|net| pool.contains(net) || net.contains(pool)).collect();
    inside.sort();
    move |block| {
        // Prefixes nest or are apart: one that overlaps begins inside the block, or is the last
        // before it that is longer.
        let after = inside.partition_point(|net| net.network() < block.network());
        let begins_inside = inside.get(after).is_some_and(|net| block.contains(&net.network()));
        begins_inside
            || inside.get(..after).is_some_and(|before| before.iter().rev().any(|net| net.contains(block)))
    }
}

/// Returns the block with a number in a pool.
fn nth(pool: &IpNet, block_size: u8, number: u128) -> Option<IpNet> {
    let shift = u32::from(pool.max_prefix_len() - block_size);
    let offset = number.checked_shl(shift)?;
    let address = match pool.network() {
        IpAddr::V4(network) => IpAddr::V4(u32::try_from(u128::from(network.to_bits()) + offset).ok()?.into()),
        IpAddr::V6(network) => IpAddr::V6(network.to_bits().checked_add(offset)?.into()),
    };
    IpNet::new(address, block_size).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{Resource, assemble, parse_file};

    const HEAD: &str = "apiVersion: projectcalico.org/v3\n";

    fn cluster(text: &str) -> (Snapshot, Vec<BlockAffinity>) {
        let parsed = parse_file("f", text);
        assert_eq!(parsed.mistakes, []);
        let affinities = parsed.documents.iter().filter_map(|document| match &document.resource {
            Resource::BlockAffinity(affinity) => Some(affinity.clone()),
            _ => None,
        });
        (assemble(&parsed.documents).snapshot, affinities.collect())
    }

    fn pool(name: &str, spec: &str) -> String {
        format!("{HEAD}kind: IPPool\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n")
    }

    fn node(name: &str, more: &str) -> String {
        format!(
            "{HEAD}kind: Node\nmetadata: {{name: {name}, labels: {{rack: one}}}}\nspec: {{{more}}}\n---\n"
        )
    }

    fn block(cidr: &str, node: &str, state: &str) -> String {
        let name = super::super::affinity_name(&cidr.parse().unwrap());
        format!(
            "{HEAD}kind: BlockAffinity\nmetadata: {{name: {name}}}\nspec: {{node: {node}, cidr: {cidr}, state: {state}}}\n---\n"
        )
    }

    fn chosen(text: &str) -> Result<Option<NextBlock>, PoolExhausted> {
        let (snapshot, affinities) = cluster(text);
        let node = snapshot.nodes.iter().find(|node| node.name == "a").unwrap().clone();
        next_block(&snapshot, &affinities, &node, true)
    }

    #[test]
    fn every_block_of_a_pool_is_chosen_once_until_none_is_left() {
        let mut text = pool("p", "cidr: 10.0.0.0/24, blockSize: 28") + &node("a", "");
        let mut seen = BTreeSet::new();
        for _ in 0..16 {
            let choice = chosen(&text).unwrap().unwrap();
            assert!(seen.insert(choice.block), "{choice:?}");
            text += &block(&choice.block.to_string(), "a", "confirmed");
        }
        assert_eq!(seen.iter().map(|block| block.prefix_len()).max(), Some(28));
        let full = chosen(&text).unwrap_err();
        assert!(full.to_string().contains("no block is left for node \"a\" in pool p"), "{full}");
    }

    #[test]
    fn a_block_that_overlaps_a_taken_one_is_not_chosen() {
        let all = pool("p", "cidr: 10.0.0.0/24, blockSize: 26")
            + &node("a", "")
            + &node("b", "podCIDRs: [10.0.0.0/25]")
            + &block("10.0.0.129/32", "b", "confirmed");
        let choice = chosen(&all).unwrap().unwrap();
        assert_eq!(choice.block.to_string(), "10.0.0.192/26");
        // An unconfirmed claim counts too.
        let pending = all + &block("10.0.0.192/26", "b", "pending");
        assert!(chosen(&pending).is_err());
    }

    #[test]
    fn disabled_pools_manual_pools_and_pools_of_other_nodes_yield_no_block() {
        for spec in ["disabled: true", "assignmentMode: Manual", "nodeSelector: rack == 'two'"] {
            let text = pool("p", &format!("cidr: 10.0.0.0/24, {spec}")) + &node("a", "");
            assert_eq!(chosen(&text), Ok(None), "{spec}");
        }
        let text = pool("p", "cidr: 10.0.0.0/24, nodeSelector: rack == 'one'") + &node("a", "");
        assert!(chosen(&text).unwrap().is_some());
    }

    #[test]
    fn a_block_of_a_deleted_node_is_taken_when_no_free_one_is_left() {
        let text = pool("p", "cidr: 10.0.0.0/25, blockSize: 26")
            + &node("a", "")
            + &block("10.0.0.0/26", "gone", "confirmed");
        assert_eq!(chosen(&text).unwrap().unwrap().reclaimed, None);
        let full = text + &block("10.0.0.64/26", "a", "confirmed");
        let choice = chosen(&full).unwrap().unwrap();
        let expected = AffinityRef { name: "10-0-0-0-26".into(), node: "gone".into() };
        assert_eq!((choice.block.to_string().as_str(), choice.reclaimed), ("10.0.0.0/26", Some(expected)));
    }
}
