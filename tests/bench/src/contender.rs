//! The contenders.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
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

    /// Returns whether it is not routed: the bars are ratios to the best of these.
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
    /// The speaker.
    pub speaker: Speaker,
    /// Whether timers that delay updates are off and backlogs large; otherwise it is as shipped.
    pub tuned: bool,
    /// Its program.
    pub program: PathBuf,
}

/// Everybody, with these builds of ours.
///
/// # Errors
/// When the own program's path is unknown.
pub fn all(routed: &Path, routed_old: Option<&Path>) -> Result<Vec<Contender>> {
    let contender = |name: &str, speaker, tuned, program: &Path| Contender {
        name: name.to_owned(),
        speaker,
        tuned,
        program: program.to_owned(),
    };
    let mut all = vec![contender("routed", Speaker::Routed, false, routed)];
    all.extend(routed_old.map(|program| contender("routed-old", Speaker::Routed, false, program)));
    all.push(contender("bird", Speaker::Bird, false, Path::new("/usr/sbin/bird")));
    for (name, tuned) in [("frr", false), ("frr-tuned", true)] {
        all.push(contender(name, Speaker::Frr, tuned, Path::new("/usr/lib/frr/bgpd")));
    }
    all.push(contender("openbgpd", Speaker::Openbgpd, false, Path::new("/usr/sbin/bgpd")));
    all.push(contender("gobgp", Speaker::Gobgp, false, Path::new("/usr/bin/gobgpd")));
    let own = env::current_exe().context("can't find the own program")?;
    all.push(contender("floor", Speaker::Floor, false, &own));
    Ok(all)
}
