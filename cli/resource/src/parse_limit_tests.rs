//! Resource limits of the parser: expensive texts are refused quickly.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use super::parse::{MAX_FILE_BYTES, parse_file};

/// The CPU time that the refusal of a text may take in a release build.
const TIME_LIMIT: Duration = Duration::from_millis(100);
/// The factor for test builds, which are 6 to 12 times slower by measurement.
const TEST_BUILD_FACTOR: u32 = if cfg!(debug_assertions) { 15 } else { 1 };

/// Returns the CPU time of this thread, which does not depend on other load.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    let time = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec().try_into().unwrap(), u32::try_from(time.tv_usec()).unwrap() * 1000)
    };
    time(usage.user_time()) + time(usage.system_time())
}

/// Returns nine lists of nine aliases of the list before: 3^20 values.
fn alias_bomb(mapping: bool) -> String {
    let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for level in 1..10 {
        let name = format!("*a{}", level - 1);
        let inner: Vec<String> =
            (0..9).map(|at| if mapping { format!("k{at}: {name}") } else { name.clone() }).collect();
        let inner = inner.join(", ");
        text += &if mapping {
            format!("a{level}: &a{level} {{{inner}}}\n")
        } else {
            format!("a{level}: &a{level} [{inner}]\n")
        };
    }
    text
}

#[test]
fn expensive_texts_are_refused_quickly() {
    let mib = 1 << 20;
    let fill = |piece: &str| piece.repeat(8 * mib / piece.len());
    let aliases = |head: &str, piece: &str, tail: &str| format!("{head}{}{tail}", fill(piece));
    let anchors: String = (0..600_000).map(|number| format!("&a{number} x, ")).collect();
    for (what, text) in [
        ("a billion laughs", alias_bomb(false)),
        ("a billion laughs as mappings", alias_bomb(true)),
        ("8 MiB of aliases in a list", aliases("a: &a x\nb: [", "*a,", "]\n")),
        ("8 MiB of aliases of a list, a line each", aliases("a: &a [x, x]\nb:\n", "- *a\n", "")),
        ("8 MiB of aliases as keys", aliases("a: &a x\nb: {", "? *a : *a, ", "}\n")),
        ("8 MiB of merges", aliases("a: &a {x: y}\nb:\n", "- {<<: *a}\n", "")),
        ("8 MiB of anchors", format!("a: [{anchors}]\n")),
        ("8 MiB of an alias that nobody knows", aliases("b: [", "*a,", "]\n")),
        ("an alias of itself", "a: &a [*a]\n".into()),
        ("8 MiB of open lists", fill("[")),
        ("8 MiB of open mappings", fill("{a: ")),
        ("8 MiB of levels", aliases("", "- ", "x")),
        ("8 MiB of one quote", aliases("a: \"", "x", "")),
        ("more than a file may have", " ".repeat(MAX_FILE_BYTES + 1)),
    ] {
        let begin = cpu_time();
        let parsed = parse_file("f.yaml", &text);
        let took = cpu_time().saturating_sub(begin);
        assert!(!parsed.mistakes.is_empty(), "{what} is accepted");
        assert!(
            parsed.mistakes.iter().all(|mistake| mistake.rule.len() < 1000),
            "{what}: a mistake of more than 1000 bytes"
        );
        println!("{what}: {took:?}: {}", parsed.mistakes[0]);
        assert!(took < TIME_LIMIT * TEST_BUILD_FACTOR, "{what}: {took:?}");
    }
}
