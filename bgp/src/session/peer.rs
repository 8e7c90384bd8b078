//! State of one configured neighbor, its inputs and its outputs.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use super::graceful::{RestartConfig, RetainedRoutes, Retention, StaleAction};
use super::negotiate::SessionParameters;
use super::state::{ConnectionState, Dial, SessionState, Side};
use crate::types::{Asn, Families, Family, RouterId};
use crate::wire::capability::{AddPath, Capabilities, GracefulRestart, LongLived, Role, Roles};
use crate::wire::error::{ErrorCode, WireError};
use crate::wire::notification::Notification;
use crate::wire::open::Open;
use timing::Jitter;

/// Session configuration of one neighbor. Every field affects the OPEN or the dialing, so a change
/// requires a new session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// The local AS.
    pub local_as: Asn,
    /// The local BGP identifier.
    pub router_id: RouterId,
    /// The peer's AS.
    pub peer_as: Asn,
    /// Proposed hold time, in seconds: 0 or at least 3.
    pub hold_time: u16,
    /// Families to exchange.
    pub families: Families,
    /// Wait for incoming connections only; never dial.
    pub passive: bool,
    /// Delay before the first connection attempt, so that one of two speakers dials first.
    pub connect_delay: Duration,
    /// Time for which the socket may stay unwritable before the session ends (RFC 9687), in
    /// seconds. The effective value is at least twice the hold time; without a hold time there is
    /// no limit.
    pub send_hold_time: u16,
    /// Families in which several paths to a prefix are received and sent (RFC 7911).
    pub add_path: AddPath,
    /// IPv4 prefixes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// Our role towards an external peer (RFC 9234).
    pub role: Option<Role>,
    /// Graceful restart parameters; `None`: the capability is not announced, and no routes are kept
    /// when a session ends.
    pub restart: Option<RestartConfig>,
}

impl PeerConfig {
    /// Returns a configuration with a hold time of 90 s, immediate dialing and no optional feature.
    pub fn new(local_as: Asn, router_id: RouterId, peer_as: Asn) -> PeerConfig {
        PeerConfig {
            local_as,
            router_id,
            peer_as,
            hold_time: 90,
            families: Families::BOTH,
            passive: false,
            connect_delay: Duration::ZERO,
            send_hold_time: 480,
            add_path: AddPath::default(),
            extended_next_hop: false,
            role: None,
            restart: None,
        }
    }

    /// Returns the OPEN to send; for `restarted` see [`Peer::set_restarted`].
    pub fn open(&self, restarted: Option<Families>) -> Open {
        let forwarding = restarted.unwrap_or(self.families).intersection(self.families);
        let graceful_restart = self.restart.map(|restart| GracefulRestart {
            restarting: restarted.is_some(),
            notification: true,
            restart_time: restart.restart_time,
            families: self.families,
            forwarding,
        });
        let long_lived = self.restart.filter(|restart| restart.long_lived_stale_time > 0).map(|restart| {
            let time =
                |family| if self.families.contains(family) { restart.long_lived_stale_time } else { 0 };
            LongLived { families: self.families, stale_time: Family::ALL.map(time), forwarding }
        });
        Open {
            asn: self.local_as,
            hold_time: self.hold_time,
            router_id: self.router_id,
            capabilities: Capabilities {
                multiprotocol: Some(self.families),
                route_refresh: true,
                extended_message: true,
                four_octet_as: Some(self.local_as),
                graceful_restart,
                add_path: self.add_path,
                extended_next_hop: self.extended_next_hop,
                // RFC 9234 §4.1: roles apply to external sessions only.
                role: self.role.filter(|_| self.peer_as != self.local_as).map_or(Roles::Absent, Roles::One),
                enhanced_route_refresh: true,
                long_lived,
            },
        }
    }
}

