//! State transitions (RFC 4271 §8.2.2); see [`state`](super::state) for the diagram.
//!
//! Deviation: after a failed connection RFC 4271 goes to Idle and restarts automatically after a
//! delay. Here the peer goes to Active: only dialing is delayed, and an incoming connection is
//! accepted at any time. Idle is the state of stopped peers only. The DelayOpen timer (RFC 4271
//! §8.1.3) and peer oscillation damping (`DampPeerOscillations`) are not implemented.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use super::graceful::Retention;
use super::negotiate::SessionParameters;
use super::peer::{EndReason, Peer, PeerConfig, PeerInput, PeerOutput};
use super::retention;
use super::state::{ConnectionState, Dial, SessionState, SessionTimers, Side};
use super::timers::{CONNECT_TIMEOUT, OPEN_HOLD_TIME, connect_retry};
use crate::types::Family;
use crate::wire::attribute::Context;
use crate::wire::encode;
use crate::wire::error::{ErrorCode, WireError};
use crate::wire::frame::{Frame, MessageKind};
use crate::wire::notification::Notification;
use crate::wire::open::Open;
use crate::wire::refresh::RouteRefresh;
use crate::wire::update::{UpdateMessage, UpdateView};

/// Decision on an incoming connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Accept it: hand in [`PeerInput::Connected`].
    Accept,
    /// Accept it next to an Established incoming connection: call [`Peer::swap_sides`] first, then
    /// hand in [`PeerInput::Connected`].
    AcceptSecond,
    /// Reject it with a Cease NOTIFICATION of this subcode.
    Reject(ErrorCode),
}

/// UPDATE of an Established session, with the session parameters that are needed to read it.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedUpdate<'a> {
    body: &'a [u8],
    context: Context,
}

impl<'a> ReceivedUpdate<'a> {
    /// Reads and checks the UPDATE.
    ///
    /// # Errors
    /// A fault that ends the session (RFC 7606); hand it to [`Peer::handle`] as
    /// [`PeerInput::Malformed`].
    #[inline]
    pub fn read(&self) -> Result<UpdateMessage<'a>, WireError> {
        UpdateView::parse(self.body)?.read(&self.context)
    }
}

/// Returns whether the peer may reconnect before the end of its old session was detected.
fn restarts(negotiated: &SessionParameters) -> bool {
    negotiated.graceful.is_some_and(|graceful| !graceful.families.is_empty())
}

impl Peer {
    /// Processes an event that happened at `now`. The resulting actions are returned by
    /// [`Peer::poll_output`].
    pub fn handle(&mut self, input: PeerInput, now: Instant) {
        match input {
            PeerInput::Start => self.start(now),
            PeerInput::Stop(code) => self.stop(code),
            PeerInput::Restart => self.restart(),
            PeerInput::BfdDown => {
                // An immediate connection attempt would collide with the peer's own end of the
                // session.
                self.failures = self.failures.max(1);
                let established =
                    |side: &Side| matches!(self.slot(*side), Some(ConnectionState::Established { .. }));
                if let Some(side) = Side::ALL.into_iter().find(established) {
                    let notification = Notification::new(ErrorCode::BFD_DOWN);
                    self.end(side, Some(notification), EndReason::BfdDown, now);
                }
            }
            PeerInput::EndOfRib(family) => self.end_of_rib_received(family),
            PeerInput::SendHoldTimerExpired(side) => {
                if self.slot(side).is_some() {
                    let notification = Notification::new(ErrorCode::SEND_HOLD_TIMER_EXPIRED);
                    self.end(side, Some(notification), EndReason::SendHoldTimerExpired, now);
                }
            }
            PeerInput::Connected(Side::Outgoing) => self.connected_out(now),
            PeerInput::Connected(Side::Incoming) => self.connected_in(now),
            PeerInput::ConnectFailed => {
                if matches!(self.dial, Dial::Connecting { .. }) {
                    self.dial_later(now);
                }
            }
            PeerInput::Closed(side) => {
                if self.slot(side).is_some() {
                    self.end(side, None, EndReason::ConnectionClosed, now);
                }
            }
            PeerInput::Malformed(side, error) => {
                if self.slot(side).is_some() {
                    self.reject(side, error, now);
                }
            }
            PeerInput::Timer => self.timer(now),
        }
    }

