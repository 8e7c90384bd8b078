//! Instructions that the hot paths take, against a committed ceiling: a count, not a time, so that it
//! is the same on a busy machine. Runs itself under `valgrind --tool=callgrind`.

mod workload;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::{Command, ExitCode};

/// The tolerance above a ceiling: hash seeds and the C library differ a little.
const TOLERANCE_PERCENT: u64 = 5;
/// The number of counts of a workload above its ceiling: seeds, which differ in each run, make up
/// to four per cent, and the lowest count has the least of that.
const COUNTS: usize = 4;
const CEILINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.json");

fn main() -> ExitCode {
    // Under callgrind: the one workload that is named.
    if let Ok(name) = std::env::var("WORKLOAD") {
        let Some(work) = workload::prepare(&name) else { return ExitCode::FAILURE };
        measured(work);
        return ExitCode::SUCCESS;
    }
    let text = std::fs::read_to_string(CEILINGS).expect(CEILINGS);
    let ceilings: BTreeMap<String, u64> = serde_json::from_str(&text).expect(CEILINGS);
    println!("\nrunning {} tests", ceilings.len());
    let mut failed = 0;
    for (name, ceiling) in &ceilings {
        let allowed = |count: u64| count * 100 <= ceiling * (100 + TOLERANCE_PERCENT);
        let verdict = match least(name, &allowed) {
            Ok(count) if allowed(count) => {
                println!("test {name}: {count} instructions, ceiling {ceiling} ... ok");
                continue;
            }
            Ok(count) => format!(
                "{count} instructions are more than {TOLERANCE_PERCENT} % above the ceiling of {ceiling}: make it \
                 cheaper, or say in the commit why it costs more and raise the ceiling in {CEILINGS}"
            ),
            Err(error) => error,
        };
        failed += 1;
        println!("test {name} ... FAILED\n  {verdict}");
    }
    let passed = ceilings.len() - failed;
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The function whose instructions callgrind counts.
#[inline(never)]
fn measured(work: Box<dyn FnOnce()>) {
    work();
    black_box(());
}

/// The least of several counts, or the first that is allowed.
fn least(name: &str, allowed: &dyn Fn(u64) -> bool) -> Result<u64, String> {
    let mut least = count(name)?;
    for _ in 1..COUNTS {
        if allowed(least) {
            break;
        }
        least = least.min(count(name)?);
    }
    Ok(least)
}

fn count(name: &str) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--toggle-collect=instructions::measured*",
        ])
        .arg(program)
        .env("WORKLOAD", name)
        .output()
        .map_err(|error| format!("valgrind: {error}; install it with: sudo apt-get install valgrind"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("the workload failed: {said}"));
    }
    let collected = said.lines().find_map(|line| line.split("Collected :").nth(1));
    match collected.and_then(|count| count.trim().parse().ok()) {
        Some(0) | None => Err(format!("callgrind counted nothing: {said}")),
        Some(count) => Ok(count),
    }
}
