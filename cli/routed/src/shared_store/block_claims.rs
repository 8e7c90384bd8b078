//! Block claims: with a shared store, this node claims blocks of its pools when it has too few
//! blocks or too few free addresses.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::watch;
use tokio::time::sleep;

use api::view::EventKind;
use datastore::etcd::ClaimOutcome;
use datastore::{EtcdStore, StoreHealth, used_addresses};
use resource::Node;
use resource::ipam::eligible_pools;

use crate::config::{DaemonConfig, IpamSettings};
use crate::daemon::state::DaemonState;
use crate::journal::JournalHandle;

/// The interval at which the used addresses are counted.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Starts the task that claims blocks. The receiver has the problem that prevents a claim.
pub(crate) fn start(
    config: DaemonConfig,
    store: Arc<EtcdStore>,
    host: String,
    mut state: watch::Receiver<Arc<DaemonState>>,
    mut health: watch::Receiver<StoreHealth>,
    journal: JournalHandle,
) -> watch::Receiver<Option<String>> {
    let (problem, problems) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            if health.wait_for(|health| health.connected).await.is_err() {
                return;
            }
            let now = state.borrow_and_update().clone();
            let found_problem = claim_if_needed(&config, &store, &host, &now, &journal).await;
            if let Some(text) = &found_problem
                && problem.borrow().as_ref() != Some(text)
            {
                tracing::error!("{text}");
            }
            problem.send_replace(found_problem);
            tokio::select! {
                () = sleep(CHECK_INTERVAL) => {} // why: the interval
                ended = state.changed() => if ended.is_err() { return },
            }
        }
    });
    problems
}

/// Claims a block of each family that needs one. Returns the problem that prevents a claim.
async fn claim_if_needed(
    config: &DaemonConfig,
    store: &EtcdStore,
    host: &str,
    state: &DaemonState,
    journal: &JournalHandle,
) -> Option<String> {
    let own = state.snapshot.nodes.iter().find(|node| node.name == config.node)?;
    // A node that another host has registered gets no blocks.
    if own.host.as_deref().is_some_and(|owner| owner != host) {
        return None;
    }
    let blocks = state.snapshot.blocks_of(&config.node);
    for v4 in [true, false] {
        if eligible_pools(&state.snapshot, own, v4).is_empty() {
            continue;
        }
        let used = used_addresses();
        let needs_more = |node: &Node, blocks: &[IpNet]| needs_block(&config.ipam, node, blocks, &used);
        let of_family: Vec<IpNet> =
            blocks.iter().copied().filter(|block| block.addr().is_ipv4() == v4).collect();
        if !needs_more(own, &of_family) {
            if let Some(problem) = too_few(&config.ipam, own, &of_family, &used) {
                return Some(problem);
            }
            continue;
        }
        match store.claim(&config.node, v4, needs_more).await {
            Ok(ClaimOutcome::Block(block)) => {
                tracing::info!(%block, "claimed");
                journal.record(EventKind::Block, "claimed", Some(&block.to_string()), "for this node");
            }
            Ok(ClaimOutcome::Unchanged) => {}
            Ok(ClaimOutcome::PoolExhausted(problem)) => return Some(problem),
            Err(error) => return Some(format!("no block was claimed: {error}")),
        }
    }
    None
}

/// Returns whether a node with these blocks of a family needs another one.
fn needs_block(ipam: &IpamSettings, node: &Node, blocks: &[IpNet], used: &[IpAddr]) -> bool {
    // The blocks of a node with podCIDRs are assigned by its operator.
    if !node.pod_cidrs.is_empty() {
        return false;
    }
    blocks.len() < usize::from(ipam.blocks)
        || blocks.len() < usize::from(ipam.max_blocks) && is_low(ipam, blocks, used)
}

/// Returns the problem of a node that needs another block but has the maximum.
fn too_few(ipam: &IpamSettings, node: &Node, blocks: &[IpNet], used: &[IpAddr]) -> Option<String> {
    let full = blocks.len() >= usize::from(ipam.max_blocks) && node.pod_cidrs.is_empty();
    (full && is_low(ipam, blocks, used)).then(|| {
        format!(
            "fewer than {} addresses are left in this node's {} blocks: raise ipam.maxBlocks in routed.yaml",
            ipam.free_addresses,
            blocks.len()
        )
    })
}

/// Returns whether fewer addresses are free than configured.
fn is_low(ipam: &IpamSettings, blocks: &[IpNet], used: &[IpAddr]) -> bool {
    let size = |block: &IpNet| {
        1u64.checked_shl(u32::from(block.max_prefix_len() - block.prefix_len())).unwrap_or(u64::MAX)
    };
    let all = blocks.iter().map(size).fold(0, u64::saturating_add);
    let is_used = |address: &&IpAddr| blocks.iter().any(|block| block.contains(*address));
    let used = used.iter().filter(is_used).count() as u64;
    !blocks.is_empty() && all.saturating_sub(used) < u64::from(ipam.free_addresses)
}

#[cfg(test)]
mod tests {
    use resource::{Resource, parse_file};

    use super::*;

    fn node(spec: &str) -> Node {
        let text = format!(
            "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: a}}\nspec: {{{spec}}}\n"
        );
        match parse_file("f", &text).documents.remove(0).resource {
            Resource::Node(node) => node,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_block_is_needed_below_the_minimum_of_blocks_or_free_addresses() {
        let ipam = IpamSettings { blocks: 2, free_addresses: 8, ..IpamSettings::default() };
        let block = |text: &str| -> IpNet { text.parse().unwrap() };
        let (one, two) = (block("10.0.0.0/29"), block("10.0.1.0/29"));
        let used: Vec<IpAddr> = (0..9).map(|last| IpAddr::from([10, 0, last / 8, last % 8])).collect();
        let plain = node("");
        assert!(needs_block(&ipam, &plain, &[one], &[]));
        assert!(!needs_block(&ipam, &plain, &[one, two], &used[..8]));
        assert!(needs_block(&ipam, &plain, &[one, two], &used));
        assert!(!needs_block(&ipam, &node("podCIDRs: [10.9.0.0/26]"), &[], &[]));
        assert!(!needs_block(&IpamSettings { blocks: 0, ..ipam }, &plain, &[], &[]));
        // At the maximum no block is claimed, no matter how many addresses are used.
        let most = IpamSettings { max_blocks: 2, ..ipam };
        assert!(!needs_block(&most, &plain, &[one, two], &used));
        let problem = too_few(&most, &plain, &[one, two], &used).unwrap();
        assert!(problem.contains("in this node's 2 blocks: raise ipam.maxBlocks"), "{problem}");
        assert_eq!(too_few(&most, &plain, &[one, two], &used[..8]), None);
        assert_eq!(too_few(&ipam, &plain, &[one, two], &used), None);
    }
}
