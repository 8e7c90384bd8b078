//! The nodes, their connections, and the trouble.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::links::Connection;
use crate::node_names::{address, block, id};
use crate::random::Random;
use bgp::session::{
    Peer, PeerConfig, PeerInput, PeerOutput, RestartConfig, SessionParameters, SessionState, Side,
};
use bgp::wire::frame;
use bgp::{Asn, Families, PeerId, RouterId};
use bytes::Bytes;
use ipnet::IpNet;
use routing::outbox::Delivery;
use routing::{AttrSet, Best, PeerSession, Rib, RibConfig, RouteBatch, Source};

pub(crate) const NODES: usize = 5;
const TROUBLE: Duration = Duration::from_secs(40);
/// Enough for every hold timer, the longest wait between calls, and the routes after that.
const QUIET: Duration = Duration::from_secs(90);
/// Time for which a node waits for peers that have restarted too, once all others are there.
const WAIT_FOR_RESTARTING: Duration = Duration::from_secs(45);
/// Time after which a node that has started sends End-of-RIB without waiting for more peers; less
/// than its peers wait for it.
const HOLD: Duration = Duration::from_secs(50);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Topology {
    Mesh,
    /// Node 0 reflects for all others, which have no sessions with each other.
    Reflector,
}

#[derive(Debug)]
pub(crate) enum Event {
    Dialled {
        from: usize,
        to: usize,
        attempt: u64,
        lost: bool,
    },
    Octets {
        connection: usize,
        to: usize,
        octets: Vec<u8>,
    },
    Closed {
        connection: usize,
        to: usize,
    },
    Wake {
        node: usize,
    },
    Drop {
        pick: u64,
        silent: bool,
    },
    Restart {
        node: usize,
    },
    Start {
        node: usize,
    },
    Blocks {
        node: usize,
        count: u64,
    },
    /// A node's sessions are configured again, with another hold time.
    Reconfigure {
        node: usize,
    },
    /// A node is cut off without an error, or reachable again.
    Partition {
        node: usize,
        ends: bool,
    },
}

pub(crate) struct Node {
    pub(crate) rib: Rib,
    pub(crate) peers: BTreeMap<usize, Peer>,
    /// Connections in use by peer and side.
    pub(crate) sockets: HashMap<(usize, bool), usize>,
    pub(crate) attempts: HashMap<usize, u64>,
    pub(crate) blocks: Vec<IpNet>,
    pub(crate) alive: bool,
    pub(crate) cut_off: bool,
    /// While it waits to know all routes after its start: until when.
    holds_until: Option<Instant>,
    waits_for_restarting: bool,
    wake: Option<Instant>,
    pub(crate) best: BTreeMap<IpNet, Best>,
}

#[derive(Default)]
struct Sent(Vec<(PeerId, Bytes)>);

impl Delivery for Sent {
    fn deliver(&mut self, peer: PeerId, chunk: Bytes) -> bool {
        self.0.push((peer, chunk));
        true
    }
}

pub(crate) struct World {
    topology: Topology,
    /// Routes outlive sessions (RFC 4724, RFC 8538); blocks stay where they are then.
    graceful: bool,
    /// Routes of nodes that were only restarting, and were withdrawn all the same.
    pub(crate) lost: Vec<String>,
    pub(crate) random: Random,
    pub(crate) now: Instant,
    start: Instant,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    pub(crate) events: HashMap<u64, Event>,
    next: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) connections: Vec<Connection>,
    log: bool,
}

impl World {
    pub(crate) fn new(topology: Topology, seed: u64, graceful: bool, log: bool) -> World {
        let start = Instant::now();
        let mut world = World {
            topology,
            graceful,
            lost: Vec::new(),
            random: Random(seed),
            now: start,
            start,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            next: 0,
            nodes: Vec::new(),
            connections: Vec::new(),
            log,
        };
        for node in 0..NODES {
            let fresh = world.fresh(node, vec![block(node, 0)]);
            world.nodes.push(fresh);
            let at = world.random.millis(0, 3000);
            world.after(at, Event::Start { node });
        }
        world.trouble(graceful);
        world
    }

