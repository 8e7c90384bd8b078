//! The steps of a drain: announce the own blocks as going away, withdraw them, end the daemon.

use std::time::{Duration, Instant};

use api::ControlError;
use routing::{ClusterPolicy, Source};

use crate::daemon::Daemon;
use crate::daemon::drain::{Drain, DrainRequest};
use crate::node_config::Plan;

/// From the withdrawal to the end: messages have to reach the peers' kernels and ours.
const WITHDRAWN_FOR: Duration = Duration::from_secs(1);

impl Daemon {
    /// Whether the daemon is to end because the node is drained.
    pub(crate) fn is_drained(&self) -> bool {
        self.drain == Drain::Done
    }

    /// Begins to drain the node.
    pub(crate) async fn begin_drain(&mut self, request: DrainRequest) {
        let roster = self.roster.borrow().clone();
        let outcome = match &roster.plan {
            _ if self.drain != Drain::No => Err(ControlError::AlreadyDraining),
            None => Err(ControlError::NoNode),
            Some(plan) if plan.listen_port.is_none() => Err(ControlError::BgpDisabled),
            Some(plan) => {
                tracing::info!(wait = ?request.wait, "draining: own blocks are announced with GRACEFUL_SHUTDOWN");
                self.drain = Drain::Announced(Instant::now() + request.wait);
                self.announce(plan).await;
                Ok(())
            }
        };
        // Whoever asked may have gone.
        let _ = request.answer.send(outcome);
    }

    /// Does what is due.
    pub(crate) async fn go_on_draining(&mut self) {
        self.drain = match self.drain {
            Drain::Announced(_) => {
                tracing::info!("draining: own blocks are withdrawn");
                Drain::Withdrawn(Instant::now() + WITHDRAWN_FOR)
            }
            Drain::Withdrawn(_) => Drain::Done,
            other => other,
        };
        let plan = self.roster.borrow().plan.clone();
        if let Some(plan) = plan {
            self.announce(&plan).await;
        }
    }

    /// Tells the RIB what this node has, as far as it is to be told.
    pub(crate) async fn announce(&self, plan: &Plan) {
        let links = if plan.needs_links { crate::node_config::policy::links() } else { Vec::new() };
        let draining = self.drain != Drain::No;
        self.rib.set_cluster_policy(ClusterPolicy { links, draining, ..plan.policy.clone() }).await;
        let local = match self.drain {
            Drain::No | Drain::Announced(_) => plan.local.clone(),
            Drain::Withdrawn(_) | Drain::Done => Vec::new(),
        };
        self.rib.originate(Source::Local, local).await;
    }
}
