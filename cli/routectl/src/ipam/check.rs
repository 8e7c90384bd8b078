//! `routectl ipam check`: problems of blocks, as text and as a report.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Blocks, release_chosen};
use crate::{Failure, output};
use api::client::Client;
use resource::ipam::{BlockFinding, audit};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Release blocks of deleted nodes and unfinished claims.
    #[arg(long)]
    fix: bool,
    /// Write all blocks and problems to a file, as JSON.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// List every block, not only those with problems.
    #[arg(long, alias = "show-all-ips")]
    show_all: bool,
    /// Accepted for compatibility with calicoctl: problems are always shown.
    #[arg(long, hide = true)]
    show_problem_ips: bool,
}

/// The report of a check.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CheckReport {
    /// The time of the check.
    at: Timestamp,
    /// The blocks.
    blocks: Vec<BlockLine>,
    /// The problems.
    pub(super) problems: Vec<Problem>,
}

#[derive(Debug, Serialize, Deserialize)]
struct BlockLine {
    block: String,
    node: String,
    state: String,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Problem {
    /// `leaked`, `twice`, `outside` or `pending`.
    kind: String,
    /// The block.
    block: String,
    /// Its node.
    node: String,
    /// The BlockAffinity to release, if that solves the problem.
    pub(super) affinity: Option<String>,
    /// The description, one line.
    text: String,
}

impl Problem {
    pub(super) fn of(finding: &BlockFinding) -> Self {
        let (kind, block, node, affinity) = match finding {
            BlockFinding::Leaked { affinity, block, node } => ("leaked", block, node, Some(affinity)),
            BlockFinding::Unfinished { affinity, block, node } => ("pending", block, node, Some(affinity)),
            BlockFinding::Overlap { block, node, .. } => ("twice", block, node, None),
            BlockFinding::OutsidePools { block, node } => ("outside", block, node, None),
        };
        Problem {
            kind: kind.to_owned(),
            block: block.to_string(),
            node: node.clone(),
            affinity: affinity.cloned(),
            text: finding.to_string(),
        }
    }

    pub(super) fn released(&self) -> String {
        format!("Released {}, which was held for node {}\n", self.block, self.node)
    }
}

/// Returns the present problems.
pub(super) fn problems(blocks: &Blocks) -> Vec<Problem> {
    audit(&blocks.nodes, &blocks.pools, &blocks.affinities).iter().map(Problem::of).collect()
}

impl CheckReport {
    fn of(blocks: &Blocks) -> Self {
        let line = |(block, node, state): (ipnet::IpNet, &str, &str)| BlockLine {
            block: block.to_string(),
            node: node.to_owned(),
            state: state.to_owned(),
        };
        CheckReport {
            at: Timestamp::now(),
            blocks: blocks.all().into_iter().map(line).collect(),
            problems: problems(blocks),
        }
    }
}

impl Check {
    pub(super) async fn run(&self, client: &Client, blocks: Blocks) -> Result<(), Failure> {
        if let Some(file) = &self.output {
            let report = CheckReport::of(&blocks);
            let text = serde_json::to_string_pretty(&report).map_err(|error| Failure::Io(error.into()))?;
            let written = std::fs::write(file, text + "\n");
            written.with_context(|| format!("{}: can't be written", file.display())).map_err(Failure::Io)?;
        }
        let mut lines = String::new();
        if self.show_all {
            for (block, node, state) in blocks.all() {
                lines.push_str(&format!("{block} of node {node} ({state})\n"));
            }
        }
        let mut count = blocks.all().len();
        let left = if self.fix {
            let choose = |blocks: &Blocks| {
                let (fixed, left): (Vec<_>, Vec<_>) =
                    problems(blocks).into_iter().partition(|problem| problem.affinity.is_some());
                let names = fixed.iter().filter_map(|problem| problem.affinity.clone()).collect();
                Ok((names, (fixed, left, blocks.all().len())))
            };
            let (fixed, left, now) = release_chosen(client, blocks, choose).await?;
            fixed.iter().for_each(|problem| lines.push_str(&problem.released()));
            count = now;
            left
        } else {
            problems(&blocks)
        };
        left.iter().for_each(|problem| lines.push_str(&format!("{}\n", problem.text)));
        lines.push_str(&format!("{count} block(s), {} problem(s)\n", left.len()));
        output::print(&output::clean_lines(&lines))?;
        match left.len() {
            0 => Ok(()),
            count => Err(Failure::Io(anyhow::anyhow!("{count} problem(s) with blocks"))),
        }
    }
}
