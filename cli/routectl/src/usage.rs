//! Errors in arguments that clap does not detect.

use std::borrow::Cow;

/// The error of an invalid argument: one line that names the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UsageError(Cow<'static, str>);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

impl From<&'static str> for UsageError {
    fn from(text: &'static str) -> UsageError {
        UsageError(Cow::Borrowed(text))
    }
}

impl From<String> for UsageError {
    fn from(text: String) -> UsageError {
        UsageError(Cow::Owned(text))
    }
}

/// Formats a [`UsageError`].
macro_rules! usage {
    ($($format:tt)*) => {
        $crate::usage::UsageError::from(format!($($format)*))
    };
}
pub(crate) use usage;
