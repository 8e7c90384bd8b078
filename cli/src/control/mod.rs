//! The daemon's one door: HTTP and JSON over a UNIX socket.

pub mod client;
mod listen;
mod metrics;
mod resources;
mod server;
pub mod view;

use std::time::Duration;

use futures::future::BoxFuture;

pub use listen::{BindError, bind};
pub use resources::{ApplyResponse, DeleteResponse, Files, GivenFile, ListResponse};
pub(crate) use resources::{to_yaml, without_version};
pub use server::{ErrorBody, health_router, router};
use view::{ExplainView, NodeView, PeerView, RouteView, StatusView, TunnelView};

/// What the daemon can tell of itself, anew at each request, and the one thing that it can be asked to do.
pub trait Control: Send + Sync + 'static {
    /// Begins to take the node out of the cluster: own blocks are announced as going away for so long, then withdrawn,
    /// then the daemon ends.
    ///
    /// The error is one line for the user.
    fn drain(&self, wait: Duration) -> BoxFuture<'_, Result<(), String>>;
    /// The BGP sessions, in the order they are to be shown.
    fn peers(&self) -> BoxFuture<'_, Vec<PeerView>>;
    /// The best route of each prefix, by prefix.
    fn routes(&self) -> BoxFuture<'_, Vec<RouteView>>;
    /// The paths that are not used because a rule rejects them, each with the reason.
    fn rejected(&self) -> BoxFuture<'_, Vec<RouteView>>;
    /// How each other node is reached, by name.
    fn tunnels(&self) -> BoxFuture<'_, Vec<TunnelView>>;
    /// The static peer table, by name.
    fn nodes(&self) -> BoxFuture<'_, Vec<NodeView>>;
    /// The daemon as a whole.
    fn status(&self) -> BoxFuture<'_, StatusView>;
    /// Every path of the prefix that `target` (an address or a prefix) is routed by, with the
    /// reason why each was chosen or not.
    ///
    /// The error is one line for the user: that there is no route, or that it can't be told now.
    fn explain(&self, target: String) -> BoxFuture<'_, Result<ExplainView, String>>;
}
