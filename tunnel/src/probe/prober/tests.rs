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

/// A prober, a clock, and a network that lets through what `passes` says.
struct Bed {
    prober: Prober,
    start: Instant,
    now: Instant,
    passage: BTreeMap<Way, Passage>,
    sent: BTreeMap<Way, u32>,
    /// Changes of IP-in-IP's passage and when they were.
    changes: Vec<(Duration, Passage)>,
}

impl Bed {
    fn new(aim: Aim) -> Bed {
        let now = Instant::now();
        let mut prober = Prober::new(random);
        prober.aim(&[aim], RECOVER_AFTER, now);
        Bed { prober, start: now, now, passage: BTreeMap::new(), sent: BTreeMap::new(), changes: Vec::new() }
    }

    fn ipip() -> Bed {
        Bed::new(Aim { address: B, ipip: true, fallback: true, vxlan: false, direct: false, doubted: false })
    }

    fn run(&mut self, time: Duration, passes: impl Fn(Way, Duration) -> bool) {
        let end = self.now + time;
        while let Some(due) = self.prober.deadline().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.prober.turn(self.now);
            while let Some(output) = self.prober.poll() {
                match output {
                    Output::Send { to, way, nonce } => {
                        *self.sent.entry(way).or_default() += 1;
                        if passes(way, self.now - self.start) {
                            self.now += Duration::from_micros(300);
                            self.prober.answered(to, way, nonce, Clocks::default(), self.now);
                        }
                    }
                    Output::Changed { way, passage, .. } => {
                        self.passage.insert(way, passage);
                        if way == Way::Ipip {
                            self.changes.push((self.now - self.start, passage));
                        }
                    }
                }
            }
        }
        self.now = end;
    }

    fn ipip_is(&self) -> Passage {
        self.passage.get(&Way::Ipip).copied().unwrap_or_default()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_is_answered_passes_and_vxlan_is_not_asked() {
    let mut bed = Bed::ipip();
    bed.run(60 * SECOND, |_, _| true);
    assert_eq!(bed.ipip_is(), Passage::Passes);
    assert_eq!(bed.sent.get(&Way::Vxlan), None);
    let sent = bed.sent[&Way::Ipip];
    assert!((54..=67).contains(&sent), "{sent} probes in a minute");
}

#[test]
fn three_losses_lead_to_vxlan_within_five_seconds_and_thirty_clean_ones_back() {
    for _ in 0..50 {
        let mut bed = Bed::ipip();
        bed.run(10 * SECOND, |_, _| true);
        bed.run(5 * SECOND, |way, _| way == Way::Vxlan);
        assert_eq!(bed.ipip_is(), Passage::Blocked, "{:?}", bed.changes);
        bed.run(29 * SECOND, |_, _| true);
        assert_eq!(bed.ipip_is(), Passage::Returning);
        bed.run(4 * SECOND, |_, _| true);
        assert_eq!(bed.ipip_is(), Passage::Passes);
    }
}

#[test]
fn what_never_passed_beside_vxlan_that_does_is_blocked_and_nothing_before() {
    for _ in 0..50 {
        let mut bed = Bed::ipip();
        bed.run(8 * SECOND, |way, _| way == Way::Vxlan);
        let changes: Vec<Passage> = bed.changes.iter().map(|(_, passage)| *passage).collect();
        assert_eq!(changes, [Passage::Blocked]);
    }
}

#[test]
fn two_losses_are_not_three() {
    let mut bed = Bed::ipip();
    // Of ten probes never four are lost, and never three in a row.
    bed.run(120 * SECOND, |way, at| way == Way::Vxlan || at.as_millis() % 12_000 >= 1_700);
    assert_eq!(bed.ipip_is(), Passage::Passes, "{:?}", bed.changes);
}

#[test]
fn where_vxlan_is_not_answered_either_the_preferred_way_is_kept() {
    let mut bed = Bed::ipip();
    bed.run(10 * SECOND, |_, _| true);
    bed.run(60 * SECOND, |_, _| false);
    assert_eq!(bed.ipip_is(), Passage::Passes);
    assert!(bed.sent[&Way::Vxlan] > 50, "it is asked whether VXLAN passes");
    // A node that never answered anything.
    let mut bed = Bed::ipip();
    bed.run(60 * SECOND, |_, _| false);
    assert_eq!(bed.ipip_is(), Passage::Unanswered);
    bed.run(10 * SECOND, |_, _| true);
    assert_eq!(bed.ipip_is(), Passage::Passes);
}

#[test]
fn a_node_that_restarts_again_and_again_keeps_its_way() {
    for _ in 0..20 {
        let mut bed = Bed::ipip();
        bed.run(5 * SECOND, |_, _| true);
        bed.run(60 * SECOND, |_, at| at.as_secs() / 3 % 2 == 0);
        assert_eq!(bed.ipip_is(), Passage::Passes, "{:?}", bed.changes);
    }
}

#[test]
fn a_way_that_comes_and_goes_every_two_seconds_is_left_once() {
    for _ in 0..50 {
        let mut bed = Bed::ipip();
        bed.run(5 * SECOND, |_, _| true);
        bed.run(60 * SECOND, |way, at| way == Way::Vxlan || at.as_secs() / 2 % 2 == 0);
        let left = bed.changes.iter().filter(|(_, passage)| *passage == Passage::Passes).count();
        assert_eq!(left, 1, "it passed once, at the start: {:?}", bed.changes);
        assert!(bed.ipip_is().is_avoided());
    }
}

#[test]
fn a_loss_while_returning_begins_the_wait_anew() {
    let mut bed = Bed::ipip();
    bed.run(5 * SECOND, |_, _| true);
    bed.run(6 * SECOND, |way, _| way == Way::Vxlan);
    bed.run(20 * SECOND, |_, _| true);
    bed.run(2 * SECOND, |way, _| way == Way::Vxlan);
    bed.run(25 * SECOND, |_, _| true);
    assert_eq!(bed.ipip_is(), Passage::Returning);
    bed.run(10 * SECOND, |_, _| true);
    assert_eq!(bed.ipip_is(), Passage::Passes);
}

#[test]
fn a_fallback_that_dies_is_left_at_once_when_the_preferred_way_passes() {
    let mut bed = Bed::ipip();
    bed.run(5 * SECOND, |_, _| true);
    bed.run(6 * SECOND, |way, _| way == Way::Vxlan);
    assert_eq!(bed.ipip_is(), Passage::Blocked);
    bed.run(6 * SECOND, |way, _| way == Way::Ipip);
    assert_eq!(bed.ipip_is(), Passage::Passes);
}

#[test]
fn a_doubted_way_is_avoided_until_it_was_clean_for_long_enough() {
    let mut bed =
        Bed::new(Aim { address: B, ipip: true, fallback: true, vxlan: false, direct: false, doubted: true });
    bed.run(29 * SECOND, |_, _| true);
    assert_eq!(bed.ipip_is(), Passage::Returning);
    bed.run(4 * SECOND, |_, _| true);
    assert_eq!(bed.ipip_is(), Passage::Passes);
    // Being aimed at again changes nothing.
    let aim = Aim { address: B, ipip: true, fallback: true, vxlan: false, direct: false, doubted: true };
    bed.prober.aim(&[aim], RECOVER_AFTER, bed.now);
    bed.run(SECOND, |_, _| true);
    assert_eq!(bed.ipip_is(), Passage::Passes);
}

#[test]
fn unwrapped_packets_count_as_passing_once_one_was_answered_and_no_more_after_three_losses() {
    let mut bed =
        Bed::new(Aim { address: B, ipip: false, fallback: true, vxlan: false, direct: true, doubted: false });
    bed.run(10 * SECOND, |_, _| false);
    assert_ne!(bed.passage.get(&Way::Direct), Some(&Passage::Passes));
    let mut bed =
        Bed::new(Aim { address: B, ipip: false, fallback: true, vxlan: false, direct: true, doubted: false });
    bed.run(3 * SECOND, |_, _| true);
    assert_eq!(bed.passage[&Way::Direct], Passage::Passes);
    bed.run(5 * SECOND, |_, _| false);
    assert_eq!(bed.passage[&Way::Direct], Passage::Blocked);
}

#[test]
fn the_only_way_is_asked_after_seldom_and_often_once_it_is_silent() {
    for way in [Way::Ipip, Way::Vxlan] {
        let (ipip, vxlan) = (way == Way::Ipip, way == Way::Vxlan);
        let mut bed =
            Bed::new(Aim { address: B, ipip, fallback: false, vxlan, direct: false, doubted: false });
        bed.run(60 * SECOND, |_, _| true);
        assert_eq!(bed.passage[&way], Passage::Passes);
        let sent = bed.sent[&way];
        assert!((11..=14).contains(&sent), "{sent} probes in a minute");
        bed.run(9 * SECOND, |_, _| false);
        let seen = bed.prober.seen_of(B).expect("known")[way.index()];
        assert!(seen.lost_in_row >= LOSSES_IN_ROW, "{seen:?}");
        assert!(!bed.passage[&way].is_avoided(), "there is no other");
        assert_eq!(bed.sent.len(), 1, "nor is any other asked after");
        bed.run(2 * SECOND, |_, _| true);
        assert_eq!(bed.prober.seen_of(B).expect("known")[way.index()].lost_in_row, 0);
        let mut silent =
            Bed::new(Aim { address: B, ipip, fallback: false, vxlan, direct: false, doubted: false });
        silent.run(5 * SECOND, |_, _| false);
        assert_eq!(silent.passage[&way], Passage::Unanswered);
    }
}

#[test]
fn a_fallback_that_packets_of_others_take_is_asked_often_as_soon_as_it_matters() {
    for _ in 0..50 {
        let mut bed = Bed::new(Aim {
            address: B,
            ipip: true,
            fallback: true,
            vxlan: true,
            direct: false,
            doubted: false,
        });
        bed.run(60 * SECOND, |_, _| true);
        let sent = bed.sent[&Way::Vxlan];
        assert!((11..=14).contains(&sent), "{sent} probes in a minute");
        bed.run(5 * SECOND, |way, _| way == Way::Vxlan);
        assert_eq!(bed.ipip_is(), Passage::Blocked, "{:?}", bed.changes);
    }
}

#[test]
fn answers_with_another_number_are_no_answers() {
    let mut bed = Bed::ipip();
    bed.prober.turn(bed.now + SECOND);
    let Some(Output::Send { to, way, nonce }) = bed.prober.poll() else { panic!("no probe") };
    bed.prober.answered(to, way, nonce ^ 1, Clocks::default(), bed.now + SECOND);
    bed.prober.answered(Ipv4Addr::new(10, 9, 9, 9), way, nonce, Clocks::default(), bed.now + SECOND);
    bed.prober.answered(to, Way::Vxlan, nonce, Clocks::default(), bed.now + SECOND);
    assert_eq!(bed.prober.poll(), None);
}

proptest! {
    /// Whatever passes when, for whatever nodes: timers go on, memory is bounded by the nodes, and an end with
    /// everything answered ends with everything passing.
    #[test]
    fn any_weather_ends_in_passing_when_it_clears(
        weather in proptest::collection::vec((any::<bool>(), any::<bool>(), 1u64..8), 0..40),
    ) {
        let mut bed = Bed::ipip();
        for (ipip, vxlan, seconds) in weather {
            bed.run(Duration::from_secs(seconds), |way, _| if way == Way::Ipip { ipip } else { vxlan });
            prop_assert!(bed.prober.timers.len() <= 3 && bed.prober.deadline().is_some());
        }
        bed.run(RECOVER_AFTER + 5 * SECOND, |_, _| true);
        prop_assert_eq!(bed.ipip_is(), Passage::Passes);
        prop_assert!(bed.prober.timers.len() == 1);
    }
}

#[test]
fn how_far_a_clock_is_ahead_is_told_as_if_the_answer_took_half_the_round_trip() {
    let ahead = |theirs, ours| Clocks { theirs, ours }.ahead(Duration::from_millis(10));
    assert_eq!(ahead(2_000_000, 1_005_000), 1_000_000);
    assert_eq!(ahead(1_000_000, 2_005_000), -1_000_000);
    assert_eq!(ahead(u64::MAX, 5_000), -1);
}
