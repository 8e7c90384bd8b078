//! Transition table of the session state machine: every pair of state and input.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bgp::session::{EndReason, Peer, PeerConfig, PeerInput, PeerOutput, SessionState, Side};
use bgp::wire::error::{ErrorCode, WireError};
use bgp::wire::frame::{self, Frame, MAX_LEN, MessageKind};
use bgp::wire::notification::Notification;
use bgp::{Asn, Families, RouterId};

fn config(id: u8) -> PeerConfig {
    PeerConfig::new(Asn(64512), RouterId([10, 0, 0, id].into()), Asn(64512))
}

/// Returns a message of the peer with identifier 10.0.0.2.
fn message(kind: MessageKind) -> Vec<u8> {
    let mut out = Vec::new();
    match kind {
        MessageKind::Open => config(2).open(None).encode(&mut out),
        MessageKind::Keepalive => bgp::wire::encode::keepalive(&mut out),
        MessageKind::Update => bgp::wire::encode::end_of_rib(&mut out, bgp::Family::Ipv4Unicast),
        MessageKind::Notification => Notification::new(ErrorCode::HARD_RESET).encode(&mut out),
        MessageKind::RouteRefresh => {
            let family = bgp::Family::Ipv4Unicast.afi_safi();
            bgp::wire::refresh::RouteRefresh { family, subtype: 0 }.encode(&mut out);
        }
    }
    out
}

/// Returns whether the message is an UPDATE to read.
fn receive(peer: &mut Peer, side: Side, kind: MessageKind, now: Instant) -> bool {
    let octets = message(kind);
    let frame: Frame<'_> = frame::next(&octets, MAX_LEN).unwrap().unwrap();
    peer.receive(side, frame, now).is_some()
}

/// Returns the outputs as short words.
fn drain(peer: &mut Peer) -> Vec<String> {
    let mut out = Vec::new();
    while let Some(output) = peer.poll_output() {
        out.push(match output {
            PeerOutput::Connect => "connect".into(),
            PeerOutput::AbortConnect => "abort".into(),
            PeerOutput::Send(_, octets) => {
                let frame = frame::next(&octets, MAX_LEN).unwrap().unwrap();
                match frame.kind {
                    MessageKind::Notification => {
                        let code = Notification::parse(frame.body).code;
                        format!("notify {}/{}", code.code, code.subcode)
                    }
                    kind => format!("{kind:?}").to_lowercase(),
                }
            }
            PeerOutput::Close(_) => "close".into(),
            PeerOutput::Established(..) => "established".into(),
            PeerOutput::Ended { established, .. } => if established { "down" } else { "ended" }.into(),
            PeerOutput::Refresh(_) => "refresh".into(),
            PeerOutput::RefreshBegins(_) => "refresh begins".into(),
            PeerOutput::Stale(stale) => format!("{stale:?}"),
        });
    }
    out
}

/// Returns a peer in `state` on its outgoing connection, and the time.
fn in_state(state: SessionState) -> (Peer, Instant) {
    let now = Instant::now();
    let mut peer = Peer::new(config(1), 7);
    let path: &[SessionState] = &[
        SessionState::Connect,
        SessionState::OpenSent,
        SessionState::OpenConfirm,
        SessionState::Established,
    ];
    if state == SessionState::Active {
        peer.handle(PeerInput::Start, now);
        peer.handle(PeerInput::ConnectFailed, now);
    } else {
        for step in path.iter().take_while(|step| **step <= state) {
            match step {
                SessionState::Connect => peer.handle(PeerInput::Start, now),
                SessionState::OpenSent => peer.handle(PeerInput::Connected(Side::Outgoing), now),
                SessionState::OpenConfirm => _ = receive(&mut peer, Side::Outgoing, MessageKind::Open, now),
                _ => _ = receive(&mut peer, Side::Outgoing, MessageKind::Keepalive, now),
            }
        }
    }
    assert_eq!(peer.state(), state);
    drain(&mut peer);
    (peer, now)
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Start,
    Stop,
    Connected,
    Called,
    ConnectFailed,
    Closed,
    Open,
    Update,
    Notification,
    Keepalive,
    Refresh,
    Malformed,
    TimerEarly,
    TimerDue,
}

