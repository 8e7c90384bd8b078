//! The task that owns the reconciler, and the handle to it.

use std::{
    future::ready,
    io,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
};

use timing::sleep_until;

use crate::{
    activity::TunnelActivity,
    dataplane::{Dataplane, Wakeup},
    dry_run::DryRun,
    firewall::Tunnels,
    kernel::KernelDataplane,
    node::{Config, RouteChange},
    reconcile::{Reconciler, Turn},
    report::{DataplaneReport, ExitKind, RouteReport},
};

/// Commands that may be queued: a burst of route batches while one is being written. A full queue
/// makes the sender wait, which propagates the back pressure of a slow kernel.
const COMMANDS: usize = 64;
/// Interval of the checks of sysctls, some of which change without an event.
const AUDIT_INTERVAL: Duration = Duration::from_secs(60);

/// Queries that may be queued; they are answered between two turns.
const QUERIES: usize = 16;
/// Changes of routes accepted before the kernel gets its turn: about a millisecond.
const MAX_CHANGES: usize = 4096;

/// A page of route reports, and the cursor of the next one.
type RoutePage = (Vec<RouteReport>, Option<u32>);

enum TunnelCommand {
    Configure(Box<Config>),
    Routes(Vec<RouteChange>),
    InSync,
    Settle(oneshot::Sender<()>),
    Stop,
}

/// A query that is answered at once, before queued commands.
enum TunnelQuery {
    Summary(oneshot::Sender<Box<DataplaneReport>>),
    RoutePage(u32, oneshot::Sender<RoutePage>),
    Prefix(IpNet, oneshot::Sender<Vec<RouteReport>>),
    DryRun(Box<(Config, Vec<RouteChange>)>, oneshot::Sender<DryRun>),
}

/// The end of the tunnel task: it was stopped, or it panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tunnel task has ended")]
pub struct TunnelStopped;

/// A handle to the tunnel task; clones refer to the same task.
#[derive(Debug, Clone)]
pub struct TunnelHandle {
    commands: mpsc::Sender<TunnelCommand>,
    queries: mpsc::Sender<TunnelQuery>,
    tunnels: watch::Receiver<Tunnels>,
    pod_mtu: watch::Receiver<Option<u32>>,
    activity: broadcast::Sender<TunnelActivity>,
}

impl TunnelHandle {
    /// Starts the task on the kernel of the calling thread's network namespace, inside a tokio
    /// runtime whose threads are all in that namespace. The task touches nothing until it is
    /// configured.
    ///
    /// # Errors
    /// Those of the netlink sockets.
    pub fn spawn() -> io::Result<(Self, JoinHandle<()>)> {
        Ok(Self::spawn_on(KernelDataplane::open()?))
    }

    /// Starts the task on another dataplane.
    pub fn spawn_on<D: Dataplane>(dataplane: D) -> (Self, JoinHandle<()>) {
        let (commands, command_queue) = mpsc::channel(COMMANDS);
        let (queries, query_queue) = mpsc::channel(QUERIES);
        let reconciler = Reconciler::new(dataplane);
        let (tunnels, pod_mtu) =
            (reconciler.publisher.tunnels.subscribe(), reconciler.publisher.pod_mtu.subscribe());
        let activity = reconciler.publisher.activity.listeners();
        let task = tokio::spawn(run(reconciler, command_queue, query_queue));
        (Self { commands, queries, tunnels, pod_mtu, activity }, task)
    }

    /// Returns the state of the tunnels, for the firewall.
    pub fn tunnels(&self) -> watch::Receiver<Tunnels> {
        self.tunnels.clone()
    }

    /// Returns the MTU of pods in octets; `None` while the node's interface is not known.
    pub fn pod_mtu(&self) -> watch::Receiver<Option<u32>> {
        self.pod_mtu.clone()
    }

    /// Subscribes to summaries of events; a slow subscriber misses the oldest.
    pub fn activity(&self) -> broadcast::Receiver<TunnelActivity> {
        self.activity.subscribe()
    }

    /// Sets a new configuration; kernel state that it does not change is not touched.
    ///
    /// # Errors
    /// [`TunnelStopped`] if the task has ended.
    pub async fn configure(&self, config: Config) -> Result<(), TunnelStopped> {
        self.send(TunnelCommand::Configure(Box::new(config))).await
    }

    /// Passes changes of best paths, waiting while the task is busy.
    ///
    /// # Errors
    /// [`TunnelStopped`] if the task has ended.
    pub async fn routes(&self, changes: Vec<RouteChange>) -> Result<(), TunnelStopped> {
        self.send(TunnelCommand::Routes(changes)).await
    }

    /// Declares that all routes were passed: leftovers in the kernel may be deleted.
    ///
    /// # Errors
    /// [`TunnelStopped`] if the task has ended.
    pub async fn in_sync(&self) -> Result<(), TunnelStopped> {
        self.send(TunnelCommand::InSync).await
    }

    /// Waits until all previous input was processed, as far as the kernel permits.
    ///
    /// # Errors
    /// [`TunnelStopped`] if the task has ended.
    pub async fn settle(&self) -> Result<(), TunnelStopped> {
        let (sender, receiver) = oneshot::channel();
        self.send(TunnelCommand::Settle(sender)).await?;
        receiver.await.map_err(|_| TunnelStopped)
    }

    /// Returns the report without the single routes, within milliseconds and independently of the
    /// writing of routes.
    ///
    /// # Errors
    /// [`TunnelStopped`] if the task has ended.
    pub async fn summary(&self) -> Result<DataplaneReport, TunnelStopped> {
        self.query(TunnelQuery::Summary).await.map(|report| *report)
    }

