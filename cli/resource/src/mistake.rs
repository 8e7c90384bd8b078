//! What is wrong with a file, one line a mistake.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One mistake in a file: where, which field, and the rule it breaks.
///
/// Shown as `FILE:LINE: FIELD: RULE`; without a line (a missing file) as `FILE: RULE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Mistake {
    /// The file as the user named it, or the path below the store's directory.
    pub file: String,
    /// The line, from 1; 0 where the file as a whole is meant.
    pub line: u64,
    /// The field's path, as in `spec.ipipMode`; empty where the document as a whole is meant.
    pub field: String,
    /// The rule, with what was found instead.
    pub rule: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.rule)
    }
}

/// Something accepted that the user should know of; shown like a [`Mistake`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The same four parts as a mistake's; `rule` says how to mend it.
    pub at: Mistake,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)
    }
}

/// Where a resource stands.
///
/// Two origins are always equal: where a resource stands is not what it says, so a reload that
/// only moves a document to another line compares equal to what runs.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The file.
    pub file: String,
    /// The line of the document's first key, from 1.
    pub line: u64,
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
