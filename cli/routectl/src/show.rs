//! `routectl show`: the present state of the daemon.

use crate::usage::{UsageError, usage};
use std::net::IpAddr;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::output::{self, StyledCell};
use super::{Failure, get, peer};
use api::client::Client;
use api::view::{
    BfdState, BfdView, ExitKind, FirewallView, NodeView, PeerDetail, PeerView, RouteSource, RouteView,
    StatusView, StoreView, TunnelView, UpdateErrorView,
};

/// The arguments of `show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The subject.
    what: ShowTarget,
    /// For peers: the name or address of one peer, to show in full.
    #[arg(value_parser = peer_name)]
    name: Option<String>,
    /// The output format.
    #[arg(short, long, default_value = "table")]
    output: ShowFormat,
    /// For routes: those of this prefix and inside it.
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// For routes: those from this peer, by name or address.
    #[arg(long, value_name = "NAME", value_parser = peer_name)]
    peer: Option<String>,
    /// For routes: every path received, before any filter. With --peer from that peer only.
    #[arg(long, group = "which")]
    received: bool,
    /// For routes: those advertised to the peer of --peer, with the advertised next hop.
    #[arg(long, group = "which", requires = "peer")]
    advertised: bool,
    /// For routes: every path that a rule rejects, with the reason.
    #[arg(long, group = "which")]
    rejected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ShowTarget {
    /// The BGP sessions.
    #[value(alias = "peer")]
    Peers,
    /// The best route of each prefix.
    #[value(alias = "route")]
    Routes,
    /// The tunnel or direct path to each other node.
    #[value(alias = "tunnel")]
    Tunnels,
    /// The static peer table.
    #[value(alias = "node")]
    Nodes,
    /// The status of the daemon.
    Status,
}

/// The output format of views.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ShowFormat {
    /// Columns.
    Table,
    /// More columns.
    Wide,
    /// JSON, stable.
    Json,
    /// YAML with the names of the JSON.
    Yaml,
}

impl Show {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let output = self.output;
        let of_routes = [
            ("--rejected", self.rejected),
            ("--received", self.received),
            ("--advertised", self.advertised),
            ("--peer", self.peer.is_some()),
            ("--prefix", self.prefix.is_some()),
        ];
        if let Some((name, _)) = of_routes.iter().find(|(_, given)| *given && self.what != ShowTarget::Routes)
        {
            return Err(Failure::Usage(usage!("{name} is for routes: show routes {name}")));
        }
        if self.name.is_some() && self.what != ShowTarget::Peers {
            return Err(Failure::Usage("a name is for peers: show peers NAME".into()));
        }
        match self.what {
            ShowTarget::Peers if self.name.is_some() => {
                let path = format!("/v1/peers/{}", self.name.as_deref().unwrap_or_default());
                show::<PeerDetail>(client, &path, output, |view, _| peer::text(view)).await
            }
            ShowTarget::Peers => {
                show::<Vec<PeerView>>(client, "/v1/peers", output, |view, wide| peers(view, wide)).await
            }
            ShowTarget::Routes => {
                let path = format!("/v1/routes?{}", self.route_query()?);
                let all_columns = self.rejected || self.received || self.advertised;
                show::<Vec<RouteView>>(client, &path, output, |view, wide| routes(view, wide || all_columns))
                    .await
            }
            ShowTarget::Tunnels => {
                show::<Vec<TunnelView>>(client, "/v1/tunnels", output, |view, wide| tunnels(view, wide)).await
            }
            ShowTarget::Nodes => {
                show::<Vec<NodeView>>(client, "/v1/nodes", output, |view, wide| nodes(view, wide)).await
            }
            ShowTarget::Status => {
                show::<StatusView>(client, "/v1/status", output, |view, _| status(view)).await
            }
        }
    }
}

/// Returns a peer's name, or its address.
fn peer_name(text: &str) -> Result<String, UsageError> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => get::name(text),
    }
}

