//! Probing of tunnel paths: requests and answers between the nodes' tunnel addresses.
//!
//! The core ([`packet`], [`prober`]) has no sockets and no clock. A probe must use exactly the path
//! that it tests, so it carries a mark, a rule maps the mark to a table of its own, and the
//! interface of its arrival is checked.

use std::fmt;

pub mod packet;
pub mod prober;

#[cfg(feature = "driver")]
pub(crate) mod driver;

/// A path from node to node that can be probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TunnelPath {
    /// IP in IP.
    Ipip,
    /// VXLAN.
    Vxlan,
    /// Plain, without encapsulation.
    Direct,
}

impl TunnelPath {
    /// All paths.
    pub const ALL: [TunnelPath; 3] = [TunnelPath::Ipip, TunnelPath::Vxlan, TunnelPath::Direct];

    /// Returns the routing table of the path's probes, which is also their mark.
    pub fn table(self) -> u32 {
        match self {
            TunnelPath::Ipip => 17_904,
            TunnelPath::Vxlan => 17_917,
            TunnelPath::Direct => 17_900,
        }
    }

    /// Returns the path with this table.
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

/// The state of a tunnel path to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PathState {
    /// No probe was answered yet, and nothing proved that the path is blocked.
    #[default]
    Unknown,
    /// Probes are answered.
    Passes,
    /// Probes are not answered by any path: the node may be down, or may not answer probes.
    Unanswered,
    /// Probes are not answered, while another path passes.
    Blocked,
    /// Probes are answered again, but not yet for long enough.
    Returning,
}

impl PathState {
    /// Returns whether the path is to be avoided if there is another.
    pub fn is_avoided(self) -> bool {
        matches!(self, PathState::Blocked | PathState::Returning)
    }
}

/// Priority of the rules that map marked probes to their tables: before the rule of table main.
pub const RULE_PRIORITY: u32 = 1_790;
