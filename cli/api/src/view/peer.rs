//! What `routectl show peers NAME` is answered.

use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::PeerView;

/// One BGP session in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerDetail {
    /// What the list of sessions says of it.
    #[serde(flatten)]
    pub peer: PeerView,
    /// This node's address towards it, where that is set.
    pub local_address: Option<IpAddr>,
    /// How often it was Established.
    pub established: u64,
    /// When the last error was noted.
    pub last_error_at: Option<Timestamp>,
    /// The OPEN that this node sent on the last connection on which one came.
    pub ours: Option<OpenView>,
    /// The peer's.
    pub theirs: Option<OpenView>,
    /// Seconds between KEEPALIVEs: a third of the hold time; `null` where there are none.
    pub keepalive_s: Option<u16>,
    /// The longest message that it takes, in octets, while Established.
    pub longest_message: Option<u64>,
    /// What was sent to it since it was configured.
    pub sent: TrafficView,
    /// What it has sent.
    pub received_messages: TrafficView,
    /// Prefixes that it may send at most.
    pub max_prefixes: Option<u64>,
}

/// An OPEN message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenView {
    /// The AS number.
    pub asn: u32,
    /// The BGP identifier.
    pub router_id: Ipv4Addr,
    /// The hold time that it proposes, in seconds.
    pub hold_time_s: u16,
    /// The capabilities that it names and that are known here, one line each.
    pub capabilities: Vec<String>,
}

/// Messages one way.
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
    /// Octets of all of them.
    pub octets: u64,
    /// When the last UPDATE passed.
    pub last_update: Option<Timestamp>,
    /// When the last KEEPALIVE passed.
    pub last_keepalive: Option<Timestamp>,
}
