//! Puts the parts together, and arranges them anew when the resources change: what is the same
//! before and after is left alone. What else it deals with is in `happening`.

pub(crate) mod bfd;
pub(crate) mod drain;
mod drain_steps;
pub(crate) mod event;
pub(crate) mod limits;
pub(crate) mod loop_delay;
mod passwords;
pub(crate) mod restart;
pub(crate) mod route_feed;
pub(crate) mod state;
pub(crate) mod static_paths;
pub(crate) mod upkeep;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::net::{DynamicConnection, Listener, PeerHandle, spawn_peer};
use bgp::wire::error::ErrorCode;
use bgp::{Asn, Families, PeerId, RouterId};
use routing::RibConfig;
use routing::actor::RibHandle;
use routing::limits::PrefixLimitReport;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tunnel::TunnelHandle;

use crate::config::{DaemonConfig, Dataplane, Datastore};
use crate::daemon::bfd::{Detection, Detector};
use crate::daemon::drain::{Drain, DrainRequest};
use crate::daemon::route_feed::feed;
use crate::daemon::state::{Roster, RosterPeer};
use crate::daemon::static_paths::Statics;
use crate::daemon::upkeep::Upkeep;
use crate::host::descriptors;
use crate::host::memory;
use crate::node_config::dynamic_neighbors::Neighbours;
use crate::node_config::password::Passwords;
use crate::node_config::{PeerPlan, Plan, plan};
use datastore::{StoreState, StoreUpdate};

/// After this long the routes count as whole, however many peers have not come (beside
/// `fallbackAfter`, after which the static table stands in for them).
const SYNC_AT_LATEST: Duration = Duration::from_secs(5);
/// Calls from ranges that may wait: a cluster's nodes may all call at once, and call again if they are not
/// answered.
const STRANGERS: usize = 256;
/// After a restart, End-of-RIB is sent after this long, however many peers have not come; half of what
/// peers wait for this node by default.
const CAUGHT_UP_AT_LATEST: Duration = Duration::from_secs(60);

pub(crate) struct Running {
    pub(crate) id: PeerId,
    pub(crate) plan: PeerPlan,
    pub(crate) handle: PeerHandle,
    pub(crate) detection: Option<Detection>,
}

/// The running daemon, but for its control socket and its store.
pub(crate) struct Daemon {
    config: DaemonConfig,
    pub(crate) rib: RibHandle,
    pub(crate) tunnel: Option<TunnelHandle>,
    pub(crate) upkeep: Option<Upkeep>,
    feed: JoinHandle<()>,
    memory: JoinHandle<()>,
    /// How many file descriptors there may be.
    descriptors: u64,
    pub(crate) sync: mpsc::Sender<()>,
    listener: Option<(u16, Listener)>,
    pub(crate) peers: BTreeMap<IpAddr, Running>,
    /// Those of `peers` that came from a range.
    pub(crate) neighbours: Neighbours,
    /// Connections of those that come.
    pub(crate) strangers: (mpsc::Sender<DynamicConnection>, mpsc::Receiver<DynamicConnection>),
    /// Peers that sent too many prefixes.
    pub(crate) limits: Option<mpsc::Receiver<PrefixLimitReport>>,
    /// When to look who of the neighbours is gone.
    pub(crate) look_at: Instant,
    next_id: u32,
    /// Sessions that end, with their peers' last messages.
    stopping: JoinSet<()>,
    pub(crate) statics: Statics,
    pub(crate) drain: Drain,
    pub(crate) drains: mpsc::Receiver<DrainRequest>,
    pub(crate) roster: watch::Sender<Arc<Roster>>,
    /// Told when the routes are whole; set while that is awaited.
    pub(crate) whole: Option<mpsc::Receiver<()>>,
    /// When they count as whole anyway.
    whole_at: Option<Instant>,
    pub(crate) in_sync: bool,
    pub(crate) passwords: watch::Sender<Arc<Passwords>>,
    pub(crate) detector: Detector,
    /// Set while this node has just restarted: for which families it forwards as before.
    pub(crate) restarted: watch::Sender<Option<Families>>,
    /// Told when it has caught up with its peers; set while that is awaited, and by when it is.
    pub(crate) caught_up: Option<(mpsc::Receiver<()>, Instant)>,
}

