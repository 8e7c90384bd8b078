//! Results as they are written to a file.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The end of a measured phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every receiver had exactly the wanted set.
    Done,
    /// The phase was cut off: the figures are lower limits and never the best.
    CutOff,
}

/// The figures of one phase of one trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The row of the results that it belongs to, such as `S3 withdraw`.
    pub row: String,
    /// The outcome.
    pub outcome: Outcome,
    /// Seconds from the load's first byte until the last receiver was complete.
    pub wall_s: f64,
    /// Seconds of CPU that the daemon's processes used meanwhile.
    pub cpu_s: f64,
    /// Their resident memory at the end, in bytes.
    pub rss: u64,
    /// Their peak resident memory since the start, in bytes.
    pub peak_rss: u64,
    /// Further figures by name, the unit at the end of the name (`p99_ms`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub more: BTreeMap<String, f64>,
}

/// One round of one contender in one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// The scenario's name.
    pub scenario: String,
    /// The contender's name.
    pub contender: String,
    /// Its phases; empty after a failure.
    pub measurements: Vec<Measurement>,
    /// Why it failed, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// The machine and the versions of the results.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The kernel's name and release.
    pub kernel: String,
    /// The CPU's model and how many there are.
    pub cpu: String,
    /// Memory in bytes.
    pub memory: u64,
    /// The command line.
    pub command: String,
    /// Each contender's version, as its program states it.
    pub versions: BTreeMap<String, String>,
    /// The commit in the working directory, with `-dirty` if files differ; empty where there is none.
    #[serde(default)]
    pub commit: String,
    /// When it began (RFC 3339, UTC).
    pub began: String,
    /// The load average before: well above 0, others were using the machine too.
    pub load_before: f64,
}

/// A file of results.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The machine and the versions.
    pub setting: Setting,
    /// All rounds, in the order in which they were run.
    pub rounds: Vec<Round>,
}

impl Setting {
    /// Merges the setting of further results: versions of contenders that do not take part any more
    /// stay.
    #[must_use]
    pub fn after(mut self, earlier: Setting) -> Self {
        self.versions = earlier.versions.into_iter().chain(self.versions).collect();
        self
    }
}

impl Results {
    /// Reads a file of results.
    ///
    /// # Errors
    /// When it can't be read or is something else.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} holds no results of `bench run`", path.display()))
    }

    /// Returns whether a scenario was finished with so many rounds by all of these contenders: each
    /// has a result, and one of them all rounds (a few are not repeated).
    #[must_use]
    pub fn has(&self, scenario: &str, contenders: &[&str], rounds: usize) -> bool {
        let runs = |contender: &&str| {
            self.rounds
                .iter()
                .filter(|round| round.scenario == scenario && round.contender == **contender)
                .count()
        };
        contenders.iter().all(|contender| runs(contender) > 0) && contenders.iter().any(|c| runs(c) >= rounds)
    }

    /// Writes them to a file, which holds the earlier or the new results at any time.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, path))
            .with_context(|| format!("can't write {}", path.display()))
    }
}
