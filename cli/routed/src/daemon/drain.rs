//! The state of a drain. A drain takes the node out of the cluster without packet loss: the own
//! blocks are advertised with GRACEFUL_SHUTDOWN (RFC 8326), then withdrawn, then the daemon ends.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use api::ControlError;

/// A request of `routectl drain`. The answer reports whether the drain began.
pub(crate) struct DrainRequest {
    pub(crate) wait: Duration,
    pub(crate) answer: oneshot::Sender<Result<(), ControlError>>,
}

/// The progress of a drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DrainState {
    /// No drain is requested.
    #[default]
    Inactive,
    /// The own blocks are advertised with GRACEFUL_SHUTDOWN until this time.
    Announced(Instant),
    /// The own blocks are withdrawn. The daemon ends at this time.
    Withdrawn(Instant),
    /// The drain is complete; the daemon ends.
    Done,
}

impl DrainState {
    /// Returns the time of the next step.
    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            DrainState::Announced(at) | DrainState::Withdrawn(at) => Some(at),
            DrainState::Inactive | DrainState::Done => None,
        }
    }
}
