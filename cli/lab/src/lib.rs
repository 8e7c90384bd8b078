//! A cluster of routed on one machine (`routectl lab`), and guests with kernels that have IP-in-IP.
//!
//! | Module | Contents |
//! |---|---|
//! | `layout`, `expectations` | Nodes, subnets and the expected results (pure) |
//! | `wiring`, `link_editor` | Namespaces, links, addresses and routes |
//! | `daemons`, `etcd`, `block_claims` | The `routed` processes, their shared datastore and their blocks |
//! | `firewall`, `capture`, `ping` | Drop rules, captured packets and pings between pods |
//! | `run`, `interrupt`, `error` | The course of a lab, from the first namespace to the verdict |
//! | [`guest`] | Commands in User-Mode Linux and QEMU guests |

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tunnel::netlink::{links, numbers::EOPNOTSUPP};

mod block_claims;
mod capture;
mod daemons;
mod error;
mod etcd;
mod expectations;
mod firewall;
pub mod guest;
mod interrupt;
mod layout;
mod link_editor;
mod ping;
mod run;
mod wiring;

pub use error::LabError;
pub use layout::LayoutError;
use layout::{BgpMode, LabDatastore, LabEncapsulation, LabPoolMode, Layout};
use link_editor::LinkEditor;
use testbed::Namespace;

/// The variable that is set for a lab in a guest.
const IN_GUEST: &str = "ROUTED_LAB_IN_GUEST";
/// The time limit of a lab in a guest, in seconds, and the addition for each node.
const GUEST_SECONDS: (u64, u64) = (180, 10);

/// The arguments of `routectl lab`.
#[derive(Debug, Clone, clap::Args)]
pub struct LabArgs {
    /// Number of nodes
    #[arg(long, default_value_t = 3, value_name = "N")]
    nodes: u8,
    /// Peering of the nodes
    #[arg(long, value_enum, default_value_t = BgpMode::Mesh)]
    mode: BgpMode,
    /// Encapsulation of packets between nodes
    #[arg(long, value_enum, default_value_t = LabEncapsulation::Ipip)]
    encapsulation: LabEncapsulation,
    /// Number of subnets the nodes are spread over; the lab's bridge routes between them
    #[arg(long, default_value_t = 1, value_name = "K")]
    subnets: u8,
    /// Condition for the encapsulation
    #[arg(long, value_enum, default_value_t = LabPoolMode::Always)]
    pool_mode: LabPoolMode,
    /// Store of the nodes' resources: a shared directory, or three etcd members on the bridge, in which the nodes of a
    /// mesh register themselves and all nodes claim their blocks
    #[arg(long, value_enum, default_value_t = LabDatastore::File)]
    datastore: LabDatastore,
    /// Drop TCP port 179 of this node on the wire
    #[arg(long, value_name = "NODE")]
    block_bgp: Option<String>,
    /// Drop IP protocol 4 (IP-in-IP) of this node on the wire
    #[arg(long, value_name = "NODE")]
    drop_ipip: Option<String>,
    /// Keep the cluster running and print how to inspect it
    #[arg(long)]
    keep: bool,
}

/// Runs `routectl lab`. The exit status is 0 if the lab passed and 1 if it failed.
pub fn main(args: LabArgs) -> ExitCode {
    match start(&args) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("routectl: lab: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}

fn start(args: &LabArgs) -> Result<u8, LabError> {
    let layout = Layout::new(args)?;
    check_programs(args)?;
    if args.encapsulation == LabEncapsulation::Ipip && !kernel_has_ipip()? {
        return start_in_guest(args);
    }
    let interrupted = watch_signals()?;
    run::run(&layout, args.keep, &interrupted).map(|passed| u8::from(!passed))
}

/// Checks that the programs of a lab are installed, before a guest boots.
///
/// # Errors
/// The first one that is missing, and its package.
fn check_programs(args: &LabArgs) -> Result<(), LabError> {
    let drops = args.block_bgp.is_some() || args.drop_ipip.is_some();
    let programs = [
        (drops, "nft", "apt-get install nftables"),
        (args.datastore == LabDatastore::Etcd, "etcd", "apt-get install etcd-server"),
    ];
    let missing = programs.into_iter().find(|(needed, program, _)| *needed && guest::find(program).is_none());
    match missing {
        Some((_, program, remedy)) => Err(LabError::Missing { program, remedy }),
        None => Ok(()),
    }
}

fn start_in_guest(args: &LabArgs) -> Result<u8, LabError> {
    if env::var_os(IN_GUEST).is_some() {
        return Err(LabError::NoIpipInGuest);
    }
    if guest::program().is_none() {
        return Err(LabError::NoIpip);
    }
    if args.keep {
        return Err(LabError::KeepInGuest);
    }
    eprintln!("lab: this kernel has no ipip device; running in a User-Mode Linux guest");
    let own = env::current_exe().map_err(LabError::system("own path"))?;
    let mut command = vec![own.into_os_string()];
    command.extend(env::args_os().skip(1));
    let mut environment = vec![(OsString::from(IN_GUEST), OsString::from("1"))];
    if !coloured() {
        environment.push(("NO_COLOR".into(), "1".into()));
    }
    let seconds = GUEST_SECONDS.0 + GUEST_SECONDS.1 * u64::from(args.nodes);
    let guest = guest::Guest {
        machine: guest::Machine::Uml,
        command,
        environment,
        memory: guest::DEFAULT_MEMORY.to_owned(),
        time_limit: Duration::from_secs(seconds),
    };
    Ok(guest.run()?)
}

/// Tests for the ipip device by creating one in a new namespace, which may load the module.
fn kernel_has_ipip() -> Result<bool, LabError> {
    let probe = Namespace::create().map_err(LabError::namespace)?;
    let answer = probe
        .run(|| {
            LinkEditor::open()
                .map(|mut editor| editor.change(links::create_ipip("probe", [192, 0, 2, 1].into(), 1480)))
        })
        .map_err(LabError::namespace)??;
    match answer {
        Ok(()) => Ok(true),
        Err(error) if error.errno == EOPNOTSUPP => Ok(false),
        Err(source) => Err(LabError::Kernel { what: "an ipip device", source }),
    }
}

/// Makes Ctrl-C and SIGTERM set the flag, so that the lab can be shut down in order.
fn watch_signals() -> Result<Arc<AtomicBool>, LabError> {
    use tokio::signal::unix::{SignalKind, signal};
    let flag = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LabError::system("runtime"))?;
    let listen = |kind| {
        let _inside = runtime.enter();
        signal(kind).map_err(LabError::system("signals"))
    };
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let raised = flag.clone();
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        raised.store(true, Ordering::Relaxed);
    });
    Ok(flag)
}

/// Returns whether stdout is a terminal with colours enabled.
fn coloured() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
