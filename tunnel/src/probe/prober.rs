//! The schedule of probes, and the states that follow from their answers: without sockets and
//! clock.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{PathState, TunnelPath};

/// Interval of the probes of a path, with a jitter of a tenth.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Interval of the probes of a path without an alternative while all are answered: they only serve
/// reports.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Time after which a probe counts as lost: less than the shortest interval, so that at most one is
/// outstanding.
pub const TIMEOUT: Duration = Duration::from_millis(800);
/// Consecutive losses after which a path is silent.
pub const LOSSES_IN_ROW: u32 = 3;
/// Losses among the last [`HISTORY`] probes after which a path is silent: an intermittent path is
/// as bad as none.
pub const LOSSES: u32 = 4;
/// Number of probes that are remembered.
pub const HISTORY: u32 = 10;

/// A node to probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeTarget {
    /// Tunnel address.
    pub address: Ipv4Addr,
    /// True to probe IP-in-IP.
    pub ipip: bool,
    /// True to probe VXLAN while IP-in-IP is in doubt, because packets may use it instead.
    pub fallback: bool,
    /// True to probe VXLAN because packets use it.
    pub vxlan: bool,
    /// True to probe the plain path.
    pub direct: bool,
    /// True to begin as if IP-in-IP had been blocked: packets use the fallback already.
    pub doubted: bool,
}

/// An action of the prober.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProberOutput {
    /// Transmission of a request.
    Send {
        /// Tunnel address of the node.
        to: Ipv4Addr,
        /// Tunnel path.
        path: TunnelPath,
        /// Number of the probe.
        nonce: u64,
    },
    /// Change of the state of a path.
    Changed {
        /// Tunnel address of the node.
        address: Ipv4Addr,
        /// Tunnel path.
        path: TunnelPath,
        /// New state.
        state: PathState,
    },
}

/// The measurements of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathMeasurement {
    /// Round-trip time of the last answer.
    pub round_trip: Option<Duration>,
    /// Time of the last answer.
    pub answered_at: Option<Instant>,
    /// Number of losses since.
    pub lost_in_row: u32,
    /// State.
    pub state: PathState,
    /// Difference of the other node's clock to this one's at the last answer, in microseconds;
    /// positive if it is ahead.
    pub clock_ahead: Option<i64>,
}

/// Two clocks at the same moment, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProbeClocks {
    /// Clock of the other node when it answered.
    pub theirs: u64,
    /// Clock of this node when the answer arrived.
    pub ours: u64,
}

impl ProbeClocks {
    /// Returns the time by which theirs is ahead, assuming that the answer took half of the round
    /// trip.
    fn ahead(self, round_trip: Duration) -> i64 {
        let half = u64::try_from(round_trip.as_micros() / 2).unwrap_or(0);
        self.theirs.wrapping_sub(self.ours.saturating_sub(half)).cast_signed()
    }
}

#[derive(Debug, Clone, Default)]
struct PathProbes {
    /// Number and time of the outstanding probe.
    pending: Option<(u64, Instant)>,
    /// Time at which it is lost, or the next one is sent; `None`: the path is not probed.
    due: Option<Instant>,
    /// Results of the last probes, the newest in the lowest bit; set: lost.
    history: u32,
    answers_in_row: u32,
    measurement: PathMeasurement,
    /// Start of the present run of losses.
    losing_since: Option<Instant>,
    /// Time since when all probes are answered, while returning.
    clean_since: Option<Instant>,
}

impl PathProbes {
    fn losses(&self) -> u32 {
        self.history.count_ones()
    }

    fn is_silent(&self) -> bool {
        self.measurement.lost_in_row >= LOSSES_IN_ROW || self.losses() >= LOSSES
    }

    fn record(&mut self, lost: bool, at: Instant) {
        self.history = (self.history << 1 | u32::from(lost)) & ((1 << HISTORY) - 1);
        if lost {
            self.measurement.lost_in_row = self.measurement.lost_in_row.saturating_add(1);
            self.answers_in_row = 0;
            self.losing_since.get_or_insert(at);
        } else {
            if self.measurement.lost_in_row >= LOSSES_IN_ROW {
                // The path was down and is back; only an intermittent path is held against it.
                self.history = 0;
            }
            self.measurement.lost_in_row = 0;
            self.answers_in_row = self.answers_in_row.saturating_add(1);
            if self.losses() == 0 {
                self.losing_since = None;
            }
        }
    }

