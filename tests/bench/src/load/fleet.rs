//! All clients of a trial and the loop that serves them, on one thread.

use std::{
    collections::VecDeque,
    net::SocketAddrV4,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use mio::{Events, Interest, Poll, Token};

use super::{
    client::{Client, ReadResult, State},
    received_prefixes::ReceivedPrefixes,
    scan::scan,
    universe::Universe,
    wire,
};
use crate::bed::DAEMON;

/// BGP's port.
pub const PORT: u16 = 179;
/// The default hold time of clients, in seconds.
pub const HOLD_TIME: u16 = 90;
/// From a refused or reset connection to the next attempt. What the kernel does by itself (a SYN that
/// finds a full backlog is sent again after 1, 3, 7 ... s) is left to it.
const RETRY: Duration = Duration::from_millis(50);
/// Bytes read from one socket before the others have their turn.
const BUFFER: usize = 512 * 1024;
/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
/// The interval of the timers.
const TICK: Duration = Duration::from_millis(100);

/// The goal of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Everything.
    All,
    /// No prefixes.
    Nothing,
    /// Everything, by the second sender's path.
    Second,
}

/// The behaviour of a client.
#[derive(Clone, Debug, Default)]
pub struct Role {
    /// Whether the goal applies to it.
    pub receives: bool,
    /// The octets that it sends as soon as its session is Established.
    pub first_words: Option<Rc<[u8]>>,
}

/// A session that should have lived ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFailure {
    client: std::net::Ipv4Addr,
    reason: String,
}

impl std::fmt::Display for SessionFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "client {}: {}", self.client, self.reason)
    }
}

impl std::error::Error for SessionFailure {}

/// Readiness of a client's socket.
#[derive(Clone, Copy, Debug)]
struct Ready {
    client: usize,
    readable: bool,
    writable: bool,
}

/// The clients, and the loop that serves them.
pub struct Fleet {
    poll: Poll,
    events: Events,
    /// The ready clients of one turn; empty between turns.
    ready: Vec<Ready>,
    buffer: Box<[u8]>,
    universe: Universe,
    clients: Vec<Client>,
    hold_time: u16,
    goal: Goal,
    receivers: usize,
    complete: usize,
    established: usize,
    /// Clients to be connected, at most `in_flight` at once.
    to_dial: VecDeque<usize>,
    in_flight: usize,
    dialling: usize,
    /// Clients to be connected again, in order of time.
    retries: VecDeque<(Instant, usize)>,
    retried: u64,
    /// Whether the end of an Established session is a failure.
    lasting: bool,
    receive_buffer: Option<usize>,
    /// Clients with more to read than one turn's share.
    unread: VecDeque<usize>,
    next_tick: Instant,
    received: u64,
    updates: u64,
    arrivals: Vec<(u32, Instant)>,
}

impl Fleet {
    /// Creates a fleet without clients. `hold_time` is in seconds.
    ///
    /// # Errors
    /// Without an epoll descriptor.
    pub fn new(universe: Universe, hold_time: u16) -> Result<Self> {
        Ok(Self {
            poll: Poll::new().context("can't make an epoll descriptor")?,
            events: Events::with_capacity(EVENTS),
            ready: Vec::with_capacity(EVENTS),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            universe,
            clients: Vec::new(),
            hold_time,
            goal: Goal::All,
            receivers: 0,
            complete: 0,
            established: 0,
            to_dial: VecDeque::new(),
            in_flight: usize::MAX,
            dialling: 0,
            retries: VecDeque::new(),
            retried: 0,
            lasting: true,
            receive_buffer: None,
            unread: VecDeque::new(),
            next_tick: Instant::now(),
            received: 0,
            updates: 0,
            arrivals: Vec::new(),
        })
    }

    /// Adds a client. Its number is how many there were before.
    pub fn add(&mut self, role: Role) {
        let number = self.clients.len();
        let held =
            ReceivedPrefixes::new(self.universe.main(), self.universe.total(), self.universe.own(number));
        let mut client = Client::new(number, held, role.receives);
        client.first_words = role.first_words;
        self.receivers += usize::from(role.receives);
        self.clients.push(client);
    }

    /// Returns the number of clients.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Has all clients connect that aren't, at most `in_flight` of them at once.
    ///
    /// # Errors
    /// When a socket can't be made.
    pub fn dial_all(&mut self, in_flight: usize) -> Result<()> {
        self.in_flight = in_flight;
        self.to_dial = (0..self.clients.len()).filter(|at| self.clients[*at].state == State::Idle).collect();
        self.dial_more()
    }

    /// Has one client connect.
    ///
    /// # Errors
    /// When a socket can't be made.
    pub fn dial(&mut self, client: usize) -> Result<()> {
        self.to_dial.push_back(client);
        self.in_flight = usize::MAX;
        self.dial_more()
    }

