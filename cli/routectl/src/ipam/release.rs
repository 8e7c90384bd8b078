//! `routectl ipam release`: release of blocks and borrowed addresses.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use ipnet::IpNet;

use super::check::{CheckReport, Problem, problems};
use super::{Blocks, release_chosen};
use crate::{Failure, output};
use api::client::Client;
use resource::{BlockAffinity, MAX_FILE_BYTES};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The block.
    #[arg(required_unless_present_any = ["node", "ip", "from_report"], conflicts_with_all = ["node", "ip", "from_report"])]
    block: Option<IpNet>,
    /// The node whose blocks are all released.
    #[arg(long, conflicts_with_all = ["ip", "from_report"])]
    node: Option<String>,
    /// The address that a node has borrowed from the block of another.
    #[arg(long, value_name = "IP", conflicts_with = "from_report")]
    ip: Option<IpAddr>,
    /// A report of `ipam check`. Problems of it that still exist are released.
    #[arg(long, value_name = "FILE")]
    from_report: Option<PathBuf>,
    /// Accepted for compatibility with calicoctl: blocks that changed after the report are
    /// never released.
    #[arg(long, hide = true, requires = "from_report")]
    force: bool,
}

fn no(text: String) -> Failure {
    Failure::Io(anyhow::anyhow!(text))
}

impl Release {
    pub(super) async fn run(&self, client: &Client, blocks: Blocks) -> Result<(), Failure> {
        let reported = self.from_report.as_deref().map(read).transpose()?;
        let choose = |blocks: &Blocks| match &reported {
            Some(reported) => Ok(still(blocks, reported)),
            None => self.meant(blocks),
        };
        let lines = release_chosen(client, blocks, choose).await?;
        output::print(&output::clean_lines(&lines))
    }

    /// Returns the affinities to release, and the message after the release.
    fn meant(&self, blocks: &Blocks) -> Result<(Vec<String>, String), Failure> {
        let wanted = self.block.or_else(|| self.ip.map(IpNet::from));
        let is_meant = |affinity: &&BlockAffinity| match (&wanted, &self.node) {
            (Some(block), _) => affinity.cidr == *block,
            (None, node) => Some(&affinity.node) == node.as_ref(),
        };
        let meant: Vec<&BlockAffinity> = blocks.affinities.iter().filter(is_meant).collect();
        if !meant.is_empty() {
            let said =
                |affinity: &&BlockAffinity| format!("Released {} of node {}\n", affinity.cidr, affinity.node);
            return Ok((
                meant.iter().map(|one| one.name.clone()).collect(),
                meant.iter().map(said).collect(),
            ));
        }
        if let Some(address) = self.ip
            && let Some((block, node, _)) =
                blocks.all().iter().rev().find(|(block, ..)| block.contains(&address))
        {
            return Err(no(format!(
                "{address} is one of block {block}, which node {node} hands out by itself: remove host-local's file for it below \
                 /var/lib/cni/networks there, or release the block"
            )));
        }
        let what = wanted.map(|block| block.to_string()).or_else(|| self.node.clone()).unwrap_or_default();
        Err(no(format!("{what} has no BlockAffinity: `routectl ipam show --show-blocks` lists blocks")))
    }
}

/// Returns the problems of a report that still exist.
fn still(blocks: &Blocks, reported: &[Problem]) -> (Vec<String>, String) {
    let now = problems(blocks);
    let same: Vec<&Problem> =
        reported.iter().filter(|one| one.affinity.is_some() && now.contains(one)).collect();
    let mut lines: String = same.iter().map(|problem| problem.released()).collect();
    let changed = reported.iter().filter(|one| one.affinity.is_some()).count() - same.len();
    if changed > 0 {
        lines.push_str(&format!("{changed} of the report are not as they were and stay\n"));
    }
    (same.iter().filter_map(|problem| problem.affinity.clone()).collect(), lines)
}

fn read(file: &std::path::Path) -> Result<Vec<Problem>, Failure> {
    let broken = || format!("{}: not a report of `routectl ipam check -o FILE`", file.display());
    let length = std::fs::metadata(file).with_context(broken).map_err(Failure::Io)?.len();
    if length > MAX_FILE_BYTES as u64 {
        return Err(no(format!("{}: at most {MAX_FILE_BYTES} bytes (got {length})", file.display())));
    }
    let text = std::fs::read_to_string(file).with_context(broken).map_err(Failure::Io)?;
    let report: CheckReport = serde_json::from_str(&text).with_context(broken).map_err(Failure::Io)?;
    Ok(report.problems)
}
