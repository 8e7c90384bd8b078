//! The `bench` program: runs scenarios and reports on their results.

mod table;

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};
use bench::{
    bars::judge,
    contender::{self, Contender},
    null_reflector,
    record::Results,
    report,
    runner::{self, Order, Progress},
    scenario::{self, Scenario},
    setting, summary,
};
use clap::{Args, Parser, Subcommand};

/// Runs one load on routed and on the packaged BGP speakers, side by side.
#[derive(Parser)]
#[command(name = "bench", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the scenarios.
    List,
    /// Run scenarios, as root.
    Run(RunArguments),
    /// Copy UPDATEs to all other sessions, without a look: the floor of the measurements.
    #[command(hide = true)]
    NullReflector,
    /// Show the results in a file.
    Show {
        /// The output file of `run --json`.
        file: PathBuf,
    },
    /// Write the results of a file into a document, between its markers, and a picture next to it.
    Report {
        /// The output of `run --json`.
        file: PathBuf,
        /// The document.
        #[arg(long, default_value = "docs/performance.md", value_name = "FILE")]
        out: PathBuf,
    },
}

#[derive(Args)]
struct RunArguments {
    /// The scenarios (see `list`); all of them without this.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    scenario: Vec<String>,
    /// The contenders: routed, routed-old, bird, frr, frr-tuned, ...; a speaker's name stands for
    /// all its configurations. Default: all.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    contender: Vec<String>,
    /// Rounds of each contender.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    rounds: u16,
    /// After so many seconds a phase is cut off.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    limit: u64,
    /// Our daemon, a release build.
    #[arg(long, value_name = "FILE", default_value = "target/release/routed")]
    routed: PathBuf,
    /// An older one of ours, as a contender of its own.
    #[arg(long, value_name = "FILE")]
    routed_old: Option<PathBuf>,
    /// Write the results here, after each scenario.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep what the file has of other scenarios and contenders.
    #[arg(long, requires = "json")]
    merge: bool,
    /// Go on where an earlier run was interrupted: scenarios that the file has are left out.
    #[arg(long, requires = "json", conflicts_with = "merge")]
    resume: bool,
}

const EXAMPLES: &str = "\
Examples:
  bench run --scenario S2k --contender routed,bird,frr --rounds 3
  bench run --json results.json
  bench run --scenario S3 --json results.json --merge
  bench report results.json

Exit status: 0, or 1 when something failed.";

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::List => {
            for scenario in scenario::all() {
                println!("{:12} {}", scenario.name, scenario.about);
            }
            Ok(())
        }
        Command::Run(arguments) => run(&arguments),
        Command::NullReflector => null_reflector::serve(),
        Command::Show { file } => show(&file),
        Command::Report { file, out } => {
            Results::read(&file).and_then(|results| report::write(&results, &out))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show(file: &Path) -> Result<()> {
    print(&Results::read(file)?)
}

fn print(results: &Results) -> Result<()> {
    let lines = summary::lines(results);
    let text = format!("{}\n\n{}\n", table::lines(&lines), table::verdicts(&judge(&lines)));
    // A reader that went away (`| head`) is no failure.
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn run(arguments: &RunArguments) -> Result<()> {
    let scenarios = chosen_scenarios(&arguments.scenario)?;
    let contenders = chosen_contenders(arguments)?;
    let mut results = match &arguments.json {
        Some(file) if (arguments.resume || arguments.merge) && file.exists() => Results::read(file)?,
        _ => Results::default(),
    };
    results.setting = setting::setting(&contenders).after(results.setting);
    let order = Order {
        scenarios: &scenarios,
        contenders: &contenders,
        rounds: usize::from(arguments.rounds),
        limit: Duration::from_secs(arguments.limit),
        file: arguments.json.as_deref(),
        leave_finished: arguments.resume,
    };
    runner::run(&order, &mut results, tell)?;
    print(&results)?;
    let failures: Vec<_> = results.rounds.iter().filter(|round| round.failure.is_some()).collect();
    for round in &failures {
        let reason = round.failure.as_deref().unwrap_or_default();
        eprintln!("{} {} failed: {reason}", round.scenario, round.contender);
    }
    if !failures.is_empty() {
        bail!("{} of {} trials failed", failures.len(), results.rounds.len());
    }
    Ok(())
}

/// On a terminal the line of a running trial is overwritten when it has ended.
fn tell(progress: Progress<'_>) {
    /// Back to the line's beginning, and clear it.
    const AGAIN: &str = "\r\x1b[K";
    let mut stderr = std::io::stderr().lock();
    let terminal = stderr.is_terminal();
    // Without anybody who listens the results are worth as much.
    let _ = match progress {
        Progress::Begins(trial) if terminal => write!(stderr, "{AGAIN}{trial} ..."),
        Progress::Begins(_) => Ok(()),
        Progress::Said(line) if terminal => writeln!(stderr, "{AGAIN}{line}"),
        Progress::Said(line) => writeln!(stderr, "{line}"),
    };
}

fn chosen_scenarios(names: &[String]) -> Result<Vec<Scenario>> {
    let all = scenario::all();
    if names.is_empty() {
        return Ok(all);
    }
    let chosen = names.iter().map(|name| match all.iter().find(|s| s.name.eq_ignore_ascii_case(name)) {
        Some(scenario) => Ok(*scenario),
        None => bail!("--scenario: there is no {name:?}; `bench list` shows them"),
    });
    chosen.collect()
}

fn chosen_contenders(arguments: &RunArguments) -> Result<Vec<Contender>> {
    let all = contender::all(&arguments.routed, arguments.routed_old.as_deref())?;
    if arguments.contender.is_empty() {
        return Ok(all);
    }
    let is = |contender: &Contender, name: &String| {
        contender.name == *name || (contender.speaker.name() == name && contender.speaker.is_peer())
    };
    for name in &arguments.contender {
        if !all.iter().any(|contender| is(contender, name)) {
            let names: Vec<&str> = all.iter().map(|contender| contender.name.as_str()).collect();
            bail!("--contender: there is no {name:?}; there are {}", names.join(", "));
        }
    }
    let wanted = |contender: &Contender| arguments.contender.iter().any(|name| is(contender, name));
    Ok(all.into_iter().filter(wanted).collect())
}

/// Returns whether a stream is a terminal, unless `NO_COLOR` is set.
fn coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
