//! `routectl plan`: computes the changes that resources would cause on this node. The daemon's own
//! code runs on a copy of the RIB.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use api::ControlError;
use api::Proposal;
use api::view::{AdvertisementChange, ChangeKind, ObjectChange, PlanView, SessionChange, SessionFate};
use bgp::PeerId;
use bgp::net::PeerAddress;
use routing::outbox::DiscardDelivery;
use routing::{BestChange, ClusterPolicy, Rib, Source};

use crate::daemon::route_feed::route_change;
use crate::daemon::state::DaemonState;
use crate::node_config::password::Passwords;
use crate::node_config::{self, NodeConfig, PeerSettings};
use crate::view::Views;
use crate::view::convert::kernel_changes;
use crate::view::task_error;

/// The number of prefixes that are named for each peer; the others are counted.
const NAMED_PREFIXES: usize = 10;
/// The number of prefixes that are decided in one step.
const DECISION_BATCH: usize = 4096;

/// The prefixes that are advertised to each peer, with their next hops.
type AdvertisedRoutes = BTreeMap<PeerId, BTreeMap<IpNet, Vec<IpAddr>>>;

impl Views {
    /// Computes the changes that a proposal would cause.
    pub(crate) async fn plan_changes(&self, proposal: Proposal) -> Result<PlanView, ControlError> {
        let state = self.state();
        let mut view = PlanView {
            node: self.config.node.clone(),
            resources: proposal.changes,
            sessions: Vec::new(),
            advertisements: Vec::new(),
            kernel: None,
            warnings: proposal.warnings,
            problem: None,
        };
        let mut after = match node_config::derive(&self.config, &proposal.snapshot) {
            Ok(after) => after,
            Err(error) => {
                view.problem = Some(format!("{error}; what runs now would keep running"));
                return Ok(view);
            }
        };
        // The files are read again, so unchanged files give unchanged keys.
        let problems = Passwords::read_for(&after).apply_to(&mut after);
        view.problem = problems.into_iter().next();
        let before = state.node_config.clone();
        view.sessions = sessions(before.as_deref(), &after);
        let rib = self.rib.query(Rib::clone).await.map_err(task_error)?;
        let (peers, new_config) = (Arc::clone(&state), after.clone());
        let run = move || simulate(rib, &peers, before.as_deref(), &new_config);
        let (advertisements, best) = tokio::task::spawn_blocking(run).await.map_err(task_error)?;
        view.advertisements = advertisements;
        if let Some(tunnel) = &self.tunnel {
            let changes = best.into_iter().map(route_change).collect();
            let changes = tunnel.dry_run(after.tunnel, changes).await.map_err(task_error)?;
            view.kernel = Some(kernel_changes(changes));
        }
        Ok(view)
    }
}

/// Applies a configuration to a copy of the RIB, as the daemon would. Returns the changed
/// advertisements and the changed best paths.
fn simulate(
    mut rib: Rib,
    state: &DaemonState,
    before: Option<&NodeConfig>,
    after: &NodeConfig,
) -> (Vec<AdvertisementChange>, Vec<BestChange>) {
    rib.set_forwards(true);
    let ids: Vec<(PeerId, IpAddr)> = state.peers.iter().map(|peer| (peer.id, peer.peering.address)).collect();
    let then = advertised_routes(&rib, &ids);
    // Pending changes of before are not part of the result.
    settle(&mut rib);
    let _ = best(&mut rib);
    rib.configure(after.rib.clone());
    let links = if after.needs_links { node_config::policy::links() } else { Vec::new() };
    rib.set_cluster_policy(ClusterPolicy { links, ..after.policy.clone() });
    rib.originate(Source::Local, &after.local);
    let known: BTreeSet<&str> =
        before.iter().flat_map(|before| &before.static_paths).map(|node| node.node.as_str()).collect();
    let paths = |is_known: bool| -> Vec<(IpNet, IpAddr)> {
        let some = after.static_paths.iter().filter(|node| known.contains(node.node.as_str()) == is_known);
        some.flat_map(|node| node.paths.iter().copied()).collect()
    };
    rib.originate_statics(&paths(true), &paths(false));
    let planned: BTreeMap<IpAddr, &PeerSettings> =
        after.peers.iter().map(|peer| (peer.peering.address, peer)).collect();
    for (id, address) in &ids {
        match planned.get(address) {
            Some(peer) => {
                rib.set_client(*id, peer.peering.client);
                rib.set_peer_policy(*id, peer.policy.clone());
                rib.resume(*id, &mut DiscardDelivery);
            }
            // Dynamic neighbors stay while a range contains them.
            None if after.ranges.iter().any(|range| range.range.net.contains(address)) => {}
            None => {
                rib.peer_down(*id, bgp::session::Retention::default());
                rib.forget_peer(*id);
            }
        }
    }
    settle(&mut rib);
    let changes = best(&mut rib);
    let now = advertised_routes(&rib, &ids);
    let name = |id: PeerId| state.name_of(id).unwrap_or("a peer").to_owned();
    let differences = then.iter().filter(|(id, _)| now.contains_key(id)).map(|(id, then)| {
        let now = now.get(id).cloned().unwrap_or_default();
        difference(name(*id), then, &now)
    });
    let some = differences.filter(|change| change.announced + change.changed + change.withdrawn > 0);
    (some.collect(), changes)
}

