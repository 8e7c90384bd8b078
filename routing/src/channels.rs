//! The ways to the peers' sockets: who still writes, and who has room again.

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

/// What a session and the RIB know of each other.
#[derive(Debug, Default)]
pub(crate) struct ChannelState {
    /// Chunks were given that are not all written.
    busy: AtomicBool,
    /// There was no room for a chunk.
    stalled: AtomicBool,
}

/// How many peers that keep up still write; shared with every session.
#[derive(Debug, Default)]
pub(crate) struct Backpressure {
    busy: AtomicUsize,
    room: Notify,
}

impl Backpressure {
    /// A session has written all that it was given; whether the RIB has more for it.
    pub(crate) fn drained(&self, state: &ChannelState) -> bool {
        self.stop_counting(state);
        state.stalled.swap(false, Ordering::AcqRel)
    }

    /// It is no longer waited for.
    fn stop_counting(&self, state: &ChannelState) {
        if state.busy.swap(false, Ordering::AcqRel) && self.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.room.notify_one();
        }
    }
}

/// The way to one session.
#[derive(Debug)]
pub(crate) struct PeerChannel {
    pub(crate) outbound: Outbound,
    pub(crate) state: Arc<ChannelState>,
}

/// All ways.
#[derive(Debug, Default)]
pub(crate) struct PeerChannels {
    channels: HashMap<PeerId, PeerChannel, FixedState>,
    pressure: Arc<Backpressure>,
    /// Peers that had room again before anybody could say so.
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

    /// Waits until the peers that keep up have written what they were given.
    pub(crate) async fn written(&self) {
        while self.pressure.busy.load(Ordering::Acquire) > 0 {
            self.pressure.room.notified().await;
        }
    }

    /// For a peer that doesn't: nobody waits for it.
    pub(crate) fn backlog(&mut self) -> BacklogDelivery<'_> {
        BacklogDelivery(self)
    }

    fn send(&mut self, peer: PeerId, chunk: Bytes) -> bool {
        // A session that ends takes its messages with it.
        let Some(channel) = self.channels.get(&peer) else { return true };
        match channel.outbound.try_send(chunk) {
            Ok(()) | Err(TrySendError::Closed(_)) => true,
            Err(TrySendError::Full(_)) => {
                self.pressure.stop_counting(&channel.state);
                channel.state.stalled.store(true, Ordering::Release);
                // It may have written all of it before that could be seen.
                let missed = channel.outbound.capacity() == channel.outbound.max_capacity();
                if missed && channel.state.stalled.swap(false, Ordering::AcqRel) {
                    self.resumable.push(peer);
                }
                false
            }
        }
    }

    /// A peer that is to be resumed.
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

/// The same ways, for arrears.
pub(crate) struct BacklogDelivery<'a>(&'a mut PeerChannels);

impl Delivery for BacklogDelivery<'_> {
    fn deliver(&mut self, peer: PeerId, chunk: Bytes) -> bool {
        self.0.send(peer, chunk)
    }
}
