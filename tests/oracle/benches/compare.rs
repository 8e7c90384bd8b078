//! Our decoder next to `bgpkit-parser` and `bgp-rs`: same octets, same run, by turns. Fails if they
//! disagree, if ours allocates, or if ours is not as much faster as docs/evidence.md states.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use oracle::contender::{Contender, SAMPLES, contenders, update};
use oracle::message::Outcome;
use oracle::{bgp_rs_reader, bgpkit_reader, our_reader};

/// Turns that each decoder has with a message.
const ROUNDS: usize = 301;
/// The minimum duration of one turn.
const TURN: Duration = Duration::from_millis(3);
/// The most of another decoder's time that ours may take, by message.
const BARS: [(&str, f64); 2] = [("one /26", 1.0 / 4.0), ("700 x /26", 1.0 / 3.0)];

/// Allocations by message and decoder.
type Allocations = BTreeMap<String, BTreeMap<String, u64>>;

fn main() -> ExitCode {
    if cfg!(debug_assertions) {
        eprintln!("compare: built without optimisation; run cargo bench --package oracle --bench compare");
        return ExitCode::from(2);
    }
    let allocations = allocations();
    let mut failures = Vec::new();
    println!(
        "{:<10} {:<14} {:>12} {:>10} {:>12} {:>8} {:>6}",
        "message", "decoder", "ns/message", "ns/prefix", "allocations", "bgp is", "bar"
    );
    for ((sample, prefixes), (barred, bar)) in SAMPLES.into_iter().zip(BARS) {
        assert_eq!(sample, barred, "every message has its bar");
        let octets = update(prefixes);
        if let Err(disagreement) = agree(&octets, prefixes) {
            failures.push(format!("{sample}: {disagreement}"));
        }
        let mut contenders = contenders(&octets);
        let medians = race(&mut contenders);
        let ours = medians[0];
        for (contender, median) in contenders.iter().zip(medians) {
            let count = allocations[sample][contender.name];
            let mine = contender.name == contenders[0].name;
            let ratio = ours / median;
            let (share, bar_text) = match mine {
                true => (String::new(), String::new()),
                false => (format!("1/{:.1}", 1.0 / ratio), format!("1/{:.0}", 1.0 / bar)),
            };
            println!(
                "{sample:<10} {:<14} {median:>12.1} {:>10.2} {count:>12} {share:>8} {bar_text:>6}",
                contender.name,
                median / f64::from(prefixes),
            );
            if mine && count > 0 {
                failures.push(format!("{sample}: {} allocates {count} times", contender.name));
            }
            if !mine && ratio > bar {
                let name = contender.name;
                failures.push(format!("{sample}: {ratio:.3} of the time of {name}, more than {bar:.3}"));
            }
        }
    }
    println!("medians of {ROUNDS} rounds of at least {} ms, the decoders by turns", TURN.as_millis());
    failures.iter().for_each(|failure| eprintln!("compare: {failure}"));
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Checks that all three read the same from a message, field by field and as timed.
fn agree(octets: &[u8], prefixes: u32) -> Result<(), String> {
    let ours = our_reader::read(octets, true);
    let Outcome::Read(message) = &ours else { return Err(format!("bgp answers {ours:?}")) };
    let count = message.get("announced").map_or(0, |list| list.split(", ").count());
    if count != prefixes as usize {
        return Err(format!("bgp finds {count} prefixes"));
    }
    for (name, theirs) in
        [("bgpkit-parser", bgpkit_reader::read(octets, true)), ("bgp-rs", bgp_rs_reader::read(octets, true))]
    {
        if theirs != ours {
            return Err(format!("{name} answers {theirs:?}, bgp {ours:?}"));
        }
    }
    let digests = contenders(octets).map(|mut contender| (contender.read)(1));
    if digests.iter().any(|digest| *digest != digests[0]) {
        return Err(format!("what is timed comes to {digests:x?}"));
    }
    Ok(())
}

/// The median time of a message, in nanoseconds, for each decoder.
fn race<const N: usize>(contenders: &mut [Contender<'_>; N]) -> [f64; N] {
    let times = contenders.each_mut().map(|contender| {
        let mut times = 1;
        while time(contender, times) < TURN {
            times *= 2;
        }
        times
    });
    let mut turns: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(ROUNDS));
    for round in 0..ROUNDS {
        for place in 0..N {
            // No decoder always follows the same one.
            let who = (round + place) % N;
            let taken = time(&mut contenders[who], times[who]);
            turns[who].push(taken.as_nanos() as f64 / times[who] as f64);
        }
    }
    turns.map(|mut turns| {
        turns.sort_unstable_by(f64::total_cmp);
        turns[ROUNDS / 2]
    })
}

fn time(contender: &mut Contender<'_>, times: usize) -> Duration {
    let start = Instant::now();
    std::hint::black_box((contender.read)(times));
    start.elapsed()
}

fn allocations() -> Allocations {
    let output = Command::new(env!("CARGO_BIN_EXE_allocations")).output().expect("allocations to run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("counts as JSON")
}
