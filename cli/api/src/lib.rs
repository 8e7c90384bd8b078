//! The daemon's one socket: HTTP and JSON over a UNIX socket.

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

use self::view::Diagnosis;
pub use connections::{ControlSocket, serve, serve_status};
pub use error::{AccessError, ControlError};
pub use events::{EventHistory, EventSource, events_router};
pub use patch::{LabelChange, LabelOutcome, LabelResponse, PatchResponse};
use resource::{Snapshot, Warning};
pub use resources::{ApplyResponse, DeleteRequest, DeleteResponse, Files, ListResponse, ResourceFile};
pub use routes::{ErrorBody, health_router, router};
pub use socket::{BindError, bind, bind_for_group, read_socket};
use view::{
    ExplainView, NodeView, PeerDetail, PeerView, PlanView, ResourceChange, RouteView, StatusView, TunnelView,
};

/// What the daemon can tell of itself, anew at each request, and the one thing that it can be asked to do.
pub trait Control: Send + Sync + 'static {
    /// Begins to take the node out of the cluster: own blocks are announced as going away for so long, then withdrawn,
    /// then the daemon ends.
    ///
    /// The error is one line for the user.
    fn drain(&self, wait: Duration) -> BoxFuture<'_, Result<(), ControlError>>;
    /// The BGP sessions, in the order they are to be shown.
    fn peers(&self) -> BoxFuture<'_, Vec<PeerView>>;
    /// The session with the peer of a name, or of an address; `None`: there is none.
    fn peer(&self, name: String) -> BoxFuture<'_, Option<PeerDetail>>;
    /// Routes, by prefix.
    ///
    /// The error is one line for the user: that there is no such peer, or that they can't be told now.
    fn routes(&self, asked: RouteQuery) -> BoxFuture<'_, Result<Vec<RouteView>, ControlError>>;
    /// How each other node is reached, by name.
    fn tunnels(&self) -> BoxFuture<'_, Vec<TunnelView>>;
    /// The static peer table, by name.
    fn nodes(&self) -> BoxFuture<'_, Vec<NodeView>>;
    /// The daemon as a whole.
    fn status(&self) -> BoxFuture<'_, StatusView>;
    /// Why packets to an address go where they go, and what is the first thing that is wrong.
    ///
    /// The error is one line for the user: that it can't be told now.
    fn explain(&self, question: ExplainRequest) -> BoxFuture<'_, Result<ExplainView, ControlError>>;
    /// Finds out what resources would change; nothing is changed.
    ///
    /// The error is one line for the user: that it can't be told now.
    fn plan(&self, proposal: Proposal) -> BoxFuture<'_, Result<PlanView, ControlError>>;
    /// Looks at everything that may be wrong with this node.
    ///
    /// The error is one line for the user: that it can't be looked at now.
    fn doctor(&self) -> BoxFuture<'_, Result<Diagnosis, ControlError>>;
}

/// What `explain` is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExplainRequest {
    /// An address, or a prefix.
    pub target: IpNet,
    /// Where the packets come from; `None`: from this node itself.
    pub from: Option<IpAddr>,
}

/// Which routes are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteQuery {
    /// Those of this prefix, and inside it.
    pub prefix: Option<IpNet>,
    /// Those of the peer with this name, or this address.
    pub peer: Option<String>,
    /// What of them.
    #[serde(default)]
    pub which: WhichRoutes,
}

/// What is shown of routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhichRoutes {
    /// The best route of each prefix.
    #[default]
    Best,
    /// Every path that was received, before any policy.
    Received,
    /// What the peer is told.
    Advertised,
    /// Every path that a rule rejects.
    Rejected,
}

/// Resources as they would be.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// All of them.
    pub snapshot: Snapshot,
    /// What becomes of those that were given.
    pub changes: Vec<ResourceChange>,
    /// What the user should know of.
    pub warnings: Vec<Warning>,
}
