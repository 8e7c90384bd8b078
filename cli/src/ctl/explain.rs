//! `routectl explain`: every path to an address and why each was chosen or not.

use std::net::IpAddr;

use clap::Args;
use ipnet::IpNet;

use super::Failure;
use super::output::{self, Shown};
use super::show::{self, Output};
use crate::control::client::Client;
use crate::control::view::ExplainView;

/// The arguments of `explain`.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// An address or a prefix.
    #[arg(value_parser = target)]
    target: String,
    /// How to show it.
    #[arg(short, long, default_value = "table")]
    output: Output,
}

fn target(text: &str) -> Result<String, String> {
    let known = text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok();
    if known {
        Ok(text.to_owned())
    } else {
        Err("an address such as 10.1.2.3, or a prefix such as 10.1.2.0/26".into())
    }
}

impl Explain {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        // Of what an address or a prefix may hold, only the slash means something in a query's place.
        let view: ExplainView =
            client.get(&format!("/v1/explain?target={}", self.target.replace('/', "%2F"))).await?;
        match self.output {
            Output::Json => output::json(&view),
            Output::Yaml => output::yaml(&view),
            Output::Table | Output::Wide => output::print(&text(&view, self.output == Output::Wide)),
        }
    }
}

fn text(view: &ExplainView, wide: bool) -> String {
    let mut text = format!("{} is routed by {}\n", output::clean(&view.target), view.prefix);
    if let Some(route) = &view.route {
        text.push('\n');
        text.push_str(&show::routes(std::slice::from_ref(route), true));
    }
    let mut headings = vec!["BEST", "SOURCE", "PEER", "NEXT HOP", "REASON"];
    if wide {
        headings.extend(["AS PATH", "LOCAL PREF", "MED"]);
    }
    let rows = view.paths.iter().map(|path| {
        let mut row: Vec<Shown> = vec![
            match (path.best, path.shares) {
                (true, _) => Shown::judged("*", true),
                (false, true) => Shown::judged("+", true),
                (false, false) => "".into(),
            },
            show::source(path.source).into(),
            Shown::maybe(path.peer.as_ref()),
            Shown::maybe(path.next_hop),
            (&path.reason).into(),
        ];
        if wide {
            row.push((&path.as_path).into());
            row.push(Shown::maybe(path.local_pref));
            row.push(Shown::maybe(path.med));
        }
        row
    });
    text.push('\n');
    text.push_str(&output::table(&headings, rows.collect()));
    text
}
