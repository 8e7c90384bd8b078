//! One configured neighbour: what happens goes in, what is to be done comes out.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use super::graceful::{RestartConfig, Retain, Retained, Stale};
use super::negotiate::Negotiated;
use super::state::{ConnectionState, Dial, SessionState, Side};
use super::timers::TimerJitter;
use crate::types::{Asn, Families, Family, RouterId};
use crate::wire::capability::{AddPath, Capabilities, GracefulRestart, LongLived, Role, Roles};
use crate::wire::error::{ErrorCode, WireError};
use crate::wire::notification::Notification;
use crate::wire::open::Open;

/// What a session is configured with. Everything in it takes part in the OPEN or in calling, so a
/// change of it needs a new session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Our AS.
    pub local_as: Asn,
    /// Our BGP identifier.
    pub router_id: RouterId,
    /// The peer's AS.
    pub peer_as: Asn,
    /// The hold time we propose, in seconds: 0 or at least 3.
    pub hold_time: u16,
    /// The families we exchange.
    pub families: Families,
    /// Never call, only be called.
    pub passive: bool,
    /// How long to wait before the first call, so that of two speakers one calls first.
    pub connect_delay: Duration,
    /// How long nothing may be writable to the peer before the session ends (RFC 9687), in seconds: at
    /// least twice the hold time counts, and nothing where that is 0.
    pub send_hold_time: u16,
    /// The families in which several paths to a prefix are taken and sent (RFC 7911).
    pub add_path: AddPath,
    /// Whether IPv4 prefixes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// What we are to an external peer (RFC 9234).
    pub role: Option<Role>,
    /// What is said of restarts; `None`: nothing, and no routes are kept when a session ends.
    pub restart: Option<RestartConfig>,
}

impl PeerConfig {
    /// A peer with a hold time of 90 s that is called at once, and none of what is optional.
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

    /// The OPEN that we send; `restarted`: see [`Peer::set_restarted`].
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
                // RFC 9234 §4.1: of no meaning inside an AS.
                role: self.role.filter(|_| self.peer_as != self.local_as).map_or(Roles::Absent, Roles::One),
                enhanced_route_refresh: true,
                long_lived,
            },
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum PeerInput {
    /// The operator, or the daemon's start, wants the session.
    Start,
    /// The session is not wanted; the code goes into the NOTIFICATION, Cease with a subcode (RFC 4486).
    Stop(ErrorCode),
    /// This node restarts: the session ends so that the peer keeps its routes, if it can (RFC 4724, 8538).
    Restart,
    /// BFD says that the way to the peer is gone, or its daemon, which also speaks BFD (RFC 5882 §4.3).
    BfdDown,
    /// The peer has sent all its routes of a family.
    EndOfRib(Family),
    /// Nothing could be written to this connection for the send hold time (RFC 9687).
    SendHoldTimerExpired(Side),
    /// A TCP connection is up: ours ([`PeerOutput::Connect`] asked for it) or one that the peer made and
    /// that [`Peer::admission`] lets in; it takes the place of an earlier one of that side.
    Connected(Side),
    /// The call that [`PeerOutput::Connect`] asked for failed.
    ConnectFailed,
    /// The TCP connection ended.
    Closed(Side),
    /// The octets received on a connection break a rule: those of a message header, or of an UPDATE
    /// which [`Peer::receive`] returned.
    Malformed(Side, WireError),
    /// A deadline has come.
    Timer,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerOutput {
    /// Call the peer; a call under way is given up first.
    Connect,
    /// Give up the call under way.
    AbortConnect,
    /// Write this message.
    Send(Side, Vec<u8>),
    /// Close this connection once what was sent is written.
    Close(Side),
    /// Routes can be exchanged on this connection.
    Established(Side, Negotiated),
    /// A connection ended; `established` says whether the session ended with it.
    Ended {
        /// Whether routes were exchanged on it.
        established: bool,
        /// Why.
        reason: EndReason,
        /// What becomes of its routes, if any were exchanged.
        retain: Retain,
    },
    /// What becomes of routes that were retained.
    Stale(Stale),
    /// The peer will now send all its routes of a family anew (RFC 7313): those that it has sent before
    /// are stale until it does.
    RefreshBegins(Family),
    /// The peer asks for all routes of a family.
    Refresh(Family),
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The peer said so.
    Received(Notification),
    /// The peer broke a rule.
    Refused(WireError),
    /// Nothing came for the hold time.
    HoldTimerExpired,
    /// Nothing could be sent for the send hold time.
    SendHoldTimerExpired,
    /// BFD gave the peer up.
    BfdDown,
    /// This node restarts.
    Restarting,
    /// The configuration changed.
    Reconfigured,
    /// TCP ended without a NOTIFICATION.
    ConnectionClosed,
    /// We stopped the session.
    Stopped(ErrorCode),
    /// The other connection with this peer won (RFC 4271 §6.8).
    Collision,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndReason::Received(notification) => write!(f, "peer sent {notification}"),
            EndReason::Refused(error) => write!(f, "sent {error}"),
            EndReason::HoldTimerExpired => f.write_str("hold timer expired"),
            EndReason::SendHoldTimerExpired => f.write_str("send hold timer expired: the peer reads nothing"),
            EndReason::BfdDown => write!(f, "stopped: {}", ErrorCode::BFD_DOWN),
            EndReason::Reconfigured => f.write_str("opened anew: the configuration changed"),
            EndReason::Restarting => f.write_str("this node restarts"),
            EndReason::ConnectionClosed => f.write_str("connection closed by the peer"),
            EndReason::Stopped(code) => write!(f, "stopped: {code}"),
            EndReason::Collision => f.write_str("connection collision"),
        }
    }
}

