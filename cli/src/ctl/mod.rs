//! routectl: looks at a daemon and steers it.

mod apply;
mod belongings;
mod datastore;
mod drain;
mod explain;
mod get;
mod ipam;
mod output;
mod show;
mod validate;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::control::client::{Client, ClientError};
use crate::lab;
use crate::resource::{Kind, Mistake};

/// Where routed listens unless told otherwise.
const SOCKET: &str = "/run/routed/routed.sock";

const EXAMPLES: &str = "Examples:
  routectl show peers                       the BGP sessions and their states
  routectl get nodes --output=wide          the nodes of the cluster
  routectl apply -f pools.yaml              store resources; -f - reads standard input
  routectl explain 10.1.2.3                 why packets to an address go where they go

Exit status: 0 done, 1 the daemon said no or something is not valid, 2 wrong usage, 3 no daemon.";

/// Looks at and steers routed, the routing daemon of this node.
#[derive(Debug, Parser)]
#[command(name = "routectl", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// The daemon's control socket.
    #[arg(long, global = true, env = "ROUTED_SOCKET", default_value = SOCKET, value_name = "PATH")]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what the daemon does now.
    #[command(after_help = "Examples:
  routectl show peers
  routectl show routes -o wide
  routectl show tunnels -o json")]
    Show(show::Show),
    /// Store resources: new ones are created, known ones replaced.
    #[command(after_help = "Examples:
  routectl apply -f pools.yaml -f nodes.yaml
  kubectl get -o yaml ippool default | routectl apply -f -")]
    Apply(apply::Files),
    /// Replace resources that are there, if nobody has changed them since they were read.
    #[command(after_help = "Examples:
  routectl get node node-1 -o yaml > node.yaml; $EDITOR node.yaml; routectl replace -f node.yaml

A resource with metadata.resourceVersion is replaced only if that is still its version.")]
    Replace(apply::Files),
    /// Show, check and release the blocks of addresses that nodes have.
    #[command(subcommand)]
    Ipam(ipam::Ipam),
    /// Copy all resources out of a datastore, or from one to another.
    #[command(subcommand)]
    Datastore(datastore::Datastore),
    /// Show resources as they are stored.
    #[command(after_help = "Examples:
  routectl get nodes --output=wide
  routectl get ippool default -o yaml

Kinds: nodes, ippools, bgppeers, bgpconfigurations, blockaffinities; singular and short forms (ipp) too.")]
    Get(get::Get),
    /// Delete resources.
    #[command(after_help = "Examples:
  routectl delete ippool default
  routectl delete -f pools.yaml")]
    Delete(apply::Delete),
    /// Check resource files; needs no daemon.
    #[command(after_help = "Examples:
  routectl validate -f pools.yaml -f nodes.yaml
  routectl validate -f /etc/routed/resources")]
    Validate(validate::Validate),
    /// Show every path to an address or prefix and why each was chosen or not.
    #[command(after_help = "Examples:
  routectl explain 10.1.2.3
  routectl explain 10.1.2.0/26 -o json")]
    Explain(explain::Explain),
    /// Take this node out: announce its blocks as going away, withdraw them, end the daemon.
    #[command(after_help = "Examples:
  routectl drain
  routectl drain --wait 30s

Other nodes get the blocks with GRACEFUL_SHUTDOWN (RFC 8326) and LOCAL_PREF 0 first, so that they find other ways
where there are any. Routes in the kernel stay, so pods of this node still send.")]
    Drain(drain::Drain),
    /// Remove everything of routed's from this kernel, and only that; the daemon must not run.
    #[command(after_help = "Examples:
  systemctl stop routed && routectl flush

Needs CAP_NET_ADMIN. Pods of this node reach no other node's afterwards.")]
    Flush(drain::Flush),
    /// Build a whole cluster on this machine and ping every pod from every pod.
    #[command(after_help = "Examples:
  routectl lab
  routectl lab --mode reflector
  routectl lab --subnets 2 --pool-mode cross-subnet
  routectl lab --block-bgp node-3