    fn neighbours(&self, node: usize) -> Vec<usize> {
        (0..NODES)
            .filter(|other| *other != node)
            .filter(|other| self.topology == Topology::Mesh || node == 0 || *other == 0)
            .collect()
    }

    fn fresh(&mut self, node: usize, blocks: Vec<IpNet>) -> Node {
        let router_id = RouterId(Ipv4Addr::new(192, 168, 0, u8::try_from(node).unwrap() + 1));
        let reflects = self.topology == Topology::Reflector && node == 0;
        let mut rib = Rib::new(RibConfig {
            local_as: Asn(64512),
            router_id,
            cluster_id: reflects.then_some(Ipv4Addr::new(10, 0, 0, 1)),
            local_addresses: vec![address(node)],
            multipath: routing::config::DEFAULT_MULTIPATH,
        });
        rib.hold_markers(true);
        let peers = self
            .neighbours(node)
            .into_iter()
            .map(|peer| {
                let config = PeerConfig {
                    hold_time: 9,
                    // Sometimes both call at once, so that connections collide.
                    connect_delay: Duration::from_millis(self.random.below(2) * 1000),
                    restart: self
                        .graceful
                        .then_some(RestartConfig { restart_time: 120, long_lived_stale_time: 0 }),
                    ..PeerConfig::new(Asn(64512), router_id, Asn(64512))
                };
                let mut state = Peer::new(config, self.random.below(u64::MAX));
                state.set_restarted(Some(Families::BOTH));
                (peer, state)
            })
            .collect();
        Node {
            rib,
            peers,
            sockets: HashMap::new(),
            attempts: HashMap::new(),
            blocks,
            alive: false,
            cut_off: false,
            holds_until: Some(self.now + HOLD),
            waits_for_restarting: false,
            wake: None,
            best: BTreeMap::new(),
        }
    }

    pub(crate) fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    pub(crate) fn at(&mut self, at: Instant, event: Event) {
        self.queue.push(Reverse((at, self.next)));
        self.events.insert(self.next, event);
        self.next += 1;
    }

    pub(crate) fn run(&mut self) {
        let end = self.start + TROUBLE + QUIET;
        while let Some(Reverse((at, key))) = self.queue.pop() {
            if at > end {
                break;
            }
            self.now = at;
            let event = self.events.remove(&key).unwrap();
            if self.log && !matches!(event, Event::Wake { .. } | Event::Octets { .. }) {
                println!("{:8.3} {event:?}", (at - self.start).as_secs_f64());
            }
            self.step(event);
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Start { node } => {
                self.nodes[node].alive = true;
                self.originate(node);
                for peer in self.neighbours(node) {
                    self.feed(node, peer, PeerInput::Start);
                }
            }
            Event::Restart { node } => {
                if !self.nodes[node].alive {
                    return;
                }
                // The process is killed: its kernel closes what it had, unless the machine went too.
                let machine = self.random.below(3) == 0;
                let sockets: Vec<usize> = self.nodes[node].sockets.values().copied().collect();
                for connection in sockets {
                    let end = self.end_of(connection, node);
                    self.connections[connection].open[end] = false;
                    if machine {
                        self.connections[connection].silent = true;
                    } else {
                        self.close_towards(connection, 1 - end);
                    }
                }
                let blocks = std::mem::take(&mut self.nodes[node].blocks);
                self.nodes[node] = self.fresh(node, blocks);
                let back = self.random.millis(100, 5000);
                self.after(back, Event::Start { node });
            }
            Event::Blocks { node, count } => {
                self.nodes[node].blocks = (0..count).map(|index| block(node, index)).collect();
                if self.nodes[node].alive {
                    self.originate(node);
                }
            }
            Event::Reconfigure { node } => {
                for peer in self.neighbours(node) {
                    let now = self.now;
                    let hold_time = u16::try_from(8 + self.random.below(4)).unwrap();
                    let state = self.nodes[node].peers.get_mut(&peer).unwrap();
                    let config = PeerConfig { hold_time, ..state.config().clone() };
                    state.reconfigure(config, now);
                    self.act(node, peer);
                }
            }
            Event::Partition { node, ends } => {
                self.nodes[node].cut_off = !ends;
                if ends {
                    return;
                }
                for connection in &mut self.connections {
                    connection.silent |= connection.ends.iter().any(|end| end.node == node);
                }
            }
            Event::Drop { pick, silent } => {
                let live: Vec<usize> = (0..self.connections.len())
                    .filter(|c| self.connections[*c].open == [true, true] && !self.connections[*c].silent)
                    .collect();
                let Some(connection) = live.get(usize::try_from(pick).unwrap() % live.len().max(1)).copied()
                else {
                    return;
                };
                if silent {
                    self.connections[connection].silent = true;
                } else {
                    self.close_towards(connection, 0);
                    self.close_towards(connection, 1);
                }
            }
            Event::Dialled { from, to, attempt, lost } => self.dialled(from, to, attempt, lost),
            Event::Octets { connection, to, octets } => self.octets(connection, to, &octets),
            Event::Closed { connection, to } => {
                if std::mem::replace(&mut self.connections[connection].open[to], false) {
                    let end = self.connections[connection].ends[to];
                    self.nodes[end.node].sockets.remove(&(end.peer, end.side == Side::Outgoing));
                    self.feed(end.node, end.peer, PeerInput::Closed(end.side));
                }
            }
            Event::Wake { node } => {
                if self.nodes[node].alive {
                    self.release(node);
                }
                if self.nodes[node].wake.is_some_and(|wake| wake <= self.now) && self.nodes[node].alive {
                    self.nodes[node].wake = None;
                    for peer in self.neighbours(node) {
                        self.feed(node, peer, PeerInput::Timer);
                    }
                }
            }
        }
    }