    fn start(&mut self, now: Instant) {
        if self.running {
            return;
        }
        self.running = true;
        self.failures = 0;
        if self.config.passive {
            return;
        }
        if self.config.connect_delay.is_zero() {
            self.dial_now(now);
        } else {
            let delay = self.jitter.apply(self.config.connect_delay);
            self.dial = Dial::At(now + delay);
        }
    }

    fn stop(&mut self, code: ErrorCode) {
        self.running = false;
        self.cancel_dial();
        for side in Side::ALL {
            let negotiated = self.slot(side).and_then(ConnectionState::negotiated);
            let notification = retention::hard_reset(Notification::new(code), negotiated);
            self.drop_connection(side, Some(notification), EndReason::Stopped(code), Retention::default());
        }
        self.drop_retained();
    }

    fn restart(&mut self) {
        self.running = false;
        self.cancel_dial();
        for side in Side::ALL {
            let text = "the routing daemon of this node restarts; its routes remain valid";
            let soft = Notification::with_text(ErrorCode::ADMINISTRATIVE_RESET, text);
            let negotiated = self.slot(side).and_then(ConnectionState::negotiated);
            let restart_notification =
                retention::restart_notification(negotiated, soft, ErrorCode::ADMINISTRATIVE_SHUTDOWN);
            self.drop_connection(side, restart_notification, EndReason::Restarting, Retention::default());
        }
        self.drop_retained();
    }

    /// Replaces the configuration. A session is reopened with the new one; both sides keep their
    /// routes meanwhile if they agreed to keep them over a restart.
    pub fn reconfigure(&mut self, config: PeerConfig, now: Instant) {
        self.cancel_dial();
        for side in Side::ALL {
            let Some(connection) = self.slot(side).copied() else { continue };
            let negotiated = connection.negotiated().copied();
            let code = ErrorCode::CONFIGURATION_CHANGE;
            let restart_notification =
                retention::restart_notification(negotiated.as_ref(), Notification::new(code), code);
            let reason = EndReason::Reconfigured;
            let retain = match (connection.state(), negotiated) {
                (SessionState::Established, Some(negotiated)) => self.retain(&negotiated, &reason, now),
                _ => Retention::default(),
            };
            self.drop_connection(side, restart_notification, reason, retain);
        }
        self.config = config;
        if std::mem::take(&mut self.running) {
            self.start(now);
        }
    }

    fn dial_now(&mut self, now: Instant) {
        self.dial = Dial::Connecting { until: now + CONNECT_TIMEOUT };
        self.push_output(PeerOutput::Connect);
    }

    fn dial_later(&mut self, now: Instant) {
        let wait = self.jitter.apply(connect_retry(self.failures));
        self.failures = self.failures.saturating_add(1);
        self.dial = if self.config.passive { Dial::Off } else { Dial::At(now + wait) };
    }

    fn cancel_dial(&mut self) {
        if matches!(self.dial, Dial::Connecting { .. }) {
            self.push_output(PeerOutput::AbortConnect);
        }
        self.dial = Dial::Off;
    }

    fn connected_out(&mut self, now: Instant) {
        // The attempt was aborted before it succeeded.
        if !matches!(self.dial, Dial::Connecting { .. }) {
            return;
        }
        self.dial = Dial::Off;
        self.send_open(Side::Outgoing, now);
    }

