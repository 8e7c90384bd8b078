//! Tables of `routectl get`: the columns of calicoctl, or columns that the user names.

use crate::usage::{UsageError, usage};
use jsonpath_rust::parser::model::JpQuery;
use serde_json::Value as Json;

use super::output;
use super::template::{self, path};
use api::ListResponse;
use resource::to_yaml;
use resource::{BgpFilter, EncapsulationKind, Kind, Resource, parse_file, shown_modes};

/// The text of kubectl for a path without a value.
const NONE: &str = "<none>";

/// The columns of a table.
#[derive(Clone, Debug)]
pub(super) enum Columns {
    /// The columns of calicoctl's `ps`.
    Few,
    /// The columns of calicoctl's `wide`.
    Wide,
    /// The columns that the user names.
    Chosen(Vec<Column>),
}

/// A column that the user names.
#[derive(Clone, Debug)]
pub(super) enum Column {
    /// A column of calicoctl, by its name.
    Named(String),
    /// A column in kubectl's form: a heading and a path.
    Path {
        /// The heading.
        heading: String,
        /// The path of the values.
        path: JpQuery,
    },
}

impl Columns {
    /// Parses the value of `custom-columns=`: calicoctl's names, or kubectl's `HEADING:PATH`.
    pub(super) fn parse(text: &str) -> Result<Self, UsageError> {
        let column = |item: &str| match item.split_once(':') {
            None if item.is_empty() => Err(UsageError::from("custom-columns=: a column without a name")),
            None => Ok(Column::Named(item.to_ascii_uppercase())),
            Some((heading, text)) => {
                let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
                let (path, _) = path(inner).map_err(|error| usage!("custom-columns=: {text}: {error}"))?;
                Ok(Column::Path { heading: heading.to_owned(), path })
            }
        };
        apart(text).into_iter().map(column).collect::<Result<_, _>>().map(Columns::Chosen)
    }
}

