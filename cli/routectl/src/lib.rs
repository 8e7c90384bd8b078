//! The command line of routectl, which shows and controls a daemon.
//!
//! Each command is a module with its arguments and its `run`. Common to them are:
//!
//! | Module | Contents |
//! |---|---|
//! | `files` | Arguments `-f`, and the reading of files and directories |
//! | `output`, `columns`, `template` | Tables, colours, JSON and YAML, custom columns, JSONPath templates |
//! | `calicoctl` | Commands of calicoctl, with a hint for those that routectl lacks |
//! | `packaging` | Completions, manual pages and generated documentation |
//! | `usage` | Errors in arguments |

mod apply;
mod calico_node;
mod calicoctl;
mod columns;
mod convert;
mod datastore;
mod doctor;
mod drain;
mod events;
mod explain;
mod files;
mod get;
mod ipam;
mod output;
mod packaging;
mod patch;
mod peer;
mod plan;
mod show;
mod template;
mod top;
mod usage;
mod validate;

use std::path::PathBuf;
use std::process::ExitCode;
use usage::{UsageError, usage};

use clap::{Parser, Subcommand};

use api::client::{Client, ClientError};
use resource::{Kind, Mistake};

/// The default path of the daemon's control socket.
const SOCKET: &str = "/run/routed/routed.sock";

const EXAMPLES: &str = "Examples:
  routectl show peers                       the BGP sessions and their states
  routectl get nodes --output=wide          the nodes of the cluster
  routectl apply -f pools.yaml              store resources; -f - reads standard input
  routectl explain 10.1.2.3                 how packets to an address are forwarded

Exit status: 0 success, 1 the daemon refused or something is not valid, 2 wrong usage, 3 no daemon.";

/// Show and control routed, the routing daemon of this node.
#[derive(Debug, Parser)]
#[command(name = "routectl", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// The daemon's control socket.
    #[arg(long, global = true, env = "ROUTED_SOCKET", default_value = SOCKET, value_name = "PATH")]
    socket: PathBuf,
    /// Accepted for compatibility with calicoctl, without effect.
    #[arg(long, global = true, hide = true)]
    allow_version_mismatch: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show sessions, routes, tunnels, nodes and the status of the daemon.
    #[command(after_help = "Examples:
  routectl show peers
  routectl show peers node-2                    one session in full: capabilities, timers, counters
  routectl show routes -o wide
  routectl show routes --prefix 10.1.0.0/16 --peer node-2
  routectl show routes --peer node-2 --received     before any filter; --advertised: sent to the peer
  routectl show tunnels -o json")]
    Show(show::Show),
    /// Create or replace resources.
    #[command(after_help = "Examples:
  routectl apply -f pools.yaml -f nodes.yaml
  kubectl get -o yaml ippool default | routectl apply -f -")]
    Apply(files::Files),
    /// Create resources. Existing ones are refused by name.
    #[command(after_help = "Examples:
  routectl create -f pools.yaml
  routectl create -R -f resources/ --skip-exists")]
    Create(apply::Create),
    /// Replace existing resources.
    #[command(after_help = "Examples:
  routectl get node node-1 -o yaml > node.yaml; $EDITOR node.yaml; routectl replace -f node.yaml

A resource with metadata.resourceVersion is replaced only if that is still its version.")]
    Replace(files::Files),
    /// Change fields of a resource.
    #[command(after_help = "Examples:
  routectl patch node node-1 -p '{\"spec\":{\"bgp\":{\"routeReflectorClusterID\":\"244.0.0.1\"}}}'
  routectl patch ippool default -p '{\"spec\":{\"natOutgoing\":true}}'
  routectl patch node node-1 --type json -p '[{\"op\":\"remove\",\"path\":\"/spec/bgp/asNumber\"}]'

