//! The task that owns the kernel's picture, and the handle to it.

use std::{
    future::pending,
    io,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    dataplane::Dataplane,
    netlink::Kernel,
    node::{Config, RouteChange},
    reconcile::Reconciler,
    report::Report,
};

/// Commands that may wait: a burst of route batches while one is being written. What does not fit makes the
/// sender wait, or [`TunnelHandle::try_routes`] say so, which is how a slow kernel is felt upstream.
const COMMANDS: usize = 64;
/// How often sysctls are looked at, which change without an event.
const AUDIT_INTERVAL: Duration = Duration::from_secs(60);

enum Command {
    Configure(Box<Config>),
    Routes(Vec<RouteChange>),
    InSync,
    Report(oneshot::Sender<Box<Report>>),
    Stop,
}

/// The task is gone: it was stopped, or it panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tunnel task has ended")]
pub struct TunnelStopped;

/// Why [`TunnelHandle::try_routes`] did not take the changes.
#[derive(Debug, thiserror::Error)]
pub enum TryRoutesError {
    /// The task is busy; the changes come back.
    #[error("the tunnel task is busy")]
    Full(Vec<RouteChange>),
    /// The task is gone.
    #[error("the tunnel task has ended")]
    Stopped,
}

/// The way to the tunnel task; clones lead to the same one.
#[derive(Debug, Clone)]
pub struct TunnelHandle {
    commands: mpsc::Sender<Command>,
}

impl TunnelHandle {
    /// Starts the task on the kernel of the calling thread's network namespace, inside a tokio runtime
    /// whose threads are all in that namespace. It touches nothing until it is configured.
    ///
    /// # Errors
    /// When the netlink sockets cannot be opened.
    pub fn spawn() -> io::Result<(Self, JoinHandle<()>)> {
        Ok(Self::spawn_on(Kernel::open()?))
    }

    /// Starts the task on another dataplane.
    pub fn spawn_on<D: Dataplane>(dataplane: D) -> (Self, JoinHandle<()>) {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let task = tokio::spawn(run(Reconciler::new(dataplane), receiver));
        (Self { commands }, task)
    }

    /// Gives a new configuration; what it does not change is not touched.
    ///
    /// # Errors
    /// When the task is gone.
    pub async fn configure(&self, config: Config) -> Result<(), TunnelStopped> {
        self.send(Command::Configure(Box::new(config))).await
    }

    /// Gives changes of best paths, waiting while the task is busy.
    ///
    /// # Errors
    /// When the task is gone.
    pub async fn routes(&self, changes: Vec<RouteChange>) -> Result<(), TunnelStopped> {
        self.send(Command::Routes(changes)).await
    }

    /// Gives changes of best paths if the task has room for them.
    ///
    /// # Errors
    /// [`TryRoutesError::Full`] gives the changes back.
    pub fn try_routes(&self, changes: Vec<RouteChange>) -> Result<(), TryRoutesError> {
        self.commands.try_send(Command::Routes(changes)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(Command::Routes(changes)) => TryRoutesError::Full(changes),
            _ => TryRoutesError::Stopped,
        })
    }

    /// Says that all routes were given: what is ours and unwanted in the kernel may be deleted.
    ///
    /// # Errors
    /// When the task is gone.
    pub async fn in_sync(&self) -> Result<(), TunnelStopped> {
        self.send(Command::InSync).await
    }

    /// How things are, after all that was given before has been dealt with.
    ///
    /// # Errors
    /// When the task is gone.
    pub async fn report(&self) -> Result<Report, TunnelStopped> {
        let (sender, receiver) = oneshot::channel();
        self.send(Command::Report(sender)).await?;
        receiver.await.map(|report| *report).map_err(|_| TunnelStopped)
    }

    /// Ends the task and leaves the kernel's state as it is, for the next start to adopt.
    ///
    /// # Errors
    /// When the task is gone already.
    pub async fn stop(&self) -> Result<(), TunnelStopped> {
        self.send(Command::Stop).await?;
        self.commands.closed().await;
        Ok(())
    }

    async fn send(&self, command: Command) -> Result<(), TunnelStopped> {
        self.commands.send(command).await.map_err(|_| TunnelStopped)
    }
}

/// What a command asks of the loop.
enum Next {
    Go,
    Answer(oneshot::Sender<Box<Report>>),
    Stop,
}

fn take_in<D: Dataplane>(state: &mut Reconciler<D>, command: Command) -> Next {
    match command {
        Command::Configure(config) => state.configure(*config),
        Command::Routes(changes) => state.routes(changes),
        Command::InSync => state.in_sync(),
        Command::Report(sender) => return Next::Answer(sender),
        Command::Stop => return Next::Stop,
    }
    Next::Go
}

async fn run<D: Dataplane>(mut state: Reconciler<D>, mut commands: mpsc::Receiver<Command>) {
    let mut audit_at = Instant::now() + AUDIT_INTERVAL;
    loop {
        let mut answer = None;
        let retry_at = state.next_retry();
        tokio::select! {
            command = commands.recv() => {
                // Every handle dropped is a stop too.
                let Some(first) = command else { return };
                // All that waits is taken in before the kernel is touched: many changes, one plan.
                let mut waiting = std::iter::once(first)
                    .chain(std::iter::from_fn(|| commands.try_recv().ok()))
                    .take(COMMANDS);
                while answer.is_none() && let Some(command) = waiting.next() {
                    match take_in(&mut state, command) {
                        Next::Go => {}
                        Next::Answer(sender) => answer = Some(sender),
                        Next::Stop => return,
                    }
                }
            }
            events = state.dataplane.events() => state.handle(events),
            () = sleep_until(retry_at) => {}
            () = sleep_until(Some(audit_at)) => {
                state.audit();
                audit_at = Instant::now() + AUDIT_INTERVAL;
            }
        }
        state.reconcile().await;
        if let Some(sender) = answer {
            // Nobody waits for the answer any more: fine.
            let _ = sender.send(Box::new(state.report()));
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}
