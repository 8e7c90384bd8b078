//! The task that owns the RIB, and its handle.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bgp::PeerId;
use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::channels::{Backpressure, PeerChannels};
use crate::command::{RibCommand, SyncCondition, SyncWaiter};
pub use crate::command_queue::RibUnavailable;
use crate::command_queue::{CommandReceiver, CommandSender};
use crate::config::RibConfig;
use crate::path::{BestChange, Source};
use crate::policy::PrefixLimitReport;
use crate::policy::{ClusterPolicy, PeerPolicy};
use crate::rib::Rib;
use crate::session::SessionSink;

/// Capacity of the channel of best-path changes, in batches; when it is full, only the latest
/// change of each prefix is kept.
const BEST_BATCHES: usize = 16;
/// Changes per batch: what the kernel processes in some milliseconds.
const BEST_BATCH: usize = 4096;
/// Prefixes imported before the decision process, queries and other commands run: about a
/// millisecond, and few enough to stay in the processor's cache.
const BUDGET: usize = 4096;
/// Prefixes decided on per turn: more than are imported, so that none queue up.
const DECIDED: usize = 2 * BUDGET;
/// Cost of resuming one peer, in units of [`BUDGET`].
const RESUMED: usize = 256;
/// Maximum time that slow sockets of peers delay the next decisions.
const PATIENCE: Duration = Duration::from_millis(10);

/// Capacity of the channel of prefix-limit reports; further reports wait in the RIB, at most two
/// per session.
const LIMITS: usize = 64;

/// Handle of the RIB's task, which ends with the last handle.
#[derive(Clone, Debug)]
pub struct RibHandle {
    commands: CommandSender,
    pressure: Arc<Backpressure>,
}

impl RibHandle {
    /// Starts the RIB's task. Changes of best paths are sent to the receiver, as long as that
    /// exists.
    pub fn spawn(config: RibConfig) -> (RibHandle, mpsc::Receiver<Vec<BestChange>>, JoinHandle<()>) {
        let (commands, receiver) = CommandSender::new();
        let (best, changes) = mpsc::channel(BEST_BATCHES);
        let pressure = Arc::<Backpressure>::default();
        let channels = PeerChannels::new(Arc::clone(&pressure));
        let actor = Actor { rib: Rib::new(config), channels, best, limits: None, waiters: Vec::new() };
        let task = tokio::spawn(actor.run(receiver));
        (RibHandle { commands, pressure }, changes, task)
    }

    /// Returns the sink for the routes of a session.
    pub fn session(&self, id: PeerId, address: IpAddr, client: bool) -> SessionSink {
        SessionSink::new(id, address, client, self.commands.clone(), Arc::clone(&self.pressure))
    }

    /// Replaces the configuration; see [`Rib::configure`].
    pub async fn configure(&self, config: RibConfig) {
        self.send(RibCommand::Configure(config)).await;
    }

    /// Sets the policy for all peers; see [`Rib::set_cluster_policy`].
    pub async fn set_cluster_policy(&self, policy: ClusterPolicy) {
        self.send(RibCommand::Policy(Box::new(policy))).await;
    }

    /// Sets the policy of a peer; see [`Rib::set_peer_policy`].
    pub async fn set_peer_policy(&self, id: PeerId, policy: PeerPolicy) {
        self.send(RibCommand::PeerPolicy(id, Box::new(policy))).await;
    }

    /// Removes the policy of a peer; see [`Rib::forget_peer`].
    pub async fn forget_peer(&self, id: PeerId) {
        self.send(RibCommand::Forget(id)).await;
    }

    /// Returns a receiver for prefix-limit reports, which replaces an earlier one.
    pub async fn limits(&self) -> mpsc::Receiver<PrefixLimitReport> {
        let (sender, receiver) = mpsc::channel(LIMITS);
        self.send(RibCommand::Limits(sender)).await;
        receiver
    }

    /// Sets the paths of a source; see [`Rib::originate`].
    pub async fn originate(&self, source: Source, paths: Vec<(IpNet, IpAddr)>) {
        self.send(RibCommand::Originate(source, paths)).await;
    }

    /// Sets the static table; see [`Rib::originate_statics`].
    pub async fn originate_statics(&self, due: Vec<(IpNet, IpAddr)>, awaited: Vec<(IpNet, IpAddr)>) {
        self.send(RibCommand::OriginateStatics(due, awaited)).await;
    }

    /// Sets a peer's role; see [`Rib::set_client`].
    pub async fn set_client(&self, id: PeerId, client: bool) {
        self.send(RibCommand::SetClient(id, client)).await;
    }

    /// Waits until all `peers` have sent End-of-RIB for all their families, and until the resulting
    /// changes are in the receiver of best paths.
    ///
    /// # Errors
    /// [`RibUnavailable`].
    pub async fn settled(&self, peers: Vec<PeerId>) -> Result<(), RibUnavailable> {
        self.wait(peers, SyncCondition::Synced).await
    }

    /// Waits until End-of-RIB need not wait any longer for any of `peers`; see
    /// [`Rib::is_caught_up`].
    ///
    /// # Errors
    /// [`RibUnavailable`].
    pub async fn caught_up(&self, peers: Vec<PeerId>) -> Result<(), RibUnavailable> {
        self.wait(peers, SyncCondition::CaughtUp).await
    }

    async fn wait(&self, peers: Vec<PeerId>, what: SyncCondition) -> Result<(), RibUnavailable> {
        let (sender, settled) = oneshot::channel();
        self.send(RibCommand::Wait((peers, what, sender))).await;
        settled.await.map_err(|_| RibUnavailable)
    }

