//! One session: what comes goes in, what is to be sent comes out (RFC 5880 §6).

use std::collections::VecDeque;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

use super::packet::{BfdState, ControlPacket, Diagnostic};
use crate::session::TimerJitter;

/// A session that is not Up sends no more often (RFC 5880 §6.8.3).
const SLOW: Duration = Duration::from_secs(1);

/// How a session is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BfdSessionConfig {
    /// Between two packets, either way, once it is Up.
    pub min_interval: Duration,
    /// After how many missed packets the other side is given up.
    pub multiplier: NonZeroU8,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BfdOutput {
    /// Send this.
    Send(ControlPacket),
    /// The state is another.
    Changed(BfdState),
}

/// The state variables of RFC 5880 §6.8.1, by their names there.
#[derive(Clone, Debug)]
pub struct BfdSession {
    config: BfdSessionConfig,
    local_discr: NonZeroU32,
    remote_discr: u32,
    state: BfdState,
    remote_state: BfdState,
    local_diag: Diagnostic,
    remote_diag: Diagnostic,
    /// What we say that we would like to send at, in microseconds.
    desired_min_tx: u32,
    /// What the other side can take.
    remote_min_rx: u32,
    /// What the other side would like to send at.
    remote_min_tx: u32,
    remote_detect_mult: NonZeroU8,
    remote_demand: bool,
    /// A Poll Sequence is under way.
    polling: bool,
    /// The interval before the one that it tells of: until it is confirmed the other side may count on either.
    before: Option<u32>,
    send_at: Option<Instant>,
    detect_at: Option<Instant>,
    jitter: TimerJitter,
    outputs: VecDeque<BfdOutput>,
}

impl BfdSession {
    /// A session in the active role that begins to send at once. `local_discr` is nobody else's here;
    /// `seed` is for the jitter.
    pub fn new(config: BfdSessionConfig, local_discr: NonZeroU32, seed: u64, now: Instant) -> BfdSession {
        BfdSession {
            config,
            local_discr,
            remote_discr: 0,
            state: BfdState::Down,
            remote_state: BfdState::Down,
            local_diag: Diagnostic::NONE,
            remote_diag: Diagnostic::NONE,
            desired_min_tx: micros(config.min_interval.max(SLOW)),
            remote_min_rx: 1,
            remote_min_tx: 0,
            remote_detect_mult: NonZeroU8::MIN,
            remote_demand: false,
            polling: false,
            before: None,
            send_at: Some(now),
            detect_at: None,
            jitter: TimerJitter::new(seed),
            outputs: VecDeque::new(),
        }
    }

    /// Its state.
    pub fn state(&self) -> BfdState {
        self.state
    }

    /// The other side's state, as it last said.
    pub fn remote_state(&self) -> BfdState {
        self.remote_state
    }

    /// Why it last left Up.
    pub fn diagnostic(&self) -> Diagnostic {
        self.local_diag
    }

    /// What the other side says of why its session last left Up.
    pub fn remote_diagnostic(&self) -> Diagnostic {
        self.remote_diag
    }

    /// How long nothing may be heard (RFC 5880 §6.8.4), once something was.
    pub fn detection_time(&self) -> Duration {
        let required_min_rx = micros(self.config.min_interval).max(self.before.unwrap_or(0));
        let interval = required_min_rx.max(self.remote_min_tx);
        Duration::from_micros(u64::from(interval)) * u32::from(self.remote_detect_mult.get())
    }