/// Event for the state machine.
#[derive(Clone, Debug)]
pub enum PeerInput {
    /// Start the session (ManualStart of RFC 4271).
    Start,
    /// Stop the session (ManualStop); the code goes into the NOTIFICATION, a Cease with a subcode
    /// (RFC 4486).
    Stop(ErrorCode),
    /// Stop the session because this node restarts, such that the peer keeps its routes if it can
    /// (RFC 4724, RFC 8538).
    Restart,
    /// BFD reports that the path to the peer, or the peer's daemon, is down (RFC 5882 §4.3).
    BfdDown,
    /// An End-of-RIB marker of a family was received.
    EndOfRib(Family),
    /// The connection was not writable for the send hold time (RFC 9687).
    SendHoldTimerExpired(Side),
    /// A TCP connection was established: the outgoing one that [`PeerOutput::Connect`] requested,
    /// or an incoming one that [`Peer::admission`] accepted. It replaces an earlier connection of
    /// that side.
    Connected(Side),
    /// The connection attempt that [`PeerOutput::Connect`] requested failed.
    ConnectFailed,
    /// A TCP connection was closed.
    Closed(Side),
    /// Received octets are malformed: a message header, or an UPDATE which [`Peer::receive`]
    /// returned.
    Malformed(Side, WireError),
    /// The time of [`Peer::deadline`] has come.
    Timer,
}

/// Action for the driver. Actions are to be performed in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerOutput {
    /// Open a TCP connection to the peer; an attempt in progress is aborted first.
    Connect,
    /// Abort the connection attempt in progress.
    AbortConnect,
    /// Write this message.
    Send(Side, Vec<u8>),
    /// Close this connection after the messages sent so far were written.
    Close(Side),
    /// The session is Established on this connection; routes can be exchanged.
    Established(Side, SessionParameters),
    /// A connection ended.
    Ended {
        /// The connection was Established, so the session ended with it.
        established: bool,
        /// Reason of the end.
        reason: EndReason,
        /// Treatment of the session's routes, if it was Established.
        retain: Retention,
    },
    /// Change in the treatment of retained routes.
    Stale(StaleAction),
    /// The peer starts to send all its routes of a family again (RFC 7313). The routes received so
    /// far are stale until it does.
    RefreshBegins(Family),
    /// The peer requests all routes of a family (RFC 2918).
    Refresh(Family),
}

/// Reason why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The peer sent a NOTIFICATION.
    Received(Notification),
    /// The peer violated a rule of the protocol.
    ProtocolError(WireError),
    /// The hold timer expired: no message was received for the hold time (RFC 4271 §6.5).
    HoldTimerExpired,
    /// The send hold timer expired: no octet could be sent for the send hold time (RFC 9687).
    SendHoldTimerExpired,
    /// BFD reported the peer down.
    BfdDown,
    /// This node restarts.
    Restarting,
    /// The configuration changed.
    Reconfigured,
    /// TCP ended without a NOTIFICATION.
    ConnectionClosed,
    /// The session was stopped.
    Stopped(ErrorCode),
    /// The connection lost a collision (RFC 4271 §6.8).
    Collision,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndReason::Received(notification) => write!(f, "peer sent {notification}"),
            EndReason::ProtocolError(error) => write!(f, "sent {error}"),
            EndReason::HoldTimerExpired => f.write_str("hold timer expired"),
            EndReason::SendHoldTimerExpired => f.write_str("send hold timer expired: the peer does not read"),
            EndReason::BfdDown => write!(f, "stopped: {}", ErrorCode::BFD_DOWN),
            EndReason::Reconfigured => f.write_str("reopened: the configuration changed"),
            EndReason::Restarting => f.write_str("this node restarts"),
            EndReason::ConnectionClosed => f.write_str("connection closed by the peer"),
            EndReason::Stopped(code) => write!(f, "stopped: {code}"),
            EndReason::Collision => f.write_str("connection collision"),
        }
    }
}

