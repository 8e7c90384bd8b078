//! Block release: with a shared store, the blocks of deleted nodes are released. The nodes take
//! turns until one of them has released a block.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::sync::watch;
use tokio::time::sleep;

use api::view::EventKind;
use datastore::{EtcdStore, StoreHealth};
use resource::ipam::{OrphanedBlock, OrphanedBlocks};
use routing::Source;
use routing::actor::RibHandle;

use crate::config::DaemonConfig;
use crate::daemon::state::DaemonState;
use crate::journal::JournalHandle;

/// The interval of checks while there are blocks of deleted nodes.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The number of table places that one query of the RIB covers.
const CHUNK: usize = 8192;

/// Starts the task that releases blocks of deleted nodes, unless `ipam.reclaimAfter` is `off`.
pub(crate) fn start(
    config: DaemonConfig,
    store: Arc<EtcdStore>,
    rib: RibHandle,
    mut state: watch::Receiver<Arc<DaemonState>>,
    mut health: watch::Receiver<StoreHealth>,
    journal: JournalHandle,
) {
    let Some(grace) = config.ipam.reclaim_after else { return };
    tokio::spawn(async move {
        let mut left = OrphanedBlocks::default();
        let mut contested = BTreeSet::new();
        loop {
            if !health.borrow().connected {
                left.forget();
                if health.wait_for(|health| health.connected).await.is_err() {
                    return;
                }
            }
            let now = state.borrow_and_update().clone();
            left.observe(&now.snapshot, Instant::now());
            for left in left.due(&now.snapshot, &config.node, grace, Instant::now()) {
                if release(&store, &rib, &now, &left, &mut contested).await {
                    let OrphanedBlock { affinity, block } = left;
                    let text = format!("its node {} is no more", affinity.node);
                    journal.record(EventKind::Block, "released", Some(&block.to_string()), text);
                }
            }
            tokio::select! {
                () = sleep(CHECK_INTERVAL), if !left.is_empty() => {} // why: turns come by time
                ended = state.changed() => if ended.is_err() { return },
                ended = health.changed() => if ended.is_err() { return },
            }
        }
    });
}

/// Releases a block unless it is still advertised, which is logged once. Returns whether the block
/// was released.
async fn release(
    store: &EtcdStore,
    rib: &RibHandle,
    state: &DaemonState,
    left: &OrphanedBlock,
    contested: &mut BTreeSet<String>,
) -> bool {
    let OrphanedBlock { affinity, block } = left;
    if let Some(announcer) = announcer(rib, state, *block).await {
        if contested.insert(affinity.name.clone()) {
            tracing::warn!(
                %block, node = affinity.node, announcer,
                "held for a node that is no more, and announced all the same: not released; stop that daemon, or give it \
                 its Node resource back"
            );
        }
        return false;
    }
    contested.remove(&affinity.name);
    match store.release_orphaned(affinity).await {
        Ok(true) => {
            tracing::info!(%block, node = affinity.node, "released: its node is no more");
            return true;
        }
        // Another node has released it, or its node is back; the next check decides.
        Ok(false) => {}
        Err(error) => tracing::debug!(%block, %error, "not released"),
    }
    false
}

/// Returns the source that advertises a block or a part of it.
async fn announcer(rib: &RibHandle, state: &DaemonState, block: IpNet) -> Option<String> {
    let mut next = Some(0);
    while let Some(start) = next {
        let part = rib.query(move |rib| rib.routes_from(start, CHUNK, |prefix| block.contains(prefix)));
        // Without the RIB the sources are unknown, and no block is released.
        let Ok((routes, after)) = part.await else { return Some("the RIB is not running".into()) };
        for path in routes.iter().flat_map(|route| &route.paths).filter(|path| !path.stale) {
            match path.source {
                Source::Peer(id) => return Some(state.name_of(id).unwrap_or("a peer").to_owned()),
                Source::Local => return Some("this node".to_owned()),
                Source::Static => {}
            }
        }
        next = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use bgp::{Asn, RouterId};
    use routing::RibConfig;

    use super::*;

    #[tokio::test]
    async fn a_block_advertised_in_part_has_an_announcer_and_a_static_path_has_none() {
        let (rib, _changes, _task) = RibHandle::spawn(RibConfig {
            local_as: Asn(64512),
            router_id: RouterId(Ipv4Addr::new(10, 0, 0, 1)),
            cluster_id: None,
            local_addresses: Vec::new(),
            multipath: 1,
        });
        let (block, state) = ("10.1.2.0/26".parse().unwrap(), DaemonState::default());
        let next_hop = "192.168.0.2".parse().unwrap();
        rib.originate(Source::Static, vec![(block, next_hop)]).await;
        rib.originate(Source::Local, vec![("10.1.3.0/26".parse().unwrap(), next_hop)]).await;
        assert_eq!(announcer(&rib, &state, block).await, None);
        let borrowed = ("10.1.2.7/32".parse().unwrap(), next_hop);
        rib.originate(Source::Local, vec![borrowed]).await;
        assert_eq!(announcer(&rib, &state, block).await.as_deref(), Some("this node"));
    }
}
