//! The one task that owns the RIB, and the handles that everybody else has.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use bgp::net::{Outbound, RouteSink};
use bgp::session::Negotiated;
use bgp::wire::update::Update;
use bgp::{Family, PeerId};
use bytes::Bytes;
use foldhash::fast::FixedState;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::attrs::AttrSet;
use crate::batch::RouteBatch;
use crate::config::RibConfig;
use crate::outbox::Delivery;
use crate::path::{Best, BestChange, PeerSession, Source};
use crate::rib::Rib;

/// Commands that may wait for the RIB; each holds at most what one read from a socket brought, some
/// 25,000 prefixes, so that all together stay below 30 MiB.
const COMMANDS: usize = 64;
/// Batches of changes that may wait for whoever programs the kernel; beyond it the latest wins.
const BEST_BATCHES: usize = 16;
/// Prefixes decided on before queries and other commands get their turn: some milliseconds.
const BUDGET: usize = 4096;

enum Command {
    Up(PeerId, PeerSession, Outbound),
    Down(PeerId),
    Routes(PeerId, RouteBatch),
    EndOfRib(PeerId, Family),
    Refresh(PeerId, Family),
    Configure(RibConfig),
    Originate(Source, Vec<(IpNet, IpAddr)>),
    SetClient(PeerId, bool),
    Query(Box<dyn FnOnce(&Rib) + Send>),
    Settled(Waiter),
}

/// Somebody who waits until these peers have sent all their routes and all of it was told.
type Waiter = (Vec<PeerId>, oneshot::Sender<()>);

/// Speaks to the RIB's task; the RIB ends with its last handle.
#[derive(Clone, Debug)]
pub struct RibHandle {
    commands: mpsc::Sender<Command>,
}

/// The RIB's task is gone: the daemon is stopping, or the task died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RibGone;

impl std::fmt::Display for RibGone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the RIB is not running")
    }
}

impl std::error::Error for RibGone {}

impl RibHandle {
    /// Starts the RIB's task; changes of best paths go to the receiver.
    pub fn spawn(config: RibConfig) -> (RibHandle, mpsc::Receiver<Vec<BestChange>>, JoinHandle<()>) {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (best, changes) = mpsc::channel(BEST_BATCHES);
        let actor = Actor {
            rib: Rib::new(config),
            peers: Peers::default(),
            waiting: FuturesUnordered::new(),
            undelivered: HashMap::default(),
            best,
            waiters: Vec::new(),
        };
        let task = tokio::spawn(actor.run(receiver));
        (RibHandle { commands }, changes, task)
    }

    /// Where a session's task leaves its routes.
    pub fn session(&self, id: PeerId, address: IpAddr, client: bool) -> Session {
        Session {
            id,
            address,
            client,
            commands: self.commands.clone(),
            queue: VecDeque::new(),
            batch: RouteBatch::default(),
            scratch: Vec::new(),
            last: None,
        }
    }

    /// Takes a new configuration; see [`Rib::configure`].
    pub async fn configure(&self, config: RibConfig) {
        self.send(Command::Configure(config)).await;
    }

    /// Sets the paths of a source; see [`Rib::originate`].
    pub async fn originate(&self, source: Source, paths: Vec<(IpNet, IpAddr)>) {
        self.send(Command::Originate(source, paths)).await;
    }

    /// Sets a peer's role; see [`Rib::set_client`].
    pub async fn set_client(&self, id: PeerId, client: bool) {
        self.send(Command::SetClient(id, client)).await;
    }

    /// Waits until every one of `peers` has sent End-of-RIB for all its families, and until all
    /// that follows from it is in the receiver of best paths.
    ///
    /// # Errors
    /// [`RibGone`].
    pub async fn settled(&self, peers: Vec<PeerId>) -> Result<(), RibGone> {
        let (sender, settled) = oneshot::channel();
        self.send(Command::Settled((peers, sender))).await;
        settled.await.map_err(|_| RibGone)
    }

    /// Asks something of the RIB.
    ///
    /// # Errors
    /// [`RibGone`].
    pub async fn query<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Rib) -> T + Send + 'static,
    ) -> Result<T, RibGone> {
        let (sender, answer) = oneshot::channel();
        self.send(Command::Query(Box::new(move |rib| _ = sender.send(ask(rib))))).await;
        answer.await.map_err(|_| RibGone)
    }

    async fn send(&self, command: Command) {
        if self.commands.send(command).await.is_err() {
            tracing::debug!("{RibGone}");
        }
    }
}

#[derive(Default)]
struct Peers {
    outbound: HashMap<PeerId, Outbound, FixedState>,
    stalled: HashSet<PeerId, FixedState>,
}

impl Delivery for Peers {
    fn deliver(&mut self, peer: PeerId, chunk: Bytes) -> bool {
        match self.outbound.get(&peer).map(|outbound| outbound.try_send(chunk)) {
            Some(Err(TrySendError::Full(_))) => {
                self.stalled.insert(peer);
                false
            }
            // A session that ends takes its messages with it.
            Some(Ok(()) | Err(TrySendError::Closed(_))) | None => true,
        }
    }
}

struct Actor {
    rib: Rib,
    peers: Peers,
    /// One for each stalled peer: ready when its channel has room.
    waiting: FuturesUnordered<BoxFuture<'static, PeerId>>,
    /// What the programmer of the kernel has not been told yet.
    undelivered: HashMap<IpNet, Option<Best>, FixedState>,
    best: mpsc::Sender<Vec<BestChange>>,
    waiters: Vec<Waiter>,
}

