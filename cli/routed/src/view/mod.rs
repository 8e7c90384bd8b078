//! The views of the control API: answers to `routectl show` and other read-only requests.

pub(crate) mod convert;
pub(crate) mod kernel;
pub(crate) mod peer;
pub(crate) mod routes;
mod store;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use futures::future::BoxFuture;
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use api::view::{
    BfdView, Diagnosis, ExplainView, FamilyView, NodeView, PeerDetail, PeerView, PlanView, RouteSource,
    RouteView, StatusView, TunnelView, UpdateErrorView,
};
use api::{Control, ControlError, ExplainRequest, Proposal, RouteQuery};
use bgp::Family;
use bgp::net::{BfdReport, PeerStatus, UpdateError};
use bgp::session::SessionState;
use bgp::wire::attribute::code;
use bgp::wire::frame::MessageKind;
use datastore::StoreHealth;
use routing::Source;
use routing::actor::RibHandle;
use routing::query::{FamilyCounts, PathInfo, PeerCounts, RouteInfo};
use tunnel::TunnelHandle;
use tunnel::report::{DataplaneReport, RouteReport};

use crate::config::{DaemonConfig, Dataplane};
use crate::daemon::drain::DrainRequest;
use crate::daemon::host_tasks::HostTasks;
use crate::daemon::state::{DaemonState, PeerEntry};
use crate::host::tunnel_address;
use crate::node_config::NodeConfig;

use self::store::{store_view, store_warning};

/// The number of disputed blocks that are named; the others are counted.
const DISPUTES_SHOWN: usize = 20;

/// The implementation of the control API. It reads the daemon's parts and changes nothing, except
/// that it passes on a request to drain.
pub(crate) struct Views {
    pub(crate) config: DaemonConfig,
    state: watch::Receiver<Arc<DaemonState>>,
    pub(crate) rib: RibHandle,
    pub(crate) tunnel: Option<TunnelHandle>,
    host_tasks: Option<HostTasks>,
    started: Timestamp,
    drain_requests: mpsc::Sender<DrainRequest>,
    store: Option<watch::Receiver<StoreHealth>>,
    store_problems: Vec<watch::Receiver<Option<String>>>,
    loop_latency: Option<watch::Receiver<tunnel::latency::Latency>>,
}

/// The handles of the parts that the views read.
pub(crate) struct ViewSources {
    pub(crate) state: watch::Receiver<Arc<DaemonState>>,
    pub(crate) rib: RibHandle,
    pub(crate) tunnel: Option<TunnelHandle>,
    pub(crate) host_tasks: Option<HostTasks>,
}

impl Views {
    pub(crate) fn new(
        config: DaemonConfig,
        sources: ViewSources,
        drain_requests: mpsc::Sender<DrainRequest>,
    ) -> Views {
        let ViewSources { state, rib, tunnel, host_tasks } = sources;
        Views {
            config,
            state,
            rib,
            tunnel,
            host_tasks,
            started: Timestamp::now(),
            drain_requests,
            store: None,
            store_problems: Vec::new(),
            loop_latency: None,
        }
    }

    /// Adds the health of a shared store, and the problems of the tasks that use it.
    pub(crate) fn with_store(
        self,
        store: Option<watch::Receiver<StoreHealth>>,
        store_problems: Vec<watch::Receiver<Option<String>>>,
    ) -> Views {
        Views { store, store_problems, ..self }
    }

    /// Adds the measured delay of the daemon's loop.
    pub(crate) fn with_loop_latency(self, loop_latency: watch::Receiver<tunnel::latency::Latency>) -> Views {
        Views { loop_latency: Some(loop_latency), ..self }
    }

    pub(crate) fn state(&self) -> Arc<DaemonState> {
        self.state.borrow().clone()
    }

    pub(crate) async fn report(&self) -> Option<DataplaneReport> {
        self.tunnel.as_ref()?.report().await.ok()
    }

