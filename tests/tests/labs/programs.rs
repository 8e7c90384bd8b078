//! The programs under test.

use std::{
    path::PathBuf,
    process::{Command, Output},
    sync::LazyLock,
};

/// The directory with `routectl` and `routed`, freshly built: cargo builds a package's programs for its own
/// tests only.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let own = std::env::current_exe().expect("own path");
    let directory = own.parent().and_then(|deps| deps.parent()).expect("the target directory").to_owned();
    let build = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "cli", "--bins"])
        .args(directory.ends_with("release").then_some("--release"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(build.status.success(), "the programs do not build:\n{}", text(&build));
    directory
});

/// A program's path.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = DIRECTORY.join(name);
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
