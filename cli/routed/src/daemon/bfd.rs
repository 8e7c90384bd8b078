//! BFD beside the sessions that have it: begun and ended with them, and heeded by them.

use bgp::net::{Bfd, BfdPeer, BfdReport, BfdWatch};
use tokio::sync::watch;

use crate::daemon::{Daemon, Running};

/// The BFD session beside a BGP session; both end together.
pub(crate) struct Detection {
    peer: BfdPeer,
    pub(crate) reports: watch::Receiver<BfdReport>,
    _heed: BfdWatch,
}

/// Whether BFD runs: it is begun by the first session that has it.
#[derive(Default)]
pub(crate) enum Detector {
    #[default]
    Idle,
    Running(Bfd),
    /// It can't, for this reason.
    Failed(String),
}

impl Detector {
    /// Why sessions that should have BFD have none.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Detector::Failed(why) => Some(why.clone()),
            Detector::Idle | Detector::Running(_) => None,
        }
    }
}

impl Daemon {
    /// Gives a session the BFD that it is to have.
    pub(crate) async fn detect(&mut self, running: &mut Running) {
        let wanted = running.plan.bfd;
        if running.detection.as_ref().map(|detection| detection.peer) == wanted {
            return;
        }
        let Some(peer) = wanted else {
            running.detection = None;
            return;
        };
        if !matches!(self.detector, Detector::Running(_)) {
            self.detector = match Bfd::spawn() {
                Ok(bfd) => Detector::Running(bfd),
                Err(error) => {
                    tracing::error!("{error}");
                    Detector::Failed(error.to_string())
                }
            };
        }
        if let Detector::Running(bfd) = &self.detector {
            let reports = bfd.session(peer).await;
            let watch_bfd = running.handle.watch_bfd(reports.clone());
            running.detection = Some(Detection { peer, reports, _heed: watch_bfd });
        }
    }
}
