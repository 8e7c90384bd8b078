//! From the RIB to the kernel: best paths become what the tunnels learn.

use routing::{BestChange, SourceKind};
use tokio::sync::mpsc;
use tunnel::{LearnedPath, PathKind, RouteChange, TunnelHandle};

use crate::journal::JournalHandle;
use crate::journal::RouteNews;

/// Forwards changes until the RIB ends. When `sync` speaks, all that the RIB said before it is
/// forwarded first, and then that the routes are whole.
pub(crate) async fn feed(
    mut changes: mpsc::Receiver<Vec<BestChange>>,
    mut sync: mpsc::Receiver<()>,
    tunnel: Option<TunnelHandle>,
    journal: JournalHandle,
) {
    let Some(tunnel) = tunnel else {
        // The RIB sees that nobody listens and keeps no changes.
        drop(changes);
        while sync.recv().await.is_some() {}
        return;
    };
    loop {
        let (batch, whole) = tokio::select! {
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
        let mut news = RouteNews::default();
        batch
            .iter()
            .for_each(|change| news.count(change.prefix, change.best.as_ref().map(|best| best.next_hop)));
        journal.note_routes(news);
        let learned = tunnel.routes(batch.into_iter().map(learn).collect()).await;
        let told = if whole { learned.and(tunnel.in_sync().await) } else { learned };
        if let Err(error) = told {
            tracing::error!(%error, "routes no longer reach the kernel");
            return;
        }
    }
}

/// What a change of a best path is for the kernel.
pub(crate) fn learn(change: BestChange) -> RouteChange {
    let learned = change.best.and_then(|best| {
        let kind = match best.kind {
            // The kernel's state for own blocks follows from the configuration.
            SourceKind::Local => return None,
            SourceKind::Static => PathKind::Static,
            SourceKind::Ibgp | SourceKind::Ebgp | SourceKind::Client if best.discards => PathKind::Discard,
            SourceKind::Ibgp | SourceKind::Ebgp | SourceKind::Client => PathKind::Bgp,
        };
        Some(LearnedPath { next_hop: best.exit, kind })
    });
    RouteChange { prefix: change.prefix, learned, others: change.others }
}
