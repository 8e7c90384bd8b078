//! The `routed` program: the routing daemon of a node.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use cli::daemon::{Ready, RunError, check, config, run};
use cli::resource::Mistake;
use tracing_subscriber::EnvFilter;

/// The routing daemon of a node: exchanges pod block routes with its BGP peers and sets the
/// tunnel exit point of each in the kernel.
#[derive(Parser)]
#[command(name = "routed", version, after_help = EXAMPLES)]
struct Arguments {
    /// The configuration of this node's daemon.
    #[arg(long, value_name = "FILE", default_value = "/etc/routed/routed.yaml")]
    config: PathBuf,
    /// Read the configuration and the resources, say what is wrong with them, and exit.
    #[arg(long)]
    check: bool,
}

const EXAMPLES: &str = "\
Examples:
  routed --config /etc/routed/routed.yaml
  routed --config /etc/routed/routed.yaml --check

The least configuration is one line:
  datastore: { file: /etc/routed/resources }

Exit status: 0 after SIGTERM or SIGINT, 2 for a bad configuration, 1 otherwise.
SIGHUP and changes of files reload; sessions that did not change are left alone.";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match config::load(&arguments.config) {
        Ok(config) => config,
        Err(mistakes) => return refuse(&mistakes),
    };
    let filter = match EnvFilter::try_new(&config.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("{}: log: {error}", arguments.config.display());
            return ExitCode::from(2);
        }
    };
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).init();
    if arguments.check {
        return done(check(&config));
    }
    let ready = match Ready::open(config) {
        Ok(ready) => ready,
        Err(error) => return done(Err(error)),
    };
    let mut runtime = match ready.workers() {
        // Nobody has to be woken to be handed work.
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
    done(runtime.block_on(run(ready)))
}

fn done(result: Result<(), RunError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(RunError::Invalid(mistakes)) => refuse(&mistakes),
        Err(RunError::Failed(error)) => {
            eprintln!("routed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(mistakes: &[Mistake]) -> ExitCode {
    for mistake in mistakes {
        eprintln!("{mistake}");
    }
    ExitCode::from(2)
}