    pub(crate) fn message(&mut self, node: usize, peer: usize, side: Side, message: frame::Frame<'_>) {
        let now = self.now;
        let update = self.nodes[node].peers.get_mut(&peer).unwrap().receive(side, message, now);
        self.act(node, peer);
        let Some(update) = update else { return };
        let update = update.read().unwrap();
        assert_eq!(update.fault, None, "what we send is well-formed");
        let rib = &mut self.nodes[node].rib;
        if let Some(family) = update.end_of_rib() {
            rib.end_of_rib(id(peer), family);
            self.nodes[node].peers.get_mut(&peer).unwrap().handle(PeerInput::EndOfRib(family), now);
        }
        let rib = &mut self.nodes[node].rib;
        let mut batch = RouteBatch::default();
        update.withdrawals().for_each(|list| batch.push(None, list));
        for (next_hop, list) in update.announcements() {
            let attrs = AttrSet::from_update(&update.attributes, next_hop, &mut Vec::new());
            batch.push(Some(&attrs.into()), list);
        }
        rib.routes(id(peer), &batch);
        self.settle(node);
    }

    fn originate(&mut self, node: usize) {
        let paths: Vec<_> = self.nodes[node].blocks.iter().map(|block| (*block, address(node))).collect();
        self.nodes[node].rib.originate(Source::Local, &paths);
        self.settle(node);
    }

    /// Lets the RIB decide and sends its updates.
    fn settle(&mut self, node: usize) {
        let mut sent = Sent::default();
        let mut changes = Vec::new();
        while !self.nodes[node].rib.run(2, &mut sent) {}
        self.nodes[node].rib.best_changes(usize::MAX, &mut changes);
        for change in changes {
            match change.best {
                Some(best) => _ = self.nodes[node].best.insert(change.prefix, best),
                None => {
                    self.nodes[node].best.remove(&change.prefix);
                    // Nodes only restart here, for less than they are waited for.
                    if self.graceful {
                        let at = (self.now - self.start).as_secs_f64();
                        self.lost.push(format!("{at:.3}: node {node} lost {}", change.prefix));
                    }
                }
            }
        }
        self.deliver(node, sent);
        self.release(node);
    }

