//! The sink of one session: gathers its routes and hands them to the RIB.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use bgp::net::{Outbound, RouteSink};
use bgp::session::{Negotiated, Retain, Stale};
use bgp::wire::update::Update;
use bgp::{Family, PeerId};

use crate::attrs::AttrSet;
use crate::batch::RouteBatch;
use crate::channels::{Gauge, Line, Pressure};
use crate::command::Command;
use crate::command_queue::{Ahead, Inbox, Waiting};
use crate::path::PeerSession;

/// Prefixes at which a batch is handed over; with those of one more message it is what the RIB takes
/// in in one turn.
const BATCH: usize = 2048;

/// See [`RibHandle::session`](crate::actor::RibHandle::session).
pub struct Session {
    id: PeerId,
    address: IpAddr,
    client: bool,
    inbox: Inbox,
    pressure: Arc<Pressure>,
    gauge: Arc<Gauge>,
    queue: VecDeque<Command>,
    /// The first of the queue waits for room.
    waiting: Option<Waiting>,
    /// For what the RIB has not taken in yet.
    ahead: Ahead,
    batch: RouteBatch,
    scratch: Vec<u8>,
    /// The last attributes as octets, their next hop, and what was made of them.
    last: Option<(Vec<u8>, IpAddr, Arc<AttrSet>)>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(
        id: PeerId,
        address: IpAddr,
        client: bool,
        inbox: Inbox,
        pressure: Arc<Pressure>,
    ) -> Session {
        Session {
            id,
            address,
            client,
            inbox,
            pressure,
            gauge: Arc::default(),
            queue: VecDeque::new(),
            waiting: None,
            ahead: Ahead::default(),
            batch: RouteBatch::default(),
            scratch: Vec::new(),
            last: None,
        }
    }

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
        self.gauge = Arc::default();
        let line = Line { outbound, gauge: Arc::clone(&self.gauge) };
        let _ = self.inbox.send(Command::Up(self.id, session, line)).await;
    }

    fn update(&mut self, update: &Update<'_>) {
        for list in update.withdrawals() {
            match list.with_ids() {
                false => self.batch.push(None, list),
                true => self.batch.push_paths(None, list.paths()),
            }
        }
        for (next_hop, list) in update.announcements() {
            let attrs = self.attrs(update, next_hop);
            match list.with_ids() {
                false => self.batch.push(Some(&attrs), list),
                true => self.batch.push_paths(Some(&attrs), list.paths()),
            }
        }
        if self.batch.len() >= BATCH {
            self.seal();
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

    fn refresh_begins(&mut self, family: Family) {
        self.seal();
        self.queue.push_back(Command::RefreshBegins(self.id, family));
    }

    fn stale(&mut self, stale: Stale) {
        self.seal();
        self.queue.push_back(Command::Stale(self.id, stale));
    }

    fn pending(&self) -> bool {
        !self.batch.is_empty() || !self.queue.is_empty()
    }

    async fn flush(&mut self) {
        self.seal();
        loop {
            // Kept across calls: its place in the line must not be lost when this one is dropped.
            if let Some(waiting) = &mut self.waiting {
                let ticket = waiting.as_mut().await;
                self.waiting = None;
                match (ticket, self.queue.pop_front()) {
                    (Ok(ticket), Some(command)) => _ = self.inbox.send_with(ticket, command),
                    // The RIB is gone.
                    _ => self.queue.clear(),
                }
            }
            let Some(command) = self.queue.pop_front() else { return };
            if let Err((command, waiting)) = self.inbox.try_send(command, &self.ahead) {
                self.queue.push_front(command);
                self.waiting = Some(waiting);
            }
        }
    }

    fn drained(&mut self) {
        if self.pressure.drained(&self.gauge) {
            self.inbox.send_now(Command::Room(self.id));
        }
    }

    async fn down(&mut self, retain: Retain) {
        if retain.families.is_empty() {
            self.batch = RouteBatch::default();
            self.queue.clear();
            self.waiting = None;
        } else {
            // What is kept is what the peer said last.
            self.flush().await;
        }
        self.last = None;
        let _ = self.inbox.send(Command::Down(self.id, retain)).await;
    }
}
