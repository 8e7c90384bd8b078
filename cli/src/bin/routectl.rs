//! The `routectl` program.

use std::process::ExitCode;

use clap::Parser;

/// Looks at and steers routed
#[derive(Debug, Parser)]
enum Arguments {
    /// Runs a command in a User-Mode Linux guest
    #[command(hide = true)]
    Guest(cli::lab::guest::GuestArgs),
}

fn main() -> ExitCode {
    cli::lab::guest::init::become_init_if_asked();
    match Arguments::parse() {
        Arguments::Guest(args) => cli::lab::guest::main(args),
    }
}