impl Daemon {
    /// Starts the RIB and the tunnels, without peers or routes; returns the daemon and the channel that requests its
    /// drain.
    pub(crate) fn start(
        config: DaemonConfig,
        journal: crate::journal::JournalHandle,
    ) -> (Daemon, mpsc::Sender<DrainRequest>) {
        let (rib, changes, _) = RibHandle::spawn(RibConfig {
            local_as: Asn(0),
            router_id: RouterId(Ipv4Addr::UNSPECIFIED),
            cluster_id: None,
            local_addresses: Vec::new(),
            multipath: 1,
        });
        let forwarding = restart::forwarding_since_before(&config.state_dir);
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
        // One is enough: it is said once for each time the routes become whole.
        let (sync, synced) = mpsc::channel(1);
        let feed = tokio::spawn(feed(changes, synced, tunnel.clone(), journal));
        let memory = tokio::spawn(memory::give_back(rib.clone()));
        let roster = watch::channel(Arc::new(Roster::default())).0;
        // One is enough: who asks for it once more is told that it goes on.
        let drains = mpsc::channel(1);
        let upkeep = tunnel.as_ref().map(|tunnel| Upkeep::start(&config, tunnel));
        let daemon = Daemon {
            config,
            rib,
            tunnel,
            upkeep,
            feed,
            memory,
            descriptors: descriptors::raise(),
            sync,
            listener: None,
            peers: BTreeMap::new(),
            neighbours: Neighbours::default(),
            strangers: mpsc::channel(STRANGERS),
            limits: None,
            look_at: Instant::now(),
            next_id: 1,
            stopping: JoinSet::new(),
            statics: Statics::default(),
            drain: Drain::No,
            drains: drains.1,
            roster,
            whole: None,
            whole_at: None,
            in_sync: false,
            passwords: watch::channel(Arc::default()).0,
            detector: Detector::default(),
            restarted: watch::channel(Some(forwarding)).0,
            caught_up: None,
        };
        (daemon, drains.0)
    }

    /// Takes what the store says. Of invalid resources nothing is used: what runs keeps running.
    pub(crate) async fn update(&mut self, update: StoreUpdate) {
        match update {
            Ok(loaded) => self.arrange(loaded).await,
            Err(mistakes) => {
                let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                for line in &lines {
                    tracing::error!("{line}");
                }
                tracing::error!("the resources are not valid: what was valid before keeps running");
                self.roster.send_modify(|roster| Arc::make_mut(roster).mistakes = lines);
            }
        }
    }

    pub(crate) async fn arrange(&mut self, loaded: StoreState) {
        let before = self.roster.borrow().clone();
        let planned = plan(&self.config, &loaded.snapshot);
        let passwords = planned.as_ref().map_or_else(|_| Passwords::default(), Passwords::of);
        let same = before.snapshot == loaded.snapshot && **self.passwords.borrow() == passwords;
        let mistakes: Vec<String> = loaded.refused.iter().map(ToString::to_string).collect();
        if before.plan.is_some() && same && before.mistakes == mistakes {
            self.roster.send_modify(|roster| Arc::make_mut(roster).revision = Some(loaded.revision));
            return;
        }
        for warning in loaded.warnings.iter().filter(|warning| !before.warnings.contains(warning)) {
            tracing::warn!("{warning}");
        }
        for refused in mistakes.iter().filter(|refused| !before.mistakes.contains(refused)) {
            tracing::error!("{refused}");
        }
        let mut roster = Roster {
            revision: Some(loaded.revision),
            warnings: loaded.warnings,
            refused: loaded.refused,
            mistakes,
            in_sync: self.in_sync,
            ..Roster::default()
        };
        let given = planned.map(|mut plan| {
            let problems = passwords.give(&mut plan);
            problems.iter().for_each(|problem| tracing::error!("{problem}"));
            roster.problems.extend(problems);
            plan
        });
        self.passwords.send_replace(Arc::new(passwords));
        match given {
            Ok(plan) => {
                let wait = loaded.snapshot.configuration.routed.fallback_after;
                self.carry_out(&plan, wait, &mut roster.problems).await;
                roster.problems.extend(self.detector.problem());
                roster.plan = Some(Arc::new(plan));
            }
            Err(error) => {
                // In a shared store a node registers itself, and says so if it can't.
                if matches!(self.config.datastore, Datastore::File(_)) {
                    tracing::error!("{error}");
                }
                roster.problems.push(error.to_string());
                roster.plan.clone_from(&before.plan);
            }
        }
        roster.snapshot = loaded.snapshot;
        roster.listening = self.listener.as_ref().map(|(port, _)| *port);
        roster.peers = self.roster_peers();
        self.roster.send_replace(Arc::new(roster));
    }

