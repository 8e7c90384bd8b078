//! `routectl ipam`: the blocks that are handed out.

use clap::{Args, Subcommand};
use hyper::Method;
use ipnet::IpNet;

use super::{Failure, output};
use crate::control::client::Client;
use crate::control::{DeleteResponse, ListResponse, to_yaml};
use crate::ipam::{Finding, audit, count_blocks};
use crate::resource::{BlockAffinity, IpPool, Kind, Node, Resource, parse_file};

/// What can be done with blocks.
#[derive(Debug, Subcommand)]
pub(super) enum Ipam {
    /// Show how much of each pool is handed out.
    #[command(after_help = "Examples:
  routectl ipam show
  routectl ipam show --show-blocks")]
    Show(Show),
    /// Look for blocks of nodes that are no more, double claims, unfinished claims and blocks outside pools.
    #[command(after_help = "Examples:
  routectl ipam check
  routectl ipam check --fix

--fix releases blocks of nodes that are no more, and unfinished claims; the rest is yours to decide. Exit status 1 where something
is wrong afterwards.")]
    Check(Check),
    /// Take a block away from its node, or all of a node.
    #[command(after_help = "Examples:
  routectl ipam release 10.1.2.0/26
  routectl ipam release --node node-7

Pods that have addresses of it are no longer reached: release what nobody uses.")]
    Release(Release),
}

/// The arguments of `show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// Each block, with its node.
    #[arg(long)]
    show_blocks: bool,
}

/// The arguments of `check`.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Release what is held for nobody.
    #[arg(long)]
    fix: bool,
}

/// The arguments of `release`.
#[derive(Debug, Args)]
pub(super) struct Release {
    /// The block.
    #[arg(required_unless_present = "node", conflicts_with = "node")]
    block: Option<IpNet>,
    /// The node, of which all blocks are released.
    #[arg(long)]
    node: Option<String>,
}

/// All that matters for blocks.
#[derive(Default)]
struct Blocks {
    nodes: Vec<Node>,
    pools: Vec<IpPool>,
    affinities: Vec<BlockAffinity>,
}

impl Blocks {
    async fn read(client: &Client) -> Result<Self, Failure> {
        let mut blocks = Blocks::default();
        for kind in [Kind::Node, Kind::IpPool, Kind::BlockAffinity] {
            let list: ListResponse = client.get(&format!("/v1/resources/{}", kind.plural())).await?;
            for item in &list.items {
                let parsed = parse_file(kind.plural(), &to_yaml(item));
                match parsed.documents.into_iter().next().map(|document| document.resource) {
                    Some(Resource::Node(node)) => blocks.nodes.push(node),
                    Some(Resource::IpPool(pool)) => blocks.pools.push(pool),
                    Some(Resource::BlockAffinity(affinity)) => blocks.affinities.push(affinity),
                    _ => return Err(Failure::Mistakes(parsed.mistakes)),
                }
            }
        }
        Ok(blocks)
    }

    /// Every block with its node and its state.
    fn all(&self) -> Vec<(IpNet, &str, &str)> {
        let own = self
            .nodes
            .iter()
            .flat_map(|node| node.pod_cidrs.iter().map(|cidr| (*cidr, node.name.as_str(), "podCIDRs")));
        let claimed = self
            .affinities
            .iter()
            .map(|affinity| (affinity.cidr, affinity.node.as_str(), affinity.state.name()));
        let mut all: Vec<_> = own.chain(claimed).collect();
        all.sort();
        all
    }
}

async fn release(client: &Client, affinity: &str) -> Result<(), Failure> {
    let path = format!("/v1/resources/{}/{affinity}", Kind::BlockAffinity.plural());
    let _: DeleteResponse = client.request(Method::DELETE, &path, None::<&()>).await?;
    Ok(())
}

impl Ipam {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let blocks = Blocks::read(client).await?;
        match self {
            Ipam::Show(show) => output::print(&show.table(&blocks)),
            Ipam::Check(check) => check.run(client, &blocks).await,
            Ipam::Release(release) => release.run(client, &blocks).await,
        }
    }
}

impl Show {
    fn table(&self, blocks: &Blocks) -> String {
        let all = blocks.all();
        let mut rows = Vec::new();
        for pool in &blocks.pools {
            let inside: Vec<_> = all.iter().filter(|(block, ..)| pool.cidr.contains(block)).collect();
            // A borrowed address is part of somebody's block.
            let held =
                inside.iter().filter(|(block, ..)| block.prefix_len() <= pool.block_size).count() as u128;
            let total = count_blocks(&pool.cidr, pool.block_size);
            let free = total.saturating_sub(held);
            let row = [
                "IP Pool".to_owned(),
                pool.cidr.to_string(),
                total.to_string(),
                held.to_string(),
                free.to_string(),
                pool.name.clone(),
            ];
            rows.push(row.to_vec());
            if self.show_blocks {
                rows.extend(inside.iter().map(|(block, node, state)| {
                    vec![
                        "Block".to_owned(),
                        block.to_string(),
                        "-".into(),
                        (*state).to_owned(),
                        "-".into(),
                        (*node).to_owned(),
                    ]
                }));
            }
        }
        output::columns(
            &["GROUPING", "CIDR", "BLOCKS TOTAL", "BLOCKS HELD", "BLOCKS FREE", "POOL OR NODE"],
            &rows,
        )
    }
}

impl Check {
    async fn run(&self, client: &Client, blocks: &Blocks) -> Result<(), Failure> {
        let mut left = 0;
        let findings = audit(&blocks.nodes, &blocks.pools, &blocks.affinities);
        let mut lines = String::new();
        for finding in &findings {
            match finding {
                Finding::Leaked { affinity, block, node } | Finding::Pending { affinity, block, node }
                    if self.fix =>
                {
                    release(client, affinity).await?;
                    lines.push_str(&format!("Released {block}, which was held for node {node}\n"));
                }
                finding => {
                    left += 1;
                    lines.push_str(&format!("{finding}\n"));
                }
            }
        }
        lines.push_str(&format!("{} block(s), {left} problem(s)\n", blocks.all().len()));
        output::print(&output::clean_lines(&lines))?;
        match left {
            0 => Ok(()),
            count => Err(Failure::Io(anyhow::anyhow!("{count} problem(s) with blocks"))),
        }
    }
}

impl Release {
    async fn run(&self, client: &Client, blocks: &Blocks) -> Result<(), Failure> {
        let is_meant = |affinity: &&BlockAffinity| match (&self.block, &self.node) {
            (Some(block), _) => affinity.cidr == *block,
            (None, node) => Some(&affinity.node) == node.as_ref(),
        };
        let meant: Vec<&BlockAffinity> = blocks.affinities.iter().filter(is_meant).collect();
        if meant.is_empty() {
            let what =
                self.block.map(|block| block.to_string()).or_else(|| self.node.clone()).unwrap_or_default();
            return Err(Failure::Io(anyhow::anyhow!(
                "{what} has no BlockAffinity: `routectl ipam show --show-blocks` lists them"
            )));
        }
        for affinity in meant {
            release(client, &affinity.name).await?;
            output::print(&format!("Released {} of node {}\n", affinity.cidr, affinity.node))?;
        }
        Ok(())
    }
}
