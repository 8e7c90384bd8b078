//! `routectl explain`: how packets to an address are forwarded, and the first problem on their way.

use crate::usage::UsageError;
use std::net::IpAddr;

use clap::Args;
use ipnet::IpNet;

use super::Failure;
use super::output::{self, StyledCell};
use super::show::{self, ShowFormat};
use api::client::Client;
use api::view::{ExplainFacts, ExplainView, LookupView, VerdictView};

/// The arguments of `explain`.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// An address or a prefix.
    #[arg(value_parser = target)]
    target: String,
    /// The address of a sending pod of this node, for the route lookup in the kernel.
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// The output format.
    #[arg(short, long, default_value = "table")]
    output: ShowFormat,
}

fn target(text: &str) -> Result<String, UsageError> {
    let known = text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok();
    if known {
        Ok(text.to_owned())
    } else {
        Err("an address such as 10.1.2.3, or a prefix such as 10.1.2.0/26".into())
    }
}

impl Explain {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        // The slash is the only character of a prefix that needs an escape in a query.
        let from = self.from.map(|from| format!("&from={from}")).unwrap_or_default();
        let path = format!("/v1/explain?target={}{from}", self.target.replace('/', "%2F"));
        let view: ExplainView = client.get(&path).await?;
        match self.output {
            ShowFormat::Json => output::json(&view)?,
            ShowFormat::Yaml => output::yaml(&view)?,
            ShowFormat::Table | ShowFormat::Wide => {
                output::print(&text(&view, self.output == ShowFormat::Wide))?
            }
        }
        if view.verdict.ok { Ok(()) } else { Err(Failure::Reported) }
    }
}

fn text(view: &ExplainView, wide: bool) -> String {
    let facts = &view.facts;
    let mut text = String::new();
    let lines = lines(facts);
    for (name, value) in &lines {
        text.push_str(&format!("{name:<10} {}\n", output::clean(value)));
    }
    if let Some(route) = &facts.route {
        text.push('\n');
        text.push_str(&show::routes(std::slice::from_ref(route), true));
    }
    if !facts.paths.is_empty() {
        text.push('\n');
        text.push_str(&paths(facts, wide));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&verdict(&view.verdict));
    text
}

/// Returns the facts, a line each.
fn lines(facts: &ExplainFacts) -> Vec<(&'static str, String)> {
    let mut lines = vec![("Target", facts.target.clone())];
    if let Some(from) = &facts.from {
        let behind = match (&from.device, from.mtu, &from.node) {
            (Some(device), Some(mtu), _) => format!(", a pod behind {device} (mtu {mtu})"),
            (Some(device), None, _) => format!(", a pod behind {device}"),
            (None, _, Some(node)) => format!(", in a block of {node}"),
            (None, _, None) => String::new(),
        };
        lines.push(("From", format!("{}{behind}", from.address)));
    }
    if let Some(pool) = &facts.pool {
        let name = pool.name.as_deref().unwrap_or("none, the cluster's setting");
        let cidr = pool.cidr.map(|cidr| format!(" ({cidr})")).unwrap_or_default();
        let hidden = if pool.disable_bgp_export { ", not exported" } else { "" };
        let (how, when) = (output::json_name(pool.encapsulation), output::json_name(pool.mode));
        lines.push(("Pool", format!("{name}{cidr}: {how}, {when}{hidden}")));
    }
    if let Some(owner) = &facts.owner {
        let address = owner.address.map(|address| format!(", {address}")).unwrap_or_default();
        let session = match (&owner.session, owner.local) {
            (_, true) => ", this node".to_owned(),
            (Some(state), false) => format!(", session {state}"),
            (None, false) => String::new(),
        };
        lines.push(("Owner", format!("{} has {}{address}{session}", owner.node, owner.block)));
    }
    if let Some(tunnel) = &facts.tunnel {
        let probe = tunnel.last_probe_ms.map(|ms| format!(", probe {ms:.2} ms")).unwrap_or_default();
        let since = tunnel
            .since
            .as_ref()
            .map(|since| format!(" since {}", output::timestamp(since)))
            .unwrap_or_default();
        let how = show::exit(tunnel.in_use);
        lines.push(("Exit", format!("{} by {how}{since}: {}{probe}", tunnel.node, tunnel.reason)));
    }
    if let Some(outer) = &facts.outer {
        let source = outer.source.map(|source| source.to_string()).unwrap_or_else(|| "?".into());
        let mac = outer.mac.as_ref().map(|mac| format!(", for {mac}")).unwrap_or_default();
        let mtu = outer.mtu.map(|mtu| format!(", mtu {mtu} inside")).unwrap_or_default();
        lines.push(("Outer", format!("{source} -> {}, {}{mac}{mtu}", outer.destination, outer.protocol)));
    }
    if let Some(kernel) = &facts.kernel {
        lines.push(("Kernel", lookup(kernel)));
    }
    if let Some(neighbour) = &facts.neighbour {
        let mac = neighbour.mac.as_ref().map(|mac| format!(" {mac}")).unwrap_or_default();
        let entries = match (neighbour.gateway_entry, neighbour.forwarded_to) {
            (None, _) => String::new(),
            (Some(true), Some(to)) => format!("; VXLAN: gateway known, frames sent to {to}"),
            (Some(true), None) => "; VXLAN: gateway known, no forwarding entry".to_owned(),
            (Some(false), _) => "; VXLAN: gateway not known".to_owned(),
        };
        let line =
            format!("{} on {}: {}{mac}{entries}", neighbour.address, neighbour.device, neighbour.state);
        lines.push(("Neighbour", line));
    }
    lines
}

fn lookup(kernel: &LookupView) -> String {
    let route = match (kernel.prefix, kernel.protocol) {
        (Some(prefix), _) if kernel.ours => format!(" (routed's route {prefix})"),
        (Some(prefix), Some(protocol)) => format!(" (route {prefix}, protocol {protocol})"),
        _ => String::new(),
    };
    if let Some(error) = &kernel.error {
        return format!("refuses: {error}{route}");
    }
    let gateway = kernel.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
    let device = kernel.device.as_ref().map(|device| format!(" dev {device}")).unwrap_or_default();
    let source = kernel.source.map(|source| format!(" src {source}")).unwrap_or_default();
    format!("{}{gateway}{device}{source}{route}", kernel.outcome)
}

fn paths(facts: &ExplainFacts, wide: bool) -> String {
    let mut headings = vec!["BEST", "SOURCE", "PEER", "NEXT HOP", "REASON"];
    if wide {
        headings.extend(["AS PATH", "LOCAL PREF", "MED"]);
    }
    let rows = facts.paths.iter().map(|path| {
        let mut row: Vec<StyledCell> = vec![
            match (path.best, path.shares) {
                (true, _) => StyledCell::judged("*", true),
                (false, true) => StyledCell::judged("+", true),
                (false, false) => "".into(),
            },
            show::source(path.source).into(),
            StyledCell::maybe(path.peer.as_ref()),
            StyledCell::maybe(path.next_hop),
            (&path.reason).into(),
        ];
        if wide {
            row.push((&path.as_path).into());
            row.push(StyledCell::maybe(path.local_pref));
            row.push(StyledCell::maybe(path.med));
        }
        row
    });
    output::table(&headings, rows.collect())
}

fn verdict(verdict: &VerdictView) -> String {
    let mut text = format!("{:<10} {}\n", "Verdict", output::judged(&verdict.text, verdict.ok));
    if let Some(remedy) = &verdict.remedy {
        text.push_str(&format!("{:<10} {}\n", "Next", output::clean(remedy)));
    }
    text
}