    fn dial_more(&mut self) -> Result<()> {
        while self.dialling < self.in_flight {
            let Some(at) = self.to_dial.pop_front() else { break };
            self.dialling += 1;
            self.connect(at)?;
        }
        Ok(())
    }

    fn connect(&mut self, at: usize) -> Result<()> {
        let client = &mut self.clients[at];
        client
            .dial(SocketAddrV4::new(DAEMON, PORT), self.receive_buffer)
            .with_context(|| format!("client {}", client.address))?;
        if let Some(socket) = &mut client.socket {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(socket, Token(at), interest).context("can't use epoll")?;
        }
        Ok(())
    }

    /// Bounds what the kernel keeps of what a client hasn't read (`SO_RCVBUF`, in bytes), for connections to come.
    pub fn set_receive_buffer(&mut self, bytes: usize) {
        self.receive_buffer = Some(bytes);
    }

    /// Sets whether the end of an Established session is a failure (the default); otherwise it is
    /// opened again.
    pub fn set_lasting(&mut self, lasting: bool) {
        self.lasting = lasting;
    }

    /// Sends a script from a client, after what it is still sending.
    ///
    /// # Errors
    /// When its connection broke.
    pub fn send(&mut self, client: usize, script: Rc<[u8]>) -> Result<()> {
        self.clients[client].send(script).with_context(|| format!("client {}", self.clients[client].address))
    }

    /// Closes a client's connection without a word.
    pub fn hang_up(&mut self, client: usize) {
        if self.clients[client].state == State::Established {
            self.established -= 1;
        }
        self.clients[client].hang_up();
        self.judge(client);
    }

    /// Returns whether a client has sent everything.
    #[must_use]
    pub fn has_sent_all(&self, client: usize) -> bool {
        self.clients[client].has_sent_all()
    }

    /// Returns the number of Established sessions.
    #[must_use]
    pub fn established(&self) -> usize {
        self.established
    }

    /// Returns how often a connection was refused or reset and repeated.
    #[must_use]
    pub fn retried(&self) -> u64 {
        self.retried
    }

    /// When a client's present connection was begun.
    #[must_use]
    pub fn dialled(&self, client: usize) -> Instant {
        self.clients[client].dialled
    }

    /// Bytes received from the daemon so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// UPDATEs received so far.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Probes that arrived since it was last asked, once for each receiver that got them.
    pub fn take_arrivals(&mut self) -> Vec<(u32, Instant)> {
        std::mem::take(&mut self.arrivals)
    }

    /// The longest time that a session was without a byte from the daemon, since [`Fleet::mark_silence`].
    #[must_use]
    pub fn longest_silence(&self) -> Duration {
        let now = Instant::now();
        let of = |client: &Client| client.longest_silence.max(now - client.last_received);
        self.clients.iter().filter(|c| c.state == State::Established).map(of).max().unwrap_or_default()
    }

    /// Restarts the measurement of silence.
    pub fn mark_silence(&mut self) {
        let now = Instant::now();
        for client in &mut self.clients {
            client.longest_silence = Duration::ZERO;
            client.last_received = now;
        }
    }

    /// Sets what receivers are to hold.
    pub fn set_goal(&mut self, goal: Goal) {
        self.goal = goal;
        for at in 0..self.clients.len() {
            self.judge(at);
        }
    }

