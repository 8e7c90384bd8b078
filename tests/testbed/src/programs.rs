//! The product's programs, built when a test needs them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::guest::is_guest;

/// The variable that is set if the programs are up to date: by `.ci/test`, which builds everything
/// first.
const PROGRAMS_BUILT: &str = "ROUTED_TEST_PROGRAMS_BUILT";

/// Returns the path of a program of the product, `routed` or `routectl`, and builds both if
/// necessary.
///
/// # Panics
/// The programs can't be built.
pub fn product(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        // .../target/PROFILE/deps/TEST, or .../target/PROFILE/PROGRAM
        let own = std::env::current_exe().expect("the own path");
        let mut directory = own.parent().expect("a directory");
        if directory.ends_with("deps") {
            directory = directory.parent().expect("a profile's directory");
        }
        let directory = directory.to_owned();
        // A guest starts after the build. In a run of all tests the programs are built
        // before; a build of the programs alone has other features and would build them
        // again.
        if is_guest() || std::env::var_os(PROGRAMS_BUILT).is_some() {
            return directory;
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "routed", "--package", "routectl", "--bins"]);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo to run").success(), "the programs to build");
        directory
    });
    directory.join(name)
}
