//! `/metrics`: the daemon's counters, with the names and units of Prometheus' conventions.
//!
//! The values are read at each scrape; no counter is kept here.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use super::view::{
    BOUNDS_US, BfdState, ExitKind, LatencyView, PeerView, SessionState, StatusView, StoreView, TunnelView,
};

/// The delay above which the loop counts as stalled.
const STALL: Duration = Duration::from_millis(100);
/// The classic text format, which every version of Prometheus reads.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabels {
    peer: String,
    address: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PrefixLabels {
    peer: String,
    address: String,
    family: String,
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpdateLabels {
    peer: String,
    address: String,
    direction: String,
}

/// A histogram of durations that were counted elsewhere.
#[derive(Clone, Copy, Debug, Default)]
struct LatencyHistogram(LatencyView);

impl EncodeMetric for LatencyHistogram {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        let LatencyHistogram(latency) = self;
        // The last bucket has the durations above all bounds.
        let bounds = BOUNDS_US.iter().map(|bound| seconds(*bound)).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(latency.counts).collect();
        encoder.encode_histogram::<[(&str, &str); 0]>(
            seconds(latency.sum_us),
            latency.count(),
            &buckets,
            None,
        )
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl TypedMetric for LatencyHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EncapsulationLabels {
    encapsulation: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: String,
}

fn peer_labels(peer: &PeerView) -> PeerLabels {
    PeerLabels { peer: peer.name.clone(), address: peer.address.to_string() }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Registers a gauge with one value.
fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(signed(value));
    registry.register(name, help, gauge);
}

/// Registers a counter with one value.
fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstCounter::new(value));
}

/// Returns all metrics as text.
pub(super) fn text(status: &StatusView, peers: &[PeerView], tunnels: &[TunnelView]) -> String {
    let mut registry = Registry::with_prefix("routed");
    let registry = &mut registry;
    let info = [("version".to_owned(), status.version.clone()), ("node".to_owned(), status.node.clone())];
    registry.register("build", "The daemon's version and its node", Info::new(info.to_vec()));
    register_daemon(registry, status);
    register_peers(registry, peers);
    register_tunnels(registry, status, tunnels);
    let mut open = String::new();
    // Writing to a String cannot fail.
    let _ = text::encode(&mut open, registry);
    classic(&open)
}

/// Registers the metrics of the daemon, its store and the kernel.
fn register_daemon(registry: &mut Registry, status: &StatusView) {
    gauge(registry, "ready", "Whether the daemon does all it should", status.ready.into());
    let uptime = Gauge::<i64>::default();
    uptime.set(signed(status.uptime_s));
    registry.register_with_unit("uptime", "Time since the start", Unit::Seconds, uptime);
    gauge(registry, "in_sync", "Whether the routes were whole once since the start", status.in_sync.into());
    gauge(
        registry,
        "resource_mistakes",
        "Mistakes in resources that are not running for it",
        status.mistakes.len() as u64,
    );
    gauge(registry, "warnings", "Things that somebody should look at", status.warnings.len() as u64);
    gauge(registry, "rib_prefixes", "Prefixes of the RIB", status.routes);
    gauge(registry, "rib_paths", "Paths of the RIB", status.paths);
    gauge(registry, "rib_attribute_sets", "Different attribute sets of the RIB", status.attribute_sets);
    gauge(
        registry,
        "static_paths_suppressed",
        "Static paths whose owner has withdrawn the block",
        status.suppressed,
    );
    gauge(registry, "routes_installed", "Routes that the kernel has as wanted", status.routes_installed);
    gauge(
        registry,
        "kernel_failing",
        "Kernel objects that were refused and are tried again",
        status.kernel_failures,
    );
    let help = "How late the daemon's loop gave everybody their turn, once a second";
    registry.register_with_unit("loop_lateness", help, Unit::Seconds, LatencyHistogram(status.loop_latency));
    let stalls = status.loop_latency.longer_than(STALL);
    counter(registry, "loop_stalls", "Times that the loop was later than 100 ms", stalls);
    if let Some(store) = &status.store {
        register_store(registry, store);
    }
    let Some(kernel) = &status.kernel else { return };
    let work = &kernel.work;
    counter(registry, "kernel_drift", "Entries of ours that others changed", kernel.drift);
    counter(registry, "kernel_route_changes", "Routes added, replaced and deleted", work.routes);
    counter(
        registry,
        "kernel_object_changes",
        "Other kernel objects added, replaced and deleted",
        work.objects,
    );
    counter(registry, "kernel_refusals", "Changes that the kernel refused", work.refused);
    let help = "How long the kernel took for a batch of changes of routes, at most 256";
    registry.register_with_unit(
        "kernel_route_batch_duration",
        help,
        Unit::Seconds,
        LatencyHistogram(kernel.latency.routes),
    );
    let help = "How long the kernel took for changes of other objects that belong together";
    registry.register_with_unit(
        "kernel_object_batch_duration",
        help,
        Unit::Seconds,
        LatencyHistogram(kernel.latency.objects),
    );
    counter(registry, "probes", "Probes sent through the tunnels", work.probes);
    counter(registry, "probes_lost", "Probes that were not answered", work.probes_lost);
    let fallbacks = Family::<ReasonLabels, Counter>::default();
    for (reason, count) in [("ipip", work.fallbacks_ipip), ("bgp", work.fallbacks_bgp)] {
        fallbacks.get_or_create(&ReasonLabels { reason: reason.to_owned() }).inc_by(count);
    }
    registry.register("fallbacks", "Nodes that moved to the fallback, by what did not pass", fallbacks);
}

