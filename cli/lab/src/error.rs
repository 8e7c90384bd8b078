//! What can go wrong with a lab before its verdict.

use std::io;

use tunnel::netlink::KernelError;

use super::{guest::GuestError, layout::LayoutError};

/// Why a lab gave no verdict.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The arguments do not fit together.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Namespaces need a privilege.
    #[error("a lab makes network namespaces: run it as root")]
    NotRoot,
    /// The kernel has no ipip device and there is no guest.
    #[error(
        "this kernel has no ipip device and {} is not installed: apt-get install {}, or modprobe ipip, or use \
         --encapsulation vxlan",
        super::guest::PROGRAM,
        super::guest::PACKAGE
    )]
    NoIpip,
    /// The guest's kernel has no ipip device either.
    #[error(
        "the guest's kernel has no ipip device: is the whole package {} installed?",
        super::guest::PACKAGE
    )]
    NoIpipInGuest,
    /// Nothing outlives a guest.
    #[error(
        "--keep: this kernel has no ipip device, so the lab runs in a guest, which ends with it; modprobe ipip or \
             use --encapsulation vxlan"
    )]
    KeepInGuest,
    /// All namespaces of a kernel share one neighbour table.
    #[error(
        "{nodes} nodes need some {needed} neighbour entries and this kernel keeps {limit} for all namespaces \
         together: sysctl -w net.ipv4.neigh.default.gc_thresh3={needed}, or fewer --nodes"
    )]
    Neighbours {
        /// Nodes asked for.
        nodes: usize,
        /// Entries that they need.
        needed: usize,
        /// Entries that the kernel keeps.
        limit: usize,
    },
    /// The guest gave no answer.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The shared datastore did not come up.
    #[error("the lab's etcd can't be filled: {0}")]
    Datastore(String),
    /// A daemon claimed no block.
    #[error("{node} has claimed no block within {seconds} s; the end of routed's log:\n{log}")]
    NoBlock {
        /// Whose.
        node: String,
        /// How long that was waited for.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
    /// A program is missing.
    #[error("{program} is missing: {remedy}")]
    Missing {
        /// Its name.
        program: &'static str,
        /// Where it comes from.
        remedy: &'static str,
    },
    /// The kernel refused.
    #[error("{what}: {source}")]
    Kernel {
        /// What was asked of it.
        what: &'static str,
        /// Its answer.
        #[source]
        source: KernelError,
    },
    /// The system refused.
    #[error("{what}: {source}")]
    System {
        /// What was asked of it.
        what: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// There is no interface of that name.
    #[error("the interface {0} has vanished")]
    NoInterface(String),
    /// A program that should have worked did not.
    #[error("{program} failed: {text}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What it said.
        text: String,
    },
    /// A daemon ended.
    #[error("routed of {node} ended ({status}); its last words:\n{log}")]
    DaemonEnded {
        /// Whose.
        node: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// Ctrl-C or SIGTERM.
    #[error("interrupted; the lab is removed")]
    Interrupted,
}

impl LabError {
    /// Returns an error of a namespace.
    pub fn namespace(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::PermissionDenied {
            return LabError::NotRoot;
        }
        LabError::System { what: "network namespace", source }
    }

    /// Returns an error of the system.
    pub fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| LabError::System { what, source }
    }

    /// Returns the exit status: 2 for wrong usage, 130 when interrupted, else 1.
    pub fn exit_status(&self) -> u8 {
        match self {
            LabError::Layout(_) | LabError::KeepInGuest => 2,
            LabError::Interrupted => 130,
            LabError::Guest(error) => error.exit_status(),
            _ => 1,
        }
    }
}