    /// The next thing to do; call until it is `None` after whatever happened.
    pub fn poll_output(&mut self) -> Option<BfdOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`BfdSession::timer`].
    pub fn deadline(&self) -> Option<Instant> {
        self.send_at.into_iter().chain(self.detect_at).min()
    }

    /// Whether a packet is for this session, as far as the packet says; packets without a discriminator
    /// are found by their addresses.
    pub fn is_meant(&self, packet: &ControlPacket) -> bool {
        packet.your_discriminator == 0 || packet.your_discriminator == self.local_discr.get()
    }

    /// Takes in a packet that [`BfdSession::is_meant`] (RFC 5880 §6.8.6).
    pub fn receive(&mut self, packet: &ControlPacket, now: Instant) {
        self.remote_discr = packet.my_discriminator.get();
        self.remote_state = packet.state;
        self.remote_diag = packet.diagnostic;
        self.remote_demand = packet.demand;
        self.remote_min_rx = packet.required_min_rx;
        self.remote_min_tx = packet.desired_min_tx;
        self.remote_detect_mult = packet.detect_mult;
        if packet.r#final {
            (self.polling, self.before) = (false, None);
        }
        self.detect_at = now.checked_add(self.detection_time());
        if self.state == BfdState::AdminDown {
            return;
        }
        match (self.state, packet.state) {
            (BfdState::Init | BfdState::Up, BfdState::AdminDown) | (BfdState::Up, BfdState::Down) => {
                self.enter(BfdState::Down, Diagnostic::NEIGHBOR_SIGNALED_SESSION_DOWN, now);
            }
            (BfdState::Down, BfdState::Down) => self.enter(BfdState::Init, self.local_diag, now),
            (BfdState::Down, BfdState::Init) | (BfdState::Init, BfdState::Init | BfdState::Up) => {
                self.enter(BfdState::Up, Diagnostic::NONE, now);
            }
            // A side that is Up while we are Down has to see that first.
            _ => {}
        }
        if packet.poll {
            self.send(true, now);
        }
        self.hurry(now);
    }

    /// A deadline has come.
    pub fn timer(&mut self, now: Instant) {
        if self.detect_at.is_some_and(|at| at <= now) {
            self.detect_at = None;
            // Nothing that was said counts any longer, not even that nothing may be sent.
            (self.remote_discr, self.remote_min_rx, self.remote_demand) = (0, 1, false);
            self.remote_state = BfdState::Down;
            if matches!(self.state, BfdState::Init | BfdState::Up) {
                self.enter(BfdState::Down, Diagnostic::CONTROL_DETECTION_TIME_EXPIRED, now);
            }
        }
        if self.send_at.is_some_and(|at| at <= now) {
            self.send(false, now);
        }
        self.hurry(now);
    }

    /// Changes the times, which leaves the state as it is (RFC 5880 §6.8.3).
    pub fn set_config(&mut self, config: BfdSessionConfig, now: Instant) {
        let before = std::mem::replace(&mut self.config, config);
        if self.state == BfdState::Up && before != config {
            self.before = Some(micros(before.min_interval));
            self.desired_min_tx = micros(config.min_interval);
            self.polling = true;
            self.send(false, now);
        }
    }

    /// Holds the session down, and tells the other side that this is no failure (RFC 5880 §6.8.16).
    pub fn stop(&mut self, now: Instant) {
        self.enter(BfdState::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN, now);
    }

    fn enter(&mut self, state: BfdState, diagnostic: Diagnostic, now: Instant) {
        (self.state, self.local_diag) = (state, diagnostic);
        self.outputs.push_back(BfdOutput::Changed(state));
        let up = state == BfdState::Up;
        let interval = self.config.min_interval;
        self.desired_min_tx = micros(if up { interval } else { interval.max(SLOW) });
        // The other side confirms that it knows of the new interval.
        (self.polling, self.before) = (up, None);
        self.send(false, now);
    }

    /// Sends, and says when to send again.
    fn send(&mut self, r#final: bool, now: Instant) {
        self.outputs.push_back(BfdOutput::Send(ControlPacket {
            diagnostic: self.local_diag,
            state: self.state,
            // Never both in one packet (RFC 5880 §6.5).
            poll: self.polling && !r#final,
            r#final,
            control_plane_independent: false,
            demand: false,
            detect_mult: self.config.multiplier,
            my_discriminator: self.local_discr,
            your_discriminator: self.remote_discr,
            desired_min_tx: self.desired_min_tx,
            required_min_rx: micros(self.config.min_interval),
            required_min_echo_rx: 0,
        }));
        self.send_at = self.interval().and_then(|interval| {
            let mut wait = self.jitter.apply(interval);
            if self.config.multiplier.get() == 1 {
                // RFC 5880 §6.8.7: at most 90 %, so that one late packet is no failure.
                wait = wait.min(interval * 9 / 10);
            }
            now.checked_add(wait)
        });
    }

    /// The next packet goes no later than the interval says now.
    fn hurry(&mut self, now: Instant) {
        let at = self.interval().and_then(|interval| now.checked_add(interval));
        self.send_at = match (self.send_at, at) {
            (Some(before), Some(at)) => Some(before.min(at)),
            (_, at) => at,
        };
    }

    /// Between two packets of ours (RFC 5880 §6.8.7); `None`: none are sent.
    fn interval(&self) -> Option<Duration> {
        let both_up = self.state == BfdState::Up && self.remote_state == BfdState::Up;
        let unwanted = self.remote_min_rx == 0 || self.remote_demand && both_up && !self.polling;
        let desired_min_tx = self.desired_min_tx.min(self.before.unwrap_or(u32::MAX));
        (!unwanted).then(|| Duration::from_micros(u64::from(desired_min_tx.max(self.remote_min_rx))))
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
