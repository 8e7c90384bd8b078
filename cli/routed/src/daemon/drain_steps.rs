//! The steps of a drain, and the paths that this node originates meanwhile.

use std::time::{Duration, Instant};

use api::ControlError;
use routing::{ClusterPolicy, Source};

use crate::daemon::Daemon;
use crate::daemon::drain::{DrainRequest, DrainState};
use crate::node_config::{NodeConfig, policy};

/// The time between the withdrawal and the end of the daemon: the withdrawals have to reach the
/// peers, and the changes that follow have to reach the kernels.
const WITHDRAWAL_DELAY: Duration = Duration::from_secs(1);

impl Daemon {
    /// Returns whether a drain is complete, so that the daemon has to end.
    pub(crate) fn is_drained(&self) -> bool {
        self.drain == DrainState::Done
    }

    /// Starts a drain and answers the request.
    pub(crate) async fn begin_drain(&mut self, request: DrainRequest) {
        let state = self.state.borrow().clone();
        let outcome = match &state.node_config {
            _ if self.drain != DrainState::Inactive => Err(ControlError::AlreadyDraining),
            None => Err(ControlError::NoNode),
            Some(node_config) if node_config.listen_port.is_none() => Err(ControlError::BgpDisabled),
            Some(node_config) => {
                tracing::info!(wait = ?request.wait, "draining: own blocks are announced with GRACEFUL_SHUTDOWN");
                self.drain = DrainState::Announced(Instant::now() + request.wait);
                self.originate_local_paths(node_config).await;
                Ok(())
            }
        };
        // The client may have disconnected.
        let _ = request.answer.send(outcome);
    }

    /// Takes the next step of the drain.
    pub(crate) async fn advance_drain(&mut self) {
        self.drain = match self.drain {
            DrainState::Announced(_) => {
                tracing::info!("draining: own blocks are withdrawn");
                DrainState::Withdrawn(Instant::now() + WITHDRAWAL_DELAY)
            }
            DrainState::Withdrawn(_) => DrainState::Done,
            other => other,
        };
        let node_config = self.state.borrow().node_config.clone();
        if let Some(node_config) = node_config {
            self.originate_local_paths(&node_config).await;
        }
    }

    /// Sets the cluster policy of the RIB and originates this node's blocks, as far as the state
    /// of the drain permits.
    pub(crate) async fn originate_local_paths(&self, node_config: &NodeConfig) {
        let links = if node_config.needs_links { policy::links() } else { Vec::new() };
        let draining = self.drain != DrainState::Inactive;
        self.rib.set_cluster_policy(ClusterPolicy { links, draining, ..node_config.policy.clone() }).await;
        let local = match self.drain {
            DrainState::Inactive | DrainState::Announced(_) => node_config.local.clone(),
            DrainState::Withdrawn(_) | DrainState::Done => Vec::new(),
        };
        self.rib.originate(Source::Local, local).await;
    }
}
