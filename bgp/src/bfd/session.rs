//! State machine of one session (RFC 5880 §6).

use std::collections::VecDeque;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

use super::packet::{BfdState, ControlPacket, Diagnostic};
use timing::Jitter;

/// Shortest transmit interval of a session that is not Up (RFC 5880 §6.8.3).
const SLOW: Duration = Duration::from_secs(1);

/// Session configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BfdSessionConfig {
    /// Shortest interval between two packets in either direction while the session is Up.
    pub min_interval: Duration,
    /// Number of missed packets after which the remote system is declared down.
    pub multiplier: NonZeroU8,
}

/// Action for the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BfdOutput {
    /// Send this packet.
    Send(ControlPacket),
    /// The state has changed.
    Changed(BfdState),
}

/// State variables of RFC 5880 §6.8.1, with the names used there.
#[derive(Clone, Debug)]
pub struct BfdSession {
    config: BfdSessionConfig,
    local_discr: NonZeroU32,
    remote_discr: u32,
    state: BfdState,
    remote_state: BfdState,
    local_diag: Diagnostic,
    remote_diag: Diagnostic,
    /// Advertised Desired Min TX Interval, in microseconds.
    desired_min_tx: u32,
    /// Required Min RX Interval of the remote system, in microseconds.
    remote_min_rx: u32,
    /// Desired Min TX Interval of the remote system, in microseconds.
    remote_min_tx: u32,
    remote_detect_mult: NonZeroU8,
    remote_demand: bool,
    /// A Poll Sequence is in progress.
    polling: bool,
    /// Interval before the one that the Poll Sequence announces. Until it is confirmed, the remote
    /// system may assume either.
    before: Option<u32>,
    send_at: Option<Instant>,
    detect_at: Option<Instant>,
    jitter: Jitter,
    outputs: VecDeque<BfdOutput>,
}

impl BfdSession {
    /// Creates a session in the active role, which starts to send at once. `local_discr` must be
    /// unique in this system; `seed` is for the jitter.
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
            jitter: Jitter::new(seed),
            outputs: VecDeque::new(),
        }
    }

    /// Returns the state.
    pub fn state(&self) -> BfdState {
        self.state
    }

    /// Returns the last reported state of the remote system.
    pub fn remote_state(&self) -> BfdState {
        self.remote_state
    }

    /// Returns the reason why the session last left Up.
    pub fn diagnostic(&self) -> Diagnostic {
        self.local_diag
    }

    /// Returns the reason why the remote system's session last left Up.
    pub fn remote_diagnostic(&self) -> Diagnostic {
        self.remote_diag
    }

    /// Returns the detection time (RFC 5880 §6.8.4), once a packet was received.
    pub fn detection_time(&self) -> Duration {
        let required_min_rx = micros(self.config.min_interval).max(self.before.unwrap_or(0));
        let interval = required_min_rx.max(self.remote_min_tx);
        Duration::from_micros(u64::from(interval)) * u32::from(self.remote_detect_mult.get())
    }

    /// Returns the next action. Call until it returns `None` after every other call which takes
    /// `&mut self`.
    pub fn poll_output(&mut self) -> Option<BfdOutput> {
        self.outputs.pop_front()
    }

    /// Returns the time at which to call [`BfdSession::timer`].
    pub fn deadline(&self) -> Option<Instant> {
        self.send_at.into_iter().chain(self.detect_at).min()
    }

    /// Returns whether the discriminator of a packet selects this session. Packets without one are
    /// assigned by their addresses.
    pub fn is_addressed_by(&self, packet: &ControlPacket) -> bool {
        packet.your_discriminator == 0 || packet.your_discriminator == self.local_discr.get()
    }

    /// Processes a packet which [`BfdSession::is_addressed_by`] accepted (RFC 5880 §6.8.6).
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
            // A remote system that is Up while this one is Down has to detect that first.
            _ => {}
        }
        if packet.poll {
            self.send(true, now);
        }
        self.advance_transmission(now);
    }

    /// Processes the expiry of a timer.
    pub fn timer(&mut self, now: Instant) {
        if self.detect_at.is_some_and(|at| at <= now) {
            self.detect_at = None;
            // The remote system's parameters are no longer valid, including a receive interval of
            // 0.
            (self.remote_discr, self.remote_min_rx, self.remote_demand) = (0, 1, false);
            self.remote_state = BfdState::Down;
            if matches!(self.state, BfdState::Init | BfdState::Up) {
                self.enter(BfdState::Down, Diagnostic::CONTROL_DETECTION_TIME_EXPIRED, now);
            }
        }
        if self.send_at.is_some_and(|at| at <= now) {
            self.send(false, now);
        }
        self.advance_transmission(now);
    }

    /// Replaces the configuration without a change of state (RFC 5880 §6.8.3).
    pub fn set_config(&mut self, config: BfdSessionConfig, now: Instant) {
        let before = std::mem::replace(&mut self.config, config);
        if self.state == BfdState::Up && before != config {
            self.before = Some(micros(before.min_interval));
            self.desired_min_tx = micros(config.min_interval);
            self.polling = true;
            self.send(false, now);
        }
    }

    /// Takes the session down administratively, which the remote system does not treat as a failure
    /// (RFC 5880 §6.8.16).
    pub fn stop(&mut self, now: Instant) {
        self.enter(BfdState::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN, now);
    }

    fn enter(&mut self, state: BfdState, diagnostic: Diagnostic, now: Instant) {
        (self.state, self.local_diag) = (state, diagnostic);
        self.outputs.push_back(BfdOutput::Changed(state));
        let up = state == BfdState::Up;
        let interval = self.config.min_interval;
        self.desired_min_tx = micros(if up { interval } else { interval.max(SLOW) });
        // The remote system has confirmed the new interval.
        (self.polling, self.before) = (up, None);
        self.send(false, now);
    }

    /// Sends a packet and schedules the next one.
    fn send(&mut self, r#final: bool, now: Instant) {
        self.outputs.push_back(BfdOutput::Send(ControlPacket {
            diagnostic: self.local_diag,
            state: self.state,
            // P and F are never set in the same packet (RFC 5880 §6.5).
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
                // RFC 5880 §6.8.7: at most 90 % with a multiplier of 1, so that one late packet is
                // no failure.
                wait = wait.min(interval * 9 / 10);
            }
            now.checked_add(wait)
        });
    }

    /// Moves the next transmission forward, if the interval has become shorter.
    fn advance_transmission(&mut self, now: Instant) {
        let at = self.interval().and_then(|interval| now.checked_add(interval));
        self.send_at = match (self.send_at, at) {
            (Some(before), Some(at)) => Some(before.min(at)),
            (_, at) => at,
        };
    }

    /// Returns the transmit interval (RFC 5880 §6.8.7); `None` if no packets are to be sent.
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