    /// Returns what to do with an incoming connection.
    pub fn admission(&self) -> Admission {
        if !self.running {
            return Admission::Reject(ErrorCode::CONNECTION_REJECTED);
        }
        match self.negotiated() {
            None => Admission::Accept,
            // RFC 4724 §5: the peer may have restarted without TCP noticing; its OPEN will tell.
            Some(negotiated) if restarts(negotiated) => match self.slot(Side::Incoming) {
                Some(ConnectionState::Established { .. }) => Admission::AcceptSecond,
                _ => Admission::Accept,
            },
            // RFC 4271 §6.8: an Established connection is kept.
            Some(_) => Admission::Reject(ErrorCode::COLLISION_RESOLUTION),
        }
    }

    /// Exchanges the outgoing and the incoming connection; see [`Admission::AcceptSecond`].
    pub fn swap_sides(&mut self) {
        self.connections.swap(0, 1);
    }

    fn connected_in(&mut self, now: Instant) {
        if self.admission() != Admission::Accept {
            return;
        }
        // A peer whose earlier connection is alive does not connect again; the driver replaces the
        // socket.
        if self.slot_mut(Side::Incoming).take().is_some() {
            let (reason, retain) = (EndReason::ConnectionClosed, Retention::default());
            self.push_output(PeerOutput::Ended { established: false, reason, retain });
        }
        self.send_open(Side::Incoming, now);
    }

    fn send_open(&mut self, side: Side, now: Instant) {
        let mut message = Vec::new();
        self.config.open(self.restarted).encode(&mut message);
        self.push_output(PeerOutput::Send(side, message));
        *self.slot_mut(side) = Some(ConnectionState::OpenSent { hold: now + OPEN_HOLD_TIME });
    }

