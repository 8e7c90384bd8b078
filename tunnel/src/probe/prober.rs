//! When probes are sent, and what follows from their answers: without sockets, without a clock.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{Passage, Way};

/// Between two probes of a way, give or take a tenth.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// The same where packets have no other way to take, as long as all is answered: it is for whoever looks.
pub const SIGHT_INTERVAL: Duration = Duration::from_secs(5);
/// After this long a probe is lost: shorter than the shortest interval, so that one is out at a time.
pub const TIMEOUT: Duration = Duration::from_millis(800);
/// So many losses in a row and the way is silent,
pub const LOSSES_IN_ROW: u32 = 3;
/// or so many among the last [`HISTORY`]: a way that comes and goes carries nothing either.
pub const LOSSES: u32 = 4;
/// Probes remembered.
pub const HISTORY: u32 = 10;

/// A node to be asked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aim {
    /// Its tunnel address.
    pub address: Ipv4Addr,
    /// Ask by IP-in-IP.
    pub ipip: bool,
    /// Ask by VXLAN while IP-in-IP is in doubt, since packets may go by it instead.
    pub fallback: bool,
    /// Ask by VXLAN: packets go by it.
    pub vxlan: bool,
    /// Ask without wrapping.
    pub direct: bool,
    /// Begin as if IP-in-IP had been blocked: packets go by the fallback already.
    pub doubted: bool,
}

/// What the prober wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Send a request.
    Send {
        /// The node's tunnel address.
        to: Ipv4Addr,
        /// By this way.
        way: Way,
        /// With this number.
        nonce: u64,
    },
    /// What is known of a way has changed.
    Changed {
        /// The node's tunnel address.
        address: Ipv4Addr,
        /// The way.
        way: Way,
        /// What is known now.
        passage: Passage,
    },
}

/// What was seen of a way, to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Round-trip time of the last answer.
    pub round_trip: Option<Duration>,
    /// When that came.
    pub answered_at: Option<Instant>,
    /// Losses since.
    pub lost_in_row: u32,
    /// What follows.
    pub passage: Passage,
    /// How far the other node's clock was ahead of this one's at the last answer, in microseconds; negative: behind.
    pub clock_ahead: Option<i64>,
}

/// Two clocks as they were at one moment, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clocks {
    /// The other node's, when it answered.
    pub theirs: u64,
    /// This node's, when the answer came.
    pub ours: u64,
}

impl Clocks {
    /// How far theirs is ahead, if the answer took half of the round trip.
    fn ahead(self, round_trip: Duration) -> i64 {
        let half = u64::try_from(round_trip.as_micros() / 2).unwrap_or(0);
        self.theirs.wrapping_sub(self.ours.saturating_sub(half)).cast_signed()
    }
}

#[derive(Debug, Clone, Default)]
struct Watch {
    /// Number and time of the probe that is out.
    pending: Option<(u64, Instant)>,
    /// When it is lost, or the next one is sent; `None`: not asked.
    due: Option<Instant>,
    /// The last probes, the newest in the lowest bit; set: lost.
    history: u32,
    answers_in_row: u32,
    seen: Seen,
    /// When the run of losses began that is not over.
    losing_since: Option<Instant>,
    /// Since when all is answered, while returning.
    clean_since: Option<Instant>,
}

impl Watch {
    fn losses(&self) -> u32 {
        self.history.count_ones()
    }

    fn is_silent(&self) -> bool {
        self.seen.lost_in_row >= LOSSES_IN_ROW || self.losses() >= LOSSES
    }

    fn note(&mut self, lost: bool, at: Instant) {
        self.history = (self.history << 1 | u32::from(lost)) & ((1 << HISTORY) - 1);
        if lost {
            self.seen.lost_in_row = self.seen.lost_in_row.saturating_add(1);
            self.answers_in_row = 0;
            self.losing_since.get_or_insert(at);
        } else {
            if self.seen.lost_in_row >= LOSSES_IN_ROW {
                // It was away and is back; only what comes and goes is held against a way.
                self.history = 0;
            }
            self.seen.lost_in_row = 0;
            self.answers_in_row = self.answers_in_row.saturating_add(1);
            if self.losses() == 0 {
                self.losing_since = None;
            }
        }
    }

    fn answered_since(&self, since: Instant) -> bool {
        // More than twice: when a node comes back, one way is the first to be answered.
        self.answers_in_row > 2 && self.seen.answered_at.is_some_and(|at| at >= since)
    }
}

#[derive(Debug, Clone, Default)]
struct Target {
    ipip: bool,
    fallback: bool,
    vxlan: bool,
    direct: bool,
    ways: [Watch; 3],
}

impl Target {
    /// Whether there is reason to look for another way than IP-in-IP.
    fn doubts(&self) -> bool {
        let ipip = &self.ways[Way::Ipip.index()];
        let doubtful = ipip.seen.lost_in_row > 0 || ipip.losses() > 1 || ipip.seen.passage.is_avoided();
        self.ipip && self.fallback && doubtful
    }

