//! The daemon's loop state: it starts the parts of the daemon and applies changed resources to
//! them. A part whose configuration is the same before and after a change is left alone.
//!
//! [`event`] has the other events of the loop; each of the remaining modules has one concern.

pub(crate) mod bfd;
pub(crate) mod drain;
mod drain_steps;
pub(crate) mod event;
pub(crate) mod host_tasks;
mod limits;
pub(crate) mod loop_delay;
mod neighbors;
mod passwords;
mod peers;
pub(crate) mod restart;
pub(crate) mod route_feed;
pub(crate) mod state;
pub(crate) mod static_table;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use bgp::net::{DynamicConnection, Listener, PeerHandle};
use bgp::wire::error::ErrorCode;
use bgp::{Asn, Families, PeerId, RouterId};
use datastore::{StoreState, StoreUpdate};
use routing::RibConfig;
use routing::actor::RibHandle;
use routing::limits::PrefixLimitReport;
use tunnel::TunnelHandle;

use crate::config::{DaemonConfig, Dataplane, Datastore};
use crate::daemon::bfd::{BfdEngine, BfdSessionHandle};
use crate::daemon::drain::{DrainRequest, DrainState};
use crate::daemon::host_tasks::HostTasks;
use crate::daemon::route_feed::feed;
use crate::daemon::state::{DaemonState, PeerEntry};
use crate::daemon::static_table::StaticTable;
use crate::host::descriptors;
use crate::host::memory;
use crate::journal::JournalHandle;
use crate::node_config::dynamic_neighbors::DynamicNeighbors;
use crate::node_config::password::Passwords;
use crate::node_config::{self, NodeConfig, PeerSettings};

/// The time after which the routes count as complete although some peers have not connected. It
/// applies in addition to `fallbackAfter`, after which the static table replaces missing peers.
const SYNC_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections from ranges that may be queued: all nodes of a cluster may connect at once, and
/// connect again if they are not answered.
const CONNECTION_QUEUE: usize = 256;
/// The time after a restart at which End-of-RIB is sent although some peers have not connected:
/// half of the restart time that peers grant this node by default.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// The running daemon, without its control socket and its store.
///
/// One task owns the `Daemon` and runs its loop (see `run`). The loop waits for an update of the
/// store, a signal, a changed password file, or [`Daemon::next_event`], and handles one at a time.
/// The wait is safe to cancel. [`Daemon::update`], [`Daemon::handle`] and
/// [`Daemon::read_passwords`] are not: they send a sequence of commands to the parts, and a part of
/// the sequence leaves the parts inconsistent.
///
/// The parts (RIB, peers, tunnels, host tasks) are tasks of their own. The daemon only sends
/// commands to them and never waits for the network. Other tasks read the daemon through the
/// published [`DaemonState`].
pub(crate) struct Daemon {
    config: DaemonConfig,
    pub(crate) rib: RibHandle,
    pub(crate) tunnel: Option<TunnelHandle>,
    pub(crate) host_tasks: Option<HostTasks>,
    feed: JoinHandle<()>,
    memory: JoinHandle<()>,
    /// The limit of open file descriptors.
    descriptors: u64,
    /// Triggers the removal of stale kernel routes once the routes are complete.
    sync: mpsc::Sender<()>,
    listener: Option<(u16, Listener)>,
    peers: BTreeMap<IpAddr, ManagedPeer>,
    /// The entries of `peers` that connected from a range.
    neighbors: DynamicNeighbors,
    /// Incoming connections from ranges.
    dynamic_connections: (mpsc::Sender<DynamicConnection>, mpsc::Receiver<DynamicConnection>),
    /// Reports of peers that approach or exceed their maximum of prefixes.
    limits: Option<mpsc::Receiver<PrefixLimitReport>>,
    /// The time of the next check for dynamic neighbors without a session.
    neighbor_check_at: Instant,
    next_id: u32,
    /// Peers that are being stopped; each task sends the last messages of one peer.
    stopping: JoinSet<()>,
    static_table: StaticTable,
    drain: DrainState,
    drain_requests: mpsc::Receiver<DrainRequest>,
    pub(crate) state: watch::Sender<Arc<DaemonState>>,
    /// Receives once when all peers have sent their routes; `None` when nothing waits for that.
    routes_complete: Option<mpsc::Receiver<()>>,
    /// The time at which the routes count as complete in any case.
    routes_complete_at: Option<Instant>,
    in_sync: bool,
    passwords: watch::Sender<Arc<Passwords>>,
    bfd: BfdEngine,
    /// Until this node has caught up after its start, the families whose forwarding state was
    /// preserved.
    restarted: watch::Sender<Option<Families>>,
    /// Receives once when this node has caught up with its peers, with the time limit; `None` when
    /// nothing waits for that.
    caught_up: Option<(mpsc::Receiver<()>, Instant)>,
}