impl Actor {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut inbox = Vec::new();
        let mut changes = Vec::new();
        let mut done = true;
        let best = self.best.clone();
        loop {
            tokio::select! {
                count = commands.recv_many(&mut inbox, COMMANDS) => {
                    if count == 0 {
                        return;
                    }
                    inbox.drain(..).for_each(|command| self.apply(command));
                }
                Some(peer) = self.waiting.next() => self.resume(peer),
                permit = best.reserve(), if !self.undelivered.is_empty() => match permit {
                    Ok(permit) => {
                        let told = self.undelivered.drain().map(|(prefix, best)| BestChange { prefix, best });
                        permit.send(told.collect());
                        self.undelivered.shrink_to(BUDGET);
                    }
                    Err(_) => self.undelivered.clear(),
                },
                () = std::future::ready(()), if !done => {}
            }
            done = self.rib.run(BUDGET, &mut self.peers, &mut changes);
            self.undelivered.extend(changes.drain(..).map(|change| (change.prefix, change.best)));
            self.watch_stalled();
            if done && self.undelivered.is_empty() {
                self.tell_waiters();
            }
            if !done {
                tokio::task::yield_now().await;
            }
        }
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Up(id, session, outbound) => {
                self.peers.outbound.insert(id, outbound);
                self.rib.peer_up(id, session);
                self.resume(id);
            }
            Command::Down(id) => {
                self.peers.outbound.remove(&id);
                self.rib.peer_down(id);
            }
            Command::Routes(id, batch) => self.rib.routes(id, &batch),
            Command::EndOfRib(id, family) => self.rib.end_of_rib(id, family),
            Command::Refresh(id, family) => {
                self.rib.refresh(id, family);
                self.resume(id);
            }
            Command::Configure(config) => self.rib.configure(config),
            Command::Originate(source, paths) => self.rib.originate(source, &paths),
            Command::SetClient(id, client) => {
                self.rib.set_client(id, client);
                self.resume(id);
            }
            Command::Query(ask) => ask(&self.rib),
            Command::Settled(waiter) => self.waiters.push(waiter),
        }
    }

    fn tell_waiters(&mut self) {
        for (peers, sender) in std::mem::take(&mut self.waiters) {
            if peers.iter().all(|id| self.rib.is_synced(*id)) {
                let _ = sender.send(());
            } else if !sender.is_closed() {
                self.waiters.push((peers, sender));
            }
        }
    }

    fn resume(&mut self, peer: PeerId) {
        self.rib.resume(peer, &mut self.peers);
        self.watch_stalled();
    }

    fn watch_stalled(&mut self) {
        for peer in self.peers.stalled.drain() {
            let Some(outbound) = self.peers.outbound.get(&peer).cloned() else { continue };
            self.waiting.push(Box::pin(async move {
                // The RIB is the only sender, so the room is still there when the permit is given back.
                let _ = outbound.reserve().await;
                peer
            }));
        }
    }
}

/// The sink of one session: gathers its routes and hands them to the RIB.
#[derive(Debug)]
pub struct Session {
    id: PeerId,
    address: IpAddr,
    client: bool,
    commands: mpsc::Sender<Command>,
    queue: VecDeque<Command>,
    batch: RouteBatch,
    scratch: Vec<u8>,
    /// The last attributes as octets, their next hop, and what was made of them.
    last: Option<(Vec<u8>, IpAddr, Arc<AttrSet>)>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Command")
    }
}

impl Session {
    fn seal(&mut self) {
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            self.queue.push_back(Command::Routes(self.id, batch));
        }
    }

    fn attrs(&mut self, update: &Update<'_>, next_hop: IpAddr) -> Arc<AttrSet> {
        let raw = update.attributes.raw();
        if let Some((octets, last_next_hop, attrs)) = &self.last
            && octets == raw
            && *last_next_hop == next_hop
        {
            return Arc::clone(attrs);
        }
        let attrs = Arc::new(AttrSet::from_update(&update.attributes, next_hop, &mut self.scratch));
        let (octets, last_next_hop, last) =
            self.last.get_or_insert_with(|| (Vec::new(), next_hop, Arc::clone(&attrs)));
        octets.clear();
        octets.extend_from_slice(raw);
        *last_next_hop = next_hop;
        *last = Arc::clone(&attrs);
        attrs
    }
}

impl RouteSink for Session {
    async fn established(&mut self, negotiated: Negotiated, outbound: Outbound) {
        let session = PeerSession::new(&negotiated, self.address, self.client);
        let _ = self.commands.send(Command::Up(self.id, session, outbound)).await;
    }

    fn update(&mut self, update: &Update<'_>) {
        for list in update.withdrawals() {
            self.batch.push(None, list);
        }
        for (next_hop, list) in update.announcements() {
            let attrs = self.attrs(update, next_hop);
            self.batch.push(Some(&attrs), list);
        }
    }

    fn end_of_rib(&mut self, family: Family) {
        self.seal();
        self.queue.push_back(Command::EndOfRib(self.id, family));
    }

    fn refresh(&mut self, family: Family) {
        self.seal();
        self.queue.push_back(Command::Refresh(self.id, family));
    }

    fn pending(&self) -> bool {
        !self.batch.is_empty() || !self.queue.is_empty()
    }

    async fn flush(&mut self) {
        self.seal();
        while !self.queue.is_empty() {
            let Ok(permit) = self.commands.reserve().await else {
                self.queue.clear();
                return;
            };
            if let Some(command) = self.queue.pop_front() {
                permit.send(command);
            }
        }
    }

    async fn down(&mut self) {
        self.batch = RouteBatch::default();
        self.queue.clear();
        let _ = self.commands.send(Command::Down(self.id)).await;
    }
}
