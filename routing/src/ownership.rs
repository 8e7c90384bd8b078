//! Ownership of blocks, and the check that a path was sent by the owner of its block.

use std::net::IpAddr;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ipnet::IpNet;

use crate::attrs::AttrSet;

/// Maximum number of changed blocks that are compared with prefixes one by one.
const FEW: usize = 32;

/// Treatment of paths to blocks of other nodes (`spec.routed.ownership`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnershipMode {
    /// The path is rejected.
    Strict,
    /// The path is used and counted.
    Warn,
    /// Ownership is not checked.
    #[default]
    Off,
}

/// Owners of blocks, from the node table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// Treatment of violations.
    pub mode: OwnershipMode,
    nodes: HashMap<IpAddr, u32, FixedState>,
    blocks: HashMap<IpNet, u32, FixedState>,
    /// Prefix lengths of the blocks, the longest first.
    lengths: Vec<u8>,
}

impl Owners {
    /// Creates the table from the addresses and blocks of each node.
    pub fn new<'a>(
        mode: OwnershipMode,
        nodes: impl IntoIterator<Item = (&'a [IpAddr], &'a [IpNet])>,
    ) -> Owners {
        let mut owners = Owners { mode, ..Owners::default() };
        if mode == OwnershipMode::Off {
            return owners;
        }
        for (number, (addresses, blocks)) in (0..).zip(nodes) {
            owners.nodes.extend(addresses.iter().map(|address| (*address, number)));
            owners.blocks.extend(blocks.iter().map(|block| (*block, number)));
            owners.lengths.extend(blocks.iter().map(IpNet::prefix_len));
        }
        owners.lengths.sort_unstable_by(|a, b| b.cmp(a));
        owners.lengths.dedup();
        owners
    }

    /// Returns the blocks whose owner differs in `other`; `None` if there are too many of them, or
    /// if anything else differs.
    pub(crate) fn changed_blocks(&self, other: &Owners) -> Option<Vec<IpNet>> {
        if self.mode != other.mode || self.nodes != other.nodes {
            return None;
        }
        let removed = self.blocks.keys().filter(|block| !other.blocks.contains_key(*block));
        let new = other.blocks.iter().filter(|(block, owner)| self.blocks.get(*block) != Some(*owner));
        let changed: Vec<IpNet> = removed.chain(new.map(|(block, _)| block)).take(FEW + 1).copied().collect();
        (changed.len() <= FEW).then_some(changed)
    }

    /// Returns the node that sent a path: its originator (RFC 4456), or else its next hop.
    pub(crate) fn sender(&self, attrs: &AttrSet) -> Option<u32> {
        if self.nodes.is_empty() {
            return None;
        }
        let originator = attrs.originator_id.and_then(|id| self.nodes.get(&IpAddr::V4(id.0)));
        originator.or_else(|| self.nodes.get(&attrs.next_hop)).copied()
    }

    /// Returns whether `prefix`, or a block that contains it, belongs to another node than
    /// `sender`. A single address out of another node's block is allowed: borrowed addresses are
    /// announced that way.
    pub(crate) fn disputes(&self, sender: u32, prefix: &IpNet) -> bool {
        if let Some(owner) = self.blocks.get(prefix) {
            return *owner != sender;
        }
        if prefix.prefix_len() == prefix.max_prefix_len() {
            return false;
        }
        let shorter = self.lengths.iter().filter(|length| **length < prefix.prefix_len());
        let holding = shorter.filter_map(|length| {
            let block = IpNet::new(prefix.addr(), *length).ok()?.trunc();
            self.blocks.get(&block)
        });
        holding.into_iter().next().is_some_and(|owner| *owner != sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(mode: OwnershipMode) -> Owners {
        let (a, b): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let block = |text: &str| text.parse::<IpNet>().expect("a prefix");
        let (of_a, of_b) = ([block("10.1.1.0/26")], [block("10.1.2.0/26"), block("fd00:2::/64")]);
        Owners::new(mode, [(&[a][..], &of_a[..]), (&[b][..], &of_b[..])])
    }

    #[test]
    fn a_block_of_another_node_is_disputed() {
        let owners = owners(OwnershipMode::Strict);
        let sender = |last: u8| {
            owners.sender(&AttrSet::originated([10, 0, 0, last].into())).expect("a node of the table")
        };
        let disputed = |last, text: &str| owners.disputes(sender(last), &text.parse().expect("a prefix"));
        assert!(!disputed(1, "10.1.1.0/26"), "its own");
        assert!(disputed(1, "10.1.2.0/26"), "the other's");
        assert!(disputed(1, "10.1.2.32/27"), "part of the other's");
        assert!(disputed(1, "fd00:2::/64"), "the other's, IPv6");
        assert!(!disputed(1, "10.1.2.5/32"), "a borrowed address");
        assert!(!disputed(1, "10.1.3.0/26"), "without an owner");
        assert!(!disputed(1, "10.1.0.0/16"), "larger than any block");
        assert_eq!(owners.sender(&AttrSet::originated([10, 0, 0, 9].into())), None, "no node of the table");
    }

    #[test]
    fn changed_blocks_are_those_with_another_owner() {
        let address: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let block = |text: &str| text.parse::<IpNet>().expect("a prefix");
        let table = |of_a: &[IpNet], of_b: &[IpNet]| {
            Owners::new(OwnershipMode::Strict, [(&address[..1], of_a), (&address[1..], of_b)])
        };
        let (x, y, z) = (block("10.1.1.0/26"), block("10.1.2.0/26"), block("10.1.3.0/26"));
        let before = table(&[x, y], &[z]);
        let mut changed = before.changed_blocks(&table(&[y, z], &[])).expect("few");
        changed.sort();
        assert_eq!(changed, [x, z], "one has no owner any more, one has another");
        assert_eq!(before.changed_blocks(&before), Some(vec![]));
        let other = Owners::new(OwnershipMode::Strict, [(&address[..1], &[x, y][..])]);
        assert_eq!(before.changed_blocks(&other), None, "one node fewer");
        let many: Vec<IpNet> = (0..=32u8).map(|third| block(&format!("10.2.{third}.0/26"))).collect();
        assert_eq!(before.changed_blocks(&table(&[x, y], &many)), None);
    }

    #[test]
    fn no_sender_is_determined_if_ownership_is_off() {
        assert_eq!(owners(OwnershipMode::Off).sender(&AttrSet::originated([10, 0, 0, 1].into())), None);
    }
}
