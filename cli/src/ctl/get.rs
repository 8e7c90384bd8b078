//! `routectl get`: resources as they are stored, in calicoctl's columns.

use clap::{Args, ValueEnum};
use serde_json::Value as Json;

use super::{Failure, kind, output};
use crate::control::client::Client;
use crate::control::{ListResponse, to_yaml};
use crate::resource::{BgpFilter, Encapsulation, Kind, Resource, parse_file, shown_modes};

/// The arguments of `get`.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// The kind: nodes, ippools, bgppeers, bgpconfigurations or blockaffinities.
    #[arg(value_parser = kind)]
    kind: Kind,
    /// One resource's name; all of the kind if it is left out.
    #[arg(value_parser = name)]
    name: Option<String>,
    /// How to show them.
    #[arg(short, long, default_value = "ps")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A few columns.
    Ps,
    /// More columns.
    Wide,
    /// The resources as YAML documents.
    Yaml,
    /// The resources as JSON: an array, or the one named.
    Json,
}

/// A name that can stand in a request's path; others name nothing.
pub(super) fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !text.is_empty() && text.len() <= 253 && text.chars().all(fits) && !text.starts_with('.') {
        Ok(text.to_owned())
    } else {
        Err("a name is letters, digits, '.', '_' and '-'".into())
    }
}

impl Get {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let path = match &self.name {
            Some(name) => format!("/v1/resources/{}/{name}", self.kind.plural()),
            None => format!("/v1/resources/{}", self.kind.plural()),
        };
        let list: ListResponse = client.get(&path).await?;
        match self.output {
            Output::Json => match (&self.name, list.items.as_slice()) {
                (Some(_), [one]) => output::json(one)?,
                _ => output::json(&list.items)?,
            },
            Output::Yaml => {
                let documents: Vec<String> = list.items.iter().map(to_yaml).collect();
                output::print(&documents.join("---\n"))?;
            }
            Output::Ps | Output::Wide => {
                let wide = self.output == Output::Wide;
                let rows: Vec<Vec<String>> = list.items.iter().map(|item| row(item, wide, &list)).collect();
                output::print(&output::columns(headings(self.kind, wide), &rows))?;
            }
        }
        for warning in &list.warnings {
            eprintln!("{}", output::clean(&warning.to_string()));
        }
        Ok(())
    }
}

fn headings(kind: Kind, wide: bool) -> &'static [&'static str] {
    match (kind, wide) {
        (Kind::Node, false) => &["NAME"],
        (Kind::Node, true) => &["NAME", "ASN", "IPV4", "IPV6"],
        (Kind::IpPool, false) => &["NAME", "CIDR", "SELECTOR"],
        (Kind::IpPool, true) => &[
            "NAME",
            "CIDR",
            "NAT",
            "IPIPMODE",
            "VXLANMODE",
            "DISABLED",
            "DISABLEBGPEXPORT",
            "SELECTOR",
            "ASSIGNMENTMODE",
        ],
        (Kind::BgpPeer, _) => &["NAME", "PEERIP", "NODE", "ASN"],
        (Kind::BgpConfiguration, false) => &["NAME", "MESHENABLED", "ASNUMBER"],
        (Kind::BgpConfiguration, true) => &["NAME", "MESHENABLED", "ASNUMBER", "LISTENPORT", "ENCAPSULATION"],
        (Kind::BgpFilter, false) => &["NAME"],
        (Kind::BgpFilter, true) => &["NAME", "EXPORTV4", "IMPORTV4", "EXPORTV6", "IMPORTV6"],
        (Kind::BlockAffinity, _) => &["NAME", "CIDR", "NODE", "STATE"],
    }
}

/// One resource's cells. What can't be read (a newer daemon's) is shown by its name alone.
fn row(item: &Json, wide: bool, list: &ListResponse) -> Vec<String> {
    let name = item["metadata"]["name"].as_str().unwrap_or("-").to_owned();
    let parsed = parse_file(&name, &to_yaml(item));
    let Some(document) = parsed.documents.into_iter().next() else { return vec![output::clean(&name)] };
    let text = |value: Option<String>| value.unwrap_or_default();
    match document.resource {
        Resource::Node(_) if !wide => vec![name],
        Resource::Node(node) => vec![
            name,
            node.as_number.map_or_else(|| format!("({})", list.as_number), |own| own.to_string()),
            text(node.ipv4.map(|net| net.to_string())),
            text(node.ipv6.map(|net| net.to_string())),
        ],
        Resource::IpPool(pool) if !wide => vec![name, pool.cidr.to_string(), pool.node_selector],
        Resource::IpPool(pool) => {
            let [ipip, vxlan] = shown_modes(&pool, list.encapsulation);
            vec![
                name,
                pool.cidr.to_string(),
                pool.nat_outgoing.to_string(),
                ipip,
                vxlan,
                pool.disabled.to_string(),
                pool.disable_bgp_export.to_string(),
                pool.node_selector,
                pool.assignment_mode,
            ]
        }
        Resource::BgpPeer(peer) => {
            let node = peer.node.or(peer.node_selector.map(|selector| selector.to_string()));
            vec![
                name,
                text(peer.peer_ip.map(|(address, port)| match port {
                    Some(port) => std::net::SocketAddr::new(address, port).to_string(),
                    None => address.to_string(),
                })),
                node.unwrap_or_else(|| "(global)".into()),
                text(peer.as_number.map(|as_number| as_number.to_string())),
            ]
        }
        Resource::BgpConfiguration(configuration) => {
            let mut row =
                vec![name, configuration.node_to_node_mesh.to_string(), configuration.as_number.to_string()];
            if wide {
                row.push(configuration.listen_port.to_string());
                row.push(encapsulation(configuration.routed.encapsulation).to_owned());
            }
            row
        }
        Resource::BgpFilter(_) if !wide => vec![name],
        Resource::BgpFilter(BgpFilter { filter, .. }) => {
            let lists = [&filter.export_v4, &filter.import_v4, &filter.export_v6, &filter.import_v6];
            std::iter::once(name).chain(lists.map(|rules| rules.len().to_string())).collect()
        }
        Resource::BlockAffinity(affinity) => {
            vec![name, affinity.cidr.to_string(), affinity.node, affinity.state.name().to_owned()]
        }
    }
}

fn encapsulation(encapsulation: Encapsulation) -> &'static str {
    match encapsulation {
        Encapsulation::Ipip => "ipip",
        Encapsulation::Vxlan => "vxlan",
        Encapsulation::None => "none",
    }
}