/// A configured peer and the handle of its task.
pub(crate) struct ManagedPeer {
    id: PeerId,
    settings: PeerSettings,
    handle: PeerHandle,
    bfd: Option<BfdSessionHandle>,
}

impl Daemon {
    /// Starts the RIB and the tunnels, without peers or routes. Returns the daemon and the channel
    /// that requests its drain.
    pub(crate) fn start(
        config: DaemonConfig,
        journal: JournalHandle,
    ) -> (Daemon, mpsc::Sender<DrainRequest>) {
        let (rib, changes, _) = RibHandle::spawn(RibConfig {
            local_as: Asn(0),
            router_id: RouterId(Ipv4Addr::UNSPECIFIED),
            cluster_id: None,
            local_addresses: Vec::new(),
            multipath: 1,
        });
        let forwarding = restart::preserved_families(&config.state_dir);
        let tunnel = match config.dataplane {
            Dataplane::None => None,
            Dataplane::Kernel => match TunnelHandle::spawn() {
                Ok((tunnel, _)) => Some(tunnel),
                Err(error) => {
                    tracing::error!(%error, "netlink can't be opened: no route reaches the kernel; run routed with CAP_NET_ADMIN");
                    None
                }
            },
        };
        // One place is enough: the daemon sends once, when the routes are complete.
        let (sync, synced) = mpsc::channel(1);
        let feed = tokio::spawn(feed(changes, synced, tunnel.clone(), journal));
        let memory = tokio::spawn(memory::release_free_memory(rib.clone()));
        let state = watch::channel(Arc::new(DaemonState::default())).0;
        // One place is enough: a second request is refused.
        let (drain_sender, drain_requests) = mpsc::channel(1);
        let host_tasks = tunnel.as_ref().map(|tunnel| HostTasks::start(&config, tunnel));
        let daemon = Daemon {
            config,
            rib,
            tunnel,
            host_tasks,
            feed,
            memory,
            descriptors: descriptors::raise_limit(),
            sync,
            listener: None,
            peers: BTreeMap::new(),
            neighbors: DynamicNeighbors::default(),
            dynamic_connections: mpsc::channel(CONNECTION_QUEUE),
            limits: None,
            neighbor_check_at: Instant::now(),
            next_id: 1,
            stopping: JoinSet::new(),
            static_table: StaticTable::default(),
            drain: DrainState::Inactive,
            drain_requests,
            state,
            routes_complete: None,
            routes_complete_at: None,
            in_sync: false,
            passwords: watch::channel(Arc::default()).0,
            bfd: BfdEngine::default(),
            restarted: watch::channel(Some(forwarding)).0,
            caught_up: None,
        };
        (daemon, drain_sender)
    }

    /// Applies an update of the store. Invalid resources change nothing: the daemon keeps the last
    /// valid configuration and reports the mistakes.
    pub(crate) async fn update(&mut self, update: StoreUpdate) {
        match update {
            Ok(loaded) => self.apply_resources(loaded).await,
            Err(mistakes) => {
                let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                for line in &lines {
                    tracing::error!("{line}");
                }
                tracing::error!("the resources are not valid: what was valid before keeps running");
                self.state.send_modify(|state| Arc::make_mut(state).mistakes = lines);
            }
        }
    }

