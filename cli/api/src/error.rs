//! Errors with which the daemon refuses a request.

use std::path::PathBuf;

/// The reason why the daemon refuses a request or can't answer it, displayed as one line for the
/// user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The daemon is ending.
    #[error("the daemon is ending")]
    Ending,
    /// A task of the daemon does not answer.
    #[error("{0}")]
    Task(String),
    /// The kernel does not answer.
    #[error("the kernel can't be asked: {0}")]
    Kernel(String),
    /// There is no peer with this name or address.
    #[error("no peer {0:?}: routectl show peers names them")]
    NoPeer(String),
    /// Advertised routes are those of one peer.
    #[error("advertised: to which peer? name it with --peer")]
    PeerRequired,
    /// A drain is under way.
    #[error("this node is being drained already")]
    AlreadyDraining,
    /// There is no valid Node resource for this node.
    #[error("this node has no plan: there is no valid Node resource for it")]
    NoNode,
    /// A node without BGP can't be drained.
    #[error(
        "BGP is disabled, so other nodes know this one by their static tables: delete its Node resource instead"
    )]
    BgpDisabled,
    /// The journal has as many followers as it may.
    #[error("{0} others follow the events already: end one of them")]
    TooManyFollowers(usize),
}

/// The reason why a client of a control socket is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// A request that changes something, on the socket of readers.
    #[error(
        "group {group:?} may look and change nothing: ask a member of the group of routed's other socket"
    )]
    ReadOnly {
        /// The group.
        group: String,
    },
    /// The socket's mode permits everyone, and the client is not in its group.
    #[error("{} is open for everybody, and uid {uid} is not of its group: chmod 660 it", path.display())]
    OpenSocket {
        /// The socket.
        path: PathBuf,
        /// The user ID of the client.
        uid: u32,
    },
}