    /// Processes a message that was received at `now` on the connection of `side`. The resulting
    /// actions are returned by [`Peer::poll_output`].
    ///
    /// Returns the UPDATE to read, if the message is one and this connection is Established. In any
    /// other state an UPDATE ends the connection (RFC 6608) and is not returned. The caller reads
    /// it with [`ReceivedUpdate::read`] before it hands in anything else, and reports an End-of-RIB
    /// marker with [`PeerInput::EndOfRib`] and an error with [`PeerInput::Malformed`].
    #[must_use = "an UPDATE is to be read"]
    pub fn receive<'a>(&mut self, side: Side, frame: Frame<'a>, now: Instant) -> Option<ReceivedUpdate<'a>> {
        match (self.slot(side)?, frame.kind) {
            (ConnectionState::Established { negotiated, .. }, MessageKind::Update) => {
                let context = negotiated.context();
                self.restart_hold_timer(side, now);
                Some(ReceivedUpdate { body: frame.body, context })
            }
            _ => {
                self.message(side, frame, now);
                None
            }
        }
    }

    fn message(&mut self, side: Side, frame: Frame<'_>, now: Instant) {
        let Some(connection) = self.slot(side).copied() else { return };
        if frame.kind == MessageKind::Notification {
            let notification = Notification::parse(frame.body);
            return self.end(side, None, EndReason::Received(notification), now);
        }
        match (connection, frame.kind) {
            (ConnectionState::OpenSent { .. }, MessageKind::Open) => self.open(side, frame.body, now),
            (ConnectionState::OpenConfirm { negotiated, timers }, MessageKind::Keepalive) => {
                self.establish(side, negotiated, timers, now);
            }
            (ConnectionState::Established { .. }, MessageKind::Keepalive) => {
                self.restart_hold_timer(side, now)
            }
            // Returned by `receive`.
            (ConnectionState::Established { .. }, MessageKind::Update) => {}
            (ConnectionState::Established { negotiated, .. }, MessageKind::RouteRefresh) => {
                self.restart_hold_timer(side, now);
                match RouteRefresh::parse(frame.body) {
                    Ok(refresh) => self.refresh(refresh, negotiated, now),
                    Err(error) => self.reject(side, error, now),
                }
            }
            // RFC 6608: the subcode names the state.
            (ConnectionState::OpenSent { .. }, _) => {
                let rule = "the first message is OPEN";
                self.reject(side, WireError::new(ErrorCode::FSM_OPEN_SENT, rule), now);
            }
            (ConnectionState::OpenConfirm { .. }, _) => {
                let rule = "KEEPALIVE follows OPEN";
                self.reject(side, WireError::new(ErrorCode::FSM_OPEN_CONFIRM, rule), now);
            }
            (ConnectionState::Established { .. }, _) => {
                let rule = "OPEN is sent once";
                self.reject(side, WireError::new(ErrorCode::FSM_ESTABLISHED, rule), now);
            }
        }
    }

    fn refresh(&mut self, refresh: RouteRefresh, negotiated: SessionParameters, now: Instant) {
        let family = Family::from_afi_safi(refresh.family);
        let family = family.filter(|family| negotiated.families.contains(*family));
        match (family, refresh.subtype) {
            (Some(family), 0) => self.push_output(PeerOutput::Refresh(family)),
            (Some(family), 1 | 2) if negotiated.enhanced_route_refresh => {
                self.refresh_marker(family, refresh.subtype == 1, now);
            }
            // RFC 2918 §4, RFC 7313 §5: what was not negotiated is ignored.
            _ => {}
        }
    }

    fn open(&mut self, side: Side, body: &[u8], now: Instant) {
        let ours = self.config.open(self.restarted);
        let settled = Open::parse(body)
            .and_then(|theirs| SessionParameters::settle(&ours, &theirs, self.config.peer_as));
        let negotiated = match settled {
            Ok(negotiated) => negotiated,
            Err(error) => return self.reject(side, error, now),
        };
        match self.slot(side.other()) {
            // RFC 4724 §5: the peer has restarted; the rest of its last session ends without a
            // NOTIFICATION.
            Some(ConnectionState::Established { negotiated, .. }) if restarts(negotiated) => {
                self.end(side.other(), None, EndReason::ConnectionClosed, now);
            }
            Some(ConnectionState::Established { .. }) => return self.end_collision_loser(side, now),
            Some(ConnectionState::OpenConfirm { .. }) => {
                let loser = if self.collision_winner(&negotiated) == side { side.other() } else { side };
                self.end_collision_loser(loser, now);
                if loser == side {
                    return;
                }
            }
            Some(ConnectionState::OpenSent { .. }) | None => {}
        }
        let mut message = Vec::new();
        encode::keepalive(&mut message);
        self.push_output(PeerOutput::Send(side, message));
        let hold = negotiated.hold();
        let timers = SessionTimers {
            hold: hold.map(|hold| now + hold),
            keepalive: hold.map(|hold| now + self.keepalive_wait(hold)),
        };
        *self.slot_mut(side) = Some(ConnectionState::OpenConfirm { negotiated, timers });
    }

    /// Returns which of two connections with the same peer is kept: the one opened by the speaker
    /// with the higher identifier (RFC 4271 §6.8), or, if those are equal, with the higher AS (RFC
    /// 6286 §2.3).
    fn collision_winner(&self, negotiated: &SessionParameters) -> Side {
        let ours = (self.config.router_id.to_bits(), self.config.local_as.0);
        let theirs = (negotiated.peer_id.to_bits(), negotiated.peer_as.0);
        match ours.cmp(&theirs) {
            Ordering::Less => Side::Incoming,
            Ordering::Equal | Ordering::Greater => Side::Outgoing,
        }
    }

    fn end_collision_loser(&mut self, side: Side, now: Instant) {
        let notification = Notification::new(ErrorCode::COLLISION_RESOLUTION);
        self.end(side, Some(notification), EndReason::Collision, now);
    }

    fn establish(&mut self, side: Side, negotiated: SessionParameters, timers: SessionTimers, now: Instant) {
        // The other connection, if any, is the loser of a collision.
        self.cancel_dial();
        if self.slot(side.other()).is_some() {
            self.end_collision_loser(side.other(), now);
        }
        self.failures = 0;
        *self.slot_mut(side) = Some(ConnectionState::Established { negotiated, timers });
        self.restart_hold_timer(side, now);
        self.push_output(PeerOutput::Established(side, negotiated));
        self.resume_retained(&negotiated, now);
    }

    /// Restarts the hold timer, as every KEEPALIVE and UPDATE does.
    fn restart_hold_timer(&mut self, side: Side, now: Instant) {
        let hold = self.slot(side).and_then(ConnectionState::negotiated).and_then(SessionParameters::hold);
        if let Some(timers) = self.slot_mut(side).as_mut().and_then(ConnectionState::timers_mut) {
            timers.hold = hold.map(|hold| now + hold);
        }
    }

    /// Returns a third of the hold time (RFC 4271 §4.4), with jitter.
    fn keepalive_wait(&mut self, hold: Duration) -> Duration {
        self.jitter.apply(hold / 3)
    }

    fn timer(&mut self, now: Instant) {
        match self.dial {
            Dial::At(at) if at <= now => self.dial_now(now),
            Dial::Connecting { until } if until <= now => {
                self.push_output(PeerOutput::AbortConnect);
                self.dial_later(now);
            }
            Dial::Off | Dial::At(_) | Dial::Connecting { .. } => {}
        }
        self.retained_timer(now);
        self.refreshing_timer(now);
        for side in Side::ALL {
            self.connection_timer(side, now);
        }
    }

    fn connection_timer(&mut self, side: Side, now: Instant) {
        let Some(mut connection) = self.slot(side).copied() else { return };
        let hold = match connection {
            ConnectionState::OpenSent { hold } => Some(hold),
            ConnectionState::OpenConfirm { timers, .. } | ConnectionState::Established { timers, .. } => {
                timers.hold
            }
        };
        if hold.is_some_and(|hold| hold <= now) {
            let notification = Notification::new(ErrorCode::HOLD_TIMER_EXPIRED);
            return self.end(side, Some(notification), EndReason::HoldTimerExpired, now);
        }
        let wait =
            connection.negotiated().and_then(SessionParameters::hold).map(|hold| self.keepalive_wait(hold));
        let Some(timers) = connection.timers_mut() else { return };
        if timers.keepalive.is_some_and(|at| at <= now) {
            timers.keepalive = wait.map(|wait| now + wait);
            *self.slot_mut(side) = Some(connection);
            let mut message = Vec::new();
            encode::keepalive(&mut message);
            self.push_output(PeerOutput::Send(side, message));
        }
    }

    fn reject(&mut self, side: Side, error: WireError, now: Instant) {
        self.end(side, Some(Notification::from(&error)), EndReason::ProtocolError(error), now);
    }

    /// Ends one connection, and schedules the next connection attempt if no other connection has
    /// got further than OpenSent.
    fn end(&mut self, side: Side, notification: Option<Notification>, reason: EndReason, now: Instant) {
        let negotiated = match self.slot(side) {
            Some(ConnectionState::Established { negotiated, .. }) => Some(*negotiated),
            _ => None,
        };
        let retain = negotiated.map(|negotiated| self.retain(&negotiated, &reason, now));
        self.drop_connection(side, notification, reason, retain.unwrap_or_default());
        // A connection on which the peer has sent nothing yet may never open.
        let unopened = |connection: &ConnectionState| matches!(connection, ConnectionState::OpenSent { .. });
        let none_left = self.slot(Side::Outgoing).is_none() && self.slot(Side::Incoming).is_none_or(unopened);
        if self.running && none_left && self.dial == Dial::Off {
            self.dial_later(now);
        }
    }

    fn drop_connection(
        &mut self,
        side: Side,
        notification: Option<Notification>,
        reason: EndReason,
        retain: Retention,
    ) {
        let Some(connection) = self.slot_mut(side).take() else { return };
        if let Some(notification) = notification {
            let mut message = Vec::new();
            notification.encode(&mut message);
            self.push_output(PeerOutput::Send(side, message));
        }
        self.push_output(PeerOutput::Close(side));
        let established = matches!(connection, ConnectionState::Established { .. });
        self.push_output(PeerOutput::Ended { established, reason, retain });
    }
}