    fn roster_peers(&self) -> Vec<RosterPeer> {
        let peer = |running: &Running| RosterPeer {
            id: running.id,
            peering: running.plan.peering.clone(),
            max_prefixes: running.plan.policy.max_prefixes,
            status: running.handle.watch(),
            bfd: running.detection.as_ref().map(|detection| detection.reports.clone()),
        };
        self.peers.values().map(peer).collect()
    }

    /// Tells `routectl` which peers there are, where no resource has changed.
    pub(crate) fn show_peers(&self) {
        let peers = self.roster_peers();
        self.roster.send_modify(|roster| Arc::make_mut(roster).peers = peers);
    }

    async fn carry_out(&mut self, plan: &Plan, fallback_after: Duration, problems: &mut Vec<String>) {
        self.rib.configure(plan.rib.clone()).await;
        if self.is_fresh() {
            self.rib.hold_markers(true).await;
        }
        // The peers first: the kernel is looked at when it is configured.
        self.announce(plan).await;
        if self.limits.is_none() {
            self.limits = Some(self.rib.limits().await);
        }
        if let Some(tunnel) = &self.tunnel
            && let Err(error) = tunnel.configure(plan.tunnel.clone()).await
        {
            problems.push(error.to_string());
        }
        self.upkeep.iter().for_each(|upkeep| upkeep.configure(plan));
        let wait = if plan.listen_port.is_some() { fallback_after } else { Duration::ZERO };
        self.statics.set(plan.statics.clone(), wait, Instant::now());
        self.originate_statics().await;
        self.arrange_peers(plan).await;
        self.arrange_neighbours(plan).await;
        let neighbours: u32 = plan.ranges.iter().map(|range| range.range.limit).sum();
        let sessions = plan.peers.len() + usize::try_from(neighbours).unwrap_or(usize::MAX);
        match descriptors::too_few(self.descriptors, plan.peers.len()) {
            Some(problem) => problems.push(problem),
            // Not all that may come do.
            None => descriptors::too_few(self.descriptors, sessions)
                .iter()
                .for_each(|warning| tracing::warn!("{warning}")),
        }
        self.listen(plan.listen_port, problems).await;
        if !self.in_sync {
            let at = *self.whole_at.get_or_insert_with(|| Instant::now() + wait.max(SYNC_AT_LATEST));
            self.await_whole(Some(at));
        }
        self.await_caught_up();
    }

    /// Whether nothing was arranged since a start that is a restart.
    fn is_fresh(&self) -> bool {
        self.restarted.borrow().is_some_and(|forwarding| !forwarding.is_empty()) && self.caught_up.is_none()
    }

    /// After a restart, waits beside everything else until the peers have told all they know.
    fn await_caught_up(&mut self) {
        if self.restarted.borrow().is_none() {
            return;
        }
        let now = Instant::now();
        // After a first start nobody has routes of ours to be careful with.
        let limit =
            if self.is_fresh() || self.caught_up.is_some() { CAUGHT_UP_AT_LATEST } else { Duration::ZERO };
        let until = self.caught_up.as_ref().map_or(now + limit, |(_, until)| *until);
        let ids: Vec<PeerId> = self.peers.values().map(|running| running.id).collect();
        let (sender, receiver) = mpsc::channel(1);
        let rib = self.rib.clone();
        tokio::spawn(async move {
            restart::caught_up(rib, ids, until.saturating_duration_since(now)).await;
            let _ = sender.send(()).await;
        });
        self.caught_up = Some((receiver, until));
    }

    pub(crate) async fn originate_statics(&mut self) {
        let (due, awaited) = self.statics.paths(Instant::now());
        self.rib.originate_statics(due, awaited).await;
    }

    async fn listen(&mut self, port: Option<u16>, problems: &mut Vec<String>) {
        if self.listener.as_ref().map(|(port, _)| *port) == port {
            return;
        }
        self.listener = None;
        let Some(port) = port else { return };
        // IPv6 may be switched off in this kernel; IPv4 alone is enough then.
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        match Listener::bind(&[v4, v6]).or_else(|_| Listener::bind(&[v4])) {
            Ok(listener) => {
                for running in self.peers.values() {
                    running.handle.listen(&listener).await;
                }
                self.welcome(&listener).await;
                listener.open().await;
                self.listener = Some((port, listener));
            }
            Err(error) => {
                let hint = "is another BGP speaker running, or is CAP_NET_BIND_SERVICE missing?";
                tracing::error!("{error}: {hint} Sessions that we call still work");
                problems.push(format!("{error}: {hint}"));
            }
        }
    }

