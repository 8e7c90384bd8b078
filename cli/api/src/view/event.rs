//! One thing that has happened.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A BGP session came up, went down or can't come up.
    Session,
    /// Best paths have changed.
    Route,
    /// A node is reached another way, or something else is known of a way.
    Tunnel,
    /// Others have changed what is ours in the kernel, which is mended.
    Drift,
    /// The kernel refuses something, or can't be read.
    Kernel,
    /// The shared datastore went away or is back.
    Store,
    /// The resources have changed, or something is wrong with them.
    Configuration,
    /// A block was claimed or released.
    Block,
    /// The daemon itself.
    Daemon,
}

impl EventKind {
    /// All, in the order of their numbers.
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

    /// Its name, as in JSON.
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

/// One thing that has happened. Scripts lean on these names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number since the start, from 1.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What it is about.
    pub kind: EventKind,
    /// What has happened, in a word: `up`, `down`, `changed`, ...
    pub what: Cow<'static, str>,
    /// The peer, node, block or object that it happened to.
    pub subject: Option<String>,
    /// One line for people.
    pub text: String,
}
