use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;

const B: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 0);
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
        prober.aim(&[aim], RECOVER_AFTER, now);
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
        ProberFixture::new(ProbeTarget {
            address: B,
            ipip: true,
            fallback: true,
            vxlan: false,
            direct: false,
            doubted: false,
        })
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
                            self.prober.answered(to, path, nonce, ProbeClocks::default(), self.now);
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
fn what_is_answered_passes_and_vxlan_is_not_asked() {
    let mut bed = ProberFixture::ipip();
    bed.run(60 * SECOND, |_, _| true);
    assert_eq!(bed.ipip_is(), PathState::Passes);
    assert_eq!(bed.sent.get(&TunnelPath::Vxlan), None);
    let sent = bed.sent[&TunnelPath::Ipip];
    assert!((54..=67).contains(&sent), "{sent} probes in a minute");
}

#[test]
fn three_losses_lead_to_vxlan_within_five_seconds_and_thirty_clean_ones_back() {
    for _ in 0..50 {
        let mut bed = ProberFixture::ipip();
        bed.run(10 * SECOND, |_, _| true);
        bed.run(5 * SECOND, |path, _| path == TunnelPath::Vxlan);
        assert_eq!(bed.ipip_is(), PathState::Blocked, "{:?}", bed.changes);
        bed.run(29 * SECOND, |_, _| true);
        assert_eq!(bed.ipip_is(), PathState::Returning);
        bed.run(4 * SECOND, |_, _| true);
        assert_eq!(bed.ipip_is(), PathState::Passes);
    }
}

#[test]
fn what_never_passed_beside_vxlan_that_does_is_blocked_and_nothing_before() {
    for _ in 0..50 {
        let mut bed = ProberFixture::ipip();
        bed.run(8 * SECOND, |path, _| path == TunnelPath::Vxlan);
        let changes: Vec<PathState> = bed.changes.iter().map(|(_, state)| *state).collect();
        assert_eq!(changes, [PathState::Blocked]);
    }
}

#[test]
fn two_losses_are_not_three() {
    let mut bed = ProberFixture::ipip();
    // Of ten probes four are never lost, and three in a row neither.
    bed.run(120 * SECOND, |path, at| path == TunnelPath::Vxlan || at.as_millis() % 12_000 >= 1_700);
    assert_eq!(bed.ipip_is(), PathState::Passes, "{:?}", bed.changes);
}

#[test]
fn where_vxlan_is_not_answered_either_the_preferred_way_is_kept() {
    let mut bed = ProberFixture::ipip();
    bed.run(10 * SECOND, |_, _| true);
    bed.run(60 * SECOND, |_, _| false);
    assert_eq!(bed.ipip_is(), PathState::Passes);
    assert!(bed.sent[&TunnelPath::Vxlan] > 50, "it is asked whether VXLAN passes");
    // A node that never answered.
    let mut bed = ProberFixture::ipip();
    bed.run(60 * SECOND, |_, _| false);
    assert_eq!(bed.ipip_is(), PathState::Unanswered);
    bed.run(10 * SECOND, |_, _| true);
    assert_eq!(bed.ipip_is(), PathState::Passes);
}

#[test]
fn a_node_that_restarts_again_and_again_keeps_its_way() {
    for _ in 0..20 {
        let mut bed = ProberFixture::ipip();
        bed.run(5 * SECOND, |_, _| true);
        bed.run(60 * SECOND, |_, at| at.as_secs() / 3 % 2 == 0);
        assert_eq!(bed.ipip_is(), PathState::Passes, "{:?}", bed.changes);
    }
}

#[test]
fn a_way_that_comes_and_goes_every_two_seconds_is_left_once() {
    for _ in 0..50 {
        let mut bed = ProberFixture::ipip();
        bed.run(5 * SECOND, |_, _| true);
        bed.run(60 * SECOND, |path, at| path == TunnelPath::Vxlan || at.as_secs() / 2 % 2 == 0);
        let left = bed.changes.iter().filter(|(_, state)| *state == PathState::Passes).count();
        assert_eq!(left, 1, "it passed once, at the start: {:?}", bed.changes);
        assert!(bed.ipip_is().is_avoided());
    }
}

#[test]
fn a_loss_while_returning_begins_the_wait_anew() {
    let mut bed = ProberFixture::ipip();
    bed.run(5 * SECOND, |_, _| true);
    bed.run(6 * SECOND, |path, _| path == TunnelPath::Vxlan);
    bed.run(20 * SECOND, |_, _| true);
    bed.run(2 * SECOND, |path, _| path == TunnelPath::Vxlan);
    bed.run(25 * SECOND, |_, _| true);
    assert_eq!(bed.ipip_is(), PathState::Returning);
    bed.run(10 * SECOND, |_, _| true);
    assert_eq!(bed.ipip_is(), PathState::Passes);
}

#[test]
fn a_fallback_that_dies_is_left_at_once_when_the_preferred_way_passes() {
    let mut bed = ProberFixture::ipip();
    bed.run(5 * SECOND, |_, _| true);
    bed.run(6 * SECOND, |path, _| path == TunnelPath::Vxlan);
    assert_eq!(bed.ipip_is(), PathState::Blocked);
    bed.run(6 * SECOND, |path, _| path == TunnelPath::Ipip);
    assert_eq!(bed.ipip_is(), PathState::Passes);
}