null removes a field, a list is replaced whole. The result is validated like applied resources.")]
    Patch(patch::Patch),
    /// Set or remove labels of a resource.
    #[command(after_help = "Examples:
  routectl label nodes node-1 route-reflector=true
  routectl label nodes node-1 rack=r2 --overwrite
  routectl label nodes node-1 rack --remove
  routectl label nodes node-1 zone=a rack-")]
    Label(patch::Label),
    /// Show, check and release address blocks of nodes.
    #[command(subcommand)]
    Ipam(ipam::Ipam),
    /// Export all resources of a datastore, or copy them to another.
    #[command(subcommand)]
    Datastore(datastore::Datastore),
    /// Show stored resources.
    #[command(after_help = "Examples:
  routectl get nodes --output=wide
  routectl get ippool default -o yaml
  routectl get nodes -l 'has(route-reflector)' -o custom-columns=NAME,IPV4
  routectl get nodes -o jsonpath='{range .items[*]}{.metadata.name} {.spec.bgp.ipv4Address}{\"\\n\"}{end}'
  routectl get nodes --export -o yaml > nodes.yaml

Kinds: nodes, ippools, bgppeers, bgpconfigurations, bgpfilters, blockaffinities; singular and short forms (ipp) too.")]
    Get(get::Get),
    /// Delete resources.
    #[command(after_help = "Examples:
  routectl delete ippool default
  routectl delete nodes node-1 node-2 --skip-not-exists
  routectl delete -f pools.yaml")]
    Delete(apply::Delete),
    /// Validate resource files. Needs no daemon.
    #[command(after_help = "Examples:
  routectl validate -f pools.yaml -f nodes.yaml
  routectl validate -R -f /etc/routed/resources")]
    Validate(validate::Validate),
    /// Convert resources of any form (v1, lists, Kubernetes' storage form) to v3 documents. Needs no daemon.
    #[command(after_help = "Examples:
  routectl convert -f old.yaml > new.yaml
  kubectl get ippools.crd.projectcalico.org -o yaml | routectl convert -f - > /etc/routed/resources/pools.yaml

Fields of one cluster (versions, identifiers, times, status) are removed, as by `get --export`.")]
    Convert(convert::Convert),
    /// Show this node's sessions in the format of calicoctl.
    #[command(subcommand)]
    Node(calico_node::Node),
    /// Show the versions of routectl and the daemon.
    Version(calico_node::Version),
    /// Explain how packets to an address are forwarded, and name the first problem on their way.
    #[command(after_help = "Examples:
  routectl explain 10.1.2.3
  routectl explain 10.1.2.3 --from 10.1.1.7     for packets of a pod of this node
  routectl explain 10.1.2.0/26 -o json

Exit status: 0 packets are forwarded, 1 there is a problem, which the line `Verdict` names.")]
    Explain(explain::Explain),
    /// Show events of sessions, routes, tunnels, the kernel, the datastore and resources.
    #[command(after_help = "Examples:
  routectl events --since 10m
  routectl events -f --kind session,tunnel
  routectl events -o json | jq 'select(.what == \"down\")'

The daemon keeps the last 1024 events of sessions, routes and tunnels each and 256 of the other
kinds. Of bursts of more than 256 events of a kind, and of more than 16 a second on average, it
keeps the number only.")]
    Events(events::Events),
    /// Watch peers, tunnels and rates in full screen. q quits.
    #[command(after_help = "Examples:
  routectl top
  routectl top --interval 5s
  routectl top | head                 one frame, as plain text")]
    Top(top::Top),
    /// Show the changes that resources would make on this node, without making them.
    #[command(after_help = "Examples:
  routectl plan -f pools.yaml
  routectl plan -f old-peer.yaml --delete
  routectl plan -f pools.yaml -o json

Signs: + added, ~ changed, - removed, = unchanged. A file that `apply` would refuse is refused with the same message.")]
    Plan(plan::Plan),
    /// Diagnose this node: list problems with evidence and remedy.
    #[command(after_help = "Examples:
  routectl doctor
  routectl doctor -o json

Exit status: 0 no errors (there may be warnings), 1 errors.")]
    Doctor(doctor::Doctor),
    /// Drain this node: announce a graceful shutdown, withdraw its blocks and end the daemon.
    #[command(after_help = "Examples:
  routectl drain
  routectl drain --wait 30s

Other nodes first get the blocks with GRACEFUL_SHUTDOWN (RFC 8326) and LOCAL_PREF 0, so that they
switch to other paths if there are any. Routes in the kernel stay, so pods of this node can still
send.")]
    Drain(drain::Drain),
    /// Remove all kernel objects of routed. The daemon must not run.
    #[command(after_help = "Examples:
  systemctl stop routed && routectl flush

