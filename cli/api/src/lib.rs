//! The control API of the daemon: HTTP and JSON over a UNIX socket.
//!
//! - [`Control`] and [`EventSource`] are the traits that the daemon implements; [`view`] has the
//!   types of their answers, which define the public JSON.
//! - `routes`, `events`: the routers. `resources`, `patch`, `proposal`: requests about resources,
//!   which go to the store. `metrics`, `status_page`: the other formats.
//! - `connections`, `timeouts`, `socket`: the server of the sockets, with access control and
//!   limits.
//! - [`client`], `event_stream`: the client, for routectl.
//! - [`arguments`]: the command line of `routed`, from which the manual page is generated.
//!
//! Dependencies point one way: `view` <- routers <- server. The client shares only types with the
//! server.

pub mod arguments;
pub mod client;
mod connections;
mod error;
mod event_stream;
mod events;
mod metrics;
mod patch;
mod patch_error;
mod proposal;
mod resources;
mod routes;
mod socket;
mod status_page;
mod timeouts;
pub mod view;

use std::net::IpAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use resource::{Snapshot, Warning};

use self::view::{
    Diagnosis, ExplainView, NodeView, PeerDetail, PeerView, PlanView, ResourceChange, RouteView, StatusView,
    TunnelView,
};

pub use connections::{ControlSocket, serve, serve_status};
pub use error::{AccessError, ControlError};
pub use events::{EventHistory, EventSource, events_router};
pub use patch::{LabelChange, LabelOutcome, LabelResponse, PatchResponse};
pub use resources::{ApplyResponse, DeleteRequest, DeleteResponse, Files, ListResponse, ResourceFile};
pub use routes::{ErrorBody, health_router, router};
pub use socket::{BindError, bind, bind_for_group, read_socket};

/// The queries of the control API, and the drain.
///
/// The implementation reads the current state for each call and caches nothing. Calls may run at
/// the same time and may be cancelled: the future is dropped when the client disconnects or the
/// time limit of the server passes. [`Control::drain`] is the only call that changes something;
/// once its request is sent, a cancelled call does not stop the drain. No call waits for the
/// network. Errors are one line for the user.
pub trait Control: Send + Sync + 'static {
    /// Starts to take the node out of the cluster. The own blocks are advertised with
    /// GRACEFUL_SHUTDOWN for `wait`, then withdrawn, then the daemon ends.
    ///
    /// # Errors
    /// A drain is under way, or the node can't be drained.
    fn drain(&self, wait: Duration) -> BoxFuture<'_, Result<(), ControlError>>;
    /// Returns the BGP sessions, in display order.
    fn peers(&self) -> BoxFuture<'_, Vec<PeerView>>;
    /// Returns the session with the peer of a name or address; `None`: there is no such peer.
    fn peer(&self, name: String) -> BoxFuture<'_, Option<PeerDetail>>;
    /// Returns routes, by prefix.
    ///
    /// # Errors
    /// There is no such peer, or the RIB does not answer.
    fn routes(&self, query: RouteQuery) -> BoxFuture<'_, Result<Vec<RouteView>, ControlError>>;
    /// Returns the state of the tunnels to the other nodes, by name.
    fn tunnels(&self) -> BoxFuture<'_, Vec<TunnelView>>;
    /// Returns the static peer table, by name.
    fn nodes(&self) -> BoxFuture<'_, Vec<NodeView>>;
    /// Returns the state of the daemon.
    fn status(&self) -> BoxFuture<'_, StatusView>;
    /// Returns the path of packets to an address, and the first problem on it.
    ///
    /// # Errors
    /// The RIB or the kernel does not answer.
    fn explain(&self, request: ExplainRequest) -> BoxFuture<'_, Result<ExplainView, ControlError>>;
    /// Returns the changes that a proposal would cause. Nothing is changed.
    ///
    /// # Errors
    /// The RIB or the tunnels do not answer.
    fn plan(&self, proposal: Proposal) -> BoxFuture<'_, Result<PlanView, ControlError>>;
    /// Runs the checks of this node.
    ///
    /// # Errors
    /// The kernel does not answer.
    fn doctor(&self) -> BoxFuture<'_, Result<Diagnosis, ControlError>>;
}

/// A request of `explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExplainRequest {
    /// An address, or a prefix.
    pub target: IpNet,
    /// The source address of the packets; `None`: this node itself.
    pub from: Option<IpAddr>,
}

/// A query for routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteQuery {
    /// Limits the routes to this prefix and the prefixes inside it.
    pub prefix: Option<IpNet>,
    /// Limits the routes to the peer with this name or address.
    pub peer: Option<String>,
    /// The kind of routes.
    #[serde(default)]
    pub which: WhichRoutes,
}

/// The kind of routes in a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhichRoutes {
    /// The best route of each prefix.
    #[default]
    Best,
    /// Every path that was received, before any policy.
    Received,
    /// The routes that are advertised to the peer.
    Advertised,
    /// Every path that a rule rejects.
    Rejected,
}

/// Proposed resources.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The resources of the store with the proposal applied.
    pub snapshot: Snapshot,
    /// The changes of the proposed resources.
    pub changes: Vec<ResourceChange>,
    /// Warnings about the proposed resources.
    pub warnings: Vec<Warning>,
}
