//! Events of the journal.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The subject of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A BGP session came up, went down or can't come up.
    Session,
    /// Best paths changed.
    Route,
    /// The exit to a node changed, or the result of its probes.
    Tunnel,
    /// Another program changed kernel objects of routed, which were restored.
    Drift,
    /// The kernel refuses an object, or its state can't be read.
    Kernel,
    /// The shared datastore was lost or is back.
    Store,
    /// The resources changed, or have mistakes.
    Configuration,
    /// A block was claimed or released.
    Block,
    /// The daemon itself.
    Daemon,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [EventKind; 9] = [
        EventKind::Session,
        EventKind::Route,
        EventKind::Tunnel,
        EventKind::Drift,
        EventKind::Kernel,
        EventKind::Store,
        EventKind::Configuration,
        EventKind::Block,
        EventKind::Daemon,
    ];

    /// Returns the name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Session => "session",
            EventKind::Route => "route",
            EventKind::Tunnel => "tunnel",
            EventKind::Drift => "drift",
            EventKind::Kernel => "kernel",
            EventKind::Store => "store",
            EventKind::Configuration => "configuration",
            EventKind::Block => "block",
            EventKind::Daemon => "daemon",
        }
    }
}

/// An event of the journal. The names are public JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The number since the start, from 1.
    pub seq: u64,
    /// The time of the event.
    pub at: Timestamp,
    /// The subject.
    pub kind: EventKind,
    /// The kind of change: `up`, `down`, `changed`, ...
    pub what: Cow<'static, str>,
    /// The peer, node, block or object that the event concerns.
    pub subject: Option<String>,
    /// The event as one line of text.
    pub text: String,
}
