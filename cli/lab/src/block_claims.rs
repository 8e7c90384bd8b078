//! Blocks that the lab's daemons claim from its shared datastore.

use std::{
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use ipnet::{IpNet, Ipv4Net};

use super::{
    daemons::Daemons,
    error::LabError,
    interrupt::{POLL_INTERVAL, check_interrupted},
    layout::Layout,
};
use api::{client::Client, view::NodeView};

/// Waits until every node has claimed a block, and records the blocks in the layout.
///
/// # Errors
/// A daemon ended, or one has no block after `patience`.
pub(super) fn await_blocks(
    layout: &mut Layout,
    daemons: &mut Daemons,
    patience: Duration,
    interrupted: &AtomicBool,
) -> Result<(), LabError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LabError::system("runtime"))?;
    let deadline = Instant::now() + patience;
    for index in 0..layout.nodes.len() {
        let Some(node) = layout.nodes.get(index).map(|node| node.name.clone()) else { continue };
        let client = Client::new(&daemons.socket(&node));
        let block = loop {
            check_interrupted(interrupted)?;
            daemons.check()?;
            // A daemon that does not answer yet counts as one without nodes.
            let nodes: Vec<NodeView> = runtime.block_on(client.get("/v1/nodes")).unwrap_or_default();
            if let Some(block) = own_block(&nodes) {
                break block;
            }
            if Instant::now() >= deadline {
                let log = daemons.last_words(&node);
                return Err(LabError::NoBlock { node, seconds: patience.as_secs(), log });
            }
            thread::sleep(POLL_INTERVAL); // why: what the daemon has claimed can only be asked for again
        };
        eprintln!("lab: {node} has claimed {block}");
        layout.give_block(index, block);
    }
    Ok(())
}

/// Returns the first IPv4 block of the local node.
fn own_block(nodes: &[NodeView]) -> Option<Ipv4Net> {
    let own = nodes.iter().find(|node| node.local)?;
    own.blocks.iter().find_map(|block| match block {
        IpNet::V4(block) => Some(*block),
        IpNet::V6(_) => None,
    })
}
