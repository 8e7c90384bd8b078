//! The guest switch: a test that needs features this kernel lacks runs itself again in a guest's
//! kernel.

use std::process::Command;

use crate::namespace::Namespace;
use crate::programs::product;

/// The variable that is set in a guest, where a missing feature is a failure.
const IN_GUEST: &str = "ROUTED_TEST_IN_GUEST";

/// A guest's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// User-Mode Linux, which has IP-in-IP.
    UserModeLinux,
    /// Debian's kernel under QEMU, which has IP-in-IP and every family of nftables.
    Qemu,
}

/// Returns whether the test runs in a guest.
pub fn is_guest() -> bool {
    std::env::var_os(IN_GUEST).is_some()
}

/// Returns whether this kernel has the IP-in-IP device.
///
/// # Panics
/// The privilege to create a namespace is missing.
pub fn has_ipip() -> bool {
    succeeds("ip", &["link", "add", "probe", "type", "ipip", "local", "10.0.0.1"])
}

/// Returns whether this kernel has nftables of the family inet.
///
/// # Panics
/// The privilege to create a namespace is missing.
pub fn has_inet_tables() -> bool {
    succeeds("nft", &["add", "table", "inet", "probe"])
}

/// Runs a command in a namespace of its own; returns whether it succeeded.
fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let output = Namespace::scoped(|| Command::new(program).args(arguments).output());
    let output = output.expect("a network namespace: run the tests as root");
    output
        .unwrap_or_else(|error| panic!("{program}: {error}: install it (`make test` does)"))
        .status
        .success()
}

/// Runs a test with a kernel that has the IP-in-IP device: here, or the same test, called `name`,
/// in a guest.
///
/// # Panics
/// The test fails, or there is no such kernel.
pub fn with_ipip(name: &str, test: fn()) {
    if has_ipip() {
        return test();
    }
    run_in_guest(Guest::UserModeLinux, &[name, "--exact"]);
}

/// Runs this test program again inside a guest, with a filter that leaves one test.
///
/// # Panics
/// The test fails, the filter does not leave exactly one test, or this is a guest already.
pub fn run_in_guest(guest: Guest, filter: &[&str]) {
    assert!(!is_guest(), "the guest's kernel lacks what {filter:?} needs too");
    let machine = match guest {
        Guest::UserModeLinux => "uml",
        Guest::Qemu => "qemu",
    };
    let output = Command::new(product("routectl"))
        .args(["guest", "--machine", machine, "--"])
        .arg(std::env::current_exe().expect("the test's own path"))
        .args(filter)
        .args(["--nocapture", "--test-threads=1"])
        .env(IN_GUEST, "1")
        .output()
        .expect("routectl to run");
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("");
    // Indented, so that the guest's headings and results are not mistaken for the host's.
    let indented: String = text.lines().map(|line| format!("    {line}\n")).collect();
    assert!(output.status.success(), "in the guest:\n{indented}");
    println!("{indented}");
    // A filter that matches no test would succeed too.
    assert!(text.contains("test result: ok. 1 passed"), "in the guest:\n{indented}");
}
