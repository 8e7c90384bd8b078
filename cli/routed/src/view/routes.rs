//! What `routectl show routes` is answered.

use crate::view::task_error;
use api::ControlError;
use ipnet::IpNet;
use routing::actor::RibUnavailable;
use routing::query::{PathInfo, RouteInfo};
use routing::{PathReason, Rib, Source};

use crate::daemon::state::DaemonState;
use crate::view::{Views, by_prefix, route_view};
use api::view::RouteView;
use api::{RouteQuery, WhichRoutes};

/// Places of the RIB's table that are looked at in one go.
const CHUNK: usize = 8192;

impl Views {
    /// Gathers the routes that are asked for.
    pub(crate) async fn matching_routes(&self, asked: RouteQuery) -> Result<Vec<RouteView>, ControlError> {
        let state = self.state();
        let peer = match &asked.peer {
            None => None,
            Some(name) => Some(peer_named(&state, name)?),
        };
        let range = asked.prefix.map(|prefix| prefix.trunc());
        let wanted = move |prefix: &IpNet| range.is_none_or(|range| range.contains(prefix));
        let gone = |error: RibUnavailable| task_error(error);
        if asked.which == WhichRoutes::Advertised {
            let Some(peer) = peer else {
                return Err(ControlError::PeerRequired);
            };
            let told = self
                .in_parts(move |rib, start| rib.advertised_from(peer, start, CHUNK, wanted))
                .await
                .map_err(gone)?;
            return Ok(each_path(&told).map(|route| self.view(&route, &state, "advertised")).collect());
        }
        let routes = self.routes_where(wanted).await.map_err(gone)?;
        let from = move |path: &PathInfo| peer.is_none_or(|peer| path.source == Source::Peer(peer));
        let rejected =
            |path: &PathInfo| path.reason.is_some_and(|reason| PathReason::REJECTIONS.contains(&reason));
        match asked.which {
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
                Ok(all.map(|route| self.view(&route, &state, "best")).collect())
            }
            WhichRoutes::Rejected => {
                let all =
                    each_path(&routes).filter(|route| from(&route.paths[0]) && rejected(&route.paths[0]));
                Ok(all.map(|route| self.view(&route, &state, "")).collect())
            }
        }
    }

    /// One path; `best` is said of one that nothing is held against.
    fn view(&self, route: &RouteInfo, state: &DaemonState, best: &str) -> RouteView {
        let mut view = route_view(route, None, state, &self.config);
        if let Some(path) = route.paths.first() {
            view.reason = path.reason.map_or_else(|| best.to_owned(), |reason| reason.to_string());
            // Own ones have a next hop as they are told.
            view.next_hop = Some(path.next_hop);
        }
        view
    }

    /// Every prefix that `wanted` accepts, in order; asked for in parts, so that sessions and routes
    /// go on meanwhile.
    pub(crate) async fn routes_where(
        &self,
        wanted: impl Fn(&IpNet) -> bool + Clone + Send + 'static,
    ) -> Result<Vec<RouteInfo>, RibUnavailable> {
        self.in_parts(move |rib, start| rib.routes_from(start, CHUNK, wanted.clone())).await
    }

    /// What `some` finds from a place on, from everywhere, in order.
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
        // One that went and came back meanwhile was seen at two places.
        routes.dedup_by_key(|route| route.prefix);
        Ok(routes)
    }
}

/// Each path of each prefix by itself.
fn each_path(routes: &[RouteInfo]) -> impl Iterator<Item = RouteInfo> + '_ {
    routes.iter().flat_map(|route| {
        route.paths.iter().map(|path| RouteInfo { prefix: route.prefix, paths: vec![path.clone()] })
    })
}

/// The peer with a name, or with an address.
fn peer_named(state: &DaemonState, name: &str) -> Result<bgp::PeerId, ControlError> {
    let found = state.peer_named(name).map(|peer| peer.id);
    found.ok_or_else(|| ControlError::NoPeer(name.to_owned()))
}