Needs CAP_NET_ADMIN. Pods of this node can't reach pods of other nodes afterwards.")]
    Flush(drain::Flush),
    /// Build a cluster of namespaces on this machine and ping every pod from every pod.
    #[command(after_help = "Examples:
  routectl lab
  routectl lab --mode reflector
  routectl lab --subnets 2 --pool-mode cross-subnet
  routectl lab --block-bgp node-3

Needs root. If this kernel has no ipip device, it runs in a User-Mode Linux guest.")]
    Lab(lab::LabArgs),
    /// Write shell completions to standard output.
    #[command(after_help = "Examples:
  routectl completions bash > /etc/bash_completion.d/routectl")]
    Completions(packaging::Completions),
    /// Write the manual pages of routed and routectl into a directory.
    #[command(hide = true)]
    Man(packaging::Man),
    /// Write a page of the documentation to standard output.
    #[command(hide = true)]
    Reference(packaging::Reference),
    /// Run a command in a User-Mode Linux guest.
    #[command(hide = true)]
    Guest(lab::guest::GuestArgs),
}

/// The failure of a command.
#[derive(Debug)]
enum Failure {
    /// A refusal by the daemon, or no daemon.
    Client(ClientError),
    /// Invalid resources.
    Mistakes(Vec<Mistake>),
    /// A file or stream that can't be read or written.
    Io(anyhow::Error),
    /// Wrong usage that clap does not detect.
    Usage(UsageError),
    /// A problem that the command has shown already.
    Reported,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Failure::Client(error)
    }
}

impl Failure {
    /// Prints the failure to stderr and returns the exit status.
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
            Failure::Reported => ExitCode::from(1),
        }
    }
}

fn report(mistakes: &[Mistake]) -> ExitCode {
    for mistake in mistakes {
        eprintln!("{}", output::clean(&mistake.to_string()));
    }
    ExitCode::from(1)
}

/// Runs the command that the arguments name and returns the exit status.
pub fn main() -> ExitCode {
    // The first process of a guest is this program too.
    lab::guest::init::become_init_if_asked();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let arguments: Vec<String> = std::env::args().skip(1).collect();
            match calicoctl::instead(&arguments).filter(|_| error.use_stderr()) {
                Some(line) => return Failure::Usage(line.into()).report(),
                None => error.exit(),
            }
        }
    };
    let cli = match cli.command {
        // These need no daemon, and have runtimes of their own.
        Command::Lab(args) => return lab::main(args),
        Command::Guest(args) => return lab::guest::main(args),
        Command::Completions(args) => return args.write(),
        Command::Man(args) => return args.write(),
        Command::Reference(args) => return args.write(),
        command => Cli { command, ..cli },
    };
    let client = Client::new(&cli.socket);
    // One request needs no threads.
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
            Command::Node(node) => node.run(&client).await,
            Command::Version(version) => version.run(&client).await,
            Command::Create(create) => create.run(&client).await,
            Command::Patch(patch) => patch.run(&client).await,
            Command::Label(label) => label.run(&client).await,
            Command::Replace(files) => apply::replace(files, &client).await,
            Command::Ipam(ipam) => ipam.run(&client).await,
            Command::Datastore(datastore) => datastore.run(&client).await,
            Command::Get(get) => get.run(&client).await,
            Command::Delete(delete) => delete.run(&client).await,
            Command::Validate(validate) => validate.run(),
            Command::Events(events) => events.run(&client).await,
            Command::Top(top) => top.run(&client).await,
            Command::Convert(convert) => convert.run(),
            Command::Drain(drain) => drain.run(&client).await,
            Command::Flush(flush) => flush.run(&client).await,
            Command::Explain(explain) => explain.run(&client).await,
            Command::Plan(plan) => plan.run(&client).await,
            Command::Lab(_)
            | Command::Guest(_)
            | Command::Completions(_)
            | Command::Man(_)
            | Command::Reference(_) => Ok(()),
            Command::Doctor(doctor) => doctor.run(&client).await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Parses a kind, for clap.
fn kind(text: &str) -> Result<Kind, UsageError> {
    Kind::from_user(text).ok_or_else(|| {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.plural()).collect();
        usage!("there are {}", names.join(", "))
    })
}
