//! Leaving the cluster without losing a packet: others are told first (RFC 8326), then the blocks are withdrawn, then
//! the daemon ends.

use std::time::{Duration, Instant};

use api::ControlError;
use tokio::sync::oneshot;

/// Asked for by `routectl drain`; the answer is whether it began.
pub(crate) struct DrainRequest {
    pub(crate) wait: Duration,
    pub(crate) answer: oneshot::Sender<Result<(), ControlError>>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Drain {
    /// Nobody has asked for it.
    #[default]
    No,
    /// Own blocks are announced as going away, until then.
    Announced(Instant),
    /// They are withdrawn; the daemon ends then.
    Withdrawn(Instant),
    /// Nothing is left to do but to end.
    Done,
}

impl Drain {
    /// When the next step is due.
    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Drain::Announced(at) | Drain::Withdrawn(at) => Some(at),
            Drain::No | Drain::Done => None,
        }
    }
}