/// Returns whether the event is an UPDATE to read.
fn apply(peer: &mut Peer, event: Event, now: Instant) -> bool {
    let side = Side::Outgoing;
    match event {
        Event::Start => peer.handle(PeerInput::Start, now),
        Event::Stop => peer.handle(PeerInput::Stop(ErrorCode::ADMINISTRATIVE_SHUTDOWN), now),
        Event::Connected => peer.handle(PeerInput::Connected(side), now),
        Event::Called => peer.handle(PeerInput::Connected(Side::Incoming), now),
        Event::ConnectFailed => peer.handle(PeerInput::ConnectFailed, now),
        Event::Closed => peer.handle(PeerInput::Closed(side), now),
        Event::Open => return receive(peer, side, MessageKind::Open, now),
        Event::Update => return receive(peer, side, MessageKind::Update, now),
        Event::Notification => return receive(peer, side, MessageKind::Notification, now),
        Event::Keepalive => return receive(peer, side, MessageKind::Keepalive, now),
        Event::Refresh => return receive(peer, side, MessageKind::RouteRefresh, now),
        Event::Malformed => {
            let error = WireError::new(ErrorCode::CONNECTION_NOT_SYNCHRONIZED, "test");
            peer.handle(PeerInput::Malformed(side, error), now);
        }
        Event::TimerEarly => peer.handle(PeerInput::Timer, now),
        Event::TimerDue => {
            let due = peer.deadline().unwrap_or(now);
            peer.handle(PeerInput::Timer, due);
        }
    }
    false
}

