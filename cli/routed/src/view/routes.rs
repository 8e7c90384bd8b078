//! The answer to `routectl show routes`.

use ipnet::IpNet;

use api::ControlError;
use api::view::RouteView;
use api::{RouteQuery, WhichRoutes};
use routing::actor::RibUnavailable;
use routing::query::{PathInfo, RouteInfo};
use routing::{PathReason, Rib, Source};

use crate::daemon::state::DaemonState;
use crate::view::task_error;
use crate::view::{Views, by_prefix, route_view};

/// The number of table places that one query of the RIB covers.
const CHUNK: usize = 8192;

impl Views {
    /// Returns the routes that match a query.
    pub(crate) async fn matching_routes(&self, query: RouteQuery) -> Result<Vec<RouteView>, ControlError> {
        let state = self.state();
        let peer = match &query.peer {
            None => None,
            Some(name) => Some(peer_named(&state, name)?),
        };
        let range = query.prefix.map(|prefix| prefix.trunc());
        let wanted = move |prefix: &IpNet| range.is_none_or(|range| range.contains(prefix));
        let unavailable = |error: RibUnavailable| task_error(error);
        if query.which == WhichRoutes::Advertised {
            let Some(peer) = peer else {
                return Err(ControlError::PeerRequired);
            };
            let advertised = self
                .in_parts(move |rib, start| rib.advertised_from(peer, start, CHUNK, wanted))
                .await
                .map_err(unavailable)?;
            return Ok(each_path(&advertised)
                .map(|route| self.path_route_view(&route, &state, "advertised"))
                .collect());
        }
        let routes = self.routes_where(wanted).await.map_err(unavailable)?;
        let from = move |path: &PathInfo| peer.is_none_or(|peer| path.source == Source::Peer(peer));
        let rejected =
            |path: &PathInfo| path.reason.is_some_and(|reason| PathReason::REJECTIONS.contains(&reason));
        match query.which {
            WhichRoutes::Best => {
                let report = self.report().await;
                let kernel = by_prefix(report.as_ref());
                let best = |route: &&RouteInfo| peer.is_none() || route.paths.first().is_some_and(from);
                let view = |route: &RouteInfo| {
                    route_view(route, kernel.get(&route.prefix).copied(), &state, &self.config)
                };
                Ok(routes.iter().filter(best).map(view).collect())
            }
            WhichRoutes::Received | WhichRoutes::Advertised => {
                let all = each_path(&routes).filter(|route| from(&route.paths[0]));
                Ok(all.map(|route| self.path_route_view(&route, &state, "best")).collect())
            }
            WhichRoutes::Rejected => {
                let all =
                    each_path(&routes).filter(|route| from(&route.paths[0]) && rejected(&route.paths[0]));
                Ok(all.map(|route| self.path_route_view(&route, &state, "")).collect())
            }
        }
    }

    /// Returns the view of one path; `best` is the reason for a path that no rule rejects.
    fn path_route_view(&self, route: &RouteInfo, state: &DaemonState, best: &str) -> RouteView {
        let mut view = route_view(route, None, state, &self.config);
        if let Some(path) = route.paths.first() {
            view.reason = path.reason.map_or_else(|| best.to_owned(), |reason| reason.to_string());
            // Own paths have the next hop with which they are advertised.
            view.next_hop = Some(path.next_hop);
        }
        view
    }

    /// Returns the routes of every prefix that `wanted` accepts, sorted. The RIB is queried in
    /// chunks, so that sessions and route changes proceed meanwhile.
    pub(crate) async fn routes_where(
        &self,
        wanted: impl Fn(&IpNet) -> bool + Clone + Send + 'static,
    ) -> Result<Vec<RouteInfo>, RibUnavailable> {
        self.in_parts(move |rib, start| rib.routes_from(start, CHUNK, wanted.clone())).await
    }

    /// Collects the results of `some`, which starts at a place of the table, over the whole table;
    /// sorted.
    async fn in_parts(
        &self,
        some: impl Fn(&Rib, u32) -> (Vec<RouteInfo>, Option<u32>) + Clone + Send + 'static,
    ) -> Result<Vec<RouteInfo>, RibUnavailable> {
        let mut routes = Vec::new();
        let mut next = Some(0);
        while let Some(start) = next {
            let some = some.clone();
            let (more, after) = self.rib.query(move |rib| some(rib, start)).await?;
            routes.extend(more);
            next = after;
        }
        routes.sort_by_key(|route: &RouteInfo| route.prefix);
        // A prefix that is removed and added between two queries appears at two places.
        routes.dedup_by_key(|route| route.prefix);
        Ok(routes)
    }
}

/// Splits routes into one route for each path.
fn each_path(routes: &[RouteInfo]) -> impl Iterator<Item = RouteInfo> + '_ {
    routes.iter().flat_map(|route| {
        route.paths.iter().map(|path| RouteInfo { prefix: route.prefix, paths: vec![path.clone()] })
    })
}

/// Returns the ID of the peer with this name or address.
fn peer_named(state: &DaemonState, name: &str) -> Result<bgp::PeerId, ControlError> {
    let found = state.peer_named(name).map(|peer| peer.id);
    found.ok_or_else(|| ControlError::NoPeer(name.to_owned()))
}
