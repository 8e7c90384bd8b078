//! Retention of routes after the end of a session, and the NOTIFICATIONs that precede it.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bgp::session::{
    Admission, Peer, PeerConfig, PeerInput, PeerOutput, RestartConfig, Retention, SessionState, Side,
    StaleAction,
};
use bgp::wire::error::{ErrorCode, WireError};
use bgp::wire::frame::{self, MAX_LEN, MessageKind};
use bgp::wire::notification::Notification;
use bgp::wire::open::Open;
use bgp::wire::refresh::RouteRefresh;
use bgp::{Asn, Families, Family, RouterId};

const SIDE: Side = Side::Outgoing;

fn config(id: u8, restart: Option<RestartConfig>) -> PeerConfig {
    PeerConfig { restart, ..PeerConfig::new(Asn(64512), RouterId([10, 0, 0, id].into()), Asn(64512)) }
}

fn restart(long_lived_stale_time: u32) -> Option<RestartConfig> {
    Some(RestartConfig { restart_time: 120, long_lived_stale_time })
}

fn theirs(edit: impl FnOnce(&mut Open)) -> Open {
    let mut open = config(2, restart(0)).open(None);
    edit(&mut open);
    open
}

fn give(peer: &mut Peer, side: Side, octets: &[u8], now: Instant) {
    let frame = frame::next(octets, MAX_LEN).unwrap().unwrap();
    assert!(peer.receive(side, frame, now).is_none(), "no UPDATE");
}

fn message(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut octets = Vec::new();
    write(&mut octets);
    octets
}

fn establish(peer: &mut Peer, open: &Open, now: Instant) {
    peer.handle(PeerInput::Connected(SIDE), now);
    give(peer, SIDE, &message(|out| open.encode(out)), now);
    give(peer, SIDE, &message(bgp::wire::encode::keepalive), now);
    assert_eq!(peer.state(), SessionState::Established);
}

fn established(ours: PeerConfig, open: &Open) -> (Peer, Instant) {
    let now = Instant::now();
    let mut peer = Peer::new(ours, 7);
    peer.handle(PeerInput::Start, now);
    establish(&mut peer, open, now);
    drain(&mut peer);
    (peer, now)
}

fn drain(peer: &mut Peer) -> Vec<PeerOutput> {
    std::iter::from_fn(|| peer.poll_output()).collect()
}

fn retained(peer: &mut Peer) -> Retention {
    let outputs = drain(peer);
    let mut ends = outputs.iter().filter_map(|output| match output {
        PeerOutput::Ended { established: true, retain, .. } => Some(*retain),
        _ => None,
    });
    ends.next_back().unwrap()
}

fn stale(peer: &mut Peer) -> Vec<StaleAction> {
    let stale = |output| match output {
        PeerOutput::Stale(stale) => Some(stale),
        _ => None,
    };
    drain(peer).into_iter().filter_map(stale).collect()
}

/// Advances to the deadline repeatedly, until the treatment of stale routes changes.
fn until_stale(peer: &mut Peer, limit: Instant) -> (Instant, Vec<StaleAction>) {
    loop {
        let now = peer.deadline().unwrap();
        assert!(now <= limit, "no change of stale routes");
        peer.handle(PeerInput::Timer, now);
        // Connection attempts in progress fail.
        peer.handle(PeerInput::ConnectFailed, now);
        let stale = stale(peer);
        if !stale.is_empty() {
            return (now, stale);
        }
    }
}