    async fn arrange_peers(&mut self, plan: &Plan) {
        let wanted: BTreeMap<IpAddr, &PeerPlan> =
            plan.peers.iter().map(|peer| (peer.peering.address, peer)).collect();
        let is_gone = |address: &IpAddr| !wanted.contains_key(address) && !self.neighbours.contains(*address);
        let gone: Vec<IpAddr> = self.peers.keys().copied().filter(is_gone).collect();
        for address in gone {
            self.stop_peer(address, ErrorCode::PEER_DECONFIGURED).await;
        }
        for (address, plan) in wanted {
            if let Some(mut running) = self.peers.remove(&address) {
                if running.plan.peering.client != plan.peering.client {
                    self.rib.set_client(running.id, plan.peering.client).await;
                }
                if running.plan.policy != plan.policy {
                    self.rib.set_peer_policy(running.id, plan.policy.clone()).await;
                    // What it was turned away for may be allowed now.
                    running.handle.resume().await;
                }
                if running.plan.config != plan.config || running.plan.address != plan.address {
                    running.handle.reconfigure(plan.config.clone(), plan.address.clone()).await;
                    if let Some((_, listener)) = &self.listener {
                        running.handle.listen(listener).await;
                    }
                }
                running.plan = plan.clone();
                self.detect(&mut running).await;
                self.peers.insert(address, running);
                continue;
            }
            let running = self.start_peer(plan).await;
            self.peers.insert(address, running);
        }
        while self.stopping.try_join_next().is_some() {}
    }

    pub(crate) async fn stop_peer(&mut self, address: IpAddr, code: ErrorCode) {
        let Some(running) = self.peers.remove(&address) else { return };
        let (rib, id) = (self.rib.clone(), running.id);
        self.stopping.spawn(async move {
            running.handle.stop(code).await;
            // Not before: without its policy a session would be open to everything.
            rib.forget_peer(id).await;
        });
        if let Some((_, listener)) = &self.listener {
            listener.remove(address).await;
        }
    }

    /// Makes the listener send on who calls from a range.
    async fn welcome(&self, listener: &Listener) {
        let nets = self.neighbours.ranges().iter().map(|range| range.range.net).collect();
        listener.accept_ranges(nets, self.strangers.0.clone()).await;
    }

    /// The same, of the ranges as they are now.
    pub(crate) async fn welcome_strangers(&self) {
        if let Some((_, listener)) = &self.listener {
            self.welcome(listener).await;
        }
    }

    pub(crate) async fn start_peer(&mut self, plan: &PeerPlan) -> Running {
        let id = PeerId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.rib.set_peer_policy(id, plan.policy.clone()).await;
        let sink = self.rib.session(id, plan.peering.address, plan.peering.client);
        // Jitter must differ between nodes that start together.
        let seed = u64::from(plan.config.router_id.to_bits()) << 32 | u64::from(id.0);
        let address = plan.address.clone();
        let handle =
            spawn_peer(plan.opened_with(self.is_fresh()), address, seed, self.restarted.subscribe(), sink);
        if let Some((_, listener)) = &self.listener {
            handle.listen(listener).await;
        }
        let mut running = Running { id, plan: plan.clone(), handle, detection: None };
        self.detect(&mut running).await;
        running
    }

    /// Waits, beside everything else, until all peers have sent their routes or until `at`.
    fn await_whole(&mut self, at: Option<Instant>) {
        let ids: Vec<PeerId> = self.peers.values().map(|running| running.id).collect();
        let rib = self.rib.clone();
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let whole = rib.settled(ids);
            match at {
                Some(at) => _ = tokio::time::timeout_at(at.into(), whole).await,
                None => _ = whole.await,
            }
            // After the timer too, what is known must reach the kernel before anything is swept.
            let _ = rib.settled(Vec::new()).await;
            let _ = sender.send(()).await;
        });
        self.whole = Some(receiver);
    }

    /// Ends every session so that peers that can keep this node's routes while it restarts, unless it is drained; the
    /// kernel's state stays as it is.
    pub(crate) async fn stop(mut self) {
        // First, and not beside the ends of the sessions: withdrawals that our own leaving causes must not reach the
        // kernel.
        self.feed.abort();
        self.memory.abort();
        if let Some(tunnel) = &self.tunnel {
            let _ = tunnel.stop().await;
        }
        let drained = self.is_drained();
        for running in std::mem::take(&mut self.peers).into_values() {
            self.stopping.spawn(async move {
                if drained {
                    running.handle.stop(ErrorCode::ADMINISTRATIVE_SHUTDOWN).await;
                } else {
                    running.handle.restart().await;
                }
            });
        }
        while self.stopping.join_next().await.is_some() {}
    }
}
