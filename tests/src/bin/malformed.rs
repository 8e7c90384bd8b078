//! Sends the corpus of malformed messages to BGP speakers and prints their figures side by side.

use std::path::PathBuf;
use std::process::ExitCode;

use tests::malformed::speaker::Speaker;
use tests::malformed::{case, report, run};

const USAGE: &str = "\
usage: malformed [--contender NAME,...] [--out FILE]
  --contender  routed, bird, frr, gobgp, openbgpd; all of them without this
  --out        write the page there instead of printing it
As root. Exit status: 0 if routed has every case right, 1 if not, 2 for wrong usage.";

fn main() -> ExitCode {
    let (mut contenders, mut out) = (Speaker::ALL.to_vec(), None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--contender", Some(names)) => {
                let named = |name: &str| Speaker::ALL.into_iter().find(|speaker| speaker.to_string() == name);
                match names.split(',').map(named).collect() {
                    Some(found) => contenders = found,
                    None => return usage(&format!("no such contender in {names:?}")),
                }
            }
            ("--out", Some(path)) => out = Some(PathBuf::from(path)),
            _ => return usage(&format!("{argument:?} is not understood")),
        }
    }
    let cases = case::read();
    let mut all = Vec::new();
    for speaker in contenders {
        eprintln!("{speaker}: {} cases", cases.len());
        all.push((speaker, run(speaker, &cases)));
    }
    let page = report::page(&all);
    match out {
        Some(path) => {
            if let Err(error) = std::fs::write(&path, page) {
                eprintln!("malformed: can't write {}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
        None => print!("{page}"),
    }
    let ours = all.iter().filter(|(speaker, _)| *speaker == Speaker::Routed);
    let wrong = ours.flat_map(|(_, findings)| &findings.cases).any(|case| !case.right);
    if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn usage(mistake: &str) -> ExitCode {
    eprintln!("malformed: {mistake}\n{USAGE}");
    ExitCode::from(2)
}