#[test]
fn routes_are_retained_as_far_as_both_sides_agreed() {
    let notified = |code| {
        move |peer: &mut Peer, now| {
            let octets = message(|out| Notification::new(code).encode(out));
            give(peer, SIDE, &octets, now);
        }
    };
    let closed = |peer: &mut Peer, now| peer.handle(PeerInput::Closed(SIDE), now);
    let refused = |peer: &mut Peer, now| {
        let error = WireError::new(ErrorCode::MALFORMED_ATTRIBUTE_LIST, "test");
        peer.handle(PeerInput::Malformed(SIDE, error), now);
    };
    let silent = |peer: &mut Peer, _| {
        let due = loop {
            let due = peer.deadline().unwrap();
            peer.handle(PeerInput::Timer, due);
            if peer.state() != SessionState::Established {
                break due;
            }
        };
        assert!(peer.retained_until().is_none_or(|until| until > due));
    };
    let unread = |peer: &mut Peer, now| peer.handle(PeerInput::SendHoldTimerExpired(SIDE), now);
    let given_up = |peer: &mut Peer, now| peer.handle(PeerInput::BfdDown, now);
    let stopped =
        |peer: &mut Peer, _| peer.handle(PeerInput::Stop(ErrorCode::PEER_DECONFIGURED), Instant::now());
    let reset = notified(ErrorCode::ADMINISTRATIVE_RESET);
    let hard = notified(ErrorCode::HARD_RESET);
    type Event<'a> = &'a dyn Fn(&mut Peer, Instant);
    // Event; whether routes are kept by RFC 4724 and by RFC 8538; whether the peer is silent.
    let table: &[(&str, Event<'_>, bool, bool, bool)] = &[
        ("TCP ends", &closed, true, true, false),
        ("a NOTIFICATION comes", &reset, false, true, false),
        ("a Hard Reset comes", &hard, false, false, false),
        ("the peer breaks a rule", &refused, false, true, false),
        ("the hold timer expires", &silent, false, true, true),
        ("BFD gives the peer up", &given_up, false, true, true),
        ("the peer reads nothing", &unread, false, true, true),
        ("the session is not wanted any more", &stopped, false, false, false),
    ];
    for (what, event, plain, notification, quiet) in table {
        for (n, expected) in [(false, *plain), (true, *notification)] {
            let open = theirs(|open| {
                open.capabilities.graceful_restart.as_mut().unwrap().notification = n;
            });
            let (mut peer, now) = established(config(1, restart(0)), &open);
            event(&mut peer, now);
            let wanted = match expected {
                true => Retention { families: Families::BOTH, older: n, silent: *quiet },
                false => Retention::default(),
            };
            assert_eq!(retained(&mut peer), wanted, "{what}, N bit {n}");
            assert_eq!(peer.retained_until().is_some(), expected, "{what}, N bit {n}");
        }
    }
    let (mut peer, now) = established(
        config(1, restart(0)),
        &theirs(|open| {
            open.capabilities.graceful_restart = None;
        }),
    );
    closed(&mut peer, now);
    assert_eq!(retained(&mut peer), Retention::default(), "the peer did not negotiate it");
}

#[test]
fn stale_routes_are_dropped_after_the_restart_time() {
    let (mut peer, now) = established(config(1, restart(0)), &theirs(|_| {}));
    peer.handle(PeerInput::Closed(SIDE), now);
    drain(&mut peer);
    let (at, what) = until_stale(&mut peer, now + Duration::from_secs(130));
    assert_eq!(what, [StaleAction::Drop(Families::BOTH)]);
    assert_eq!(at, now + Duration::from_secs(120));
    assert_eq!(peer.retained_until(), None);
}

#[test]
fn a_restart_time_of_an_hour_is_limited() {
    let open = theirs(|open| open.capabilities.graceful_restart.as_mut().unwrap().restart_time = 3600);
    for (ours, waited) in [(120, 300), (600, 600)] {
        let restart = RestartConfig { restart_time: ours, long_lived_stale_time: 0 };
        let (mut peer, now) = established(config(1, Some(restart)), &open);
        peer.handle(PeerInput::Closed(SIDE), now);
        assert_eq!(peer.retained_until(), Some(now + Duration::from_secs(waited)));
    }
}

#[test]
fn long_lived_routes_become_llgr_stale_and_are_dropped_later() {
    let open = config(2, Some(RestartConfig { restart_time: 120, long_lived_stale_time: 600 })).open(None);
    let (mut peer, now) = established(config(1, restart(3600)), &open);
    peer.handle(PeerInput::Closed(SIDE), now);
    drain(&mut peer);
    let (at, what) = until_stale(&mut peer, now + Duration::from_secs(130));
    assert_eq!((at, what), (now + Duration::from_secs(120), vec![StaleAction::LlgrStale(Families::BOTH)]));
    let (at, what) = until_stale(&mut peer, now + Duration::from_secs(730));
    assert_eq!((at, what), (now + Duration::from_secs(720), vec![StaleAction::Drop(Families::BOTH)]));
}

#[test]
fn routes_with_preserved_forwarding_state_are_kept_until_end_of_rib() {
    let open = theirs(|open| {
        let graceful = open.capabilities.graceful_restart.as_mut().unwrap();
        graceful.forwarding = Families::IPV4;
        graceful.restarting = true;
    });
    let (mut peer, now) = established(config(1, restart(0)), &open);
    peer.handle(PeerInput::Closed(SIDE), now);
    let now = peer.deadline().unwrap();
    peer.handle(PeerInput::Timer, now);
    drain(&mut peer);
    establish(&mut peer, &open, now);
    let mut v6 = Families::NONE;
    v6.insert(Family::Ipv6Unicast);
    assert_eq!(stale(&mut peer), [StaleAction::Drop(v6)]);
    assert!(peer.retained_until().is_some());
    peer.handle(PeerInput::EndOfRib(Family::Ipv4Unicast), now);
    assert_eq!(peer.retained_until(), None, "no routes are stale after End-of-RIB");
}

#[test]
fn repeated_restarts_do_not_extend_the_retention_without_limit() {
    let (mut peer, start) = established(config(1, restart(0)), &theirs(|_| {}));
    let mut now = start;
    peer.handle(PeerInput::Closed(SIDE), now);
    while let Some(until) = peer.retained_until() {
        assert!(until <= start + Duration::from_secs(4 * 120));
        assert!(now < start + Duration::from_secs(600));
        now = until - Duration::from_secs(1).min(until - now);
        while peer.deadline().is_some_and(|due| due <= now) {
            let due = peer.deadline().unwrap();
            peer.handle(PeerInput::Timer, due);
            peer.handle(PeerInput::ConnectFailed, due);
        }
        peer.handle(PeerInput::Timer, now + Duration::from_secs(2));
        if peer.retained_until().is_none() {
            break;
        }
        peer.handle(PeerInput::Connected(Side::Incoming), now);
        give(&mut peer, Side::Incoming, &message(|out| theirs(|_| {}).encode(out)), now);
        give(&mut peer, Side::Incoming, &message(bgp::wire::encode::keepalive), now);
        peer.handle(PeerInput::Closed(Side::Incoming), now);
    }
}

#[test]
fn the_open_of_a_second_connection_ends_a_session_whose_peer_restarted() {
    let (mut peer, now) = established(config(1, restart(0)), &theirs(|_| {}));
    assert_eq!(peer.admission(), Admission::Accept);
    peer.handle(PeerInput::Connected(Side::Incoming), now);
    assert!(drain(&mut peer).iter().all(|output| !matches!(output, PeerOutput::Ended { .. })));
    give(&mut peer, Side::Incoming, &message(|out| theirs(|_| {}).encode(out)), now);
    assert_eq!(retained(&mut peer).families, Families::BOTH);
    give(&mut peer, Side::Incoming, &message(bgp::wire::encode::keepalive), now);
    assert_eq!(peer.connection_state(Side::Incoming), Some(SessionState::Established));
    drain(&mut peer);
    // The next such connection finds that side in use.
    assert_eq!(peer.admission(), Admission::AcceptSecond);
    peer.swap_sides();
    assert_eq!(peer.admission(), Admission::Accept);

    let plain = theirs(|open| open.capabilities.graceful_restart = None);
    let (peer, _) = established(config(1, restart(0)), &plain);
    assert_eq!(peer.admission(), Admission::Reject(ErrorCode::COLLISION_RESOLUTION));
}

fn sent_notification(outputs: Vec<PeerOutput>) -> Option<Notification> {
    outputs.into_iter().find_map(|output| match output {
        PeerOutput::Send(_, octets) => {
            let frame = frame::next(&octets, MAX_LEN).unwrap().unwrap();
            (frame.kind == MessageKind::Notification).then(|| Notification::parse(frame.body))
        }
        _ => None,
    })
}

#[test]
fn a_stopped_session_ends_with_a_hard_reset_and_a_restarting_one_does_not() {
    let full = theirs(|_| {});
    let plain = theirs(|open| open.capabilities.graceful_restart.as_mut().unwrap().notification = false);
    let none = theirs(|open| open.capabilities.graceful_restart = None);
    for (open, stop, restarting) in [
        (full, (6, 9, vec![6, 3]), Some((6, 4))),
        (plain, (6, 3, vec![]), None),
        (none, (6, 3, vec![]), Some((6, 2))),
    ] {
        let (mut peer, now) = established(config(1, restart(0)), &open);
        peer.handle(PeerInput::Stop(ErrorCode::PEER_DECONFIGURED), now);
        let last = sent_notification(drain(&mut peer)).unwrap();
        assert_eq!((last.code.code, last.code.subcode, last.data), stop);

        let (mut peer, now) = established(config(1, restart(0)), &open);
        peer.handle(PeerInput::Restart, now);
        let last = sent_notification(drain(&mut peer));
        assert_eq!(last.map(|last| (last.code.code, last.code.subcode)), restarting);
        assert_eq!(peer.state(), SessionState::Idle);
    }
}

#[test]
fn a_new_configuration_reopens_the_session_and_both_sides_keep_their_routes() {
    let (mut peer, now) = established(config(1, restart(0)), &theirs(|_| {}));
    peer.reconfigure(PeerConfig { hold_time: 30, ..config(1, restart(0)) }, now);
    let outputs = drain(&mut peer);
    let kept = outputs.iter().find_map(|output| match output {
        PeerOutput::Ended { established: true, retain, .. } => Some(retain.families),
        _ => None,
    });
    assert_eq!(kept, Some(Families::BOTH));
    assert!(outputs.contains(&PeerOutput::Connect), "at once");
    assert_eq!(sent_notification(outputs).map(|last| last.code), Some(ErrorCode::CONFIGURATION_CHANGE));
    establish(&mut peer, &theirs(|_| {}), now);
    assert_eq!(peer.negotiated().unwrap().hold_time, 30);

    let mut paused = Peer::new(config(1, None), 7);
    paused.reconfigure(config(1, restart(0)), now);
    assert_eq!(
        (paused.state(), drain(&mut paused)),
        (SessionState::Idle, vec![]),
        "what was not wanted is not now"
    );
}

#[test]
fn a_restart_is_announced_in_the_open_until_it_is_over() {
    let mut peer = Peer::new(config(1, restart(0)), 7);
    let mut sent_notification = |restarted| {
        let now = Instant::now();
        peer.set_restarted(restarted);
        peer.handle(PeerInput::Stop(ErrorCode::ADMINISTRATIVE_RESET), now);
        drain(&mut peer);
        peer.handle(PeerInput::Start, now);
        peer.handle(PeerInput::Connected(SIDE), now);
        let outputs = drain(&mut peer);
        let octets = outputs.iter().find_map(|output| match output {
            PeerOutput::Send(_, octets) => Some(octets.clone()),
            _ => None,
        });
        let octets = octets.unwrap();
        let frame = frame::next(&octets, MAX_LEN).unwrap().unwrap();
        let graceful = Open::parse(frame.body).unwrap().capabilities.graceful_restart.unwrap();
        (graceful.restarting, graceful.forwarding)
    };
    assert_eq!(sent_notification(Some(Families::IPV4)), (true, Families::IPV4));
    assert_eq!(sent_notification(None), (false, Families::BOTH));
}

#[test]
fn routes_not_sent_again_between_refresh_markers_are_dropped() {
    let (mut peer, now) = established(config(1, restart(0)), &theirs(|_| {}));
    let family = Family::Ipv4Unicast;
    let marker = |subtype| message(|out| RouteRefresh { family: family.afi_safi(), subtype }.encode(out));
    give(&mut peer, SIDE, &marker(2), now);
    assert_eq!(drain(&mut peer), [], "an ending marker without a beginning is ignored");
    give(&mut peer, SIDE, &marker(1), now);
    assert_eq!(drain(&mut peer), [PeerOutput::RefreshBegins(family)]);
    give(&mut peer, SIDE, &marker(2), now);
    assert_eq!(stale(&mut peer), [StaleAction::Drop(Families::IPV4)]);
    give(&mut peer, SIDE, &marker(0), now);
    assert_eq!(drain(&mut peer), [PeerOutput::Refresh(family)]);
    give(&mut peer, SIDE, &marker(3), now);
    assert_eq!(drain(&mut peer), []);
}
