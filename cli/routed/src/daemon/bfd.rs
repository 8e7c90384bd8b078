//! BFD sessions of the peers that have BFD configured (RFC 5882). They start and end with the
//! peer's entry in the daemon.

use tokio::sync::watch;

use bgp::net::{Bfd, BfdPeer, BfdReport, BfdWatch};

use crate::daemon::{Daemon, ManagedPeer};

/// The BFD session of one peer. Dropping it ends the session.
pub(crate) struct BfdSessionHandle {
    peer: BfdPeer,
    pub(crate) reports: watch::Receiver<BfdReport>,
    _watch: BfdWatch,
}

/// The BFD engine of the daemon. The first peer with BFD starts it.
#[derive(Default)]
pub(crate) enum BfdEngine {
    #[default]
    Idle,
    Started(Bfd),
    /// The engine could not be started, with the error.
    Failed(String),
}

impl BfdEngine {
    /// Returns why peers with BFD configured have no BFD session.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            BfdEngine::Failed(error) => Some(error.clone()),
            BfdEngine::Idle | BfdEngine::Started(_) => None,
        }
    }
}

impl Daemon {
    /// Starts, replaces or ends the BFD session of a peer as its settings require.
    pub(crate) async fn update_bfd_session(&mut self, peer: &mut ManagedPeer) {
        let wanted = peer.settings.bfd;
        if peer.bfd.as_ref().map(|bfd| bfd.peer) == wanted {
            return;
        }
        let Some(wanted) = wanted else {
            peer.bfd = None;
            return;
        };
        if !matches!(self.bfd, BfdEngine::Started(_)) {
            self.bfd = match Bfd::spawn() {
                Ok(bfd) => BfdEngine::Started(bfd),
                Err(error) => {
                    tracing::error!("{error}");
                    BfdEngine::Failed(error.to_string())
                }
            };
        }
        if let BfdEngine::Started(bfd) = &self.bfd {
            let reports = bfd.session(wanted).await;
            let bfd_watch = peer.handle.watch_bfd(reports.clone());
            peer.bfd = Some(BfdSessionHandle { peer: wanted, reports, _watch: bfd_watch });
        }
    }
}
