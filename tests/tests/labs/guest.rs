//! The guests: User-Mode Linux, and QEMU with a kernel as distributions have it.

use std::{collections::BTreeSet, process::Command};

use crate::programs::{program, routectl, text};

/// Runs a shell command in the guest.
fn guest(script: &str) -> Command {
    let mut command = routectl("guest -- sh -c");
    command.arg(script);
    command
}

#[test]
fn output_errors_and_exit_status_are_returned() {
    let output = guest("echo out; echo err >&2; exit 7").output().expect("routectl runs");
    assert_eq!(output.status.code(), Some(7), "{}", text(&output));
    assert_eq!(output.stdout, b"out\n", "{}", text(&output));
    assert_eq!(output.stderr, b"err\n", "{}", text(&output));
}

#[test]
fn output_is_complete_though_a_process_stays() {
    // The process holds the pipe, and a reader that waits for its end would wait for a minute.
    let begin = std::time::Instant::now();
    let output = guest("sleep 60 & seq 1 20000").output().expect("routectl runs");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("\n20000\n"), "{} octets", output.stdout.len());
    assert!(begin.elapsed() < std::time::Duration::from_secs(30), "{:?}", begin.elapsed());
}

#[test]
fn large_output_is_complete() {
    let output = guest("seq 1 20000").output().expect("routectl runs");
    let expected: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    assert!(output.stdout == expected.as_bytes(), "{} octets came", output.stdout.len());
}

#[test]
fn the_kernel_is_another_one_with_ipip_and_the_environment_is_the_same() {
    let output =
        guest(r#"echo "$COLOURLESS"; pwd; uname -r; ip link add x type ipip local 192.0.2.1 && echo made"#)
            .env("COLOURLESS", "green ideas")
            .output()
            .expect("routectl runs");
    let stdout = String::from_utf8(output.stdout.clone()).expect("text");
    let lines: Vec<&str> = stdout.lines().collect();
    let here = std::env::current_dir().expect("a directory");
    let host = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    assert_eq!(lines.len(), 4, "{}", text(&output));
    assert_eq!((lines[0], lines[1], lines[3]), ("green ideas", here.to_str().expect("text"), "made"));
    assert_ne!(lines[2], host.trim());
}

#[test]
fn files_that_the_guest_writes_are_gone_with_it() {
    let path = std::env::temp_dir().join(format!("guest-was-here-{}", std::process::id()));
    let output = guest(&format!("echo x > {0} && cat {0}", path.display())).output().expect("routectl runs");
    assert_eq!(output.stdout, b"x\n", "{}", text(&output));
    assert!(!path.exists());
}

#[test]
fn a_command_that_a_signal_ends_and_one_that_is_missing_have_the_shells_status() {
    let output = guest("kill -9 $$").output().expect("routectl runs");
    assert_eq!(output.status.code(), Some(137), "{}", text(&output));
    let output = routectl("guest -- no-such-program").output().expect("routectl runs");
    assert_eq!(output.status.code(), Some(127), "{}", text(&output));
    assert!(text(&output).contains("no-such-program"), "{}", text(&output));
}

#[test]
fn a_guest_that_takes_too_long_is_ended_with_all_its_processes() {
    let mark = format!("3{:06}", std::process::id() % 1_000_000);
    let output = routectl("guest --seconds 3 -- sleep").arg(&mark).output().expect("routectl runs");
    assert_eq!(output.status.code(), Some(124), "{}", text(&output));
    assert!(text(&output).contains("--seconds"), "{}", text(&output));
    let mut left = BTreeSet::new();
    for entry in std::fs::read_dir("/var/tmp").expect("a directory").flatten() {
        let command = std::fs::read_to_string(entry.path().join("command")).unwrap_or_default();
        if command.contains(&mark) {
            left.insert(entry.path());
        }
    }
    assert!(left.is_empty(), "work directories are left: {left:?}");
}

#[test]
fn under_qemu_output_errors_and_exit_status_come_back_and_the_kernel_has_ipip_and_every_nftables_family() {
    let path = std::env::temp_dir().join(format!("qemu-was-here-{}", std::process::id()));
    let script = format!(
        "echo x > {} && ip link add x type ipip local 192.0.2.1 && nft add table inet x && nft list tables; echo err >&2; \
         exit 7",
        path.display()
    );
    let output = routectl("guest --machine qemu -- sh -c").arg(script).output().expect("routectl runs");
    assert_eq!(output.status.code(), Some(7), "{}", text(&output));
    assert_eq!(output.stdout, b"table inet x\n", "{}", text(&output));
    assert_eq!(output.stderr, b"err\n", "{}", text(&output));
    assert!(!path.exists(), "what the guest writes is gone with it");
}

#[test]
fn a_guest_under_qemu_that_takes_too_long_is_ended() {
    let output = routectl("guest --machine qemu --seconds 6 -- sleep 1000").output().expect("routectl runs");
    assert_eq!(output.status.code(), Some(124), "{}", text(&output));
}

#[test]
fn without_qemu_the_package_is_named() {
    let output =
        routectl("guest --machine qemu -- true").env("PATH", "/nonexistent").output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let line = "routectl: qemu-system-x86_64 is missing: apt-get install qemu-system-x86\n";
    assert_eq!(output.stderr, line.as_bytes(), "{}", text(&output));
}

#[test]
fn a_lab_with_firewalls_runs_in_a_distributions_kernel() {
    let lab = text(
        &routectl("guest --machine qemu --")
            .arg(program("routectl"))
            .args(["lab", "--nodes", "2"])
            .output()
            .expect("it runs"),
    );
    assert!(lab.contains("passed: 2/2 pairs of pods ping"), "{lab}");
    assert_eq!(lab.matches("ipip (4 packets)").count(), 2, "{lab}");
}