impl Show {
    /// Returns the query of the routes, for the API.
    fn route_query(&self) -> Result<String, Failure> {
        let mut query = match (self.received, self.advertised, self.rejected) {
            (true, ..) => "which=received",
            (_, true, _) => "which=advertised",
            (.., true) => "which=rejected",
            _ => "which=best",
        }
        .to_owned();
        if let Some(text) = &self.prefix {
            let known = text.parse::<IpNet>().ok().or_else(|| Some(text.parse::<IpAddr>().ok()?.into()));
            let Some(prefix) = known else {
                return Err(Failure::Usage(usage!("--prefix: {text:?} is no prefix such as 10.1.2.0/24")));
            };
            query.push_str(&format!("&prefix={}", prefix.to_string().replace('/', "%2F")));
        }
        if let Some(name) = &self.peer {
            query.push_str(&format!("&peer={name}"));
        }
        Ok(query)
    }
}

async fn show<T: DeserializeOwned + Serialize>(
    client: &Client,
    path: &str,
    output: ShowFormat,
    render: impl FnOnce(&T, bool) -> String,
) -> Result<(), Failure> {
    let view: T = client.get(path).await?;
    match output {
        ShowFormat::Table => output::print(&render(&view, false)),
        ShowFormat::Wide => output::print(&render(&view, true)),
        ShowFormat::Json => output::json(&view),
        ShowFormat::Yaml => output::yaml(&view),
    }
}

