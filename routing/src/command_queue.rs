//! Queue of commands for the RIB, bounded in octets, and in batches per session. Senders wait for
//! capacity in order. A session with a full table has few batches in the queue, so it does not
//! delay a session with a single block.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::command::RibCommand;

/// Error: the RIB's task has ended, since the daemon stops or the task failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RibUnavailable;

impl std::fmt::Display for RibUnavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the RIB is not running")
    }
}

impl std::error::Error for RibUnavailable {}

/// Capacity in octets: some 100,000 prefixes, which the RIB imports in some 10 ms.
const OCTETS: usize = 2 * 1024 * 1024;
/// Octets that each command counts, in addition to its routes.
const COMMAND_OCTETS: usize = 256;
/// Capacity in batches per session: one is imported while the next is read.
const SESSION_BATCHES: usize = 2;

/// Sending half of the queue.
#[derive(Clone, Debug)]
pub(crate) struct CommandSender {
    // The list is unbounded; each command in it holds a permit for its octets, except for
    // `RibCommand::Drained`, of which there is at most one per session.
    sender: UnboundedSender<(RibCommand, Option<QueuePermit>)>,
    octets: Arc<Semaphore>,
}

/// Capacity used by a command; released when dropped.
#[derive(Debug)]
pub(crate) struct QueuePermit {
    _octets: OwnedSemaphorePermit,
    _batch: Option<OwnedSemaphorePermit>,
}

/// Future that waits for capacity.
pub(crate) type PermitFuture = Pin<Box<dyn Future<Output = Result<QueuePermit, AcquireError>> + Send + Sync>>;

/// Quota of batches of one session.
#[derive(Clone, Debug)]
pub(crate) struct BatchQuota(Arc<Semaphore>);

impl Default for BatchQuota {
    fn default() -> BatchQuota {
        BatchQuota(Arc::new(Semaphore::new(SESSION_BATCHES)))
    }
}

impl CommandSender {
    /// Creates a queue and returns both halves.
    pub(crate) fn new() -> (CommandSender, CommandReceiver) {
        let (sender, receiver) = unbounded_channel();
        let commands = CommandSender { sender, octets: Arc::new(Semaphore::new(OCTETS)) };
        (commands, CommandReceiver { receiver, next: None })
    }

    /// Waits for capacity and sends a command.
    pub(crate) async fn send(&self, command: RibCommand) -> Result<(), RibUnavailable> {
        let octets = Arc::clone(&self.octets).acquire_many_owned(octets_of(&command)).await;
        let ticket = QueuePermit { _octets: octets.map_err(|_| RibUnavailable)?, _batch: None };
        self.send_with(ticket, command)
    }

    /// Sends a command without waiting for capacity, for commands that are limited otherwise.
    pub(crate) fn send_now(&self, command: RibCommand) {
        // If the RIB has ended, the command is not needed.
        let _ = self.sender.send((command, None));
    }

    /// Sends a command of a session if there is capacity; otherwise returns a future for the permit
    /// to use with [`CommandSender::send_with`].
    pub(crate) fn try_send(
        &self,
        command: RibCommand,
        quota: &BatchQuota,
    ) -> Result<(), (RibCommand, PermitFuture)> {
        let (batches, octets) = (Arc::clone(&quota.0), Arc::clone(&self.octets));
        let count = octets_of(&command);
        if let Ok(batch) = Arc::clone(&batches).try_acquire_owned()
            && let Ok(octets) = Arc::clone(&octets).try_acquire_many_owned(count)
        {
            let _ = self.send_with(QueuePermit { _octets: octets, _batch: Some(batch) }, command);
            return Ok(());
        }
        let permit = async move {
            let batch = batches.acquire_owned().await?;
            Ok(QueuePermit { _octets: octets.acquire_many_owned(count).await?, _batch: Some(batch) })
        };
        Err((command, Box::pin(permit)))
    }

    /// Sends a command with a permit.
    pub(crate) fn send_with(&self, ticket: QueuePermit, command: RibCommand) -> Result<(), RibUnavailable> {
        self.sender.send((command, Some(ticket))).map_err(|_| RibUnavailable)
    }
}

fn octets_of(command: &RibCommand) -> u32 {
    let routes = match command {
        RibCommand::Routes(_, batch) => batch.octets(),
        _ => 0,
    };
    u32::try_from(routes.saturating_add(COMMAND_OCTETS).min(OCTETS)).unwrap_or(u32::MAX)
}

/// Receiving half of the queue.
pub(crate) struct CommandReceiver {
    receiver: UnboundedReceiver<(RibCommand, Option<QueuePermit>)>,
    next: Option<(RibCommand, Option<QueuePermit>)>,
}

impl CommandReceiver {
    /// Waits for a command; returns `false` if all senders are gone.
    pub(crate) async fn wait(&mut self) -> bool {
        if self.next.is_none() {
            self.next = self.receiver.recv().await;
        }
        self.next.is_some()
    }

    /// Returns the next command, if there is one, and releases its capacity.
    pub(crate) fn take(&mut self) -> Option<RibCommand> {
        let (command, _ticket) = self.next.take().or_else(|| self.receiver.try_recv().ok())?;
        Some(command)
    }
}
