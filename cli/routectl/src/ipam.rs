//! `routectl ipam`: address blocks of nodes.

mod check;
mod release;
mod show;

use std::time::Duration;

use clap::Subcommand;
use ipnet::IpNet;
use timing::Retry;

use super::Failure;
use api::client::Client;
use api::{DeleteResponse, Files, ListResponse, ResourceFile};
use datastore::Revision;
use resource::to_yaml;
use resource::{BlockAffinity, IpPool, Kind, Node, Resource, parse_file};

/// The largest number of attempts while others change the store.
const ATTEMPTS: u32 = 10;
/// The first pause between two attempts. The following ones are longer.
const PAUSE: Duration = Duration::from_millis(10);

/// The commands of `ipam`.
#[derive(Debug, Subcommand)]
pub(super) enum Ipam {
    /// Show the use of pools, the blocks, or the block of an address.
    #[command(after_help = "Examples:
  routectl ipam show
  routectl ipam show --show-blocks
  routectl ipam show --ip=10.1.2.7

Of a pool the addresses of nodes' blocks are in use, whether a pod has them or not. Which of a block's pods have is known on its node
alone (host-local's files): there they are counted, elsewhere a block has - instead.")]
    Show(show::Show),
    /// Find blocks of deleted nodes, overlapping blocks, unfinished claims and blocks outside
    /// pools.
    #[command(after_help = "Examples:
  routectl ipam check
  routectl ipam check --fix
  routectl ipam check -o report.json; routectl ipam release --from-report=report.json

--fix releases blocks of nodes that are no more, and unfinished claims; the rest is yours to decide. Exit status 1 where something
is wrong afterwards.")]
    Check(check::Check),
    /// Release a block or a borrowed address, or all blocks of a node.
    #[command(after_help = "Examples:
  routectl ipam release 10.1.2.0/26
  routectl ipam release --ip=10.1.3.9
  routectl ipam release --node node-7

Pods that have addresses of it are no longer reached: release what nobody uses.")]
    Release(release::Release),
}

/// The resources about blocks.
#[derive(Default)]
struct Blocks {
    nodes: Vec<Node>,
    pools: Vec<IpPool>,
    affinities: Vec<BlockAffinity>,
    /// The affinities' manifests, by the same index.
    manifests: Vec<String>,
    /// The revision of the first reading.
    revision: Option<Revision>,
}

impl Blocks {
    async fn read(client: &Client) -> Result<Self, Failure> {
        let mut blocks = Blocks::default();
        for kind in [Kind::Node, Kind::IpPool, Kind::BlockAffinity] {
            let list: ListResponse = client.get(&format!("/v1/resources/{}", kind.plural())).await?;
            blocks.revision.get_or_insert(list.revision);
            for item in &list.items {
                let text = to_yaml(item);
                let parsed = parse_file(kind.plural(), &text);
                match parsed.documents.into_iter().next().map(|document| document.resource) {
                    Some(Resource::Node(node)) => blocks.nodes.push(node),
                    Some(Resource::IpPool(pool)) => blocks.pools.push(pool),
                    Some(Resource::BlockAffinity(affinity)) => {
                        blocks.affinities.push(affinity);
                        blocks.manifests.push(text);
                    }
                    _ => return Err(Failure::Mistakes(parsed.mistakes)),
                }
            }
        }
        Ok(blocks)
    }

    /// Returns every block with its node and its state.
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

    /// Releases blocks by the names of their affinities, all at once. Returns false if the
    /// store has changed since it was read.
    async fn release(&self, client: &Client, names: &[String]) -> Result<bool, Failure> {
        let named = self.affinities.iter().zip(&self.manifests);
        let files = named
            .filter(|(affinity, _)| names.contains(&affinity.name))
            .map(|(affinity, text)| ResourceFile { name: affinity.name.clone(), text: text.clone() })
            .collect();
        let files = Files { files };
        if files.files.is_empty() {
            return Ok(true);
        }
        let done: Option<DeleteResponse> = client.delete_at(&files, self.revision.as_ref()).await?;
        Ok(done.is_some())
    }
}

/// Reads all resources and releases the affinities that `choose` selects. Repeats while others
/// change the store. Returns the released affinities with the value of `choose`.
async fn release_chosen<T>(
    client: &Client,
    mut blocks: Blocks,
    choose: impl Fn(&Blocks) -> Result<(Vec<String>, T), Failure>,
) -> Result<T, Failure> {
    let mut retry = Retry::new(ATTEMPTS, PAUSE, PAUSE * ATTEMPTS);
    loop {
        let (names, outcome) = choose(&blocks)?;
        if blocks.release(client, &names).await? {
            return Ok(outcome);
        }
        if !retry.pause().await {
            return Err(Failure::Io(anyhow::anyhow!(
                "others changed the resources {ATTEMPTS} times meanwhile: repeat the command"
            )));
        }
        blocks = Blocks::read(client).await?;
    }
}

impl Ipam {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let blocks = Blocks::read(client).await?;
        match self {
            Ipam::Show(show) => show.run(client, &blocks).await,
            Ipam::Check(check) => check.run(client, blocks).await,
            Ipam::Release(release) => release.run(client, blocks).await,
        }
    }
}