fn joined(blocks: &[IpNet]) -> String {
    blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn peers(peers: &[PeerView], wide: bool) -> String {
    let mut headings =
        vec!["NAME", "ADDRESS", "ASN", "TYPE", "STATE", "SINCE", "RECEIVED", "ACCEPTED", "ADVERTISED"];
    if wide {
        headings.extend([
            "STALE",
            "HOLD",
            "ROUTER ID",
            "BFD",
            "LAST ERROR",
            "UPDATE ERRORS",
            "LAST UPDATE ERROR",
        ]);
    }
    let rows = peers.iter().map(|peer| {
        let mut row: Vec<StyledCell> = vec![
            (&peer.name).into(),
            peer.address.into(),
            peer.asn.into(),
            output::json_name(peer.r#type).into(),
            StyledCell::state(peer.state),
            output::timestamp(&peer.since).into(),
            peer.received.into(),
            peer.accepted.into(),
            peer.advertised.into(),
        ];
        if wide {
            row.push(match &peer.stale_until {
                Some(until) if peer.stale > 0 => {
                    format!("{} until {}", peer.stale, output::timestamp(until)).into()
                }
                _ => peer.stale.into(),
            });
            row.push(StyledCell::maybe(peer.hold_time_s.map(|seconds| format!("{seconds}s"))));
            row.push(StyledCell::maybe(peer.router_id));
            row.push(StyledCell::maybe(peer.bfd.as_ref().map(bfd)));
            row.push(StyledCell::maybe(peer.last_error.as_ref()));
            row.push(update_errors(peer).into());
            row.push(StyledCell::maybe(peer.last_update_error.as_ref().map(update_error)));
        }
        row
    });
    output::table(&headings, rows.collect())
}

fn bfd(bfd: &BfdView) -> String {
    let state = output::json_name(bfd.state);
    match bfd.state {
        BfdState::Up => format!("{state}, {} ms", bfd.detection_time_ms),
        BfdState::AdminDown | BfdState::Down | BfdState::Init => format!("{state}: {}", bfd.diagnostic),
    }
}

fn update_errors(peer: &PeerView) -> String {
    match peer.update_errors {
        0 => "0".to_owned(),
        count => format!("{count} ({} withdrawn, {} discarded)", peer.treated_as_withdraw, peer.discarded),
    }
}

fn update_error(error: &UpdateErrorView) -> String {
    let attribute = match (&error.name, error.attribute) {
        (Some(name), Some(code)) => format!("{name} ({code}): "),
        (None, Some(code)) => format!("attribute {code}: "),
        (_, None) => String::new(),
    };
    format!("{attribute}{}: {} {}", error.rule, error.verdict.replace('_', " "), error.hex)
}

pub(super) fn exit(exit: Option<ExitKind>) -> String {
    exit.map_or_else(|| "-".into(), output::json_name)
}

pub(super) fn source(source: RouteSource) -> String {
    output::json_name(source)
}

pub(super) fn routes(routes: &[RouteView], wide: bool) -> String {
    let mut headings = vec!["PREFIX", "NEXT HOP", "SOURCE", "EXIT", "DEVICE", "INSTALLED"];
    if wide {
        headings.extend(["PEER", "REASON"]);
    }
    let rows = routes.iter().flat_map(|route| {
        let installed = if route.installed { "yes" } else { "no" };
        let mut row: Vec<StyledCell> = vec![
            route.prefix.into(),
            StyledCell::maybe(route.next_hop),
            source(route.source).into(),
            if route.legs.is_empty() {
                exit(route.exit).into()
            } else {
                format!("{} exits", route.legs.len()).into()
            },
            StyledCell::maybe(route.device.as_ref().filter(|_| route.legs.is_empty())),
            StyledCell::judged(installed, route.installed),
        ];
        if wide {
            row.push(StyledCell::maybe(route.peer.as_ref()));
            row.push((&route.reason).into());
        }
        let legs = route.legs.iter().map(move |leg| {
            let mut row: Vec<StyledCell> = vec![
                "".into(),
                leg.gateway.into(),
                "".into(),
                exit(Some(leg.exit)).into(),
                StyledCell::maybe(leg.device.as_ref()),
                "".into(),
            ];
            if wide {
                row.extend(["".into(), "".into()]);
            }
            row
        });
        std::iter::once(row).chain(legs)
    });
    output::table(&headings, rows.collect())
}

fn tunnels(tunnels: &[TunnelView], wide: bool) -> String {
    let mut headings = vec!["NODE", "ADDRESS", "PREFERRED", "IN USE", "SINCE", "BLOCKS", "REASON"];
    if wide {
        headings.extend(["PROBE", "MTU"]);
    }
    let rows = tunnels.iter().map(|tunnel| {
        let mut row: Vec<StyledCell> = vec![
            (&tunnel.node).into(),
            StyledCell::maybe(tunnel.address),
            exit(tunnel.preferred).into(),
            StyledCell::judged(exit(tunnel.in_use), tunnel.in_use == tunnel.preferred),
            StyledCell::maybe(tunnel.since.as_ref().map(output::timestamp)),
            if wide { joined(&tunnel.blocks).into() } else { tunnel.blocks.len().into() },
            (&tunnel.reason).into(),
        ];
        if wide {
            row.push(StyledCell::maybe(tunnel.last_probe_ms.map(|time| format!("{time:.2} ms"))));
            row.push(StyledCell::maybe(tunnel.mtu));
        }
        row
    });
    output::table(&headings, rows.collect())
}

fn nodes(nodes: &[NodeView], wide: bool) -> String {
    let mut headings = vec!["NAME", "ASN", "IPV4", "IPV6", "BLOCKS"];
    if wide {
        headings.extend(["CLUSTER ID", "VTEP", "VTEP MAC"]);
    }
    let rows = nodes.iter().map(|node| {
        let asn = if node.asn_inherited { format!("({})", node.asn) } else { node.asn.to_string() };
        let name = if node.local { format!("{} (this node)", node.name) } else { node.name.clone() };
        let mut row: Vec<StyledCell> = vec![
            name.into(),
            asn.into(),
            StyledCell::maybe(node.ipv4.as_ref()),
            StyledCell::maybe(node.ipv6.as_ref()),
            if node.blocks.is_empty() { "-".into() } else { joined(&node.blocks).into() },
        ];
        if wide {
            row.push(StyledCell::maybe(node.cluster_id));
            row.push(StyledCell::maybe(node.vtep));
            row.push(StyledCell::maybe(node.vtep_mac.as_ref()));
        }
        row
    });
    output::table(&headings, rows.collect())
}

/// Describes this node's nftables table and the packets that it has dropped.
fn firewall_lines(firewall: &FirewallView) -> Vec<(&'static str, String)> {
    let state = match (firewall.wanted, firewall.installed) {
        (false, _) => "nothing to do",
        (true, true) => "nftables table inet routed",
        (true, false) => "not set",
    };
    let mut lines = vec![("Firewall", format!("{state}, {} drifted", firewall.drift))];
    for (name, guards, dropped) in [
        ("ipip", firewall.guards_ipip, firewall.dropped_ipip),
        ("vxlan", firewall.guards_vxlan, firewall.dropped_vxlan),
    ] {
        if guards {
            let dropped = dropped.map_or_else(String::new, |count| format!(", {count} packets dropped"));
            lines.push(("  accepts", format!("{name} from {} addresses{dropped}", firewall.nodes)));
        }
    }
    if !firewall.masqueraded.is_empty() {
        lines.push(("  masquerades", joined(&firewall.masqueraded)));
    }
    lines.extend(firewall.problem.iter().map(|problem| ("  failure", problem.clone())));
    lines
}

/// Describes the connection to a shared datastore.
fn store_line(store: &StoreView) -> String {
    let since = output::timestamp(&store.since);
    if store.connected {
        return format!("in step with {} since {since}", store.endpoint);
    }
    let what = if store.from_snapshot { "the snapshot on disk runs" } else { "what was known runs" };
    let problem = store.problem.as_deref().unwrap_or("no answer");
    format!("out of reach since {since}, {what}: {problem}")
}

fn status(status: &StatusView) -> String {
    let mut lines = vec![
        ("Node", status.node.clone()),
        ("Version", status.version.clone()),
        ("Running since", format!("{} ({} s)", output::timestamp(&status.started), status.uptime_s)),
        ("Ready", if status.ready { "yes".into() } else { "no".into() }),
    ];
    lines.extend(status.not_ready.iter().map(|reason| ("  because", reason.clone())));
    let port = status.listen_port.map_or_else(|| "not listening".into(), |port| format!("port {port}"));
    let router_id = status.router_id.map_or_else(|| "no router ID".into(), |id| id.to_string());
    lines.extend([
        ("BGP", format!("AS {}, {router_id}, {port}", status.asn)),
        ("Peers", format!("{} of {} Established", status.peers_established, status.peers_total)),
        ("Routes", format!("{}, {} installed", status.routes, status.routes_installed)),
        (
            "Dataplane",
            format!(
                "{}, {}, {}",
                status.dataplane,
                if status.in_sync { "in sync" } else { "not yet in sync" },
                match status.kernel_failures {
                    0 => "nothing refused".to_owned(),
                    count => format!("{count} refused"),
                }
            ),
        ),
    ]);
    if let Some(kernel) = &status.kernel {
        lines.push(("Next hops", format!("{}, {} drifted", kernel.next_hops, kernel.drift)));
        lines.extend(kernel.devices.iter().map(|device| ("  device", device.clone())));
        lines.extend(kernel.sysctls.iter().map(|sysctl| ("  sysctl", sysctl.clone())));
        lines.extend(kernel.failures.iter().map(|failure| ("  failure", failure.clone())));
    }
    if let Some(firewall) = &status.firewall {
        lines.extend(firewall_lines(firewall));
    }
    if let Some(cni) = &status.cni {
        let mtu = cni.pod_mtu.map_or_else(|| "not known yet".to_owned(), |mtu| mtu.to_string());
        lines.push(("Pod MTU", mtu));
        lines.extend(cni.file.iter().map(|file| ("  CNI", file.display().to_string())));
    }
    lines.push(("Datastore", status.datastore.clone()));
    lines.extend(status.store.iter().map(|store| ("  store", store_line(store))));
    lines.extend(status.mistakes.iter().map(|mistake| ("  mistake", mistake.clone())));
    lines.extend(status.warnings.iter().map(|warning| ("  warning", warning.clone())));
    lines.iter().map(|(name, value)| format!("{name:<14} {}\n", output::clean(value))).collect()
}
