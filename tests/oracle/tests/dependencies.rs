//! The product links no GPL code: `bgp-rs` is for this package's tests alone.

use std::process::Command;

/// The normal dependencies of a package, one a line as `NAME VERSION LICENCE`.
fn tree(package: &str) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--locked", "--edges", "normal,build", "--prefix", "none", "--no-dedupe"])
        .args(["--format", "{p} {l}", "--package", package])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .expect("cargo to run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo to write UTF-8")
}

/// The packages that can be had under a GPL only: an `OR` before or after leaves a choice.
fn gpl_only(tree: &str) -> Vec<&str> {
    let mut found: Vec<&str> =
        tree.lines().filter(|line| line.contains("GPL") && !line.contains(" OR ")).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn neither_program_depends_on_gpl_code() {
    for package in ["routed", "routectl", "bgp", "routing", "tunnel"] {
        let tree = tree(package);
        assert!(tree.lines().count() > 3, "{package} has dependencies: {tree}");
        assert_eq!(gpl_only(&tree), Vec::<&str>::new(), "{package}");
        assert!(!tree.contains("bgp-rs"), "{package}");
    }
}

#[test]
fn the_same_question_finds_the_oracle() {
    let tree = tree("oracle");
    let found = gpl_only(&tree);
    assert!(found.iter().any(|line| line.starts_with("bgp-rs v0.6.0 ")), "{found:?}");
    assert!(found.iter().any(|line| line.starts_with("oracle ")), "{found:?}");
}