/// The state machine of one neighbour.
#[derive(Clone, Debug)]
pub struct Peer {
    pub(super) config: PeerConfig,
    pub(super) running: bool,
    pub(super) dial: Dial,
    pub(super) connections: [Option<ConnectionState>; 2],
    /// Calls and sessions that failed since the last Established (RFC 4271's ConnectRetryCounter).
    pub(super) failures: u32,
    pub(super) jitter: TimerJitter,
    pub(super) restarted: Option<Families>,
    pub(super) retained: Option<Retained>,
    /// By family, until when the end of what answers a ROUTE-REFRESH is waited for.
    pub(super) refreshing: [Option<Instant>; 2],
    pub(super) outputs: VecDeque<PeerOutput>,
}

impl Peer {
    /// A stopped peer; `seed` is for the jitter of its timers.
    pub fn new(config: PeerConfig, seed: u64) -> Peer {
        Peer {
            config,
            running: false,
            dial: Dial::Off,
            connections: [None, None],
            failures: 0,
            jitter: TimerJitter::new(seed),
            restarted: None,
            retained: None,
            refreshing: [None, None],
            outputs: VecDeque::new(),
        }
    }

    /// What it was configured with.
    pub fn config(&self) -> &PeerConfig {
        &self.config
    }

    /// The next thing to do; call until it is `None` after every [`Peer::handle`].
    pub fn poll_output(&mut self) -> Option<PeerOutput> {
        self.outputs.pop_front()
    }

    /// When to hand in [`PeerInput::Timer`].
    pub fn deadline(&self) -> Option<Instant> {
        let dial = match self.dial {
            Dial::Off => None,
            Dial::At(at) | Dial::Calling { until: at } => Some(at),
        };
        let refreshing = self.refreshing.iter().flatten().copied();
        let connections = self.connections.iter().flatten().filter_map(ConnectionState::deadline);
        connections.chain(dial).chain(self.retained_until()).chain(refreshing).min()
    }

    /// The state to show.
    pub fn state(&self) -> SessionState {
        let base = match (self.running, self.dial) {
            (false, _) => SessionState::Idle,
            (true, Dial::Calling { .. }) => SessionState::Connect,
            (true, Dial::Off | Dial::At(_)) => SessionState::Active,
        };
        self.connections.iter().flatten().map(ConnectionState::state).fold(base, SessionState::max)
    }

    /// The state of one connection, if it is up.
    pub fn connection_state(&self, side: Side) -> Option<SessionState> {
        self.slot(side).map(ConnectionState::state)
    }

    /// What the session was settled to, once it is Established.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.connections.iter().flatten().find_map(|connection| match connection {
            ConnectionState::Established { negotiated, .. } => Some(negotiated),
            _ => None,
        })
    }

    /// Until when routes of an earlier session are kept as stale, while they are.
    pub fn retained_until(&self) -> Option<Instant> {
        self.retained.as_ref().map(|retained| retained.until)
    }

    /// The longest message, in octets, to accept on a connection.
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
