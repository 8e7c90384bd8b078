//! Assembly of the documents of all files into one snapshot, with the rules between them.

use super::document::Document;
use super::mistake::{Mistake, Warning};
use super::snapshot::Snapshot;
use super::{Resource, rules};

/// A snapshot with its mistakes and warnings.
#[derive(Clone, Debug, Default)]
pub struct Assembly {
    /// The resources. Use them only if there are no mistakes.
    pub snapshot: Snapshot,
    /// The broken rules between resources.
    pub mistakes: Vec<Mistake>,
    /// The warnings.
    pub warnings: Vec<Warning>,
}

/// Assembles the documents of all files, older ones first. If two conflict, the mistake is
/// reported for the later one.
pub fn assemble<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Assembly {
    let documents: Vec<&Document> = documents.into_iter().collect();
    let mut snapshot = Snapshot::default();
    for document in &documents {
        match &document.resource {
            Resource::IpPool(pool) => snapshot.pools.push(pool.clone()),
            Resource::Node(node) => snapshot.nodes.push(node.clone()),
            Resource::BgpPeer(peer) => snapshot.peers.push(peer.clone()),
            Resource::BgpConfiguration(configuration) => snapshot.configuration = configuration.clone(),
            Resource::BlockAffinity(affinity) => snapshot.affinities.push(affinity.clone()),
            Resource::BgpFilter(filter) => snapshot.filters.push(filter.clone()),
        }
    }
    // By name, so that snapshots of the same resources are equal regardless of the order of the
    // files.
    snapshot.nodes.sort_by(|a, b| a.name.cmp(&b.name));
    snapshot.pools.sort_by(|a, b| a.name.cmp(&b.name));
    snapshot.peers.sort_by(|a, b| a.name.cmp(&b.name));
    snapshot.filters.sort_by(|a, b| a.name.cmp(&b.name));
    snapshot.affinities.sort_by(|a, b| a.name.cmp(&b.name));
    let (mistakes, warnings) = rules::check(&documents, &snapshot);
    Assembly { snapshot, mistakes, warnings }
}