    /// Derives the configuration of this node from the resources, applies it, and publishes the
    /// new state.
    pub(crate) async fn apply_resources(&mut self, loaded: StoreState) {
        let before = self.state.borrow().clone();
        let derived = node_config::derive(&self.config, &loaded.snapshot);
        let passwords = derived.as_ref().map_or_else(|_| Passwords::default(), Passwords::read_for);
        let same = before.snapshot == loaded.snapshot && **self.passwords.borrow() == passwords;
        let mistakes: Vec<String> = loaded.refused.iter().map(ToString::to_string).collect();
        if before.node_config.is_some() && same && before.mistakes == mistakes {
            self.state.send_modify(|state| Arc::make_mut(state).revision = Some(loaded.revision));
            return;
        }
        for warning in loaded.warnings.iter().filter(|warning| !before.warnings.contains(warning)) {
            tracing::warn!("{warning}");
        }
        for refused in mistakes.iter().filter(|refused| !before.mistakes.contains(refused)) {
            tracing::error!("{refused}");
        }
        let mut state = DaemonState {
            revision: Some(loaded.revision),
            warnings: loaded.warnings,
            refused: loaded.refused,
            mistakes,
            in_sync: self.in_sync,
            ..DaemonState::default()
        };
        let derived = derived.map(|mut node_config| {
            let problems = passwords.apply_to(&mut node_config);
            problems.iter().for_each(|problem| tracing::error!("{problem}"));
            state.problems.extend(problems);
            node_config
        });
        self.passwords.send_replace(Arc::new(passwords));
        match derived {
            Ok(node_config) => {
                let wait = loaded.snapshot.configuration.routed.fallback_after;
                self.apply_node_config(&node_config, wait, &mut state.problems).await;
                state.problems.extend(self.bfd.problem());
                state.node_config = Some(Arc::new(node_config));
            }
            Err(error) => {
                // With a shared store the node registers itself, and the registration reports its
                // own problems.
                if matches!(self.config.datastore, Datastore::File(_)) {
                    tracing::error!("{error}");
                }
                state.problems.push(error.to_string());
                state.node_config.clone_from(&before.node_config);
            }
        }
        state.snapshot = loaded.snapshot;
        state.listening = self.listener.as_ref().map(|(port, _)| *port);
        state.peers = self.peer_entries();
        self.state.send_replace(Arc::new(state));
    }

    fn peer_entries(&self) -> Vec<PeerEntry> {
        let entry = |peer: &ManagedPeer| PeerEntry {
            id: peer.id,
            peering: peer.settings.peering.clone(),
            max_prefixes: peer.settings.policy.max_prefixes,
            status: peer.handle.watch(),
            bfd: peer.bfd.as_ref().map(|bfd| bfd.reports.clone()),
        };
        self.peers.values().map(entry).collect()
    }

    /// Publishes the list of peers after a change that no resource has caused.
    pub(crate) fn publish_peers(&self) {
        let peers = self.peer_entries();
        self.state.send_modify(|state| Arc::make_mut(state).peers = peers);
    }

    async fn apply_node_config(
        &mut self,
        node_config: &NodeConfig,
        fallback_after: Duration,
        problems: &mut Vec<String>,
    ) {
        self.rib.configure(node_config.rib.clone()).await;
        if self.is_fresh() {
            self.rib.hold_markers(true).await;
        }
        // Before the tunnels: they read the kernel state when they are configured.
        self.originate_local_paths(node_config).await;
        if self.limits.is_none() {
            self.limits = Some(self.rib.limits().await);
        }
        if let Some(tunnel) = &self.tunnel
            && let Err(error) = tunnel.configure(node_config.tunnel.clone()).await
        {
            problems.push(error.to_string());
        }
        self.host_tasks.iter().for_each(|host_tasks| host_tasks.configure(node_config));
        let wait = if node_config.listen_port.is_some() { fallback_after } else { Duration::ZERO };
        self.static_table.set(node_config.static_paths.clone(), wait, Instant::now());
        self.originate_static_paths().await;
        self.update_peers(node_config).await;
        self.update_neighbors(node_config).await;
        self.check_descriptors(node_config, problems);
        self.listen(node_config.listen_port, problems).await;
        if !self.in_sync {
            let at = *self.routes_complete_at.get_or_insert_with(|| Instant::now() + wait.max(SYNC_TIMEOUT));
            self.await_routes_complete(at);
        }
        self.await_caught_up();
    }

