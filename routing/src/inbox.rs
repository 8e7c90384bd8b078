//! What waits for the RIB, bounded by its octets: senders wait for room one after the other, so that
//! a session with a full table does not hold up one with a single block.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::actor::{Command, RibGone};

/// Octets of routes that may wait: some 100,000 prefixes, which the RIB takes in in some 10 ms.
const OCTETS: usize = 2 * 1024 * 1024;
/// What each command counts beside its routes.
const COMMAND: usize = 256;

/// The senders' end.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    // Unbounded as a list; what is in it has a permit for its octets, but for `Command::Room`, of
    // which there is one for each session.
    sender: UnboundedSender<(Command, usize)>,
    permits: Arc<Semaphore>,
}

/// Waiting for room.
pub(crate) type Waiting =
    Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send + Sync>>;

impl Inbox {
    /// Both ends.
    pub(crate) fn new() -> (Inbox, Received) {
        let (sender, receiver) = unbounded_channel();
        let permits = Arc::new(Semaphore::new(OCTETS));
        (Inbox { sender, permits: Arc::clone(&permits) }, Received { receiver, permits, next: None })
    }

    /// Waits for room and sends.
    pub(crate) async fn send(&self, command: Command) -> Result<(), RibGone> {
        let octets = octets_of(&command);
        let permit = self.wait_for(octets).await.map_err(|_| RibGone)?;
        self.send_with(permit, command)
    }

    /// Sends what is waited for elsewhere anyhow.
    pub(crate) fn send_now(&self, command: Command) {
        // The RIB is gone: nobody needs it any more.
        let _ = self.sender.send((command, 0));
    }

    /// Sends if there is room; else what to wait for, and then [`Inbox::send_with`].
    pub(crate) fn try_send(&self, command: Command) -> Result<(), (Command, Waiting)> {
        let octets = octets_of(&command);
        match Arc::clone(&self.permits).try_acquire_many_owned(octets) {
            Ok(permit) => {
                let _ = self.send_with(permit, command);
                Ok(())
            }
            Err(_) => Err((command, self.wait_for(octets))),
        }
    }

    fn wait_for(&self, octets: u32) -> Waiting {
        Box::pin(Arc::clone(&self.permits).acquire_many_owned(octets))
    }

    /// Sends with the room that was waited for.
    pub(crate) fn send_with(&self, permit: OwnedSemaphorePermit, command: Command) -> Result<(), RibGone> {
        let octets = permit.num_permits();
        // Given back by the receiver.
        permit.forget();
        self.sender.send((command, octets)).map_err(|_| RibGone)
    }
}

fn octets_of(command: &Command) -> u32 {
    let routes = match command {
        Command::Routes(_, batch) => batch.octets(),
        _ => 0,
    };
    u32::try_from(routes.saturating_add(COMMAND).min(OCTETS)).unwrap_or(u32::MAX)
}

/// The RIB's end.
pub(crate) struct Received {
    receiver: UnboundedReceiver<(Command, usize)>,
    permits: Arc<Semaphore>,
    next: Option<(Command, usize)>,
}

impl Received {
    /// Waits for something; `false`: nobody is there any more to send it.
    pub(crate) async fn wait(&mut self) -> bool {
        if self.next.is_none() {
            self.next = self.receiver.recv().await;
        }
        self.next.is_some()
    }

    /// The next command that is there.
    pub(crate) fn take(&mut self) -> Option<Command> {
        let (command, octets) = self.next.take().or_else(|| self.receiver.try_recv().ok())?;
        self.permits.add_permits(octets);
        Some(command)
    }
}