    fn answered_since(&self, since: Instant) -> bool {
        // More than two: when a node comes back, one path is the first to be answered.
        self.answers_in_row > 2 && self.measurement.answered_at.is_some_and(|at| at >= since)
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
    /// Returns whether IP-in-IP is in doubt, so that another path may be needed.
    fn doubts(&self) -> bool {
        let ipip = &self.paths[TunnelPath::Ipip.index()];
        let doubtful =
            ipip.measurement.lost_in_row > 0 || ipip.losses() > 1 || ipip.measurement.state.is_avoided();
        self.ipip && self.fallback && doubtful
    }

    /// Returns the interval of the probes of a path.
    fn interval(&self, path: TunnelPath) -> Duration {
        let decides = match path {
            TunnelPath::Ipip => self.fallback,
            TunnelPath::Vxlan => self.doubts(),
            TunnelPath::Direct => true,
        };
        let probes = &self.paths[path.index()];
        if decides || probes.measurement.lost_in_row > 0 { INTERVAL } else { REPORT_INTERVAL }
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
    /// Creates a prober without nodes. `random` returns unpredictable numbers.
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

    /// Sets the nodes to probe; nodes that stay keep their states. A path counts as passing again
    /// once all probes were answered for `recover_after`.
    pub fn set_targets(&mut self, targets: &[ProbeTarget], recover_after: Duration, now: Instant) {
        self.recover_after = recover_after;
        let kept: BTreeSet<Ipv4Addr> = targets.iter().map(|node| node.address).collect();
        self.targets.retain(|address, _| kept.contains(address));
        self.timers.retain(|(_, address, _)| kept.contains(address));
        for node in targets {
            let fresh = !self.targets.contains_key(&node.address);
            let target = self.targets.entry(node.address).or_default();
            (target.ipip, target.fallback) = (node.ipip, node.fallback);
            (target.vxlan, target.direct) = (node.vxlan, node.direct);
            if node.doubted
                && node.ipip
                && !target.paths[TunnelPath::Ipip.index()].measurement.state.is_avoided()
                && fresh
            {
                target.paths[TunnelPath::Ipip.index()].measurement.state = PathState::Blocked;
            }
            self.arrange(node.address, now);
        }
    }

    /// Starts or stops the probes of each path as required now.
    fn arrange(&mut self, address: Ipv4Addr, now: Instant) {
        let Some(target) = self.targets.get_mut(&address) else { return };
        let doubts = target.doubts();
        for path in TunnelPath::ALL {
            let wanted = match path {
                TunnelPath::Ipip => target.ipip,
                TunnelPath::Vxlan => target.vxlan || doubts,
                TunnelPath::Direct => target.direct,
            };
            let probes = &mut target.paths[path.index()];
            match (wanted, probes.due) {
                (true, None) => {
                    // The first probes of many nodes are spread over the interval.
                    let spread = if path == TunnelPath::Vxlan { 0 } else { (self.random)() % 1000 };
                    let due = now + INTERVAL * u32::try_from(spread).unwrap_or(0) / 1000;
                    probes.due = Some(due);
                    self.timers.insert((due, address, path));
                }
                // The path was probed seldom, and now its state matters.
                (true, Some(due)) if path == TunnelPath::Vxlan && doubts && due > now + INTERVAL * 2 => {
                    self.timers.remove(&(due, address, path));
                    probes.due = Some(now);
                    self.timers.insert((now, address, path));
                }
                (false, Some(due)) => {
                    self.timers.remove(&(due, address, path));
                    let state = probes.measurement.state;
                    *probes = PathProbes::default();
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

    /// Returns whether requests from this address are answered: only known nodes get an answer.
    pub fn knows(&self, address: Ipv4Addr) -> bool {
        self.targets.contains_key(&address)
    }

    /// Processes an answer.
    pub fn record_answer(
        &mut self,
        address: Ipv4Addr,
        path: TunnelPath,
        nonce: u64,
        clocks: ProbeClocks,
        now: Instant,
    ) {
        let Some(probes) = self.targets.get_mut(&address).map(|t| &mut t.paths[path.index()]) else { return };
        let Some((_, sent)) = probes.pending.filter(|(number, _)| *number == nonce) else { return };
        probes.pending = None;
        let round_trip = now.saturating_duration_since(sent);
        probes.measurement.round_trip = Some(round_trip);
        probes.measurement.clock_ahead = Some(clocks.ahead(round_trip));
        probes.measurement.answered_at = Some(now);
        probes.record(false, sent);
        self.schedule(address, path, sent);
        self.update_states(address, now);
    }

    /// Records that a request could not be sent.
    pub fn record_send_error(&mut self, address: Ipv4Addr, path: TunnelPath, nonce: u64, now: Instant) {
        let Some(probes) = self.targets.get_mut(&address).map(|t| &mut t.paths[path.index()]) else { return };
        if probes.pending.is_some_and(|(number, _)| number == nonce) {
            self.lost(address, path, now);
        }
    }

    fn lost(&mut self, address: Ipv4Addr, path: TunnelPath, now: Instant) {
        let Some(probes) = self.targets.get_mut(&address).map(|t| &mut t.paths[path.index()]) else { return };
        let Some((_, sent)) = probes.pending.take() else { return };
        probes.record(true, sent);
        self.lost += 1;
        if path == TunnelPath::Vxlan
            && let Some(target) = self.targets.get_mut(&address)
        {
            // The node was down altogether, which is not to be held against a single path.
            target.paths[TunnelPath::Ipip.index()].history = 0;
        }
        self.schedule(address, path, sent);
        self.update_states(address, now);
    }

    /// Schedules the next probe, an interval after `sent`.
    fn schedule(&mut self, address: Ipv4Addr, path: TunnelPath, sent: Instant) {
        let jitter = u32::try_from((self.random)() % 200).unwrap_or(0);
        let interval = self.targets.get(&address).map_or(INTERVAL, |target| target.interval(path));
        self.set_due(address, path, sent + interval * (900 + jitter) / 1000);
    }

    fn set_due(&mut self, address: Ipv4Addr, path: TunnelPath, due: Instant) {
        let Some(probes) = self.targets.get_mut(&address).map(|t| &mut t.paths[path.index()]) else { return };
        if let Some(old) = probes.due.replace(due) {
            self.timers.remove(&(old, address, path));
        }
        self.timers.insert((due, address, path));
    }

    /// Processes everything that is due. Received answers have to be processed first.
    pub fn turn(&mut self, now: Instant) {
        while let Some((_, address, path)) = self.timers.first().copied().filter(|(due, ..)| *due <= now) {
            let pending = self.targets.get(&address).and_then(|t| t.paths[path.index()].pending);
            if pending.is_some() {
                self.lost(address, path, now);
            }
            let Some(probes) = self.targets.get_mut(&address).map(|t| &mut t.paths[path.index()]) else {
                continue;
            };
            if probes.due.is_some_and(|due| due <= now) {
                let nonce = (self.random)();
                probes.pending = Some((nonce, now));
                self.sent += 1;
                self.set_due(address, path, now + TIMEOUT);
                self.outputs.push_back(ProberOutput::Send { to: address, path, nonce });
            }
        }
    }

    /// Returns the time of the next call of [`Self::turn`].
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(due, ..)| *due)
    }

    /// Returns the next action.
    pub fn poll(&mut self) -> Option<ProberOutput> {
        self.outputs.pop_front()
    }

    /// Returns the number of probes sent since the start, and of those without an answer.
    pub fn counts(&self) -> (u64, u64) {
        (self.sent, self.lost)
    }

    /// Returns the measurements of the paths to a node, in the order of [`TunnelPath::ALL`].
    pub fn measurements_of(&self, address: Ipv4Addr) -> Option<[PathMeasurement; 3]> {
        self.targets.get(&address).map(|target| target.paths.each_ref().map(|probes| probes.measurement))
    }

    /// Updates the states of the paths to a node.
    fn update_states(&mut self, address: Ipv4Addr, now: Instant) {
        let Some(target) = self.targets.get_mut(&address) else { return };
        let (falls_back, by_vxlan) = (target.fallback, target.vxlan);
        let [ipip, vxlan, direct] = &mut target.paths;
        // A change from a path without answers to another one without answers does not help: the node may
        // be down, or may not answer probes.
        let better = ipip.losing_since.is_some_and(|since| vxlan.answered_since(since));
        let nothing = !falls_back || vxlan.measurement.lost_in_row >= LOSSES_IN_ROW;
        let worse = vxlan.measurement.lost_in_row >= LOSSES_IN_ROW && ipip.answers_in_row >= LOSSES_IN_ROW;
        let path_changes = [
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
        for (path, state) in path_changes {
            let probes = &mut target.paths[path.index()];
            if probes.measurement.state != state {
                probes.measurement.state = state;
                if state == PathState::Passes {
                    // Earlier probes do not count any more.
                    (probes.history, probes.losing_since) = (0, None);
                }
                self.outputs.push_back(ProberOutput::Changed { address, path, state });
            }
        }
        self.arrange(address, now);
    }
}

/// Returns the next state of a path: VXLAN is `better`, or `worse`, or `nothing` is answered at
/// all.
fn next(
    probes: &mut PathProbes,
    better: bool,
    worse: bool,
    nothing: bool,
    recover_after: Duration,
    now: Instant,
) -> PathState {
    let lost = probes.measurement.lost_in_row > 0;
    let answered = probes.measurement.answered_at.is_some() && !lost;
    match probes.measurement.state {
        PathState::Unknown | PathState::Unanswered | PathState::Passes if probes.is_silent() && better => {
            PathState::Blocked
        }
        PathState::Unknown | PathState::Unanswered if answered => PathState::Passes,
        // While VXLAN may still turn out to be better, it is not certain that no path is answered.
        PathState::Unknown if probes.is_silent() && nothing => PathState::Unanswered,
        PathState::Blocked | PathState::Returning if worse => PathState::Passes,
        PathState::Blocked if answered && probes.answers_in_row > 0 => {
            probes.clean_since = Some(now);
            PathState::Returning
        }
        PathState::Returning if lost => PathState::Blocked,
        PathState::Returning if probes.clean_since.is_none_or(|since| now >= since + recover_after) => {
            PathState::Passes
        }
        same => same,
    }
}

#[cfg(test)]
mod tests;