    /// Returns the report of the tunnels without its routes, which may be a million.
    pub(crate) async fn summary(&self) -> Option<DataplaneReport> {
        self.tunnel.as_ref()?.summary().await.ok()
    }

    /// Returns the state of the tunnels to the other nodes, by name.
    pub(crate) async fn tunnel_views(&self) -> Vec<TunnelView> {
        let tunnels = self.summary().await.map(|report| report.tunnels).unwrap_or_default();
        tunnels.into_iter().map(convert::tunnel_view).collect()
    }

    pub(crate) async fn counts(&self, state: &DaemonState) -> HashMap<bgp::PeerId, PeerCounts> {
        let ids: Vec<_> = state.peers.iter().map(|peer| peer.id).collect();
        let counts = move |rib: &routing::Rib| rib.counts_of(ids).collect();
        self.rib.query(counts).await.unwrap_or_default()
    }
}

impl Control for Views {
    fn drain(&self, wait: Duration) -> BoxFuture<'_, Result<(), ControlError>> {
        async move {
            let (answer, answered) = oneshot::channel();
            self.drain_requests
                .send(DrainRequest { wait, answer })
                .await
                .map_err(|_| ControlError::Ending)?;
            answered.await.map_err(|_| ControlError::Ending)?
        }
        .boxed()
    }

    fn peers(&self) -> BoxFuture<'_, Vec<PeerView>> {
        async {
            let state = self.state();
            let counts = self.counts(&state).await;
            let view = |peer: &PeerEntry| {
                let counts = counts.get(&peer.id).copied().unwrap_or_default();
                peer_view(peer, &peer.status.borrow(), counts)
            };
            let mut peers: Vec<_> = state.peers.iter().map(view).collect();
            peers.sort_by(|a, b| (&a.name, a.address).cmp(&(&b.name, b.address)));
            peers
        }
        .boxed()
    }

    fn routes(&self, query: RouteQuery) -> BoxFuture<'_, Result<Vec<RouteView>, ControlError>> {
        self.matching_routes(query).boxed()
    }

    fn peer(&self, name: String) -> BoxFuture<'_, Option<PeerDetail>> {
        self.peer_detail(name).boxed()
    }

    fn tunnels(&self) -> BoxFuture<'_, Vec<TunnelView>> {
        self.tunnel_views().boxed()
    }

    fn nodes(&self) -> BoxFuture<'_, Vec<NodeView>> {
        async {
            let state = self.state();
            let blocks = state.snapshot.blocks();
            let view = |node: &resource::Node| {
                let local = node.name == self.config.node;
                let blocks = blocks.get(node.name.as_str()).cloned().unwrap_or_default();
                let stored = state
                    .node_config
                    .as_ref()
                    .and_then(|node_config| node_config.tunnel.local.tunnel_address);
                let vtep = match stored.filter(|_| local) {
                    Some(stored) => Some(stored),
                    None => node
                        .vxlan_tunnel_address
                        .or_else(|| tunnel_address::configured_or_default(node, &blocks)),
                };
                NodeView {
                    name: node.name.clone(),
                    local,
                    ipv4: node.ipv4.map(|net| net.to_string()),
                    ipv6: node.ipv6.map(|net| net.to_string()),
                    asn: state.snapshot.as_number_of(node),
                    asn_inherited: node.as_number.is_none(),
                    cluster_id: node.cluster_id,
                    vtep: vtep.map(IpAddr::V4),
                    vtep_mac: Some(mac(node.vxlan_mac.unwrap_or_else(|| tunnel::node::vtep_mac(&node.name)))),
                    blocks,
                }
            };
            state.snapshot.nodes.iter().map(view).collect()
        }
        .boxed()
    }

    fn status(&self) -> BoxFuture<'_, StatusView> {
        async {
            let state = self.state();
            let report = self.summary().await;
            let rib =
                self.rib.query(|rib| ((rib.counts(), rib.suppressed()), rib.disputed(DISPUTES_SHOWN))).await;
            let (rib, disputed) = match rib {
                Ok((counts, disputed)) => (Ok(counts), disputed),
                Err(error) => (Err(error), (0, Vec::new())),
            };
            let mut not_ready = state.problems.clone();
            not_ready.extend(state.mistakes.iter().map(|line| format!("not running: {line}")));
            if rib.is_err() {
                not_ready.push("the RIB is not running: restart routed".to_owned());
            }
            if state.node_config.is_some() && !state.in_sync {
                not_ready.push("not all peers have sent their routes yet".to_owned());
            }
            let store = store_view(self.store.as_ref(), &state);
            not_ready.extend(self.store_problems.iter().filter_map(|problem| problem.borrow().clone()));
            if store.is_some() && state.revision.is_none() {
                not_ready
                    .push("the datastore has not answered yet, and there is no snapshot to run".to_owned());
            }
            let mut warnings: Vec<String> = state.warnings.iter().map(ToString::to_string).collect();
            warnings.extend(store.as_ref().and_then(store_warning));
            warnings.extend(disputes(&state, disputed));
            if state.peers.iter().any(|peer| peer.max_prefixes.is_some()) {
                warnings.extend(near_limit(&state, &self.counts(&state).await));
            }
            let firewall = match &self.host_tasks {
                Some(host_tasks) => Some(host_tasks.firewall.report().await),
                None => None,
            };
            let cni = self.host_tasks.as_ref().map(|host_tasks| host_tasks.cni.view());
            warnings.extend(cni.iter().flat_map(|cni| cni.problems.iter().cloned()));
            warnings.extend(firewall.iter().filter_map(|firewall| firewall.problem.clone()));
            let ipip =
                |node_config: &Arc<NodeConfig>| node_config.tunnel.may_use(tunnel::Encapsulation::Ipip);
            if self.config.in_azure && state.node_config.as_ref().is_some_and(ipip) {
                warnings.push(crate::host::cloud::AZURE_DROPS_IPIP.to_owned());
            }
            warnings.extend(report.iter().flat_map(|report| report.problems.iter().cloned()));
            let established = |peer: &&PeerEntry| peer.status.borrow().state == SessionState::Established;
            let node_config = state.node_config.as_ref();
            StatusView {
                node: self.config.node.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started: self.started,
                uptime_s: seconds_since(self.started),
                ready: not_ready.is_empty(),
                not_ready,
                asn: node_config
                    .map_or(state.snapshot.configuration.as_number, |node_config| node_config.rib.local_as.0),
                router_id: node_config.map(|node_config| node_config.rib.router_id.0),
                listen_port: state.listening,
                peers_established: count(state.peers.iter().filter(established).count()),
                peers_total: count(state.peers.len()),
                routes: rib.map_or(0, |(counts, _)| count(counts.prefixes)),
                paths: rib.map_or(0, |(counts, _)| count(counts.paths)),
                attribute_sets: rib.map_or(0, |(counts, _)| count(counts.attribute_sets)),
                suppressed: rib.map_or(0, |(_, suppressed)| count(suppressed)),
                routes_installed: report.as_ref().map_or(0, |report| count(report.routes_installed)),
                kernel_failures: report.as_ref().map_or(0, |report| count(report.failures_total)),
                dataplane: match self.config.dataplane {
                    Dataplane::Kernel => "kernel".to_owned(),
                    Dataplane::None => "none".to_owned(),
                },
                in_sync: state.in_sync,
                datastore: self.config.datastore.describe(),
                store,
                revision: state.revision.as_ref().map(ToString::to_string),
                mistakes: state.mistakes.clone(),
                warnings,
                firewall: firewall.map(convert::firewall_view),
                cni,
                loop_latency: self
                    .loop_latency
                    .as_ref()
                    .map(|loop_latency| convert::latency_view(&loop_latency.borrow()))
                    .unwrap_or_default(),
                kernel: report.map(|report| kernel::kernel_view(&report)),
            }
        }
        .boxed()
    }

    fn explain(&self, request: ExplainRequest) -> BoxFuture<'_, Result<ExplainView, ControlError>> {
        self.explain_target(request).boxed()
    }

    fn plan(&self, proposal: Proposal) -> BoxFuture<'_, Result<PlanView, ControlError>> {
        self.plan_changes(proposal).boxed()
    }

    fn doctor(&self) -> BoxFuture<'_, Result<Diagnosis, ControlError>> {
        self.diagnose().boxed()
    }
}