/// State machine of one neighbor.
///
/// A `Peer` opens no socket and reads no clock: a driver hands in what happened and performs what
/// comes out.
///
/// # Contract
///
/// * Hand in events with [`Peer::handle`], and received messages with [`Peer::receive`], in the
///   order in which they happened. Call [`Peer::poll_output`] until it returns `None` after each of
///   them and after [`Peer::reconfigure`], and perform the actions in the order of their return.
/// * `now` is a monotonic time: it must not be earlier than in a previous call. Any clock is
///   suitable, since only differences count.
/// * Hand in [`PeerInput::Timer`] when [`Peer::deadline`] has come. The deadline may change with
///   every call, so compare it again after each of them. An early `Timer` has no effect; a late one
///   makes timers late.
/// * Ask [`Peer::admission`] before handing in an incoming connection. Do not report the end of a
///   connection that was closed because of [`PeerOutput::Close`].
/// * Outputs may be discarded only if they are for a connection that is closed.
/// * A `Peer` may be dropped at any time; its connections then end without a NOTIFICATION. Hand in
///   [`PeerInput::Stop`] or [`PeerInput::Restart`] before to send one.
#[derive(Clone, Debug)]
pub struct Peer {
    pub(super) config: PeerConfig,
    pub(super) running: bool,
    pub(super) dial: Dial,
    pub(super) connections: [Option<ConnectionState>; 2],
    /// Failed connection attempts and sessions since the last Established (ConnectRetryCounter of
    /// RFC 4271).
    pub(super) failures: u32,
    pub(super) jitter: Jitter,
    pub(super) restarted: Option<Families>,
    pub(super) retained: Option<RetainedRoutes>,
    /// Deadline for the end of the answer to a ROUTE-REFRESH, by family (RFC 7313).
    pub(super) refreshing: [Option<Instant>; 2],
    pub(super) outputs: VecDeque<PeerOutput>,
}

impl Peer {
    /// Creates a stopped peer; `seed` is for the jitter of its timers.
    pub fn new(config: PeerConfig, seed: u64) -> Peer {
        Peer {
            config,
            running: false,
            dial: Dial::Off,
            connections: [None, None],
            failures: 0,
            jitter: Jitter::new(seed),
            restarted: None,
            retained: None,
            refreshing: [None, None],
            outputs: VecDeque::new(),
        }
    }

    /// Returns the configuration.
    pub fn config(&self) -> &PeerConfig {
        &self.config
    }

    /// Returns the next action. Call until it returns `None` after every other call which takes
    /// `&mut self`.
    pub fn poll_output(&mut self) -> Option<PeerOutput> {
        self.outputs.pop_front()
    }

    /// Returns the time at which to hand in [`PeerInput::Timer`].
    pub fn deadline(&self) -> Option<Instant> {
        let dial = match self.dial {
            Dial::Off => None,
            Dial::At(at) | Dial::Connecting { until: at } => Some(at),
        };
        let refreshing = self.refreshing.iter().flatten().copied();
        let connections = self.connections.iter().flatten().filter_map(ConnectionState::deadline);
        connections.chain(dial).chain(self.retained_until()).chain(refreshing).min()
    }

    /// Returns the state of the peer: the most advanced state of its connections.
    pub fn state(&self) -> SessionState {
        let base = match (self.running, self.dial) {
            (false, _) => SessionState::Idle,
            (true, Dial::Connecting { .. }) => SessionState::Connect,
            (true, Dial::Off | Dial::At(_)) => SessionState::Active,
        };
        self.connections.iter().flatten().map(ConnectionState::state).fold(base, SessionState::max)
    }

    /// Returns the state of one connection, if it is open.
    pub fn connection_state(&self, side: Side) -> Option<SessionState> {
        self.slot(side).map(ConnectionState::state)
    }

    /// Returns the session parameters, if the session is Established.
    pub fn negotiated(&self) -> Option<&SessionParameters> {
        self.connections.iter().flatten().find_map(|connection| match connection {
            ConnectionState::Established { negotiated, .. } => Some(negotiated),
            _ => None,
        })
    }

    /// Returns the time until which routes of an earlier session are kept as stale, if there are
    /// any.
    pub fn retained_until(&self) -> Option<Instant> {
        self.retained.as_ref().map(|retained| retained.until)
    }

    /// Returns the length of the longest acceptable message on a connection, in octets.
    pub fn max_len(&self, side: Side) -> usize {
        let negotiated = self.slot(side).and_then(ConnectionState::negotiated);
        negotiated.map_or(crate::wire::frame::MAX_LEN, |negotiated| negotiated.max_len)
    }

    pub(super) fn slot(&self, side: Side) -> Option<&ConnectionState> {
        self.connections[side.index()].as_ref()
    }

    pub(super) fn slot_mut(&mut self, side: Side) -> &mut Option<ConnectionState> {
        &mut self.connections[side.index()]
    }

    pub(super) fn push_output(&mut self, output: PeerOutput) {
        self.outputs.push_back(output);
    }
}
