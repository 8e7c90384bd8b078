//! The BFD state machine: the transition table, the intervals, and two sessions with each other.
#![allow(clippy::unwrap_used)]

use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

use bgp::bfd::{BfdOutput, BfdSession, BfdSessionConfig, BfdState, ControlPacket, Diagnostic};

const MS: Duration = Duration::from_millis(1);

fn config() -> BfdSessionConfig {
    BfdSessionConfig { min_interval: 50 * MS, multiplier: NonZeroU8::new(3).unwrap() }
}

fn discr(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn packet(state: BfdState) -> ControlPacket {
    ControlPacket {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        r#final: false,
        control_plane_independent: false,
        demand: false,
        detect_mult: NonZeroU8::new(3).unwrap(),
        my_discriminator: discr(7),
        your_discriminator: 1,
        desired_min_tx: 50_000,
        required_min_rx: 50_000,
        required_min_echo_rx: 0,
    }
}

fn drain(session: &mut BfdSession) -> (Vec<ControlPacket>, Vec<BfdState>) {
    let (mut sent, mut states) = (Vec::new(), Vec::new());
    while let Some(output) = session.poll_output() {
        match output {
            BfdOutput::Send(packet) => sent.push(packet),
            BfdOutput::Changed(state) => states.push(state),
        }
    }
    (sent, states)
}

fn in_state(state: BfdState, now: Instant) -> BfdSession {
    let mut session = BfdSession::new(config(), discr(1), 3, now);
    match state {
        BfdState::Down => {}
        BfdState::AdminDown => session.stop(now),
        BfdState::Init => session.receive(&packet(BfdState::Down), now),
        BfdState::Up => session.receive(&packet(BfdState::Init), now),
    }
    assert_eq!(session.state(), state);
    drain(&mut session);
    session
}

#[test]
fn every_state_answers_every_state_as_the_table_says() {
    use BfdState::{AdminDown, Down, Init, Up};
    // RFC 5880 §6.2 and §6.8.6: state, received state, new state.
    let table = [
        (AdminDown, AdminDown, AdminDown),
        (AdminDown, Down, AdminDown),
        (AdminDown, Init, AdminDown),
        (AdminDown, Up, AdminDown),
        (Down, AdminDown, Down),
        (Down, Down, Init),
        (Down, Init, Up),
        (Down, Up, Down),
        (Init, AdminDown, Down),
        (Init, Down, Init),
        (Init, Init, Up),
        (Init, Up, Up),
        (Up, AdminDown, Down),
        (Up, Down, Down),
        (Up, Init, Up),
        (Up, Up, Up),
    ];
    for (ours, theirs, then) in table {
        let now = Instant::now();
        let mut session = in_state(ours, now);
        session.receive(&packet(theirs), now);
        assert_eq!(session.state(), then, "{ours} receives {theirs}");
        let (sent, states) = drain(&mut session);
        if ours == then {
            assert!(states.is_empty(), "{ours} receives {theirs}");
        } else {
            assert_eq!(states, [then]);
            assert_eq!(sent[0].state, then, "a change is sent at once");
            assert_eq!(sent[0].your_discriminator, 7);
        }
        if matches!(ours, Init | Up) && then == Down {
            assert_eq!(session.diagnostic(), Diagnostic::NEIGHBOR_SIGNALED_SESSION_DOWN);
        }
    }
}

#[test]
fn silence_for_the_detection_time_is_down() {
    for (state, then) in
        [(BfdState::Init, BfdState::Down), (BfdState::Up, BfdState::Down), (BfdState::Down, BfdState::Down)]
    {
        let now = Instant::now();
        let mut session = in_state(state, now);
        session.receive(&packet(BfdState::Up), now);
        assert_eq!(session.detection_time(), 150 * MS);
        let before = session.state();
        session.timer(now + 149 * MS);
        assert_eq!(session.state(), before);
        session.timer(now + 150 * MS);
        assert_eq!(session.state(), then);
        let (sent, _) = drain(&mut session);
        if before != then {
            let last = sent.last().unwrap();
            assert_eq!(
                (last.state, last.your_discriminator),
                (BfdState::Down, 0),
                "the other side is forgotten"
            );
            assert_eq!(last.diagnostic, Diagnostic::CONTROL_DETECTION_TIME_EXPIRED);
            assert_eq!(last.desired_min_tx, 1_000_000);
        }
    }
}

#[test]
fn the_detection_time_is_the_remote_multiplier_times_the_negotiated_interval() {
    let now = Instant::now();
    let mut session = in_state(BfdState::Up, now);
    for (theirs, mult, wanted) in [(10_000, 3, 150), (300_000, 2, 600), (1_000_000, 5, 5000)] {
        let packet = ControlPacket {
            desired_min_tx: theirs,
            detect_mult: NonZeroU8::new(mult).unwrap(),
            ..packet(BfdState::Up)
        };
        session.receive(&packet, now);
        assert_eq!(session.detection_time(), wanted * MS);
    }
}

#[test]
fn a_poll_is_answered_at_once_and_our_poll_ends_with_the_answer() {
    let now = Instant::now();
    let mut session = BfdSession::new(config(), discr(1), 3, now);
    session.receive(&packet(BfdState::Init), now);
    let (sent, _) = drain(&mut session);
    assert!(sent.last().unwrap().poll, "the new interval is to be confirmed");
    session.receive(&ControlPacket { poll: true, ..packet(BfdState::Up) }, now);
    let (sent, _) = drain(&mut session);
    assert!(sent[0].r#final && !sent[0].poll);
    session.timer(session.deadline().unwrap());
    assert!(drain(&mut session).0[0].poll, "not answered yet");
    session.receive(&ControlPacket { r#final: true, ..packet(BfdState::Up) }, now);
    session.timer(session.deadline().unwrap());
    assert!(!drain(&mut session).0[0].poll);
}

#[test]
fn new_intervals_leave_the_session_up_and_apply_once_confirmed() {
    for (from, to) in [(50, 300), (300, 50)] {
        let now = Instant::now();
        let times = |ms: u32| BfdSessionConfig { min_interval: ms * MS, ..config() };
        let mut session = BfdSession::new(times(from), discr(1), 3, now);
        session.receive(&packet(BfdState::Init), now);
        let answer = ControlPacket { r#final: true, desired_min_tx: 10_000, ..packet(BfdState::Up) };
        session.receive(&answer, now);
        drain(&mut session);
        session.set_config(times(to), now);
        let (sent, states) = drain(&mut session);
        assert!(states.is_empty() && sent[0].poll, "{states:?}");
        assert_eq!(sent[0].desired_min_tx, to * 1000);
        assert_eq!(session.detection_time(), 3 * from.max(to) * MS, "either interval until it is confirmed");
        let next = session.deadline().unwrap() - now;
        assert!(next <= from.min(to) * MS, "{next:?}");
        session.receive(&answer, now);
        assert_eq!(session.detection_time(), 3 * to * MS);
        session.timer(session.deadline().unwrap());
        assert_eq!(session.state(), BfdState::Up);
    }
}

#[test]
fn no_packets_are_sent_to_a_system_that_requires_none() {
    let now = Instant::now();
    let mut session = in_state(BfdState::Up, now);
    session.receive(&ControlPacket { required_min_rx: 0, ..packet(BfdState::Up) }, now);
    assert_eq!(session.deadline(), Some(now + 150 * MS), "only the detection timer is left");
    session.receive(&ControlPacket { r#final: true, demand: true, ..packet(BfdState::Up) }, now);
    assert_eq!(session.deadline(), Some(now + 150 * MS), "demand mode");
    session.timer(now + 150 * MS);
    assert_eq!(session.state(), BfdState::Down);
    assert!(session.deadline().is_some(), "a peer may come back");
}

#[test]
fn packets_keep_their_intervals_with_jitter() {
    for (multiplier, most) in [(3, 50 * MS), (1, 45 * MS)] {
        let now = Instant::now();
        let config = BfdSessionConfig { multiplier: NonZeroU8::new(multiplier).unwrap(), ..config() };
        let mut session = BfdSession::new(config, discr(1), 3, now);
        session.receive(&packet(BfdState::Init), now);
        let mut at = now;
        let mut waits = Vec::new();
        for _ in 0..500 {
            session.receive(&packet(BfdState::Up), at);
            let next = session.deadline().unwrap();
            waits.push(next - at);
            at = next;
            session.timer(at);
            drain(&mut session);
        }
        assert!(waits.iter().all(|wait| (37 * MS..=most).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait < 40 * MS) && waits.iter().any(|wait| *wait > 43 * MS));
    }
    let now = Instant::now();
    let mut slow = BfdSession::new(config(), discr(1), 3, now);
    slow.timer(now);
    drain(&mut slow);
    let wait = slow.deadline().unwrap() - now;
    assert!((750 * MS..=1000 * MS).contains(&wait), "not Up: once a second, {wait:?}");
}

/// Runs both sessions on a virtual clock, with a latency of 1 ms.
#[test]
fn two_sessions_come_up_and_detect_each_others_end() {
    let start = Instant::now();
    let mut sides =
        [BfdSession::new(config(), discr(1), 3, start), BfdSession::new(config(), discr(2), 4, start)];
    let mut now = start;
    let mut on_the_way: Vec<(Instant, usize, ControlPacket)> = Vec::new();
    let mut run = |sides: &mut [BfdSession; 2], now: &mut Instant, until: Instant, cut: bool| {
        while *now < until {
            for (from, to) in [(0, 1), (1, 0)] {
                if sides[from].deadline().is_some_and(|at| at <= *now) {
                    sides[from].timer(*now);
                }
                for packet in drain(&mut sides[from]).0 {
                    if !cut {
                        on_the_way.push((*now + MS, to, packet));
                    }
                }
            }
            let arrived: Vec<_> = on_the_way.extract_if(.., |(at, ..)| *at <= *now).collect();
            for (_, to, packet) in arrived {
                assert!(sides[to].is_addressed_by(&packet));
                sides[to].receive(&packet, *now);
            }
            *now += MS;
        }
    };
    run(&mut sides, &mut now, start + 3000 * MS, false);
    assert_eq!(sides.each_ref().map(BfdSession::state), [BfdState::Up; 2]);
    assert_eq!(sides.each_ref().map(BfdSession::detection_time), [150 * MS; 2]);
    let cut = now;
    run(&mut sides, &mut now, cut + 140 * MS, true);
    // The last packet before the cut was sent up to 50 ms earlier.
    run(&mut sides, &mut now, cut + 152 * MS, true);
    assert_eq!(sides.each_ref().map(BfdSession::state), [BfdState::Down; 2], "150 ms of silence");
    let again = now;
    run(&mut sides, &mut now, again + 3000 * MS, false);
    assert_eq!(sides.each_ref().map(BfdSession::state), [BfdState::Up; 2]);
    sides[0].stop(now);
    let stopped = now;
    run(&mut sides, &mut now, stopped + 10 * MS, false);
    assert_eq!(sides[1].state(), BfdState::Down);
    assert_eq!(sides[1].remote_diagnostic(), Diagnostic::ADMINISTRATIVELY_DOWN);
}