    /// Lets End-of-RIB go once a node knows what its peers know, or after a time.
    fn release(&mut self, node: usize) {
        let Some(until) = self.nodes[node].holds_until else { return };
        let rib = &self.nodes[node].rib;
        let all = |settled: fn(&Rib, PeerId) -> bool| {
            self.nodes[node].peers.keys().all(|peer| settled(rib, id(*peer)))
        };
        let (caught_up, synced) = (all(Rib::is_caught_up), all(Rib::is_synced));
        if caught_up && !synced && !self.nodes[node].waits_for_restarting {
            self.nodes[node].waits_for_restarting = true;
            let until = until.min(self.now + WAIT_FOR_RESTARTING);
            self.nodes[node].holds_until = Some(until);
            return self.at(until, Event::Wake { node });
        }
        if !synced && self.now < until {
            return;
        }
        let mut sent = Sent::default();
        let state = &mut self.nodes[node];
        state.holds_until = None;
        state.peers.values_mut().for_each(|peer| peer.set_restarted(None));
        for peer in state.rib.hold_markers(false) {
            state.rib.resume(peer, &mut sent);
        }
        self.deliver(node, sent);
    }

    fn deliver(&mut self, node: usize, sent: Sent) {
        for (peer, chunk) in sent.0 {
            let peer = usize::try_from(peer.0).unwrap();
            let state = &self.nodes[node].peers[&peer];
            let side = Side::ALL
                .into_iter()
                .find(|side| state.connection_state(*side) == Some(SessionState::Established));
            let Some(side) = side else { continue };
            self.send_from(node, peer, side, chunk.to_vec());
        }
    }

    fn send_from(&mut self, node: usize, peer: usize, side: Side, octets: Vec<u8>) {
        if let Some(connection) = self.nodes[node].sockets.get(&(peer, side == Side::Outgoing)).copied() {
            let end = self.end_of(connection, node);
            self.send(connection, 1 - end, octets);
        }
    }

    pub(crate) fn feed(&mut self, node: usize, peer: usize, input: PeerInput) {
        let now = self.now;
        self.nodes[node].peers.get_mut(&peer).unwrap().handle(input, now);
        self.act(node, peer);
    }

    /// Performs the outputs of a state machine.
    fn act(&mut self, node: usize, peer: usize) {
        let now = self.now;
        while let Some(output) = self.nodes[node].peers.get_mut(&peer).unwrap().poll_output() {
            match output {
                PeerOutput::Connect => {
                    let attempt = self.random.below(u64::MAX);
                    self.nodes[node].attempts.insert(peer, attempt);
                    let latency = self.random.millis(1, 300);
                    let lost = self.random.below(8) == 0 && now < self.start + TROUBLE;
                    self.after(latency, Event::Dialled { from: node, to: peer, attempt, lost });
                }
                PeerOutput::AbortConnect => _ = self.nodes[node].attempts.remove(&peer),
                PeerOutput::Send(side, octets) => self.send_from(node, peer, side, octets),
                PeerOutput::Close(side) => {
                    if let Some(connection) = self.nodes[node].sockets.remove(&(peer, side == Side::Outgoing))
                    {
                        let end = self.end_of(connection, node);
                        self.connections[connection].open[end] = false;
                        self.close_towards(connection, 1 - end);
                    }
                }
                PeerOutput::Established(_, negotiated) => self.established(node, peer, &negotiated),
                PeerOutput::Ended { established, retain, .. } => {
                    if established {
                        self.nodes[node].rib.peer_down(id(peer), retain);
                        self.settle(node);
                    }
                }
                PeerOutput::Stale(stale) => {
                    self.nodes[node].rib.stale(id(peer), stale);
                    self.settle(node);
                }
                PeerOutput::Refresh(_) | PeerOutput::RefreshBegins(_) => unreachable!("nobody asks"),
            }
        }
        let deadline = self.nodes[node].peers.values().filter_map(Peer::deadline).min();
        if let Some(deadline) = deadline
            && self.nodes[node].wake.is_none_or(|wake| deadline < wake || wake < now)
        {
            self.nodes[node].wake = Some(deadline);
            self.at(deadline.max(now), Event::Wake { node });
        }
    }

    fn established(&mut self, node: usize, peer: usize, negotiated: &SessionParameters) {
        let client = self.topology == Topology::Reflector && node == 0;
        let session = PeerSession::new(negotiated, address(peer), client);
        let mut sent = Sent::default();
        self.nodes[node].rib.peer_up(id(peer), session);
        self.nodes[node].rib.resume(id(peer), &mut sent);
        self.deliver(node, sent);
        self.settle(node);
    }
}
