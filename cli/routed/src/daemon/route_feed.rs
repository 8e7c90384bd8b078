//! Forwards the best paths of the RIB to the tunnels.

use tokio::sync::mpsc;

use routing::{BestChange, SourceKind};
use tunnel::{LearnedPath, PathKind, RouteChange, TunnelHandle};

use crate::journal::JournalHandle;
use crate::journal::RouteSummary;

/// Forwards changes until the RIB ends. When `sync` receives, all changes that the RIB sent before
/// are forwarded first, then the tunnels are told that the routes are complete.
pub(crate) async fn feed(
    mut changes: mpsc::Receiver<Vec<BestChange>>,
    mut sync: mpsc::Receiver<()>,
    tunnel: Option<TunnelHandle>,
    journal: JournalHandle,
) {
    let Some(tunnel) = tunnel else {
        // Without a receiver the RIB keeps no changes.
        drop(changes);
        while sync.recv().await.is_some() {}
        return;
    };
    loop {
        let (batch, complete) = tokio::select! {
            biased;
            batch = changes.recv() => match batch {
                Some(batch) => (batch, false),
                None => return,
            },
            Some(()) = sync.recv() => {
                let mut batch = Vec::new();
                while let Ok(more) = changes.try_recv() {
                    batch.extend(more);
                }
                (batch, true)
            }
        };
        let mut summary = RouteSummary::default();
        batch
            .iter()
            .for_each(|change| summary.count(change.prefix, change.best.as_ref().map(|best| best.next_hop)));
        journal.record_routes(summary);
        let sent = tunnel.routes(batch.into_iter().map(route_change).collect()).await;
        let sent = if complete { sent.and(tunnel.in_sync().await) } else { sent };
        if let Err(error) = sent {
            tracing::error!(%error, "routes no longer reach the kernel");
            return;
        }
    }
}

/// Converts a change of a best path for the tunnels.
pub(crate) fn route_change(change: BestChange) -> RouteChange {
    let learned = change.best.and_then(|best| {
        let kind = match best.kind {
            // The kernel state of own blocks follows from the configuration.
            SourceKind::Local => return None,
            SourceKind::Static => PathKind::Static,
            SourceKind::Ibgp | SourceKind::Ebgp | SourceKind::Client if best.discards => PathKind::Discard,
            SourceKind::Ibgp | SourceKind::Ebgp | SourceKind::Client => PathKind::Bgp,
        };
        Some(LearnedPath { next_hop: best.exit, kind })
    });
    RouteChange { prefix: change.prefix, learned, others: change.others }
}
