//! Channels to the peers' sockets, with backpressure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bgp::PeerId;
use bgp::net::Outbound;
use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use tokio::sync::Notify;
use tokio::sync::mpsc::error::TrySendError;

use crate::outbox::Delivery;

/// State of a channel, shared between the session and the RIB.
#[derive(Debug, Default)]
pub(crate) struct ChannelState {
    /// Chunks were sent that are not all written to the socket.
    busy: AtomicBool,
    /// A chunk did not fit the channel.
    stalled: AtomicBool,
}

/// Number of peers with unwritten chunks, except for those that lag behind; shared with every
/// session.
#[derive(Debug, Default)]
pub(crate) struct Backpressure {
    busy: AtomicUsize,
    idle: Notify,
}

impl Backpressure {
    /// Records that a session has written all its chunks; returns whether the RIB has more for it.
    pub(crate) fn drained(&self, state: &ChannelState) -> bool {
        self.stop_counting(state);
        state.stalled.swap(false, Ordering::AcqRel)
    }

    /// Stops waiting for a session.
    fn stop_counting(&self, state: &ChannelState) {
        if state.busy.swap(false, Ordering::AcqRel) && self.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_one();
        }
    }
}

/// Channel to one session.
#[derive(Debug)]
pub(crate) struct PeerChannel {
    pub(crate) outbound: Outbound,
    pub(crate) state: Arc<ChannelState>,
}

/// Channels to all sessions.
#[derive(Debug, Default)]
pub(crate) struct PeerChannels {
    channels: HashMap<PeerId, PeerChannel, FixedState>,
    pressure: Arc<Backpressure>,
    /// Peers whose channel was empty again before `stalled` was set.
    resumable: Vec<PeerId>,
}

impl PeerChannels {
    pub(crate) fn new(pressure: Arc<Backpressure>) -> PeerChannels {
        PeerChannels { pressure, ..PeerChannels::default() }
    }

    pub(crate) fn insert(&mut self, peer: PeerId, channel: PeerChannel) {
        self.remove(peer);
        self.channels.insert(peer, channel);
    }

    pub(crate) fn remove(&mut self, peer: PeerId) {
        if let Some(channel) = self.channels.remove(&peer) {
            self.pressure.drained(&channel.state);
        }
    }

    /// Waits until all peers that do not lag behind have written their chunks.
    pub(crate) async fn written(&self) {
        while self.pressure.busy.load(Ordering::Acquire) > 0 {
            self.pressure.idle.notified().await;
        }
    }

    /// Returns a delivery for peers that lag behind, which are not waited for.
    pub(crate) fn backlog(&mut self) -> BacklogDelivery<'_> {
        BacklogDelivery(self)
    }

    fn send(&mut self, peer: PeerId, chunk: Bytes) -> bool {
        // The messages of an ended session are dropped.
        let Some(channel) = self.channels.get(&peer) else { return true };
        match channel.outbound.try_send(chunk) {
            Ok(()) | Err(TrySendError::Closed(_)) => true,
            Err(TrySendError::Full(_)) => {
                self.pressure.stop_counting(&channel.state);
                channel.state.stalled.store(true, Ordering::Release);
                // The session may have written all chunks before `stalled` was set.
                let missed = channel.outbound.capacity() == channel.outbound.max_capacity();
                if missed && channel.state.stalled.swap(false, Ordering::AcqRel) {
                    self.resumable.push(peer);
                }
                false
            }
        }
    }

    /// Returns a peer to resume.
    pub(crate) fn take_resumable(&mut self) -> Option<PeerId> {
        self.resumable.pop()
    }
}

impl Delivery for PeerChannels {
    fn deliver(&mut self, peer: PeerId, chunk: Bytes) -> bool {
        if let Some(channel) = self.channels.get(&peer)
            && !channel.state.busy.swap(true, Ordering::AcqRel)
        {
            self.pressure.busy.fetch_add(1, Ordering::AcqRel);
        }
        self.send(peer, chunk)
    }
}

/// Delivery to peers that lag behind, over the same channels.
pub(crate) struct BacklogDelivery<'a>(&'a mut PeerChannels);

impl Delivery for BacklogDelivery<'_> {
    fn deliver(&mut self, peer: PeerId, chunk: Bytes) -> bool {
        self.0.send(peer, chunk)
    }
}
