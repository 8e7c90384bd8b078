//! What waits for the RIB, bounded by its octets and for each session by its batches: senders wait
//! for room one after the other, and what a session with a full table has sent ahead is little, so
//! that it does not hold up one with a single block.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::command::RibCommand;

/// The RIB's task is gone: the daemon is stopping, or the task died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RibGone;

impl std::fmt::Display for RibGone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the RIB is not running")
    }
}

impl std::error::Error for RibGone {}

/// Octets of routes that may wait: some 100,000 prefixes, which the RIB takes in in some 10 ms.
const OCTETS: usize = 2 * 1024 * 1024;
/// What each command counts beside its routes.
const COMMAND_OCTETS: usize = 256;
/// Batches of one session that may wait: one to be taken in while the next is read.
const SESSION_BATCHES: usize = 2;

/// The senders' end.
#[derive(Clone, Debug)]
pub(crate) struct CommandSender {
    // Unbounded as a list; what is in it has a ticket for its octets, but for `RibCommand::Drained`, of
    // which there is one for each session.
    sender: UnboundedSender<(RibCommand, Option<QueuePermit>)>,
    octets: Arc<Semaphore>,
}

/// The room that a command takes, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct QueuePermit {
    _octets: OwnedSemaphorePermit,
    _batch: Option<OwnedSemaphorePermit>,
}

/// Waiting for room.
pub(crate) type PermitFuture = Pin<Box<dyn Future<Output = Result<QueuePermit, AcquireError>> + Send + Sync>>;

/// The batches of one session.
#[derive(Clone, Debug)]
pub(crate) struct BatchQuota(Arc<Semaphore>);

impl Default for BatchQuota {
    fn default() -> BatchQuota {
        BatchQuota(Arc::new(Semaphore::new(SESSION_BATCHES)))
    }
}

impl CommandSender {
    /// Both ends.
    pub(crate) fn new() -> (CommandSender, CommandReceiver) {
        let (sender, receiver) = unbounded_channel();
        let commands = CommandSender { sender, octets: Arc::new(Semaphore::new(OCTETS)) };
        (commands, CommandReceiver { receiver, next: None })
    }

    /// Waits for room and sends.
    pub(crate) async fn send(&self, command: RibCommand) -> Result<(), RibGone> {
        let octets = Arc::clone(&self.octets).acquire_many_owned(octets_of(&command)).await;
        let ticket = QueuePermit { _octets: octets.map_err(|_| RibGone)?, _batch: None };
        self.send_with(ticket, command)
    }

    /// Sends what is waited for elsewhere anyhow.
    pub(crate) fn send_now(&self, command: RibCommand) {
        // The RIB is gone: nobody needs it any more.
        let _ = self.sender.send((command, None));
    }

    /// Sends for a session if there is room; else what to wait for, and then [`CommandSender::send_with`].
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

    /// Sends with the room that was waited for.
    pub(crate) fn send_with(&self, ticket: QueuePermit, command: RibCommand) -> Result<(), RibGone> {
        self.sender.send((command, Some(ticket))).map_err(|_| RibGone)
    }
}

fn octets_of(command: &RibCommand) -> u32 {
    let routes = match command {
        RibCommand::Routes(_, batch) => batch.octets(),
        _ => 0,
    };
    u32::try_from(routes.saturating_add(COMMAND_OCTETS).min(OCTETS)).unwrap_or(u32::MAX)
}

/// The RIB's end.
pub(crate) struct CommandReceiver {
    receiver: UnboundedReceiver<(RibCommand, Option<QueuePermit>)>,
    next: Option<(RibCommand, Option<QueuePermit>)>,
}

impl CommandReceiver {
    /// Waits for something; `false`: nobody is there any more to send it.
    pub(crate) async fn wait(&mut self) -> bool {
        if self.next.is_none() {
            self.next = self.receiver.recv().await;
        }
        self.next.is_some()
    }

    /// The next command that is there; its room is free again.
    pub(crate) fn take(&mut self) -> Option<RibCommand> {
        let (command, _ticket) = self.next.take().or_else(|| self.receiver.try_recv().ok())?;
        Some(command)
    }
}
