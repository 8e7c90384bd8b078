//! The `routed` program: the routing daemon of a node.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use api::arguments::Arguments;
use resource::Mistake;
use routed::{RunError, Startup, check, config, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match config::load(&arguments.config) {
        Ok(config) => config,
        Err(mistakes) => return report_mistakes(&mistakes),
    };
    let filter = match config.log.parse::<Targets>() {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("{}: log: {error}", arguments.config.display());
            return ExitCode::from(2);
        }
    };
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    tracing_subscriber::registry().with(lines).with(filter).init();
    if arguments.check {
        return exit_code(check(&config));
    }
    let startup = match Startup::open(config) {
        Ok(startup) => startup,
        Err(error) => return exit_code(Err(error)),
    };
    let mut runtime = match startup.worker_threads() {
        // A single thread needs no wake-up of another thread to hand over work.
        1 => tokio::runtime::Builder::new_current_thread(),
        workers => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(workers);
            runtime
        }
    };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("routed: can't start: {error}");
            return ExitCode::FAILURE;
        }
    };
    exit_code(runtime.block_on(run(startup)))
}

fn exit_code(result: Result<(), RunError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(RunError::Invalid(mistakes)) => report_mistakes(&mistakes),
        Err(RunError::Failed(error)) => {
            eprintln!("routed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn report_mistakes(mistakes: &[Mistake]) -> ExitCode {
    for mistake in mistakes {
        eprintln!("{mistake}");
    }
    ExitCode::from(2)
}