    /// Reports too few file descriptors for the configured peers. Too few for all neighbors that
    /// the ranges allow is only a warning: rarely do all of them connect.
    fn check_descriptors(&self, node_config: &NodeConfig, problems: &mut Vec<String>) {
        let neighbors: u32 = node_config.ranges.iter().map(|range| range.range.limit).sum();
        let sessions = node_config.peers.len() + usize::try_from(neighbors).unwrap_or(usize::MAX);
        match descriptors::too_few(self.descriptors, node_config.peers.len()) {
            Some(problem) => problems.push(problem),
            None => descriptors::too_few(self.descriptors, sessions)
                .iter()
                .for_each(|warning| tracing::warn!("{warning}")),
        }
    }

    /// Returns whether this start is a restart and no configuration has been applied since.
    fn is_fresh(&self) -> bool {
        self.restarted.borrow().is_some_and(|forwarding| !forwarding.is_empty()) && self.caught_up.is_none()
    }

    /// After a restart, starts a task that waits until the peers have sent all their routes.
    fn await_caught_up(&mut self) {
        if self.restarted.borrow().is_none() {
            return;
        }
        let now = Instant::now();
        // After a first start no peer has retained routes of this node.
        let limit =
            if self.is_fresh() || self.caught_up.is_some() { CATCH_UP_TIMEOUT } else { Duration::ZERO };
        let until = self.caught_up.as_ref().map_or(now + limit, |(_, until)| *until);
        let ids: Vec<PeerId> = self.peers.values().map(|peer| peer.id).collect();
        let (sender, receiver) = mpsc::channel(1);
        let rib = self.rib.clone();
        tokio::spawn(async move {
            restart::wait_until_caught_up(rib, ids, until.saturating_duration_since(now)).await;
            let _ = sender.send(()).await;
        });
        self.caught_up = Some((receiver, until));
    }

    /// Starts a task that waits until all peers have sent their routes, or until `at`.
    fn await_routes_complete(&mut self, at: Instant) {
        let ids: Vec<PeerId> = self.peers.values().map(|peer| peer.id).collect();
        let rib = self.rib.clone();
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let _ = tokio::time::timeout_at(at.into(), rib.settled(ids)).await;
            // After a timeout too, the known routes must reach the kernel before stale ones are
            // removed.
            let _ = rib.settled(Vec::new()).await;
            let _ = sender.send(()).await;
        });
        self.routes_complete = Some(receiver);
    }

    /// Originates the paths of the static table that are due.
    pub(crate) async fn originate_static_paths(&mut self) {
        let (due, awaited) = self.static_table.paths(Instant::now());
        self.rib.originate_statics(due, awaited).await;
    }

    /// Ends every session. Unless the node is drained, peers with graceful restart retain this
    /// node's routes. The kernel state stays as it is.
    pub(crate) async fn stop(mut self) {
        // Before the sessions end: the withdrawals that follow from their end must not reach the
        // kernel.
        self.feed.abort();
        self.memory.abort();
        if let Some(tunnel) = &self.tunnel {
            let _ = tunnel.stop().await;
        }
        let drained = self.is_drained();
        for peer in std::mem::take(&mut self.peers).into_values() {
            self.stopping.spawn(async move {
                if drained {
                    peer.handle.stop(ErrorCode::ADMINISTRATIVE_SHUTDOWN).await;
                } else {
                    peer.handle.restart().await;
                }
            });
        }
        while self.stopping.join_next().await.is_some() {}
    }
}
