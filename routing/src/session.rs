//! Route sink of one session, which gathers routes and passes them to the RIB.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use bgp::net::{Outbound, RouteSink};
use bgp::session::{Retention, SessionParameters, StaleAction};
use bgp::wire::update::UpdateMessage;
use bgp::{Family, PeerId};

use crate::attrs::AttrSet;
use crate::batch::RouteBatch;
use crate::channels::{Backpressure, ChannelState, PeerChannel};
use crate::command::RibCommand;
use crate::command_queue::{BatchQuota, CommandSender, PermitFuture};
use crate::path::PeerSession;

/// Prefixes at which a batch is passed on; with one more message it is about what the RIB imports
/// per turn.
const BATCH: usize = 2048;

/// Route sink of one session; see [`RibHandle::session`](crate::actor::RibHandle::session).
pub struct SessionSink {
    id: PeerId,
    address: IpAddr,
    client: bool,
    commands: CommandSender,
    pressure: Arc<Backpressure>,
    channel_state: Arc<ChannelState>,
    queue: VecDeque<RibCommand>,
    /// Future for the permit of the first command in the queue.
    permit: Option<PermitFuture>,
    /// Quota for batches in the RIB's queue.
    quota: BatchQuota,
    batch: RouteBatch,
    scratch: Vec<u8>,
    /// Last received attributes, their next hop, and the resulting set.
    last: Option<(Vec<u8>, IpAddr, Arc<AttrSet>)>,
}

impl std::fmt::Debug for SessionSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl SessionSink {
    pub(crate) fn new(
        id: PeerId,
        address: IpAddr,
        client: bool,
        commands: CommandSender,
        pressure: Arc<Backpressure>,
    ) -> SessionSink {
        SessionSink {
            id,
            address,
            client,
            commands,
            pressure,
            channel_state: Arc::default(),
            queue: VecDeque::new(),
            permit: None,
            quota: BatchQuota::default(),
            batch: RouteBatch::default(),
            scratch: Vec::new(),
            last: None,
        }
    }

    fn seal(&mut self) {
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            self.queue.push_back(RibCommand::Routes(self.id, batch));
        }
    }

    fn attrs(&mut self, update: &UpdateMessage<'_>, next_hop: IpAddr) -> Arc<AttrSet> {
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

impl RouteSink for SessionSink {
    async fn established(&mut self, negotiated: SessionParameters, outbound: Outbound) {
        let session = PeerSession::new(&negotiated, self.address, self.client);
        self.channel_state = Arc::default();
        let channel = PeerChannel { outbound, state: Arc::clone(&self.channel_state) };
        let _ = self.commands.send(RibCommand::Up(self.id, session, channel)).await;
    }

    fn update(&mut self, update: &UpdateMessage<'_>) {
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
        self.queue.push_back(RibCommand::EndOfRib(self.id, family));
    }

    fn refresh(&mut self, family: Family) {
        self.seal();
        self.queue.push_back(RibCommand::Refresh(self.id, family));
    }

    fn refresh_begins(&mut self, family: Family) {
        self.seal();
        self.queue.push_back(RibCommand::RefreshBegins(self.id, family));
    }

    fn stale(&mut self, stale: StaleAction) {
        self.seal();
        self.queue.push_back(RibCommand::Stale(self.id, stale));
    }

    fn pending(&self) -> bool {
        !self.batch.is_empty() || !self.queue.is_empty()
    }

    async fn flush(&mut self) {
        self.seal();
        loop {
            // Kept across calls, so that a cancelled flush does not lose its place in the queue.
            if let Some(permit) = &mut self.permit {
                let ticket = permit.as_mut().await;
                self.permit = None;
                match (ticket, self.queue.pop_front()) {
                    (Ok(ticket), Some(command)) => _ = self.commands.send_with(ticket, command),
                    // The RIB has ended.
                    _ => self.queue.clear(),
                }
            }
            let Some(command) = self.queue.pop_front() else { return };
            if let Err((command, permit)) = self.commands.try_send(command, &self.quota) {
                self.queue.push_front(command);
                self.permit = Some(permit);
            }
        }
    }

    fn drained(&mut self) {
        if self.pressure.drained(&self.channel_state) {
            self.commands.send_now(RibCommand::Drained(self.id));
        }
    }

    async fn down(&mut self, retain: Retention) {
        if retain.families.is_empty() {
            self.batch = RouteBatch::default();
            self.queue.clear();
            self.permit = None;
        } else {
            // The retained routes are those that the peer sent last.
            self.flush().await;
        }
        self.last = None;
        let _ = self.commands.send(RibCommand::Down(self.id, retain)).await;
    }
}
