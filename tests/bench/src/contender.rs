//! Who is measured.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A BGP speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// Ours.
    Routed,
    /// BIRD 2.
    Bird,
    /// FRR's bgpd.
    Frr,
    /// GoBGP.
    Gobgp,
    /// OpenBGPD.
    Openbgpd,
    /// The null reflector, which only copies bytes.
    Floor,
}

impl Speaker {
    /// The name in tables and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Speaker::Routed => "routed",
            Speaker::Bird => "bird",
            Speaker::Frr => "frr",
            Speaker::Gobgp => "gobgp",
            Speaker::Openbgpd => "openbgpd",
            Speaker::Floor => "floor",
        }
    }

    /// Whether it is somebody else's: the bars are ratios to the best of these.
    #[must_use]
    pub fn is_peer(self) -> bool {
        !matches!(self, Speaker::Routed | Speaker::Floor)
    }
}

/// A speaker in one of its configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    /// Its name in results, such as `frr-tuned`.
    pub name: String,
    /// Which speaker it is.
    pub speaker: Speaker,
    /// Whether timers that delay updates are off and backlogs large; else it is as shipped.
    pub tuned: bool,
    /// Its program.
    pub program: PathBuf,
}