#[test]
fn a_doubted_way_is_avoided_until_it_was_clean_for_long_enough() {
    let mut bed = ProberFixture::new(ProbeTarget {
        address: B,
        ipip: true,
        fallback: true,
        vxlan: false,
        direct: false,
        doubted: true,
    });
    bed.run(29 * SECOND, |_, _| true);
    assert_eq!(bed.ipip_is(), PathState::Returning);
    bed.run(4 * SECOND, |_, _| true);
    assert_eq!(bed.ipip_is(), PathState::Passes);
    // Setting the same target again changes nothing.
    let aim =
        ProbeTarget { address: B, ipip: true, fallback: true, vxlan: false, direct: false, doubted: true };
    bed.prober.aim(&[aim], RECOVER_AFTER, bed.now);
    bed.run(SECOND, |_, _| true);
    assert_eq!(bed.ipip_is(), PathState::Passes);
}

#[test]
fn unwrapped_packets_count_as_passing_once_one_was_answered_and_no_more_after_three_losses() {
    let mut bed = ProberFixture::new(ProbeTarget {
        address: B,
        ipip: false,
        fallback: true,
        vxlan: false,
        direct: true,
        doubted: false,
    });
    bed.run(10 * SECOND, |_, _| false);
    assert_ne!(bed.state.get(&TunnelPath::Direct), Some(&PathState::Passes));
    let mut bed = ProberFixture::new(ProbeTarget {
        address: B,
        ipip: false,
        fallback: true,
        vxlan: false,
        direct: true,
        doubted: false,
    });
    bed.run(3 * SECOND, |_, _| true);
    assert_eq!(bed.state[&TunnelPath::Direct], PathState::Passes);
    bed.run(5 * SECOND, |_, _| false);
    assert_eq!(bed.state[&TunnelPath::Direct], PathState::Blocked);
}

#[test]
fn the_only_way_is_asked_after_seldom_and_often_once_it_is_silent() {
    for path in [TunnelPath::Ipip, TunnelPath::Vxlan] {
        let (ipip, vxlan) = (path == TunnelPath::Ipip, path == TunnelPath::Vxlan);
        let mut bed = ProberFixture::new(ProbeTarget {
            address: B,
            ipip,
            fallback: false,
            vxlan,
            direct: false,
            doubted: false,
        });
        bed.run(60 * SECOND, |_, _| true);
        assert_eq!(bed.state[&path], PathState::Passes);
        let sent = bed.sent[&path];
        assert!((11..=14).contains(&sent), "{sent} probes in a minute");
        bed.run(9 * SECOND, |_, _| false);
        let seen = bed.prober.seen_of(B).expect("known")[path.index()];
        assert!(seen.lost_in_row >= LOSSES_IN_ROW, "{seen:?}");
        assert!(!bed.state[&path].is_avoided(), "there is no other");
        assert_eq!(bed.sent.len(), 1, "nor is any other asked after");
        bed.run(2 * SECOND, |_, _| true);
        assert_eq!(bed.prober.seen_of(B).expect("known")[path.index()].lost_in_row, 0);
        let mut silent = ProberFixture::new(ProbeTarget {
            address: B,
            ipip,
            fallback: false,
            vxlan,
            direct: false,
            doubted: false,
        });
        silent.run(5 * SECOND, |_, _| false);
        assert_eq!(silent.state[&path], PathState::Unanswered);
    }
}

#[test]
fn a_fallback_that_packets_of_others_take_is_asked_often_as_soon_as_it_matters() {
    for _ in 0..50 {
        let mut bed = ProberFixture::new(ProbeTarget {
            address: B,
            ipip: true,
            fallback: true,
            vxlan: true,
            direct: false,
            doubted: false,
        });
        bed.run(60 * SECOND, |_, _| true);
        let sent = bed.sent[&TunnelPath::Vxlan];
        assert!((11..=14).contains(&sent), "{sent} probes in a minute");
        bed.run(5 * SECOND, |path, _| path == TunnelPath::Vxlan);
        assert_eq!(bed.ipip_is(), PathState::Blocked, "{:?}", bed.changes);
    }
}

#[test]
fn answers_with_another_number_are_no_answers() {
    let mut bed = ProberFixture::ipip();
    bed.prober.turn(bed.now + SECOND);
    let Some(ProberOutput::Send { to, path, nonce }) = bed.prober.poll() else { panic!("no probe") };
    bed.prober.answered(to, path, nonce ^ 1, ProbeClocks::default(), bed.now + SECOND);
    bed.prober.answered(Ipv4Addr::new(10, 9, 9, 9), path, nonce, ProbeClocks::default(), bed.now + SECOND);
    bed.prober.answered(to, TunnelPath::Vxlan, nonce, ProbeClocks::default(), bed.now + SECOND);
    assert_eq!(bed.prober.poll(), None);
}

proptest! {
    /// Whatever passes when, for any nodes: timers go on, memory is bounded by the number of nodes,
    /// and once everything is answered every path passes.
    #[test]
    fn any_weather_ends_in_passing_when_it_clears(
        weather in proptest::collection::vec((any::<bool>(), any::<bool>(), 1u64..8), 0..40),
    ) {
        let mut bed = ProberFixture::ipip();
        for (ipip, vxlan, seconds) in weather {
            bed.run(Duration::from_secs(seconds), |path, _| if path == TunnelPath::Ipip { ipip } else { vxlan });
            prop_assert!(bed.prober.timers.len() <= 3 && bed.prober.deadline().is_some());
        }
        bed.run(RECOVER_AFTER + 5 * SECOND, |_, _| true);
        prop_assert_eq!(bed.ipip_is(), PathState::Passes);
        prop_assert!(bed.prober.timers.len() == 1);
    }
}

#[test]
fn how_far_a_clock_is_ahead_is_told_as_if_the_answer_took_half_the_round_trip() {
    let ahead = |theirs, ours| ProbeClocks { theirs, ours }.ahead(Duration::from_millis(10));
    assert_eq!(ahead(2_000_000, 1_005_000), 1_000_000);
    assert_eq!(ahead(1_000_000, 2_005_000), -1_000_000);
    assert_eq!(ahead(u64::MAX, 5_000), -1);
}