#[test]
fn every_state_handles_every_input_as_in_the_table() {
    use Event::*;
    use SessionState::{Active, Connect, Established, Idle, OpenConfirm, OpenSent};
    // state, input, next state, outputs
    let table: &[(SessionState, Event, SessionState, &str)] = &[
        (Idle, Start, Connect, "connect"),
        (Idle, Stop, Idle, ""),
        (Idle, Connected, Idle, ""),
        (Idle, Called, Idle, ""),
        (Idle, ConnectFailed, Idle, ""),
        (Idle, Closed, Idle, ""),
        (Idle, Open, Idle, ""),
        (Idle, Update, Idle, ""),
        (Idle, Notification, Idle, ""),
        (Idle, Keepalive, Idle, ""),
        (Idle, Refresh, Idle, ""),
        (Idle, Malformed, Idle, ""),
        (Idle, TimerEarly, Idle, ""),
        (Idle, TimerDue, Idle, ""),
        (Active, Start, Active, ""),
        (Active, Stop, Idle, ""),
        (Active, Connected, Active, ""),
        (Active, Called, OpenSent, "open"),
        (Active, ConnectFailed, Active, ""),
        (Active, Closed, Active, ""),
        (Active, Open, Active, ""),
        (Active, Update, Active, ""),
        (Active, Notification, Active, ""),
        (Active, Keepalive, Active, ""),
        (Active, Refresh, Active, ""),
        (Active, Malformed, Active, ""),
        (Active, TimerEarly, Active, ""),
        (Active, TimerDue, Connect, "connect"),
        (Connect, Start, Connect, ""),
        (Connect, Stop, Idle, "abort"),
        (Connect, Connected, OpenSent, "open"),
        (Connect, Called, OpenSent, "open"),
        (Connect, ConnectFailed, Active, ""),
        (Connect, Closed, Connect, ""),
        (Connect, Open, Connect, ""),
        (Connect, Update, Connect, ""),
        (Connect, Notification, Connect, ""),
        (Connect, Keepalive, Connect, ""),
        (Connect, Refresh, Connect, ""),
        (Connect, Malformed, Connect, ""),
        (Connect, TimerEarly, Connect, ""),
        (Connect, TimerDue, Active, "abort"),
        (OpenSent, Start, OpenSent, ""),
        (OpenSent, Stop, Idle, "notify 6/2, close, ended"),
        (OpenSent, Connected, OpenSent, ""),
        (OpenSent, Called, OpenSent, "open"),
        (OpenSent, ConnectFailed, OpenSent, ""),
        (OpenSent, Closed, Active, "close, ended"),
        (OpenSent, Open, OpenConfirm, "keepalive"),
        (OpenSent, Update, Active, "notify 5/1, close, ended"),
        (OpenSent, Notification, Active, "close, ended"),
        (OpenSent, Keepalive, Active, "notify 5/1, close, ended"),
        (OpenSent, Refresh, Active, "notify 5/1, close, ended"),
        (OpenSent, Malformed, Active, "notify 1/1, close, ended"),
        (OpenSent, TimerEarly, OpenSent, ""),
        (OpenSent, TimerDue, Active, "notify 4/0, close, ended"),
        (OpenConfirm, Start, OpenConfirm, ""),
        (OpenConfirm, Stop, Idle, "notify 6/2, close, ended"),
        (OpenConfirm, Connected, OpenConfirm, ""),
        (OpenConfirm, Called, OpenConfirm, "open"),
        (OpenConfirm, ConnectFailed, OpenConfirm, ""),
        (OpenConfirm, Closed, Active, "close, ended"),
        (OpenConfirm, Open, Active, "notify 5/2, close, ended"),
        (OpenConfirm, Update, Active, "notify 5/2, close, ended"),
        (OpenConfirm, Notification, Active, "close, ended"),
        (OpenConfirm, Keepalive, Established, "established"),
        (OpenConfirm, Refresh, Active, "notify 5/2, close, ended"),
        (OpenConfirm, Malformed, Active, "notify 1/1, close, ended"),
        (OpenConfirm, TimerEarly, OpenConfirm, ""),
        (OpenConfirm, TimerDue, OpenConfirm, "keepalive"),
        (Established, Start, Established, ""),
        (Established, Stop, Idle, "notify 6/2, close, down"),
        (Established, Connected, Established, ""),
        (Established, Called, Established, ""),
        (Established, ConnectFailed, Established, ""),
        (Established, Closed, Active, "close, down"),
        (Established, Open, Active, "notify 5/3, close, down"),
        (Established, Update, Established, "read"),
        (Established, Notification, Active, "close, down"),
        (Established, Keepalive, Established, ""),
        (Established, Refresh, Established, "refresh"),
        (Established, Malformed, Active, "notify 1/1, close, down"),
        (Established, TimerEarly, Established, ""),
        (Established, TimerDue, Established, "keepalive"),
    ];
    assert_eq!(table.len(), 6 * 14, "every pair is in the table once");
    for (state, event, next, outputs) in table {
        let (mut peer, now) = in_state(*state);
        let update = apply(&mut peer, *event, now);
        let mut all = drain(&mut peer);
        all.extend(update.then(|| "read".to_owned()));
        assert_eq!((peer.state(), all.join(", ")), (*next, outputs.to_string()), "{state:?} {event:?}");
        if matches!(next, Active) {
            assert!(peer.deadline().is_some(), "{state:?} {event:?}: Active has a timer");
        }
    }
}

#[test]
fn hold_timer_expiry_sends_notification_4() {
    let (mut peer, now) = in_state(SessionState::Established);
    peer.handle(PeerInput::Timer, now + Duration::from_secs(89));
    assert_eq!(drain(&mut peer), ["keepalive"]);
    receive(&mut peer, Side::Outgoing, MessageKind::Keepalive, now + Duration::from_secs(89));
    peer.handle(PeerInput::Timer, now + Duration::from_secs(178));
    assert_eq!(drain(&mut peer), ["keepalive"]);
    peer.handle(PeerInput::Timer, now + Duration::from_secs(179));
    assert_eq!(drain(&mut peer), ["notify 4/0", "close", "down"]);
}

