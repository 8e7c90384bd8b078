//! The programs under test.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

/// A program's path.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = testbed::product(name);
    assert!(path.is_file(), "no {}", path.display());
    path
}

/// `routectl` with these arguments, separated by blanks.
pub(crate) fn routectl(arguments: &str) -> Command {
    let mut command = Command::new(program("routectl"));
    command.args(arguments.split_whitespace());
    command
}

/// Both outputs, for a failed assertion's message.
pub(crate) fn text(output: &Output) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("status {:?}\n{}{}", output.status, part(&output.stdout), part(&output.stderr))
}
