//! When probes are sent, and what follows from their answers: without sockets, without a clock.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{PathState, TunnelPath};

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
pub struct ProbeTarget {
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
pub enum ProberOutput {
    /// Send a request.
    Send {
        /// The node's tunnel address.
        to: Ipv4Addr,
        /// By this way.
        path: TunnelPath,
        /// With this number.
        nonce: u64,
    },
    /// What is known of a way has changed.
    Changed {
        /// The node's tunnel address.
        address: Ipv4Addr,
        /// The way.
        path: TunnelPath,
        /// What is known now.
        state: PathState,
    },
}

/// What was seen of a way, to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathMeasurement {
    /// Round-trip time of the last answer.
    pub round_trip: Option<Duration>,
    /// When that came.
    pub answered_at: Option<Instant>,
    /// Losses since.
    pub lost_in_row: u32,
    /// What follows.
    pub state: PathState,
    /// How far the other node's clock was ahead of this one's at the last answer, in microseconds; negative: behind.
    pub clock_ahead: Option<i64>,
}

/// Two clocks as they were at one moment, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProbeClocks {
    /// The other node's, when it answered.
    pub theirs: u64,
    /// This node's, when the answer came.
    pub ours: u64,
}

impl ProbeClocks {
    /// How far theirs is ahead, if the answer took half of the round trip.
    fn ahead(self, round_trip: Duration) -> i64 {
        let half = u64::try_from(round_trip.as_micros() / 2).unwrap_or(0);
        self.theirs.wrapping_sub(self.ours.saturating_sub(half)).cast_signed()
    }
}

#[derive(Debug, Clone, Default)]
struct PathProbes {
    /// Number and time of the probe that is out.
    pending: Option<(u64, Instant)>,
    /// When it is lost, or the next one is sent; `None`: not asked.
    due: Option<Instant>,
    /// The last probes, the newest in the lowest bit; set: lost.
    history: u32,
    answers_in_row: u32,
    seen: PathMeasurement,
    /// When the run of losses began that is not over.
    losing_since: Option<Instant>,
    /// Since when all is answered, while returning.
    clean_since: Option<Instant>,
}

impl PathProbes {
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
struct NodeProbes {
    ipip: bool,
    fallback: bool,
    vxlan: bool,
    direct: bool,
    paths: [PathProbes; 3],
}

impl NodeProbes {
    /// Whether there is reason to look for another way than IP-in-IP.
    fn doubts(&self) -> bool {
        let ipip = &self.paths[TunnelPath::Ipip.index()];
        let doubtful = ipip.seen.lost_in_row > 0 || ipip.losses() > 1 || ipip.seen.state.is_avoided();
        self.ipip && self.fallback && doubtful
    }

    /// How long it is from one probe to the next.
    fn interval(&self, path: TunnelPath) -> Duration {
        let decides = match path {
            TunnelPath::Ipip => self.fallback,
            TunnelPath::Vxlan => self.doubts(),
            TunnelPath::Direct => true,
        };
        let watch = &self.paths[path.index()];
        if decides || watch.seen.lost_in_row > 0 { INTERVAL } else { SIGHT_INTERVAL }
    }
}

/// The state of all probing.
#[derive(Debug)]
pub struct Prober {
    targets: BTreeMap<Ipv4Addr, NodeProbes>,
    timers: BTreeSet<(Instant, Ipv4Addr, TunnelPath)>,
    outputs: VecDeque<ProberOutput>,
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
    pub fn aim(&mut self, targets: &[ProbeTarget], recover_after: Duration, now: Instant) {
        self.recover_after = recover_after;
        let wanted: BTreeSet<Ipv4Addr> = targets.iter().map(|aim| aim.address).collect();
        self.targets.retain(|address, _| wanted.contains(address));
        self.timers.retain(|(_, address, _)| wanted.contains(address));
        for aim in targets {
            let fresh = !self.targets.contains_key(&aim.address);
            let target = self.targets.entry(aim.address).or_default();
            (target.ipip, target.fallback) = (aim.ipip, aim.fallback);
            (target.vxlan, target.direct) = (aim.vxlan, aim.direct);
            if aim.doubted
                && aim.ipip
                && !target.paths[TunnelPath::Ipip.index()].seen.state.is_avoided()
                && fresh
            {
                target.paths[TunnelPath::Ipip.index()].seen.state = PathState::Blocked;
            }
            self.arrange(aim.address, now);
        }
    }

