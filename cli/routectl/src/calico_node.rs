//! `routectl node status` and `routectl version`, commands of calicoctl.

use clap::{Args, Subcommand};

use super::{Failure, output};
use api::client::Client;
use api::view::{PeerType, PeerView, SessionState, StatusView};

/// The commands of `node`.
#[derive(Debug, Subcommand)]
pub(super) enum Node {
    /// Show this node's BGP sessions in the format of calicoctl.
    #[command(after_help = "Examples:
  routectl node status

`routectl show peers` says more.")]
    Status,
}

impl Node {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let Node::Status = self;
        let status: StatusView = client.get("/v1/status").await?;
        let peers: Vec<PeerView> = client.get("/v1/peers").await?;
        let mut text = format!("routed {} is running on {}.\n", status.version, status.node);
        for (family, is_v4) in [("IPv4", true), ("IPv6", false)] {
            text += &format!("\n{family} BGP status\n");
            let rows: Vec<[String; 5]> =
                peers.iter().filter(|peer| peer.address.is_ipv4() == is_v4).map(row).collect();
            text += &match rows.is_empty() {
                true => format!("No {family} peers found.\n"),
                false => boxed(["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"], &rows),
            };
        }
        output::print(&(text + "\n"))
    }
}

fn row(peer: &PeerView) -> [String; 5] {
    let kind = match peer.r#type {
        PeerType::Mesh => "node-to-node mesh",
        PeerType::Global => "global",
        PeerType::Node => "node specific",
    };
    let up = peer.state == SessionState::Established;
    let error = peer.last_error.as_ref().filter(|_| !up);
    let info = error.map_or_else(|| format!("{:?}", peer.state), |error| format!("{:?} {error}", peer.state));
    [
        peer.address.to_string(),
        kind.to_owned(),
        if up { "up" } else { "start" }.to_owned(),
        output::timestamp(&peer.since),
        output::clean(&info),
    ]
}

/// Renders a table in a box, as calicoctl does: headings centred, cells left-aligned.
fn boxed(headings: [&str; 5], rows: &[[String; 5]]) -> String {
    let mut widths = headings.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let rule: String =
        widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect::<String>() + "+\n";
    let heading: String =
        headings.iter().zip(widths).map(|(cell, width)| format!("| {cell:^width$} ")).collect::<String>()
            + "|\n";
    let line = |row: &[String; 5]| {
        row.iter().zip(widths).map(|(cell, width)| format!("| {cell:width$} ")).collect::<String>() + "|\n"
    };
    let lines: String = rows.iter().map(line).collect();
    format!("{rule}{heading}{rule}{lines}{rule}")
}

/// The arguments of `version`.
#[derive(Debug, Args)]
pub(super) struct Version {
    /// Show the version of routectl only.
    #[arg(long)]
    client: bool,
}

impl Version {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        output::print(&format!("Client Version:    {}\n", env!("CARGO_PKG_VERSION")))?;
        if self.client {
            return Ok(());
        }
        let status: StatusView = client.get("/v1/status").await?;
        output::print(&format!("Daemon Version:    {}\n", status.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_stand_in_a_box_as_wide_as_their_cells() {
        let row = ["10.0.0.2", "global", "up", "x", "Established"].map(ToOwned::to_owned);
        assert_eq!(
            boxed(["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"], &[row]),
            "+--------------+-----------+-------+-------+-------------+\n\
             | PEER ADDRESS | PEER TYPE | STATE | SINCE |    INFO     |\n\
             +--------------+-----------+-------+-------+-------------+\n\
             | 10.0.0.2     | global    | up    | x     | Established |\n\
             +--------------+-----------+-------+-------+-------------+\n"
        );
    }
}