/// Returns the error for a task that does not answer.
pub(crate) fn task_error(error: impl std::fmt::Display) -> ControlError {
    ControlError::Task(error.to_string())
}

/// Returns a line for each block that a node advertises although the node table assigns it to
/// another node.
fn disputes(state: &DaemonState, (count, first): (usize, Vec<(IpNet, bgp::PeerId)>)) -> Vec<String> {
    let line = |(prefix, id): &(IpNet, bgp::PeerId)| {
        let from = state.name_of(*id).unwrap_or("a peer that is gone");
        let blocks = state.snapshot.blocks();
        let owner = blocks.iter().find(|(_, blocks)| blocks.iter().any(|block| block.contains(prefix)));
        let owner = owner.map_or("another node", |(owner, _)| owner);
        format!(
            "{prefix} comes from {from}, but is {owner}'s in the node table: correct podCIDRs or BlockAffinity, or \
             set spec.routed.ownership to strict"
        )
    };
    let mut lines: Vec<String> = first.iter().map(line).collect();
    if count > lines.len() {
        lines.push(format!(
            "and {} more blocks that are announced by others than their owners",
            count - lines.len()
        ));
    }
    lines
}

/// Returns a line for each peer that approaches its maximum of prefixes.
fn near_limit(state: &DaemonState, counts: &HashMap<bgp::PeerId, PeerCounts>) -> Vec<String> {
    let near = |peer: &PeerEntry| {
        let max = peer.max_prefixes?;
        let held = counts.get(&peer.id)?.all().received;
        (held >= max.warn_at).then(|| {
            format!(
                "{} has sent {held} prefixes of at most {}: raise spec.routed.maxPrefixes.limit, or ask what it sends",
                peer.peering.name, max.limit
            )
        })
    };
    state.peers.iter().filter_map(near).collect()
}