/// Splits a text at commas outside brackets and quotes.
fn apart(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth, mut quote) = (0, 0_u32, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[' | '(' | '{') => depth += 1,
            (None, ']' | ')' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            (None, _) => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().map(str::trim).collect()
}

/// Renders the table of a kind's resources.
///
/// # Errors
/// The kind lacks a column. The message names the columns that it has.
pub(super) fn table(kind: Kind, list: &ListResponse, columns: &Columns) -> Result<String, UsageError> {
    let chosen: Vec<Column> = match columns {
        Columns::Few => headings(kind).0.iter().map(|name| Column::Named((*name).to_owned())).collect(),
        Columns::Wide => headings(kind).1.iter().map(|name| Column::Named((*name).to_owned())).collect(),
        Columns::Chosen(chosen) => chosen.clone(),
    };
    let mut titles = Vec::new();
    for column in &chosen {
        match column {
            Column::Named(name) if !headings(kind).1.contains(&name.as_str()) => {
                let all = headings(kind).1.join(",");
                return Err(usage!(
                    "{}: no column {name}: there are {all}, and HEADING:.PATH",
                    kind.plural()
                ));
            }
            Column::Named(name) => titles.push(name.as_str()),
            Column::Path { heading, .. } => titles.push(heading.as_str()),
        }
    }
    let row = |item: &Json| -> Vec<String> {
        let cells = cells(item, list);
        let cell = |column: &Column| match column {
            Column::Named(name) => cells
                .iter()
                .find(|(heading, _)| heading == name)
                .map_or_else(String::new, |(_, cell)| cell.clone()),
            Column::Path { path, .. } => {
                let found: Vec<String> =
                    template::values(path, item).into_iter().map(template::plain).collect();
                if found.is_empty() { NONE.into() } else { output::clean(&found.join(",")) }
            }
        };
        chosen.iter().map(cell).collect()
    };
    let rows: Vec<Vec<String>> = list.items.iter().map(row).collect();
    Ok(output::columns(&titles, &rows))
}

/// Returns the narrow and the wide columns of a kind.
fn headings(kind: Kind) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        Kind::Node => (&["NAME"], &["NAME", "ASN", "IPV4", "IPV6"]),
        Kind::IpPool => (
            &["NAME", "CIDR", "SELECTOR"],
            &[
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
        ),
        Kind::BgpPeer => (&["NAME", "PEERIP", "NODE", "ASN"], &["NAME", "PEERIP", "NODE", "ASN"]),
        Kind::BgpConfiguration => (
            &["NAME", "LOGSEVERITY", "MESHENABLED", "ASNUMBER"],
            &["NAME", "LOGSEVERITY", "MESHENABLED", "ASNUMBER", "LISTENPORT", "ENCAPSULATION"],
        ),
        Kind::BgpFilter => (&["NAME"], &["NAME", "EXPORTV4", "IMPORTV4", "EXPORTV6", "IMPORTV6"]),
        Kind::BlockAffinity => (&["NAME", "CIDR", "NODE", "STATE"], &["NAME", "CIDR", "NODE", "STATE"]),
    }
}

/// Returns the cells of a resource, by heading. A resource of a newer daemon that can't be parsed
/// has a name only.
fn cells(item: &Json, list: &ListResponse) -> Vec<(&'static str, String)> {
    let name = item["metadata"]["name"].as_str().unwrap_or("-").to_owned();
    let parsed = parse_file(&name, &to_yaml(item));
    let Some(document) = parsed.documents.into_iter().next() else {
        return vec![("NAME", output::clean(&name))];
    };
    let text = |value: Option<String>| value.unwrap_or_default();
    let mut cells = vec![("NAME", name)];
    cells.extend(match document.resource {
        Resource::Node(node) => vec![
            ("ASN", node.as_number.map_or_else(|| format!("({})", list.as_number), |own| own.to_string())),
            ("IPV4", text(node.ipv4.map(|net| net.to_string()))),
            ("IPV6", text(node.ipv6.map(|net| net.to_string()))),
        ],
        Resource::IpPool(pool) => {
            let [ipip, vxlan] = shown_modes(&pool, list.encapsulation);
            vec![
                ("CIDR", pool.cidr.to_string()),
                ("NAT", pool.nat_outgoing.to_string()),
                ("IPIPMODE", ipip),
                ("VXLANMODE", vxlan),
                ("DISABLED", pool.disabled.to_string()),
                ("DISABLEBGPEXPORT", pool.disable_bgp_export.to_string()),
                ("SELECTOR", pool.node_selector),
                ("ASSIGNMENTMODE", pool.assignment_mode),
            ]
        }
        Resource::BgpPeer(peer) => {
            let node = peer.node.or(peer.node_selector.map(|selector| selector.to_string()));
            let address = peer.peer_ip.map(|(address, port)| match port {
                Some(port) => std::net::SocketAddr::new(address, port).to_string(),
                None => address.to_string(),
            });
            vec![
                ("PEERIP", text(address)),
                ("NODE", node.unwrap_or_else(|| "(global)".into())),
                ("ASN", text(peer.as_number.map(|as_number| as_number.to_string()))),
            ]
        }
        Resource::BgpConfiguration(configuration) => vec![
            ("LOGSEVERITY", item["spec"]["logSeverityScreen"].as_str().unwrap_or("Info").to_owned()),
            ("MESHENABLED", configuration.node_to_node_mesh.to_string()),
            ("ASNUMBER", configuration.as_number.to_string()),
            ("LISTENPORT", configuration.listen_port.to_string()),
            ("ENCAPSULATION", encapsulation(configuration.routed.encapsulation).to_owned()),
        ],
        Resource::BgpFilter(BgpFilter { filter, .. }) => vec![
            ("EXPORTV4", filter.export_v4.len().to_string()),
            ("IMPORTV4", filter.import_v4.len().to_string()),
            ("EXPORTV6", filter.export_v6.len().to_string()),
            ("IMPORTV6", filter.import_v6.len().to_string()),
        ],
        Resource::BlockAffinity(affinity) => vec![
            ("CIDR", affinity.cidr.to_string()),
            ("NODE", affinity.node.clone()),
            ("STATE", affinity.state.name().to_owned()),
        ],
    });
    cells
}

fn encapsulation(encapsulation: EncapsulationKind) -> &'static str {
    match encapsulation {
        EncapsulationKind::Ipip => "ipip",
        EncapsulationKind::Vxlan => "vxlan",
        EncapsulationKind::None => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_apart_at_commas_outside_brackets_and_quotes() {
        assert_eq!(apart("NAME, CIDR"), ["NAME", "CIDR"]);
        assert_eq!(
            apart("A:.x[?(@.y==\"a,b\")].z,B:.w['p','q']"),
            ["A:.x[?(@.y==\"a,b\")].z", "B:.w['p','q']"]
        );
        assert!(Columns::parse("").is_err());
        assert!(Columns::parse("NAME,").is_err());
        assert!(Columns::parse("A:.x[").is_err());
    }
}