fn register_store(registry: &mut Registry, store: &StoreView) {
    gauge(
        registry,
        "store_connected",
        "Whether what runs is what the datastore says now",
        store.connected.into(),
    );
    let lag = Gauge::<i64>::default();
    lag.set(signed(store.lag_s));
    let help = "How long what runs may have differed from what the datastore says";
    registry.register_with_unit("store_lag", help, Unit::Seconds, lag);
    gauge(registry, "store_from_snapshot", "Whether the snapshot on disk runs", store.from_snapshot.into());
    counter(registry, "store_relists", "Times that everything was read anew", store.relists);
}

fn register_peers(registry: &mut Registry, peers: &[PeerView]) {
    let established = Family::<PeerLabels, Gauge>::default();
    let uptime = Family::<PeerLabels, Gauge>::default();
    let bfd = Family::<PeerLabels, Gauge>::default();
    let prefixes = Family::<PrefixLabels, Gauge>::default();
    let errors = Family::<PeerLabels, Counter>::default();
    let updates = Family::<UpdateLabels, Counter>::default();
    for peer in peers {
        established.get_or_create(&peer_labels(peer)).set((peer.state == SessionState::Established).into());
        uptime.get_or_create(&peer_labels(peer)).set(signed(peer.uptime_s));
        errors.get_or_create(&peer_labels(peer)).inc_by(peer.update_errors);
        if let Some(session) = &peer.bfd {
            bfd.get_or_create(&peer_labels(peer)).set((session.state == BfdState::Up).into());
        }
        for (direction, count) in [("in", peer.updates_received), ("out", peer.updates_sent)] {
            let PeerLabels { peer, address } = peer_labels(peer);
            let labels = UpdateLabels { peer, address, direction: direction.to_owned() };
            updates.get_or_create(&labels).inc_by(count);
        }
        for family in &peer.families {
            for (kind, count) in [
                ("received", family.received),
                ("accepted", family.accepted),
                ("advertised", family.advertised),
                ("stale", family.stale),
            ] {
                let PeerLabels { peer, address } = peer_labels(peer);
                let (family, kind) = (family.family.clone(), kind.to_owned());
                prefixes.get_or_create(&PrefixLabels { peer, address, family, kind }).set(signed(count));
            }
        }
    }
    registry.register("peer_established", "Whether a session is Established", established);
    registry.register_with_unit("peer_uptime", "Time since a session is Established", Unit::Seconds, uptime);
    registry.register("peer_prefixes", "Prefixes of a peer, by family and by what became of them", prefixes);
    registry.register("peer_updates", "UPDATE messages, from a peer (in) and to it (out)", updates);
    registry.register("peer_update_errors", "UPDATEs with an error (RFC 7606)", errors);
    registry.register("peer_bfd_up", "Whether BFD beside a session is up, where there is BFD", bfd);
}

fn register_tunnels(registry: &mut Registry, status: &StatusView, tunnels: &[TunnelView]) {
    let reached = Family::<EncapsulationLabels, Gauge>::default();
    let named = |name: &str| EncapsulationLabels { encapsulation: name.to_owned() };
    for (name, kind) in [
        ("direct", Some(ExitKind::Direct)),
        ("ipip", Some(ExitKind::Ipip)),
        ("vxlan", Some(ExitKind::Vxlan)),
        ("none", None),
    ] {
        let count = tunnels.iter().filter(|tunnel| tunnel.in_use == kind).count();
        reached.get_or_create(&named(name)).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    registry.register("nodes_reached", "Other nodes by the encapsulation that reaches them", reached);
    let elsewhere = tunnels.iter().filter(|tunnel| tunnel.in_use != tunnel.preferred).count();
    gauge(registry, "nodes_not_preferred", "Other nodes that are not reached as preferred", elsewhere as u64);
    let Some(firewall) = &status.firewall else { return };
    let dropped = Family::<EncapsulationLabels, Counter>::default();
    for (name, count) in [("ipip", firewall.dropped_ipip), ("vxlan", firewall.dropped_vxlan)] {
        if let Some(count) = count {
            dropped.get_or_create(&named(name)).inc_by(count);
        }
    }
    registry.register("tunnel_packets_dropped", "Encapsulated packets from nobody that is known", dropped);
}

/// Converts OpenMetrics to the classic format. OpenMetrics names a counter's family without the
/// suffix of its samples; the classic format has the suffix in both, and has no `# EOF`, no `#
/// UNIT` and no type info.
fn classic(open: &str) -> String {
    let counters: Vec<&str> =
        open.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let infos: Vec<&str> =
        open.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" info")).collect();
    let mut classic = String::with_capacity(open.len());
    for line in open.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => continue,
            (Some("#"), Some(what @ ("HELP" | "TYPE")), Some(name), rest) if counters.contains(&name) => {
                classic.push_str(&format!("# {what} {name}_total {}\n", rest.unwrap_or_default()));
            }
            (Some("#"), Some("TYPE"), Some(name), _) if infos.contains(&name) => {
                classic.push_str(&format!("# TYPE {name}_info gauge\n"));
            }
            (Some("#"), Some("HELP"), Some(name), rest) if infos.contains(&name) => {
                classic.push_str(&format!("# HELP {name}_info {}\n", rest.unwrap_or_default()));
            }
            _ => {
                classic.push_str(line);
                classic.push('\n');
            }
        }
    }
    classic
}
