//! Counters of messages and octets of a peer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::wire::frame::{HEADER_LEN, MessageKind};

/// Counters in both directions, since the peer was configured.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Messages passed to the socket.
    pub sent: TrafficFlow,
    /// Messages read from the socket.
    pub received: TrafficFlow,
}

/// Counters in one direction.
#[derive(Debug, Default)]
pub struct TrafficFlow {
    messages: [AtomicU64; MessageKind::ALL.len()],
    octets: AtomicU64,
    /// Milliseconds since 1970-01-01T00:00:00Z; 0: never.
    last_update: AtomicU64,
    last_keepalive: AtomicU64,
}

const fn place(kind: MessageKind) -> usize {
    match kind {
        MessageKind::Open => 0,
        MessageKind::Update => 1,
        MessageKind::Notification => 2,
        MessageKind::Keepalive => 3,
        MessageKind::RouteRefresh => 4,
    }
}

fn add(counter: &AtomicU64, more: usize) {
    // There is one writer, so load and store need not be atomic together.
    let before = counter.load(Ordering::Relaxed);
    counter.store(before.wrapping_add(u64::try_from(more).unwrap_or(u64::MAX)), Ordering::Relaxed);
}

impl TrafficFlow {
    /// Returns the number of messages of a kind.
    pub fn messages(&self, kind: MessageKind) -> u64 {
        self.messages[place(kind)].load(Ordering::Relaxed)
    }

    /// Returns the octets of all messages.
    pub fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }

    /// Returns the time of the last message of a kind: UPDATE or KEEPALIVE; `None` for others.
    pub fn last(&self, kind: MessageKind) -> Option<SystemTime> {
        let millis = match kind {
            MessageKind::Update => self.last_update.load(Ordering::Relaxed),
            MessageKind::Keepalive => self.last_keepalive.load(Ordering::Relaxed),
            MessageKind::Open | MessageKind::Notification | MessageKind::RouteRefresh => 0,
        };
        (millis > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
    }

    /// Counts a message at a time; see [`moment`].
    pub(super) fn note(&self, kind: MessageKind, octets: usize, at: u64) {
        add(&self.messages[place(kind)], 1);
        add(&self.octets, octets);
        self.stamp(kind, at);
    }

    /// Counts whole messages in sequence.
    pub(super) fn note_all(&self, chunk: &[u8]) {
        let mut rest = chunk;
        let (mut counts, mut last) = ([0; MessageKind::ALL.len()], None);
        while let Some(header) = rest.first_chunk::<HEADER_LEN>() {
            let [.., high, low, code] = *header;
            let length = usize::from(u16::from_be_bytes([high, low])).max(HEADER_LEN);
            if let Some(kind) = MessageKind::ALL.into_iter().find(|kind| kind.code() == code) {
                counts[place(kind)] += 1;
                last = Some(kind);
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        for (counter, count) in self.messages.iter().zip(counts).filter(|(_, count)| *count > 0) {
            add(counter, count);
        }
        add(&self.octets, chunk.len());
        if let Some(kind) = last {
            self.stamp(kind, moment());
        }
    }

    fn stamp(&self, kind: MessageKind, at: u64) {
        let last = match kind {
            MessageKind::Update => &self.last_update,
            MessageKind::Keepalive => &self.last_keepalive,
            MessageKind::Open | MessageKind::Notification | MessageKind::RouteRefresh => return,
        };
        last.store(at, Ordering::Relaxed);
    }
}

/// Returns the current time in milliseconds since 1970-01-01T00:00:00Z.
pub(super) fn moment() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn messages_of_a_chunk_are_counted_by_kind() {
        let mut chunk = Vec::new();
        encode::keepalive(&mut chunk);
        encode::end_of_rib(&mut chunk, crate::Family::ALL[0]);
        encode::keepalive(&mut chunk);
        let flow = TrafficFlow::default();
        flow.note_all(&chunk);
        let counts = MessageKind::ALL.map(|kind| flow.messages(kind));
        assert_eq!(
            (counts, flow.octets()),
            ([0, 1, 0, 2, 0], chunk.len().try_into().expect("a small number"))
        );
        assert!(flow.last(MessageKind::Keepalive).is_some() && flow.last(MessageKind::Open).is_none());
        // A truncated message or an invalid length ends the count.
        flow.note_all(&chunk[..10]);
        flow.note_all(&[0xff; HEADER_LEN]);
        assert_eq!(flow.messages(MessageKind::Update), 1);
    }
}
