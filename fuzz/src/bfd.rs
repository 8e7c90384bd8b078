//! BFD datagrams, in sequence, as input of a session.

use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

use bgp::bfd::{BfdOutput, BfdSession, BfdSessionConfig, BfdState, ControlPacket, PACKET_LEN};

use crate::bounds::within;

/// Octets that a session may allocate for its answers to one packet.
const ANSWERS: u64 = 1024;

/// Feeds packets to a session. The input is a sequence of a delay and 24 octets.
pub fn bfd(input: &[u8]) {
    let config = BfdSessionConfig {
        min_interval: Duration::from_millis(50),
        multiplier: NonZeroU8::MIN.saturating_add(2),
    };
    let mut now = Instant::now();
    let mut session = BfdSession::new(config, NonZeroU32::MIN, 7, now);
    for step in input.chunks(PACKET_LEN + 1) {
        let Some((wait, datagram)) = step.split_first() else { return };
        let later = now + Duration::from_millis(u64::from(*wait) * 8);
        // Every timer on the way; each is later than the one before.
        while let Some(at) = session.deadline().filter(|at| *at <= later) {
            now = now.max(at);
            session.timer(now);
            assert!(session.deadline().is_none_or(|next| next > now), "a timer that does not expire");
            drain(&mut session);
        }
        now = later;
        let Ok(packet) = within(datagram.len(), ANSWERS, || ControlPacket::parse(datagram)) else { continue };
        assert_eq!(ControlPacket::parse(&packet.encode()), Ok(packet));
        if !session.is_addressed_by(&packet) {
            continue;
        }
        within(datagram.len(), ANSWERS, || session.receive(&packet, now));
        drain(&mut session);
        let silent = matches!(session.state(), BfdState::Init | BfdState::Up) && session.deadline().is_none();
        assert!(!silent, "a present peer is monitored");
    }
}

fn drain(session: &mut BfdSession) {
    let mut outputs = 0;
    while let Some(output) = session.poll_output() {
        outputs += 1;
        if let BfdOutput::Send(packet) = output {
            assert_eq!(ControlPacket::parse(&packet.encode()), Ok(packet), "encoded messages are accepted");
        }
    }
    assert!(outputs <= 8, "{outputs} at once");
}