    /// Returns the report with all routes. The routes are collected a few thousand at a time, so
    /// that other queries are answered in between.
    ///
    /// # Errors
    /// [`TunnelStopped`] if the task has ended.
    pub async fn report(&self) -> Result<DataplaneReport, TunnelStopped> {
        let mut report = self.summary().await?;
        let mut cursor = Some(0);
        while let Some(from) = cursor {
            let (mut some, next) = self.query(|sender| TunnelQuery::RoutePage(from, sender)).await?;
            report.routes.append(&mut some);
            cursor = next;
        }
        report.routes.sort_by_key(|r| (r.prefix, r.exit == Some(ExitKind::Blackhole)));
        Ok(report)
    }

    /// Returns the reports of one prefix; none if it is not known.
    ///
    /// # Errors
    /// [`TunnelStopped`] if the task has ended.
    pub async fn route(&self, prefix: IpNet) -> Result<Vec<RouteReport>, TunnelStopped> {
        self.query(|sender| TunnelQuery::Prefix(prefix, sender)).await
    }

    /// Returns the changes that another configuration, and changes of best paths with it, would
    /// make to the kernel. Nothing is changed.
    ///
    /// # Errors
    /// [`TunnelStopped`] if the task has ended.
    pub async fn dry_run(&self, config: Config, changes: Vec<RouteChange>) -> Result<DryRun, TunnelStopped> {
        self.query(|sender| TunnelQuery::DryRun(Box::new((config, changes)), sender)).await
    }

    async fn query<T>(
        &self,
        query: impl FnOnce(oneshot::Sender<T>) -> TunnelQuery,
    ) -> Result<T, TunnelStopped> {
        let (sender, receiver) = oneshot::channel();
        self.queries.send(query(sender)).await.map_err(|_| TunnelStopped)?;
        receiver.await.map_err(|_| TunnelStopped)
    }

    /// Ends the task and leaves kernel state as it is, for the next start to adopt.
    ///
    /// # Errors
    /// [`TunnelStopped`] if the task has ended before.
    pub async fn stop(&self) -> Result<(), TunnelStopped> {
        self.send(TunnelCommand::Stop).await?;
        self.commands.closed().await;
        Ok(())
    }

    async fn send(&self, command: TunnelCommand) -> Result<(), TunnelStopped> {
        self.commands.send(command).await.map_err(|_| TunnelStopped)
    }
}

/// Processes a command. Returns the number of changes of routes in it; `None` for the last command.
fn process<D: Dataplane>(
    state: &mut Reconciler<D>,
    command: TunnelCommand,
    settling: &mut Vec<oneshot::Sender<()>>,
) -> Option<usize> {
    match command {
        TunnelCommand::Configure(config) => state.configure(*config),
        TunnelCommand::Routes(changes) => {
            let count = changes.len();
            state.routes(changes);
            return Some(count);
        }
        TunnelCommand::InSync => state.in_sync(),
        TunnelCommand::Settle(sender) => settling.push(sender),
        TunnelCommand::Stop => return None,
    }
    Some(0)
}

fn answer<D: Dataplane>(state: &mut Reconciler<D>, query: TunnelQuery) {
    // The receiver of the answer may be gone.
    match query {
        TunnelQuery::Summary(sender) => drop(sender.send(Box::new(state.summary()))),
        TunnelQuery::RoutePage(cursor, sender) => drop(sender.send(state.route_page(cursor))),
        TunnelQuery::Prefix(prefix, sender) => drop(sender.send(state.prefix_routes(&prefix))),
        TunnelQuery::DryRun(given, sender) => {
            let (config, changes) = *given;
            drop(sender.send(state.dry_run(&config, changes)));
        }
    }
}

async fn run<D: Dataplane>(
    mut state: Reconciler<D>,
    mut commands: mpsc::Receiver<TunnelCommand>,
    mut queries: mpsc::Receiver<TunnelQuery>,
) {
    let mut audit_at = Instant::now() + AUDIT_INTERVAL;
    let mut settling = Vec::new();
    let mut turn = Turn::Rest;
    loop {
        // First, because `select!` chooses among the other branches at random.
        while let Ok(query) = queries.try_recv() {
            answer(&mut state, query);
        }
        let retry_at = state.next_retry().filter(|_| turn == Turn::Rest);
        tokio::select! {
            command = commands.recv() => {
                // If every handle is dropped, the task stops too.
                let Some(first) = command else { return };
                // Queued commands are processed before the kernel is touched: many changes, one plan.
                let mut taken = 0;
                let mut next = Some(first);
                while let Some(command) = next {
                    match process(&mut state, command, &mut settling) {
                        Some(count) => taken += count,
                        None => return,
                    }
                    next = if taken < MAX_CHANGES { commands.try_recv().ok() } else { None };
                }
            }
            Some(query) = queries.recv() => {
                answer(&mut state, query);
                if turn != Turn::More {
                    continue;
                }
            }
            wakeup = state.dataplane.wait(turn == Turn::Writing) => match wakeup {
                Wakeup::Completed(errors) => state.completed(errors),
                Wakeup::Events(events) => state.handle(events),
            },
            () = sleep_until(retry_at) => {}
            () = sleep_until(Some(audit_at)) => {
                state.audit();
                audit_at = Instant::now() + AUDIT_INTERVAL;
            }
            () = ready(()), if turn == Turn::More => {}
        }
        turn = state.reconcile().await;
        if turn == Turn::Rest {
            for sender in settling.drain(..) {
                let _ = sender.send(());
            }
        } else {
            // All branches may be ready again and again: other tasks of this thread need their turn too.
            tokio::task::yield_now().await;
        }
    }
}
