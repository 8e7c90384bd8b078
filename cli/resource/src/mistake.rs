//! Mistakes and warnings about a file, one line each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One mistake in a file: its position, the field, and the rule that is broken.
///
/// Shown as `FILE:LINE: FIELD: RULE`; without a line (a missing file) as `FILE: RULE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Mistake {
    /// The file as the user named it, or the path below the store's directory.
    pub file: String,
    /// The line, from 1; 0 for the file as a whole.
    pub line: u64,
    /// The field's path, as in `spec.ipipMode`; empty for the document as a whole.
    pub field: String,
    /// The rule, with the value that breaks it.
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

/// A warning about something that is accepted; displayed like a [`Mistake`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The position and the text. `rule` says how to fix the problem.
    pub at: Mistake,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)
    }
}

/// The position of a resource.
///
/// Two origins are always equal: the position of a resource is not part of its value, so a reload
/// that only moves a document to another line compares equal to the running state.
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
