//! The answer to `routectl show peers NAME`.

use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::PeerView;

/// The details of a BGP session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerDetail {
    /// The summary of the session.
    #[serde(flatten)]
    pub peer: PeerView,
    /// This node's address in the session, if it is configured.
    pub local_address: Option<IpAddr>,
    /// The number of times the session was Established.
    pub established: u64,
    /// The time of the last error.
    pub last_error_at: Option<Timestamp>,
    /// The OPEN that this node sent, on the last connection with an OPEN of the peer.
    pub ours: Option<OpenView>,
    /// The OPEN of the peer.
    pub theirs: Option<OpenView>,
    /// Seconds between KEEPALIVEs, a third of the hold time; `null` without KEEPALIVEs.
    pub keepalive_s: Option<u16>,
    /// The maximum message length of the peer, in octets, while Established.
    pub longest_message: Option<u64>,
    /// Messages sent since the peer was configured.
    pub sent: TrafficView,
    /// Messages received.
    pub received_messages: TrafficView,
    /// The maximum number of prefixes.
    pub max_prefixes: Option<u64>,
}

/// An OPEN message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenView {
    /// The AS number.
    pub asn: u32,
    /// The BGP identifier.
    pub router_id: Ipv4Addr,
    /// The proposed hold time, in seconds.
    pub hold_time_s: u16,
    /// The known capabilities, one line each.
    pub capabilities: Vec<String>,
}

/// Messages in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficView {
    /// OPEN messages.
    pub open: u64,
    /// UPDATE messages.
    pub update: u64,
    /// NOTIFICATION messages.
    pub notification: u64,
    /// KEEPALIVE messages.
    pub keepalive: u64,
    /// ROUTE-REFRESH messages.
    pub route_refresh: u64,
    /// Octets of all messages.
    pub octets: u64,
    /// The time of the last UPDATE.
    pub last_update: Option<Timestamp>,
    /// The time of the last KEEPALIVE.
    pub last_keepalive: Option<Timestamp>,
}
