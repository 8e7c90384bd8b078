use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;

const B: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 0);
/// A node with an IP-in-IP path and a fallback.
const IPIP: ProbeTarget =
    ProbeTarget { address: B, ipip: true, fallback: true, vxlan: false, direct: false, doubted: false };
const RECOVER_AFTER: Duration = Duration::from_secs(30);

fn random() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(1);
    let last = LAST.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    (last ^ last >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// A prober, a clock, and a network that passes probes according to `passes`.
struct ProberFixture {
    prober: Prober,
    start: Instant,
    now: Instant,
    state: BTreeMap<TunnelPath, PathState>,
    sent: BTreeMap<TunnelPath, u32>,
    /// State changes of IP-in-IP, with their times.
    changes: Vec<(Duration, PathState)>,
}

impl ProberFixture {
    fn new(aim: ProbeTarget) -> ProberFixture {
        let now = Instant::now();
        let mut prober = Prober::new(random);
        prober.set_targets(&[aim], RECOVER_AFTER, now);
        ProberFixture {
            prober,
            start: now,
            now,
            state: BTreeMap::new(),
            sent: BTreeMap::new(),
            changes: Vec::new(),
        }
    }

    fn ipip() -> ProberFixture {
        ProberFixture::new(IPIP)
    }

    fn run(&mut self, time: Duration, passes: impl Fn(TunnelPath, Duration) -> bool) {
        let end = self.now + time;
        while let Some(due) = self.prober.deadline().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.prober.turn(self.now);
            while let Some(output) = self.prober.poll() {
                match output {
                    ProberOutput::Send { to, path, nonce } => {
                        *self.sent.entry(path).or_default() += 1;
                        if passes(path, self.now - self.start) {
                            self.now += Duration::from_micros(300);
                            self.prober.record_answer(to, path, nonce, ProbeClocks::default(), self.now);
                        }
                    }
                    ProberOutput::Changed { path, state, .. } => {
                        self.state.insert(path, state);
                        if path == TunnelPath::Ipip {
                            self.changes.push((self.now - self.start, state));
                        }
                    }
                }
            }
        }
        self.now = end;
    }

    fn ipip_is(&self) -> PathState {
        self.state.get(&TunnelPath::Ipip).copied().unwrap_or_default()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_answered_path_passes_and_vxlan_is_not_probed() {
    let mut fixture = ProberFixture::ipip();
    fixture.run(60 * SECOND, |_, _| true);
    assert_eq!(fixture.ipip_is(), PathState::Passes);
    assert_eq!(fixture.sent.get(&TunnelPath::Vxlan), None);
    let sent = fixture.sent[&TunnelPath::Ipip];
    assert!((54..=67).contains(&sent), "{sent} probes in a minute");
}

#[test]
fn three_losses_lead_to_vxlan_within_five_seconds_and_thirty_clean_seconds_back() {
    for _ in 0..50 {
        let mut fixture = ProberFixture::ipip();
        fixture.run(10 * SECOND, |_, _| true);
        fixture.run(5 * SECOND, |path, _| path == TunnelPath::Vxlan);
        assert_eq!(fixture.ipip_is(), PathState::Blocked, "{:?}", fixture.changes);
        fixture.run(29 * SECOND, |_, _| true);
        assert_eq!(fixture.ipip_is(), PathState::Returning);
        fixture.run(4 * SECOND, |_, _| true);
        assert_eq!(fixture.ipip_is(), PathState::Passes);
    }
}

#[test]
fn ipip_that_never_passed_is_blocked_only_once_vxlan_passes() {
    for _ in 0..50 {
        let mut fixture = ProberFixture::ipip();
        fixture.run(8 * SECOND, |path, _| path == TunnelPath::Vxlan);
        let changes: Vec<PathState> = fixture.changes.iter().map(|(_, state)| *state).collect();
        assert_eq!(changes, [PathState::Blocked]);
    }
}

#[test]
fn two_losses_are_not_three() {
    let mut fixture = ProberFixture::ipip();
    // Of ten probes four are never lost, and three in a row neither.
    fixture.run(120 * SECOND, |path, at| path == TunnelPath::Vxlan || at.as_millis() % 12_000 >= 1_700);
    assert_eq!(fixture.ipip_is(), PathState::Passes, "{:?}", fixture.changes);
}

#[test]
fn without_an_answer_by_vxlan_the_preferred_path_is_kept() {
    let mut fixture = ProberFixture::ipip();
    fixture.run(10 * SECOND, |_, _| true);
    fixture.run(60 * SECOND, |_, _| false);
    assert_eq!(fixture.ipip_is(), PathState::Passes);
    assert!(fixture.sent[&TunnelPath::Vxlan] > 50, "VXLAN is probed");
    // A node that never answered.
    let mut fixture = ProberFixture::ipip();
    fixture.run(60 * SECOND, |_, _| false);
    assert_eq!(fixture.ipip_is(), PathState::Unanswered);
    fixture.run(10 * SECOND, |_, _| true);
    assert_eq!(fixture.ipip_is(), PathState::Passes);
}

#[test]
fn a_node_that_restarts_repeatedly_keeps_its_path() {
    for _ in 0..20 {
        let mut fixture = ProberFixture::ipip();
        fixture.run(5 * SECOND, |_, _| true);
        fixture.run(60 * SECOND, |_, at| at.as_secs() / 3 % 2 == 0);
        assert_eq!(fixture.ipip_is(), PathState::Passes, "{:?}", fixture.changes);
    }
}

#[test]
fn an_intermittent_path_is_left_once() {
    for _ in 0..50 {
        let mut fixture = ProberFixture::ipip();
        fixture.run(5 * SECOND, |_, _| true);
        fixture.run(60 * SECOND, |path, at| path == TunnelPath::Vxlan || at.as_secs() / 2 % 2 == 0);
        let left = fixture.changes.iter().filter(|(_, state)| *state == PathState::Passes).count();
        assert_eq!(left, 1, "it passed only once, at the start: {:?}", fixture.changes);
        assert!(fixture.ipip_is().is_avoided());
    }
}

#[test]
fn a_loss_while_returning_restarts_the_wait() {
    let mut fixture = ProberFixture::ipip();
    fixture.run(5 * SECOND, |_, _| true);
    fixture.run(6 * SECOND, |path, _| path == TunnelPath::Vxlan);
    fixture.run(20 * SECOND, |_, _| true);
    fixture.run(2 * SECOND, |path, _| path == TunnelPath::Vxlan);
    fixture.run(25 * SECOND, |_, _| true);
    assert_eq!(fixture.ipip_is(), PathState::Returning);
    fixture.run(10 * SECOND, |_, _| true);
    assert_eq!(fixture.ipip_is(), PathState::Passes);
}

#[test]
fn a_dead_fallback_is_left_at_once_when_the_preferred_path_passes() {
    let mut fixture = ProberFixture::ipip();
    fixture.run(5 * SECOND, |_, _| true);
    fixture.run(6 * SECOND, |path, _| path == TunnelPath::Vxlan);
    assert_eq!(fixture.ipip_is(), PathState::Blocked);
    fixture.run(6 * SECOND, |path, _| path == TunnelPath::Ipip);
    assert_eq!(fixture.ipip_is(), PathState::Passes);
}

#[test]
fn a_doubted_path_is_avoided_until_it_was_clean_for_long_enough() {
    let mut fixture = ProberFixture::new(ProbeTarget { doubted: true, ..IPIP });
    fixture.run(29 * SECOND, |_, _| true);
    assert_eq!(fixture.ipip_is(), PathState::Returning);
    fixture.run(4 * SECOND, |_, _| true);
    assert_eq!(fixture.ipip_is(), PathState::Passes);
    // Setting the same target again changes nothing.
    let aim = ProbeTarget { doubted: true, ..IPIP };
    fixture.prober.set_targets(&[aim], RECOVER_AFTER, fixture.now);
    fixture.run(SECOND, |_, _| true);
    assert_eq!(fixture.ipip_is(), PathState::Passes);
}

#[test]
fn the_plain_path_passes_after_one_answer_and_not_after_three_losses() {
    let mut fixture = ProberFixture::new(ProbeTarget { ipip: false, direct: true, ..IPIP });
    fixture.run(10 * SECOND, |_, _| false);
    assert_ne!(fixture.state.get(&TunnelPath::Direct), Some(&PathState::Passes));
    let mut fixture = ProberFixture::new(ProbeTarget { ipip: false, direct: true, ..IPIP });
    fixture.run(3 * SECOND, |_, _| true);
    assert_eq!(fixture.state[&TunnelPath::Direct], PathState::Passes);
    fixture.run(5 * SECOND, |_, _| false);
    assert_eq!(fixture.state[&TunnelPath::Direct], PathState::Blocked);
}

#[test]
fn a_path_without_an_alternative_is_probed_seldom_and_often_once_silent() {
    for path in [TunnelPath::Ipip, TunnelPath::Vxlan] {
        let target = ProbeTarget {
            ipip: path == TunnelPath::Ipip,
            fallback: false,
            vxlan: path == TunnelPath::Vxlan,
            ..IPIP
        };
        let mut fixture = ProberFixture::new(target);
        fixture.run(60 * SECOND, |_, _| true);
        assert_eq!(fixture.state[&path], PathState::Passes);
        let sent = fixture.sent[&path];
        assert!((11..=14).contains(&sent), "{sent} probes in a minute");
        fixture.run(9 * SECOND, |_, _| false);
        let measurement = fixture.prober.measurements_of(B).expect("known")[path.index()];
        assert!(measurement.lost_in_row >= LOSSES_IN_ROW, "{measurement:?}");
        assert!(!fixture.state[&path].is_avoided(), "it is the only path");
        assert_eq!(fixture.sent.len(), 1, "no other path is probed");
        fixture.run(2 * SECOND, |_, _| true);
        assert_eq!(fixture.prober.measurements_of(B).expect("known")[path.index()].lost_in_row, 0);
        let mut silent = ProberFixture::new(target);
        silent.run(5 * SECOND, |_, _| false);
        assert_eq!(silent.state[&path], PathState::Unanswered);
    }
}

#[test]
fn a_fallback_in_use_is_probed_often_as_soon_as_ipip_is_in_doubt() {
    for _ in 0..50 {
        let mut fixture = ProberFixture::new(ProbeTarget { vxlan: true, ..IPIP });
        fixture.run(60 * SECOND, |_, _| true);
        let sent = fixture.sent[&TunnelPath::Vxlan];
        assert!((11..=14).contains(&sent), "{sent} probes in a minute");
        fixture.run(5 * SECOND, |path, _| path == TunnelPath::Vxlan);
        assert_eq!(fixture.ipip_is(), PathState::Blocked, "{:?}", fixture.changes);
    }
}

#[test]
fn answers_with_another_nonce_are_ignored() {
    let mut fixture = ProberFixture::ipip();
    fixture.prober.turn(fixture.now + SECOND);
    let Some(ProberOutput::Send { to, path, nonce }) = fixture.prober.poll() else { panic!("no probe") };
    fixture.prober.record_answer(to, path, nonce ^ 1, ProbeClocks::default(), fixture.now + SECOND);
    fixture.prober.record_answer(
        Ipv4Addr::new(10, 9, 9, 9),
        path,
        nonce,
        ProbeClocks::default(),
        fixture.now + SECOND,
    );
    fixture.prober.record_answer(to, TunnelPath::Vxlan, nonce, ProbeClocks::default(), fixture.now + SECOND);
    assert_eq!(fixture.prober.poll(), None);
}

proptest! {
    /// Whatever passes when, for any nodes: timers go on, memory is bounded by the number of nodes,
    /// and once everything is answered every path passes.
    #[test]
    fn any_weather_ends_in_passing_when_it_clears(
        weather in proptest::collection::vec((any::<bool>(), any::<bool>(), 1u64..8), 0..40),
    ) {
        let mut fixture = ProberFixture::ipip();
        for (ipip, vxlan, seconds) in weather {
            fixture.run(Duration::from_secs(seconds), |path, _| if path == TunnelPath::Ipip { ipip } else { vxlan });
            prop_assert!(fixture.prober.timers.len() <= 3 && fixture.prober.deadline().is_some());
        }
        fixture.run(RECOVER_AFTER + 5 * SECOND, |_, _| true);
        prop_assert_eq!(fixture.ipip_is(), PathState::Passes);
        prop_assert!(fixture.prober.timers.len() == 1);
    }
}

#[test]
fn clock_differences_assume_that_the_answer_took_half_the_round_trip() {
    let ahead = |theirs, ours| ProbeClocks { theirs, ours }.ahead(Duration::from_millis(10));
    assert_eq!(ahead(2_000_000, 1_005_000), 1_000_000);
    assert_eq!(ahead(1_000_000, 2_005_000), -1_000_000);
    assert_eq!(ahead(u64::MAX, 5_000), -1);
}