pub(crate) fn peer_view(peer: &PeerEntry, status: &PeerStatus, counts: PeerCounts) -> PeerView {
    let since = timestamp(status.since);
    let up = status.state == SessionState::Established;
    let (families, counts) = (family_views(&counts), counts.all());
    PeerView {
        name: peer.peering.name.clone(),
        address: peer.peering.address,
        port: peer.peering.port,
        asn: peer.peering.as_number,
        r#type: peer.peering.kind,
        state: convert::session_state(status.state),
        since,
        uptime_s: if up { seconds_since(since) } else { 0 },
        received: count(counts.received),
        accepted: count(counts.accepted),
        stale: count(counts.stale),
        stale_until: status.retained_until.map(|until| {
            let left = until.saturating_duration_since(std::time::Instant::now());
            timestamp(SystemTime::now() + left)
        }),
        advertised: count(counts.advertised),
        hold_time_s: status.negotiated.map(|negotiated| negotiated.hold_time),
        router_id: status.negotiated.map(|negotiated| negotiated.peer_id.0),
        last_error: status.last_error.as_ref().map(|line| line.text.clone()),
        bfd: peer.bfd.as_ref().map(|reports| bfd_view(&reports.borrow())),
        update_errors: status.update_errors.count,
        treated_as_withdraw: status.update_errors.treated_as_withdraw,
        discarded: status.update_errors.discarded,
        last_update_error: status.update_errors.last.as_ref().map(update_error_view),
        updates_received: status.traffic.received.messages(MessageKind::Update),
        updates_sent: status.traffic.sent.messages(MessageKind::Update),
        families,
    }
}