    /// Returns whether every receiver holds exactly its goal.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete == self.receivers
    }

    /// Returns how much of all receivers' goals is reached, in percent.
    #[must_use]
    pub fn percent(&self) -> u64 {
        let receivers = || self.clients.iter().filter(|client| client.receives);
        let wanted: u64 = receivers().map(|client| u64::from(client.held.wanted())).sum();
        let have: u64 = receivers()
            .map(|client| match self.goal {
                Goal::All => u64::from(client.held.count()),
                Goal::Nothing => u64::from(client.held.wanted() - client.held.count()),
                Goal::Second => u64::from(client.held.seconds()),
            })
            .sum();
        have * 100 / wanted.max(1)
    }

    fn judge(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let held = &client.held;
        let is = client.receives
            && match self.goal {
                Goal::All => held.count() == held.wanted(),
                Goal::Nothing => held.count() == 0,
                Goal::Second => held.count() == held.wanted() && held.seconds() == held.wanted(),
            };
        if is != client.complete {
            client.complete = is;
            self.complete = if is { self.complete + 1 } else { self.complete - 1 };
        }
    }

    /// Serves the clients until `done` or the deadline; returns which it was.
    ///
    /// # Errors
    /// When an Established session ends, and for messages that can't be read or shouldn't have come.
    pub fn run_until(&mut self, deadline: Instant, mut done: impl FnMut(&mut Fleet) -> bool) -> Result<bool> {
        while !done(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.turn(left)?;
        }
        Ok(true)
    }

    /// Waits for events for at most `patience` and handles them.
    ///
    /// # Errors
    /// As [`Fleet::run_until`].
    pub fn turn(&mut self, patience: Duration) -> Result<()> {
        let now = Instant::now();
        let mut patience = patience.min(self.next_tick.saturating_duration_since(now));
        if let Some((when, _)) = self.retries.front() {
            patience = patience.min(when.saturating_duration_since(now));
        }
        if !self.unread.is_empty() {
            patience = Duration::ZERO;
        }
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => result.context("can't wait for events")?,
        }
        let mut ready = std::mem::take(&mut self.ready);
        ready.extend(self.events.iter().map(|event| Ready {
            client: event.token().0,
            readable: event.is_readable() || event.is_error(),
            writable: event.is_writable(),
        }));
        for at in std::mem::take(&mut self.unread) {
            self.readable(at)?;
        }
        for event in ready.drain(..) {
            if event.writable {
                self.writable(event.client)?;
            }
            if event.readable {
                self.readable(event.client)?;
            }
        }
        self.ready = ready;
        self.timers()
    }

    fn timers(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some(&(_, at)) = self.retries.front().filter(|(when, _)| *when <= now) {
            self.retries.pop_front();
            self.connect(at)?;
        }
        if now < self.next_tick {
            return Ok(());
        }
        self.next_tick = now + TICK;
        let interval = Duration::from_secs(u64::from(self.hold_time)) / 3;
        for client in &mut self.clients {
            // A tick early rather than late.
            if client.state == State::Established && now - client.last_sent + TICK >= interval {
                client.keepalive().with_context(|| format!("client {}", client.address))?;
            }
        }
        Ok(())
    }

    fn writable(&mut self, at: usize) -> Result<()> {
        let hold_time = self.hold_time;
        let client = &mut self.clients[at];
        if client.state == State::Connecting {
            let Some(socket) = &client.socket else { return Ok(()) };
            match socket.take_error() {
                Ok(None) if socket.peer_addr().is_ok() => {}
                Ok(None) => return Ok(()),
                Ok(Some(error)) | Err(error) => return self.lost(at, error.to_string()),
            }
            client.open(hold_time)
        } else {
            client.write()
        }
        .with_context(|| format!("client {}", self.clients[at].address))
    }

    fn readable(&mut self, at: usize) -> Result<()> {
        if self.clients[at].state == State::Connecting {
            return Ok(());
        }
        let client = &mut self.clients[at];
        let (length, more) = match client.read(&mut self.buffer) {
            ReadResult::Bytes { length, more } => (length, more),
            ReadResult::Nothing => return Ok(()),
            ReadResult::Closed(reason) => return self.lost(at, reason),
        };
        let now = Instant::now();
        client.longest_silence = client.longest_silence.max(now - client.last_received);
        client.last_received = now;
        self.received += length as u64;
        let bytes = &self.buffer[..length];
        let scanned = scan(bytes, &self.universe, &mut client.held)
            .with_context(|| format!("client {} was sent", client.address))?;
        client.rest.extend_from_slice(&bytes[scanned.bytes..]);
        self.updates += u64::from(scanned.updates);
        self.arrivals.extend(client.held.take_probes().map(|number| (number, now)));
        if let Some((code, subcode)) = scanned.notification {
            return self.lost(at, format!("the daemon sent NOTIFICATION {code}/{subcode}"));
        }
        if scanned.opens > 0 && client.state == State::OpenSent {
            client.state = State::OpenConfirm;
            client.keepalive()?;
        }
        if scanned.keepalives > 0 && client.state == State::OpenConfirm {
            self.becomes_established(at)?;
        }
        if more {
            self.unread.push_back(at);
        }
        self.judge(at);
        Ok(())
    }

    fn becomes_established(&mut self, at: usize) -> Result<()> {
        let client = &mut self.clients[at];
        client.state = State::Established;
        client.longest_silence = Duration::ZERO;
        let mut words = client.first_words.as_deref().unwrap_or_default().to_vec();
        wire::end_of_rib(&mut words);
        client.send(words.into())?;
        self.established += 1;
        self.dialling -= 1;
        self.dial_more()
    }

    /// A connection ended: on the way it is begun again, later that may be a failure.
    fn lost(&mut self, at: usize, reason: String) -> Result<()> {
        let client = &mut self.clients[at];
        if client.state == State::Established {
            if self.lasting {
                return Err(SessionFailure { client: client.address, reason }.into());
            }
            self.established -= 1;
            self.dialling += 1;
        }
        client.hang_up();
        self.judge(at);
        self.retried += 1;
        self.retries.push_back((Instant::now() + RETRY, at));
        Ok(())
    }
}