#[test]
fn a_hold_time_of_zero_runs_no_timers() {
    let now = Instant::now();
    let mut peer = Peer::new(PeerConfig { hold_time: 0, ..config(1) }, 1);
    peer.handle(PeerInput::Start, now);
    peer.handle(PeerInput::Connected(Side::Outgoing), now);
    receive(&mut peer, Side::Outgoing, MessageKind::Open, now);
    receive(&mut peer, Side::Outgoing, MessageKind::Keepalive, now);
    assert_eq!((peer.state(), peer.deadline()), (SessionState::Established, None));
}

#[test]
fn a_passive_peer_never_dials() {
    let now = Instant::now();
    let mut peer = Peer::new(PeerConfig { passive: true, ..config(1) }, 1);
    peer.handle(PeerInput::Start, now);
    assert_eq!((peer.state(), peer.deadline()), (SessionState::Active, None));
    peer.handle(PeerInput::Connected(Side::Incoming), now);
    peer.handle(PeerInput::Closed(Side::Incoming), now);
    assert_eq!((peer.state(), peer.deadline()), (SessionState::Active, None));
}

#[test]
fn the_connection_of_the_higher_identifier_wins_a_collision() {
    for (ours, stays) in [(1, Side::Incoming), (9, Side::Outgoing)] {
        // The order of the OPENs does not matter.
        for first in Side::ALL {
            let now = Instant::now();
            let mut peer = Peer::new(config(ours), 1);
            peer.handle(PeerInput::Start, now);
            peer.handle(PeerInput::Connected(Side::Outgoing), now);
            peer.handle(PeerInput::Connected(Side::Incoming), now);
            drain(&mut peer);
            receive(&mut peer, first, MessageKind::Open, now);
            receive(&mut peer, first.other(), MessageKind::Open, now);
            let outputs = drain(&mut peer);
            assert!(outputs.contains(&"notify 6/7".to_owned()), "{outputs:?}");
            assert_eq!(peer.connection_state(stays), Some(SessionState::OpenConfirm), "{ours} {first:?}");
            assert_eq!(peer.connection_state(stays.other()), None);
        }
    }
}

#[test]
fn an_invalid_open_is_answered_with_its_subcode() {
    let refused = |theirs: PeerConfig| {
        let now = Instant::now();
        let mut peer = Peer::new(config(1), 1);
        peer.handle(PeerInput::Start, now);
        peer.handle(PeerInput::Connected(Side::Outgoing), now);
        let mut octets = Vec::new();
        theirs.open(None).encode(&mut octets);
        let frame = frame::next(&octets, MAX_LEN).unwrap().unwrap();
        drain(&mut peer);
        assert!(peer.receive(Side::Outgoing, frame, now).is_none());
        drain(&mut peer)[0].clone()
    };
    assert_eq!(refused(PeerConfig { local_as: Asn(64513), ..config(2) }), "notify 2/2");
    assert_eq!(refused(config(1)), "notify 2/3", "our own identifier");
    assert_eq!(refused(PeerConfig { hold_time: 2, ..config(2) }), "notify 2/6");
    assert_eq!(
        refused(PeerConfig { families: Families::NONE, ..config(2) }),
        "keepalive",
        "no family named: IPv4"
    );
}

#[test]
fn a_peer_is_dialed_again_within_a_second_of_a_reset() {
    let (mut peer, now) = in_state(SessionState::Established);
    peer.handle(PeerInput::Closed(Side::Outgoing), now);
    let wait = peer.deadline().unwrap() - now;
    assert!(wait <= Duration::from_millis(500), "{wait:?}");
    while let Some(output) = peer.poll_output() {
        if let PeerOutput::Ended { reason, .. } = output {
            assert_eq!(reason, EndReason::ConnectionClosed);
        }
    }
}
