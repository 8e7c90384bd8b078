//! Whether packets between nodes pass by a way: requests and answers between the nodes' tunnel addresses.
//!
//! The core ([`packet`], [`prober`]) has no sockets and no clock. A probe must travel by the way that it asks after and by no other,
//! so it carries a mark, a rule sends the mark to a table of its own, and the interface that it arrives by is looked at.

use std::fmt;

use serde::{Deserialize, Serialize};

pub mod packet;
pub mod prober;

#[cfg(feature = "driver")]
pub(crate) mod driver;

/// A way from node to node that can be asked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TunnelPath {
    /// IP in IP.
    Ipip,
    /// VXLAN.
    Vxlan,
    /// Unwrapped.
    Direct,
}

impl TunnelPath {
    /// All of them.
    pub const ALL: [TunnelPath; 3] = [TunnelPath::Ipip, TunnelPath::Vxlan, TunnelPath::Direct];

    /// The table that leads probes by this way, and the mark that leads to the table.
    pub fn table(self) -> u32 {
        match self {
            TunnelPath::Ipip => 17_904,
            TunnelPath::Vxlan => 17_917,
            TunnelPath::Direct => 17_900,
        }
    }

    /// The way with this table.
    pub fn of_table(table: u32) -> Option<TunnelPath> {
        TunnelPath::ALL.into_iter().find(|path| path.table() == table)
    }

    fn index(self) -> usize {
        match self {
            TunnelPath::Ipip => 0,
            TunnelPath::Vxlan => 1,
            TunnelPath::Direct => 2,
        }
    }
}

impl fmt::Display for TunnelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TunnelPath::Ipip => "IP-in-IP",
            TunnelPath::Vxlan => "VXLAN",
            TunnelPath::Direct => "unwrapped",
        })
    }
}

/// What is known of a way to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathState {
    /// Nothing was answered yet, and nothing proved that it does not pass.
    #[default]
    Unknown,
    /// Probes are answered.
    Passes,
    /// They are not, nor is anything else: perhaps the node is down, or nobody there answers.
    Unanswered,
    /// They are not, while another way passes.
    Blocked,
    /// They are answered again, but not yet for long enough.
    Returning,
}

impl PathState {
    /// Whether the way is to be avoided where there is another.
    pub fn is_avoided(self) -> bool {
        matches!(self, PathState::Blocked | PathState::Returning)
    }
}

/// The priority of the rules that lead marked probes to their tables: before table main's.
pub const RULE_PRIORITY: u32 = 1_790;