    /// How long it is from one probe to the next.
    fn interval(&self, way: Way) -> Duration {
        let decides = match way {
            Way::Ipip => self.fallback,
            Way::Vxlan => self.doubts(),
            Way::Direct => true,
        };
        let watch = &self.ways[way.index()];
        if decides || watch.seen.lost_in_row > 0 { INTERVAL } else { SIGHT_INTERVAL }
    }
}

/// The state of all probing.
#[derive(Debug)]
pub struct Prober {
    targets: BTreeMap<Ipv4Addr, Target>,
    timers: BTreeSet<(Instant, Ipv4Addr, Way)>,
    outputs: VecDeque<Output>,
    recover_after: Duration,
    sent: u64,
    lost: u64,
    random: fn() -> u64,
}

impl Prober {
    /// Asks after nobody yet. `random` gives numbers that nobody can foresee.
    pub fn new(random: fn() -> u64) -> Self {
        Self {
            targets: BTreeMap::new(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
            recover_after: Duration::ZERO,
            sent: 0,
            lost: 0,
            random,
        }
    }

    /// Takes whom to ask after; who was there before and still is keeps what is known. A way counts as passing again
    /// once all was answered for `recover_after`.
    pub fn aim(&mut self, aims: &[Aim], recover_after: Duration, now: Instant) {
        self.recover_after = recover_after;
        let wanted: BTreeSet<Ipv4Addr> = aims.iter().map(|aim| aim.address).collect();
        self.targets.retain(|address, _| wanted.contains(address));
        self.timers.retain(|(_, address, _)| wanted.contains(address));
        for aim in aims {
            let fresh = !self.targets.contains_key(&aim.address);
            let target = self.targets.entry(aim.address).or_default();
            (target.ipip, target.fallback) = (aim.ipip, aim.fallback);
            (target.vxlan, target.direct) = (aim.vxlan, aim.direct);
            if aim.doubted && aim.ipip && !target.ways[Way::Ipip.index()].seen.passage.is_avoided() && fresh {
                target.ways[Way::Ipip.index()].seen.passage = Passage::Blocked;
            }
            self.arrange(aim.address, now);
        }
    }

    /// Begins or ends asking by each way as it is wanted now.
    fn arrange(&mut self, address: Ipv4Addr, now: Instant) {
        let Some(target) = self.targets.get_mut(&address) else { return };
        let doubts = target.doubts();
        for way in Way::ALL {
            let wanted = match way {
                Way::Ipip => target.ipip,
                Way::Vxlan => target.vxlan || doubts,
                Way::Direct => target.direct,
            };
            let watch = &mut target.ways[way.index()];
            match (wanted, watch.due) {
                (true, None) => {
                    // Where many are asked after for the first time they are not asked all at once.
                    let spread = if way == Way::Vxlan { 0 } else { (self.random)() % 1000 };
                    let due = now + INTERVAL * u32::try_from(spread).unwrap_or(0) / 1000;
                    watch.due = Some(due);
                    self.timers.insert((due, address, way));
                }
                // It was asked seldom, and now something depends on it.
                (true, Some(due)) if way == Way::Vxlan && doubts && due > now + INTERVAL * 2 => {
                    self.timers.remove(&(due, address, way));
                    watch.due = Some(now);
                    self.timers.insert((now, address, way));
                }
                (false, Some(due)) => {
                    self.timers.remove(&(due, address, way));
                    let passage = watch.seen.passage;
                    *watch = Watch::default();
                    if passage != Passage::Unknown {
                        self.outputs.push_back(Output::Changed { address, way, passage: Passage::Unknown });
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether a request from this address is answered: from nobody else than whom we know.
    pub fn knows(&self, address: Ipv4Addr) -> bool {
        self.targets.contains_key(&address)
    }

    /// Takes an answer in.
    pub fn answered(&mut self, address: Ipv4Addr, way: Way, nonce: u64, clocks: Clocks, now: Instant) {
        let Some(watch) = self.targets.get_mut(&address).map(|t| &mut t.ways[way.index()]) else { return };
        let Some((_, sent)) = watch.pending.filter(|(number, _)| *number == nonce) else { return };
        watch.pending = None;
        let round_trip = now.saturating_duration_since(sent);
        watch.seen.round_trip = Some(round_trip);
        watch.seen.clock_ahead = Some(clocks.ahead(round_trip));
        watch.seen.answered_at = Some(now);
        watch.note(false, sent);
        self.schedule(address, way, sent);
        self.judge(address, now);
    }

    /// Notes that a request could not even be sent.
    pub fn not_sent(&mut self, address: Ipv4Addr, way: Way, nonce: u64, now: Instant) {
        let Some(watch) = self.targets.get_mut(&address).map(|t| &mut t.ways[way.index()]) else { return };
        if watch.pending.is_some_and(|(number, _)| number == nonce) {
            self.lost(address, way, now);
        }
    }

    fn lost(&mut self, address: Ipv4Addr, way: Way, now: Instant) {
        let Some(watch) = self.targets.get_mut(&address).map(|t| &mut t.ways[way.index()]) else { return };
        let Some((_, sent)) = watch.pending.take() else { return };
        watch.note(true, sent);
        self.lost += 1;
        if way == Way::Vxlan
            && let Some(target) = self.targets.get_mut(&address)
        {
            // The node was not there at all, which is not to be held against one of the ways.
            target.ways[Way::Ipip.index()].history = 0;
        }
        self.schedule(address, way, sent);
        self.judge(address, now);
    }

    /// The next probe, an interval after `sent`.
    fn schedule(&mut self, address: Ipv4Addr, way: Way, sent: Instant) {
        let jitter = u32::try_from((self.random)() % 200).unwrap_or(0);
        let interval = self.targets.get(&address).map_or(INTERVAL, |target| target.interval(way));
        self.set_due(address, way, sent + interval * (900 + jitter) / 1000);
    }

    fn set_due(&mut self, address: Ipv4Addr, way: Way, due: Instant) {
        let Some(watch) = self.targets.get_mut(&address).map(|t| &mut t.ways[way.index()]) else { return };
        if let Some(old) = watch.due.replace(due) {
            self.timers.remove(&(old, address, way));
        }
        self.timers.insert((due, address, way));
    }

    /// Does what is due. Answers that have come are to be taken in first.
    pub fn turn(&mut self, now: Instant) {
        while let Some((_, address, way)) = self.timers.first().copied().filter(|(due, ..)| *due <= now) {
            let pending = self.targets.get(&address).and_then(|t| t.ways[way.index()].pending);
            if pending.is_some() {
                self.lost(address, way, now);
            }
            let Some(watch) = self.targets.get_mut(&address).map(|t| &mut t.ways[way.index()]) else {
                continue;
            };
            if watch.due.is_some_and(|due| due <= now) {
                let nonce = (self.random)();
                watch.pending = Some((nonce, now));
                self.sent += 1;
                self.set_due(address, way, now + TIMEOUT);
                self.outputs.push_back(Output::Send { to: address, way, nonce });
            }
        }
    }

    /// When [`Self::turn`] is to be called next.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(due, ..)| *due)
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Probes sent since the start, and those of them that were not answered.
    pub fn counts(&self) -> (u64, u64) {
        (self.sent, self.lost)
    }

    /// What was seen of the ways to a node, in [`Way::ALL`]'s order.
    pub fn seen_of(&self, address: Ipv4Addr) -> Option<[Seen; 3]> {
        self.targets.get(&address).map(|target| target.ways.each_ref().map(|watch| watch.seen))
    }

    /// Draws the conclusion.
    fn judge(&mut self, address: Ipv4Addr, now: Instant) {
        let Some(target) = self.targets.get_mut(&address) else { return };
        let (falls_back, by_vxlan) = (target.fallback, target.vxlan);
        let [ipip, vxlan, direct] = &mut target.ways;
        // To leave a way that does not answer for one that does not answer either would help nobody: perhaps the
        // node is down, or nobody there answers probes.
        let better = ipip.losing_since.is_some_and(|since| vxlan.answered_since(since));
        let nothing = !falls_back || vxlan.seen.lost_in_row >= LOSSES_IN_ROW;
        let worse = vxlan.seen.lost_in_row >= LOSSES_IN_ROW && ipip.answers_in_row >= LOSSES_IN_ROW;
        let passages = [
            (Way::Ipip, next(ipip, better, worse, nothing, self.recover_after, now)),
            (
                Way::Vxlan,
                match by_vxlan {
                    true => next(vxlan, false, false, true, self.recover_after, now),
                    false => Passage::Unknown,
                },
            ),
            (Way::Direct, next(direct, true, false, false, self.recover_after, now)),
        ];
        for (way, passage) in passages {
            let watch = &mut target.ways[way.index()];
            if watch.seen.passage != passage {
                watch.seen.passage = passage;
                if passage == Passage::Passes {
                    // What was before is settled.
                    (watch.history, watch.losing_since) = (0, None);
                }
                self.outputs.push_back(Output::Changed { address, way, passage });
            }
        }
        self.arrange(address, now);
    }
}

/// What is known of a way now: VXLAN is `better`, or `worse`, or `nothing` at all.
fn next(
    watch: &mut Watch,
    better: bool,
    worse: bool,
    nothing: bool,
    recover_after: Duration,
    now: Instant,
) -> Passage {
    let lost = watch.seen.lost_in_row > 0;
    let answered = watch.seen.answered_at.is_some() && !lost;
    match watch.seen.passage {
        Passage::Unknown | Passage::Unanswered | Passage::Passes if watch.is_silent() && better => {
            Passage::Blocked
        }
        Passage::Unknown | Passage::Unanswered if answered => Passage::Passes,
        // While VXLAN may still turn out to be better it is not known that nothing is answered.
        Passage::Unknown if watch.is_silent() && nothing => Passage::Unanswered,
        Passage::Blocked | Passage::Returning if worse => Passage::Passes,
        Passage::Blocked if answered && watch.answers_in_row > 0 => {
            watch.clean_since = Some(now);
            Passage::Returning
        }
        Passage::Returning if lost => Passage::Blocked,
        Passage::Returning if watch.clean_since.is_none_or(|since| now >= since + recover_after) => {
            Passage::Passes
        }
        same => same,
    }
}

#[cfg(test)]
mod tests;
