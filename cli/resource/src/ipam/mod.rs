//! Allocation of address blocks to nodes: the next free block, an audit of all blocks, and the
//! release of blocks of deleted nodes. Pure.

mod audit;
mod next_block;
mod orphaned_blocks;

pub use audit::{BlockFinding, audit};
pub use next_block::{AffinityRef, NextBlock, PoolExhausted, eligible_pools, next_block};
pub use orphaned_blocks::{OrphanedBlock, OrphanedBlocks};

use ipnet::IpNet;

/// Returns the name of the affinity of a block, `10-1-2-0-26`. It is derived from the block, so a
/// block can have only one affinity of this name.
pub fn affinity_name(block: &IpNet) -> String {
    let name = block.to_string().replace(['.', '/', ':'], "-");
    if name.starts_with('-') { format!("block{name}") } else { name }
}

/// Returns the number of blocks of a length in a pool; saturates.
pub fn count_blocks(pool: &IpNet, block_size: u8) -> u128 {
    match block_size.checked_sub(pool.prefix_len()) {
        None => 0,
        Some(bits) => 1u128.checked_shl(bits.into()).unwrap_or(u128::MAX),
    }
}
