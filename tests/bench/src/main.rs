//! The `bench` program: runs scenarios and reports on their results.

use std::process::ExitCode;

use bench::scenario;
use clap::{Parser, Subcommand};

/// The same loads on routed and on the packaged BGP speakers, side by side.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the scenarios.
    List,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::List => {
            for scenario in scenario::all() {
                println!("{:12} {}", scenario.name, scenario.about);
            }
            ExitCode::SUCCESS
        }
    }
}