fn settle(rib: &mut Rib) {
    while !rib.run(DECISION_BATCH, &mut DiscardDelivery) {}
}

fn best(rib: &mut Rib) -> Vec<BestChange> {
    let mut changes = Vec::new();
    while rib.has_best_changes() {
        rib.best_changes(DECISION_BATCH, &mut changes);
    }
    changes
}

fn advertised_routes(rib: &Rib, ids: &[(PeerId, IpAddr)]) -> AdvertisedRoutes {
    let of = |id: PeerId| {
        let (routes, _) = rib.advertised_from(id, 0, usize::MAX, |_| true);
        let hops = |route: routing::query::RouteInfo| {
            (route.prefix, route.paths.iter().map(|path| path.next_hop).collect())
        };
        routes.into_iter().map(hops).collect()
    };
    ids.iter().map(|(id, _)| (*id, of(*id))).collect()
}

fn difference(
    peer: String,
    then: &BTreeMap<IpNet, Vec<IpAddr>>,
    now: &BTreeMap<IpNet, Vec<IpAddr>>,
) -> AdvertisementChange {
    let mut change = AdvertisementChange { peer, ..AdvertisementChange::default() };
    let words = |hops: &[IpAddr]| hops.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    for prefix in then.keys().chain(now.keys()).collect::<BTreeSet<_>>() {
        let (kind, object) = match (then.get(prefix), now.get(prefix)) {
            (None, Some(now)) => (ChangeKind::Add, format!("{prefix} next hop {}", words(now))),
            (Some(then), None) => (ChangeKind::Remove, format!("{prefix} next hop {}", words(then))),
            (Some(then), Some(now)) if then != now => {
                (ChangeKind::Replace, format!("{prefix} next hop {}, then {}", words(then), words(now)))
            }
            _ => continue,
        };
        *match kind {
            ChangeKind::Add => &mut change.announced,
            ChangeKind::Replace => &mut change.changed,
            ChangeKind::Remove => &mut change.withdrawn,
        } += 1;
        if change.some.len() < NAMED_PREFIXES {
            change.some.push(ObjectChange { change: kind, object });
        }
    }
    change
}

/// Returns the change of each session.
fn sessions(before: Option<&NodeConfig>, after: &NodeConfig) -> Vec<SessionChange> {
    let by_address = |node_config: &NodeConfig| -> BTreeMap<IpAddr, PeerSettings> {
        node_config.peers.iter().map(|peer| (peer.peering.address, peer.clone())).collect()
    };
    let then = before.map(by_address).unwrap_or_default();
    let now = by_address(after);
    let mut changes: Vec<SessionChange> = then
        .keys()
        .chain(now.keys())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter_map(|address| session(*address, then.get(address), now.get(address)))
        .collect();
    changes.sort_by_key(|change| change.fate);
    changes
}

fn session(
    address: IpAddr,
    then: Option<&PeerSettings>,
    now: Option<&PeerSettings>,
) -> Option<SessionChange> {
    let change = |fate, settings: &PeerSettings, reason: String| {
        Some(SessionChange { fate, name: settings.peering.name.clone(), address, reason })
    };
    match (then, now) {
        (None, Some(now)) => change(SessionFate::Opened, now, format!("AS {}", now.peering.as_number)),
        (Some(then), None) => change(SessionFate::Closed, then, "nothing asks for it any more".to_owned()),
        (Some(then), Some(now)) => {
            let differs = reopens(then, now);
            if !differs.is_empty() {
                return change(SessionFate::Reopened, now, differs.join(", "));
            }
            if then.policy != now.policy || then.peering.client != now.peering.client {
                return change(SessionFate::Filtered, now, "filters, limits or its role".to_owned());
            }
            change(SessionFate::Kept, now, String::new())
        }
        (None, None) => None,
    }
}

/// Returns the names of the session parameters that differ.
fn reopens(then: &PeerSettings, now: &PeerSettings) -> Vec<String> {
    if then.config == now.config && then.address == now.address {
        return Vec::new();
    }
    let (a, b) = (&then.config, &now.config);
    let PeerAddress { remote, local, protection } = &now.address;
    let differences = [
        ("AS number", a.local_as != b.local_as || a.peer_as != b.peer_as),
        ("router ID", a.router_id != b.router_id),
        ("hold time", a.hold_time != b.hold_time),
        ("send hold time", a.send_hold_time != b.send_hold_time),
        ("several paths", a.add_path != b.add_path),
        ("IPv6 next hops", a.extended_next_hop != b.extended_next_hop),
        ("role", a.role != b.role),
        ("graceful restart", a.restart != b.restart),
        ("port", then.address.remote != *remote),
        ("source address", then.address.local != *local),
        ("password or hops", then.address.protection != *protection),
    ];
    let named: Vec<String> =
        differences.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect();
    if named.is_empty() { vec!["when it calls".to_owned()] } else { named }
}