    /// Begins or ends asking by each way as it is wanted now.
    fn arrange(&mut self, address: Ipv4Addr, now: Instant) {
        let Some(target) = self.targets.get_mut(&address) else { return };
        let doubts = target.doubts();
        for path in TunnelPath::ALL {
            let wanted = match path {
                TunnelPath::Ipip => target.ipip,
                TunnelPath::Vxlan => target.vxlan || doubts,
                TunnelPath::Direct => target.direct,
            };
            let watch = &mut target.paths[path.index()];
            match (wanted, watch.due) {
                (true, None) => {
                    // Where many are asked after for the first time they are not asked all at once.
                    let spread = if path == TunnelPath::Vxlan { 0 } else { (self.random)() % 1000 };
                    let due = now + INTERVAL * u32::try_from(spread).unwrap_or(0) / 1000;
                    watch.due = Some(due);
                    self.timers.insert((due, address, path));
                }
                // It was asked seldom, and now something depends on it.
                (true, Some(due)) if path == TunnelPath::Vxlan && doubts && due > now + INTERVAL * 2 => {
                    self.timers.remove(&(due, address, path));
                    watch.due = Some(now);
                    self.timers.insert((now, address, path));
                }
                (false, Some(due)) => {
                    self.timers.remove(&(due, address, path));
                    let state = watch.seen.state;
                    *watch = PathProbes::default();
                    if state != PathState::Unknown {
                        self.outputs.push_back(ProberOutput::Changed {
                            address,
                            path,
                            state: PathState::Unknown,
                        });
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
    pub fn answered(
        &mut self,
        address: Ipv4Addr,
        path: TunnelPath,
        nonce: u64,
        clocks: ProbeClocks,
        now: Instant,
    ) {
        let Some(watch) = self.targets.get_mut(&address).map(|t| &mut t.paths[path.index()]) else { return };
        let Some((_, sent)) = watch.pending.filter(|(number, _)| *number == nonce) else { return };
        watch.pending = None;
        let round_trip = now.saturating_duration_since(sent);
        watch.seen.round_trip = Some(round_trip);
        watch.seen.clock_ahead = Some(clocks.ahead(round_trip));
        watch.seen.answered_at = Some(now);
        watch.note(false, sent);
        self.schedule(address, path, sent);
        self.judge(address, now);
    }

    /// Notes that a request could not even be sent.
    pub fn not_sent(&mut self, address: Ipv4Addr, path: TunnelPath, nonce: u64, now: Instant) {
        let Some(watch) = self.targets.get_mut(&address).map(|t| &mut t.paths[path.index()]) else { return };
        if watch.pending.is_some_and(|(number, _)| number == nonce) {
            self.lost(address, path, now);
        }
    }

    fn lost(&mut self, address: Ipv4Addr, path: TunnelPath, now: Instant) {
        let Some(watch) = self.targets.get_mut(&address).map(|t| &mut t.paths[path.index()]) else { return };
        let Some((_, sent)) = watch.pending.take() else { return };
        watch.note(true, sent);
        self.lost += 1;
        if path == TunnelPath::Vxlan
            && let Some(target) = self.targets.get_mut(&address)
        {
            // The node was not there at all, which is not to be held against one of the ways.
            target.paths[TunnelPath::Ipip.index()].history = 0;
        }
        self.schedule(address, path, sent);
        self.judge(address, now);
    }

    /// The next probe, an interval after `sent`.
    fn schedule(&mut self, address: Ipv4Addr, path: TunnelPath, sent: Instant) {
        let jitter = u32::try_from((self.random)() % 200).unwrap_or(0);
        let interval = self.targets.get(&address).map_or(INTERVAL, |target| target.interval(path));
        self.set_due(address, path, sent + interval * (900 + jitter) / 1000);
    }

    fn set_due(&mut self, address: Ipv4Addr, path: TunnelPath, due: Instant) {
        let Some(watch) = self.targets.get_mut(&address).map(|t| &mut t.paths[path.index()]) else { return };
        if let Some(old) = watch.due.replace(due) {
            self.timers.remove(&(old, address, path));
        }
        self.timers.insert((due, address, path));
    }

    /// Does what is due. Answers that have come are to be taken in first.
    pub fn turn(&mut self, now: Instant) {
        while let Some((_, address, path)) = self.timers.first().copied().filter(|(due, ..)| *due <= now) {
            let pending = self.targets.get(&address).and_then(|t| t.paths[path.index()].pending);
            if pending.is_some() {
                self.lost(address, path, now);
            }
            let Some(watch) = self.targets.get_mut(&address).map(|t| &mut t.paths[path.index()]) else {
                continue;
            };
            if watch.due.is_some_and(|due| due <= now) {
                let nonce = (self.random)();
                watch.pending = Some((nonce, now));
                self.sent += 1;
                self.set_due(address, path, now + TIMEOUT);
                self.outputs.push_back(ProberOutput::Send { to: address, path, nonce });
            }
        }
    }

    /// When [`Self::turn`] is to be called next.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(due, ..)| *due)
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<ProberOutput> {
        self.outputs.pop_front()
    }

    /// Probes sent since the start, and those of them that were not answered.
    pub fn counts(&self) -> (u64, u64) {
        (self.sent, self.lost)
    }

    /// What was seen of the ways to a node, in [`TunnelPath::ALL`]'s order.
    pub fn seen_of(&self, address: Ipv4Addr) -> Option<[PathMeasurement; 3]> {
        self.targets.get(&address).map(|target| target.paths.each_ref().map(|watch| watch.seen))
    }

    /// Draws the conclusion.
    fn judge(&mut self, address: Ipv4Addr, now: Instant) {
        let Some(target) = self.targets.get_mut(&address) else { return };
        let (falls_back, by_vxlan) = (target.fallback, target.vxlan);
        let [ipip, vxlan, direct] = &mut target.paths;
        // To leave a way that does not answer for one that does not answer either would help nobody: perhaps the
        // node is down, or nobody there answers probes.
        let better = ipip.losing_since.is_some_and(|since| vxlan.answered_since(since));
        let nothing = !falls_back || vxlan.seen.lost_in_row >= LOSSES_IN_ROW;
        let worse = vxlan.seen.lost_in_row >= LOSSES_IN_ROW && ipip.answers_in_row >= LOSSES_IN_ROW;
        let passages = [
            (TunnelPath::Ipip, next(ipip, better, worse, nothing, self.recover_after, now)),
            (
                TunnelPath::Vxlan,
                match by_vxlan {
                    true => next(vxlan, false, false, true, self.recover_after, now),
                    false => PathState::Unknown,
                },
            ),
            (TunnelPath::Direct, next(direct, true, false, false, self.recover_after, now)),
        ];
        for (path, state) in passages {
            let watch = &mut target.paths[path.index()];
            if watch.seen.state != state {
                watch.seen.state = state;
                if state == PathState::Passes {
                    // What was before is settled.
                    (watch.history, watch.losing_since) = (0, None);
                }
                self.outputs.push_back(ProberOutput::Changed { address, path, state });
            }
        }
        self.arrange(address, now);
    }
}

/// What is known of a way now: VXLAN is `better`, or `worse`, or `nothing` at all.
fn next(
    watch: &mut PathProbes,
    better: bool,
    worse: bool,
    nothing: bool,
    recover_after: Duration,
    now: Instant,
) -> PathState {
    let lost = watch.seen.lost_in_row > 0;
    let answered = watch.seen.answered_at.is_some() && !lost;
    match watch.seen.state {
        PathState::Unknown | PathState::Unanswered | PathState::Passes if watch.is_silent() && better => {
            PathState::Blocked
        }
        PathState::Unknown | PathState::Unanswered if answered => PathState::Passes,
        // While VXLAN may still turn out to be better it is not known that nothing is answered.
        PathState::Unknown if watch.is_silent() && nothing => PathState::Unanswered,
        PathState::Blocked | PathState::Returning if worse => PathState::Passes,
        PathState::Blocked if answered && watch.answers_in_row > 0 => {
            watch.clean_since = Some(now);
            PathState::Returning
        }
        PathState::Returning if lost => PathState::Blocked,
        PathState::Returning if watch.clean_since.is_none_or(|since| now >= since + recover_after) => {
            PathState::Passes
        }
        same => same,
    }
}

#[cfg(test)]
mod tests;
