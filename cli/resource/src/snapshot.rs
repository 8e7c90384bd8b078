//! The snapshot: all resources of the cluster.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::affinity::BlockAffinity;
use super::configuration::BgpConfiguration;
use super::filter::BgpFilter;
use super::node::Node;
use super::peer::BgpPeer;
use super::pool::{EncapsulationKind, EncapsulationMode, IpPool, inherited};

/// The resources of a cluster, checked against each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The nodes, by name.
    pub nodes: Vec<Node>,
    /// The pools, by name.
    pub pools: Vec<IpPool>,
    /// The peers in addition to the mesh, by name.
    pub peers: Vec<BgpPeer>,
    /// The filters, by name.
    pub filters: Vec<BgpFilter>,
    /// `BGPConfiguration/default`, or the default settings.
    pub configuration: BgpConfiguration,
    /// The block affinities, by name, confirmed or not.
    pub affinities: Vec<BlockAffinity>,
}

impl Snapshot {
    /// Returns the blocks of a node: its podCIDRs and its confirmed affinities, sorted, each once.
    pub fn blocks_of(&self, node: &str) -> Vec<IpNet> {
        let own = self.nodes.iter().filter(|candidate| candidate.name == node);
        let affinities =
            self.affinities.iter().filter(|affinity| affinity.node == node && affinity.is_confirmed());
        let blocks: BTreeSet<IpNet> = own
            .flat_map(|node| node.pod_cidrs.iter().copied())
            .chain(affinities.map(|affinity| affinity.cidr))
            .collect();
        blocks.into_iter().collect()
    }

    /// Returns the blocks of every node as [`Snapshot::blocks_of`] does, in one pass.
    pub fn blocks(&self) -> BTreeMap<&str, Vec<IpNet>> {
        let mut blocks: BTreeMap<&str, BTreeSet<IpNet>> = BTreeMap::new();
        for node in &self.nodes {
            blocks.entry(&node.name).or_default().extend(&node.pod_cidrs);
        }
        for affinity in self.affinities.iter().filter(|affinity| affinity.is_confirmed()) {
            blocks.entry(&affinity.node).or_default().insert(affinity.cidr);
        }
        blocks.into_iter().map(|(node, blocks)| (node, blocks.into_iter().collect())).collect()
    }

    /// Returns the node's AS number: its own, or the one of the cluster.
    pub fn as_number_of(&self, node: &Node) -> u32 {
        node.as_number.unwrap_or(self.configuration.as_number)
    }

    /// Returns whether the cluster or one of its nodes has the AS number.
    pub fn is_own_as(&self, as_number: u32) -> bool {
        as_number == self.configuration.as_number
            || self.nodes.iter().any(|node| node.as_number == Some(as_number))
    }

    /// Returns the filter with the name.
    pub fn filter(&self, name: &str) -> Option<&BgpFilter> {
        let at = self.filters.binary_search_by(|filter| filter.name.as_str().cmp(name));
        self.filters.get(at.ok()?)
    }

    /// Returns the pool that contains a prefix.
    pub fn pool_of(&self, prefix: &IpNet) -> Option<&IpPool> {
        self.pools.iter().find(|pool| pool.cidr.contains(prefix))
    }

    /// Returns the encapsulation of packets to `prefix`: that of its pool or, if there are no
    /// pools, the cluster's setting. Returns `None` outside every pool, where packets are not
    /// encapsulated; the caller can tell this from a pool with mode `Never`.
    pub fn encapsulation_of(&self, prefix: &IpNet) -> Option<(EncapsulationKind, EncapsulationMode)> {
        let cluster = self.configuration.routed.encapsulation;
        match self.pool_of(prefix) {
            Some(pool) => Some(pool.effective(cluster)),
            None if self.pools.is_empty() => Some(inherited(prefix, cluster)),
            None => None,
        }
    }
}