fn family_views(counts: &PeerCounts) -> Vec<FamilyView> {
    let view = |(family, counts): (Family, &FamilyCounts)| FamilyView {
        family: if family == Family::Ipv4Unicast { "ipv4" } else { "ipv6" }.to_owned(),
        received: count(counts.received),
        accepted: count(counts.accepted),
        advertised: count(counts.advertised),
        stale: count(counts.stale),
    };
    let all = Family::ALL.into_iter().zip(&counts.families);
    all.filter(|(_, counts)| **counts != FamilyCounts::default()).map(view).collect()
}

fn bfd_view(report: &BfdReport) -> BfdView {
    BfdView {
        state: convert::bfd_state(report.state),
        since: timestamp(report.since),
        diagnostic: report.diagnostic.to_string(),
        detection_time_ms: u64::try_from(report.detection_time.as_millis()).unwrap_or(u64::MAX),
    }
}

fn update_error_view(error: &UpdateError) -> UpdateErrorView {
    UpdateErrorView {
        at: timestamp(error.at),
        attribute: error.attribute,
        name: error.attribute.and_then(code::name).map(ToOwned::to_owned),
        rule: error.rule.to_owned(),
        verdict: error.verdict.name().to_owned(),
        hex: error.octets.iter().map(|octet| format!("{octet:02x}")).collect(),
    }
}

pub(crate) fn route_view(
    route: &RouteInfo,
    kernel: Option<&RouteReport>,
    state: &DaemonState,
    config: &DaemonConfig,
) -> RouteView {
    let best = route.paths.iter().find(|path| path.reason.is_none());
    let shown = best.or_else(|| route.paths.first());
    let own = shown.is_some_and(|path| path.source == Source::Local);
    let reason = match (best, kernel) {
        (None, _) => shown.and_then(|path| path.reason).map_or_else(String::new, |reason| reason.to_string()),
        (Some(_), Some(kernel)) => kernel.reason.clone(),
        (Some(_), None) if config.dataplane == Dataplane::None => "dataplane: none".to_owned(),
        (Some(_), None) if own && is_host(&route.prefix) => "own address, no blackhole for it".to_owned(),
        (Some(_), None) => "not given to the kernel yet".to_owned(),
    };
    RouteView {
        prefix: route.prefix,
        next_hop: shown.filter(|_| !own).map(|path| path.next_hop),
        source: shown.map_or(RouteSource::Static, |path| convert::route_source(path.kind)),
        peer: shown.and_then(|path| peer_name(path, state)),
        exit: kernel.and_then(|kernel| kernel.exit).map(convert::exit_kind),
        device: kernel.and_then(|kernel| kernel.device.clone()),
        installed: kernel.is_some_and(|kernel| kernel.installed),
        reason,
        legs: kernel
            .map_or_else(Vec::new, |kernel| kernel.legs.iter().map(convert::route_member_view).collect()),
    }
}

pub(crate) fn peer_name(path: &PathInfo, state: &DaemonState) -> Option<String> {
    let name = match path.source {
        Source::Peer(id) => state.name_of(id),
        Source::Static => state.node_at(path.next_hop),
        Source::Local => None,
    };
    name.map(ToOwned::to_owned)
}

pub(crate) fn by_prefix(report: Option<&DataplaneReport>) -> HashMap<IpNet, &RouteReport> {
    report.iter().flat_map(|report| &report.routes).map(|route| (route.prefix, route)).collect()
}

pub(crate) fn is_host(prefix: &IpNet) -> bool {
    prefix.prefix_len() == prefix.max_prefix_len()
}

pub(crate) fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn seconds_since(time: Timestamp) -> u64 {
    u64::try_from(Timestamp::now().duration_since(time).as_secs()).unwrap_or(0)
}

pub(crate) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