Needs root. Where this kernel has no ipip device it runs in a User-Mode Linux guest.")]
    Lab(lab::LabArgs),
    /// Write shell completions to standard output.
    #[command(after_help = "Examples:
  routectl completions bash > /etc/bash_completion.d/routectl")]
    Completions(belongings::Completions),
    /// Write the manual pages of routed and routectl into a directory.
    #[command(hide = true)]
    Man(belongings::Man),
    /// Run a command in a User-Mode Linux guest.
    #[command(hide = true)]
    Guest(lab::guest::GuestArgs),
}

/// Why a command did not do as asked.
#[derive(Debug)]
enum Failure {
    /// The daemon's refusal, or that there is none.
    Client(ClientError),
    /// What was given is not valid.
    Mistakes(Vec<Mistake>),
    /// What was given can't be read or written.
    Io(anyhow::Error),
    /// What clap can't see is wrong.
    Usage(String),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Failure::Client(error)
    }
}

impl Failure {
    /// Says on stderr what is wrong and gives the exit status.
    fn report(self) -> ExitCode {
        match self {
            Failure::Client(ClientError::Refused { error, mistakes }) => {
                if mistakes.is_empty() {
                    eprintln!("routectl: {}", output::clean(&error));
                }
                report(&mistakes)
            }
            Failure::Client(error @ ClientError::NoDaemon { .. }) => {
                eprintln!("routectl: {error}");
                ExitCode::from(3)
            }
            Failure::Client(error) => {
                eprintln!("routectl: {error}");
                ExitCode::from(1)
            }
            Failure::Mistakes(mistakes) => report(&mistakes),
            Failure::Io(error) => {
                eprintln!("routectl: {error:#}");
                ExitCode::from(1)
            }
            Failure::Usage(error) => {
                eprintln!("routectl: {error}");
                ExitCode::from(2)
            }
        }
    }
}

fn report(mistakes: &[Mistake]) -> ExitCode {
    for mistake in mistakes {
        eprintln!("{}", output::clean(&mistake.to_string()));
    }
    ExitCode::from(1)
}

/// Runs the command that the arguments name and gives the exit status.
pub fn main() -> ExitCode {
    // A guest's first process is this program too.
    lab::guest::init::become_init_if_asked();
    let cli = Cli::parse();
    let cli = match cli.command {
        // These have no daemon to ask, and runtimes of their own.
        Command::Lab(args) => return lab::main(args),
        Command::Guest(args) => return lab::guest::main(args),
        Command::Completions(args) => return args.write(),
        Command::Man(args) => return args.write(),
        command => Cli { command, ..cli },
    };
    let client = Client::new(&cli.socket);
    // One request is all there is to do: no threads.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("routectl: can't start: {error}");
            return ExitCode::from(1);
        }
    };
    let done = runtime.block_on(async {
        match &cli.command {
            Command::Show(show) => show.run(&client).await,
            Command::Apply(files) => apply::apply(files, &client).await,
            Command::Replace(files) => apply::replace(files, &client).await,
            Command::Ipam(ipam) => ipam.run(&client).await,
            Command::Datastore(datastore) => datastore.run(&client).await,
            Command::Get(get) => get.run(&client).await,
            Command::Delete(delete) => delete.run(&client).await,
            Command::Validate(validate) => validate.run(),
            Command::Drain(drain) => drain.run(&client).await,
            Command::Flush(flush) => flush.run(&client).await,
            Command::Explain(explain) => explain.run(&client).await,
            Command::Lab(_) | Command::Guest(_) | Command::Completions(_) | Command::Man(_) => Ok(()),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Reads a kind for clap.
fn kind(text: &str) -> Result<Kind, String> {
    Kind::from_user(text).ok_or_else(|| {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.plural()).collect();
        format!("there are {}", names.join(", "))
    })
}