    /// Holds End-of-RIB back after a restart, or releases it; see [`Rib::hold_markers`].
    pub async fn hold_markers(&self, hold: bool) {
        self.send(RibCommand::HoldMarkers(hold)).await;
    }

    /// Runs a query on the RIB and returns its result.
    ///
    /// # Errors
    /// [`RibUnavailable`].
    pub async fn query<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Rib) -> T + Send + 'static,
    ) -> Result<T, RibUnavailable> {
        let (sender, answer) = oneshot::channel();
        self.send(RibCommand::Query(Box::new(move |rib| _ = sender.send(ask(rib))))).await;
        answer.await.map_err(|_| RibUnavailable)
    }

    async fn send(&self, command: RibCommand) {
        if self.commands.send(command).await.is_err() {
            tracing::debug!("{RibUnavailable}");
        }
    }
}

struct Actor {
    rib: Rib,
    channels: PeerChannels,
    best: mpsc::Sender<Vec<BestChange>>,
    limits: Option<mpsc::Sender<PrefixLimitReport>>,
    waiters: Vec<SyncWaiter>,
}

impl Actor {
    async fn run(mut self, mut commands: CommandReceiver) {
        let best = self.best.clone();
        let mut done = true;
        loop {
            self.rib.set_forwards(!best.is_closed());
            tokio::select! {
                biased;
                permit = best.reserve(), if self.rib.has_best_changes() => {
                    let mut changes = Vec::new();
                    self.rib.best_changes(BEST_BATCH, &mut changes);
                    if let Ok(permit) = permit {
                        permit.send(changes);
                    }
                }
                more = commands.wait(), if done => if !more {
                    return;
                },
                () = std::future::ready(()), if !done => {}
            }
            // Deviation: RFC 4271 §10 suggests a MinRouteAdvertisementIntervalTimer of 5 s for
            // internal peers; §9.2.1.1 leaves the value to the implementation, and here it is 0.
            // But while peers still write their last messages, no further prefixes are decided on:
            // their changes then go into fewer and fuller messages, and new routes do not queue
            // behind old ones.
            let _ = tokio::time::timeout(PATIENCE, self.channels.written()).await;
            let mut taken = 0;
            while taken < BUDGET
                && let Some(command) = commands.take()
            {
                taken += self.apply(command);
            }
            self.report_limits();
            done = self.rib.run(DECIDED, &mut self.channels);
            while let Some(peer) = self.channels.take_resumable() {
                self.rib.resume(peer, &mut self.channels.backlog());
            }
            if done && !self.waiters.is_empty() && !self.rib.has_best_changes() {
                self.notify_waiters();
            }
            if !done {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Executes a command; returns its cost in prefixes.
    fn apply(&mut self, command: RibCommand) -> usize {
        match command {
            RibCommand::Up(id, session, channel) => {
                self.channels.insert(id, channel);
                self.rib.peer_up(id, session);
                self.rib.resume(id, &mut self.channels.backlog());
                return RESUMED;
            }
            RibCommand::Down(id, retain) => {
                self.channels.remove(id);
                self.rib.peer_down(id, retain);
            }
            RibCommand::Stale(id, stale) => self.rib.stale(id, stale),
            RibCommand::RefreshBegins(id, family) => self.rib.refresh_begins(id, family),
            RibCommand::HoldMarkers(hold) => {
                for id in self.rib.hold_markers(hold) {
                    self.rib.resume(id, &mut self.channels.backlog());
                }
            }
            RibCommand::Drained(id) => {
                self.rib.resume(id, &mut self.channels.backlog());
                return RESUMED;
            }
            RibCommand::Routes(id, batch) => {
                self.rib.routes(id, &batch);
                return batch.len();
            }
            RibCommand::EndOfRib(id, family) => self.rib.end_of_rib(id, family),
            RibCommand::Refresh(id, family) => {
                self.rib.refresh(id, family);
                self.rib.resume(id, &mut self.channels.backlog());
                return RESUMED;
            }
            RibCommand::Configure(config) => self.rib.configure(config),
            RibCommand::Policy(policy) => self.rib.set_cluster_policy(*policy),
            RibCommand::PeerPolicy(id, policy) => {
                self.rib.set_peer_policy(id, *policy);
                self.rib.resume(id, &mut self.channels.backlog());
            }
            RibCommand::Forget(id) => self.rib.forget_peer(id),
            RibCommand::Limits(sender) => self.limits = Some(sender),
            RibCommand::Originate(source, paths) => self.rib.originate(source, &paths),
            RibCommand::OriginateStatics(due, awaited) => self.rib.originate_statics(&due, &awaited),
            RibCommand::SetClient(id, client) => {
                self.rib.set_client(id, client);
                self.rib.resume(id, &mut self.channels.backlog());
            }
            RibCommand::Query(ask) => ask(&self.rib),
            RibCommand::Wait(waiter) => self.waiters.push(waiter),
        }
        0
    }

    fn report_limits(&mut self) {
        let Some(limits) = &self.limits else { return };
        while self.rib.has_limits()
            && let Ok(permit) = limits.try_reserve()
        {
            if let Some(limit) = self.rib.next_limit() {
                permit.send(limit);
            }
        }
    }

    fn notify_waiters(&mut self) {
        for (peers, what, sender) in std::mem::take(&mut self.waiters) {
            let settled = |id: &PeerId| match what {
                SyncCondition::Synced => self.rib.is_synced(*id),
                SyncCondition::CaughtUp => self.rib.is_caught_up(*id),
            };
            if peers.iter().all(settled) {
                let _ = sender.send(());
            } else if !sender.is_closed() {
                self.waiters.push((peers, what, sender));
            }
        }
    }
}
