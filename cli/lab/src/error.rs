//! Errors of a lab before its verdict.

use std::io;

use tunnel::netlink::KernelError;

use super::{guest::GuestError, layout::LayoutError};

/// The reason why a lab has no verdict.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The arguments do not fit together.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The privilege to create namespaces is missing.
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
    /// `--keep` is not possible in a guest.
    #[error(
        "--keep: this kernel has no ipip device, so the lab runs in a guest, which ends with it; modprobe ipip or \
             use --encapsulation vxlan"
    )]
    KeepInGuest,
    /// The neighbour table, which all namespaces of a kernel share, is too small.
    #[error(
        "{nodes} nodes need some {needed} neighbour entries and this kernel keeps {limit} for all namespaces \
         together: sysctl -w net.ipv4.neigh.default.gc_thresh3={needed}, or fewer --nodes"
    )]
    Neighbours {
        /// The number of nodes.
        nodes: usize,
        /// The entries that they need.
        needed: usize,
        /// The capacity of the table.
        limit: usize,
    },
    /// The guest had no exit status.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The shared datastore did not start.
    #[error("the lab's etcd can't be filled: {0}")]
    Datastore(String),
    /// A daemon claimed no block.
    #[error("{node} has claimed no block within {seconds} s; the end of routed's log:\n{log}")]
    NoBlock {
        /// The node.
        node: String,
        /// The timeout, in seconds.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
    /// A program is missing.
    #[error("{program} is missing: {remedy}")]
    Missing {
        /// Its name.
        program: &'static str,
        /// The package that contains it.
        remedy: &'static str,
    },
    /// The kernel refused a request.
    #[error("{what}: {source}")]
    Kernel {
        /// The operation.
        what: &'static str,
        /// The error.
        #[source]
        source: KernelError,
    },
    /// The operating system reported an error.
    #[error("{what}: {source}")]
    System {
        /// The operation.
        what: &'static str,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// There is no interface of that name.
    #[error("the interface {0} has vanished")]
    NoInterface(String),
    /// A program failed.
    #[error("{program} failed: {text}")]
    Program {
        /// Its name.
        program: &'static str,
        /// Its message.
        text: String,
    },
    /// A daemon ended.
    #[error("routed of {node} ended ({status}); its last words:\n{log}")]
    DaemonEnded {
        /// The node.
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
