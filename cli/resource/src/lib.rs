//! What the cluster shares: pools, nodes, peers, the BGP configuration and blocks, read from the
//! files people have (`projectcalico.org/v3`, and v1's `ipPool`, `node` and `bgpPeer`).
//!
//! Text becomes a tree that knows its lines, the tree becomes valid types, and the types of all files
//! together become a [`Snapshot`]; what is wrong on the way is a list of [`Mistake`]s.

mod advertisement;
mod affinity;
mod assembly;
mod bfd;
mod cluster;
mod cni;
mod configuration;
mod document;
mod filter;
pub mod ipam;
mod kind;
mod kubectl_selector;
mod manifest;
mod mistake;
mod node;
mod parse;
mod parse_cache;
mod peer;
mod peer_policy;
mod pool;
pub mod reader;
pub mod reference;
mod rules;
pub mod scalar;
mod security;
mod selector;
mod snapshot;
mod stream;
pub mod tree;

pub use affinity::{AffinityState, BlockAffinity};
pub use assembly::{Assembly, assemble};
pub use bfd::BfdSettings;
pub use cluster::ClusterConfiguration;
pub use cni::{CniPlugin, CniSettings};
pub use configuration::{BgpConfiguration, FallbackSetting, RoutedSettings};
pub use document::{Document, ParsedFile};
pub use filter::BgpFilter;
pub use kind::{Key, Kind};
pub use manifest::{to_yaml, without_version};
pub use mistake::{Mistake, Origin, Warning};
pub use node::default_tunnel_address;
pub use node::{HOST_ANNOTATION, Node};
pub use parse::parse_file_cached;
pub use parse::{MAX_FILE_BYTES, parse_file};
pub use parse_cache::ParseCache;
pub use peer::{BgpPeer, ReversePeering, SourceAddress};
pub use peer_policy::{AddPathMode, MaxPrefixes, PeerPolicyFields, PeerRange};
pub use pool::{EncapsulationKind, EncapsulationMode, IpPool};
pub use pool::{shown_modes, v3_manifest as pool_manifest};
pub use scalar::parse_duration;
pub use security::Security;
pub use selector::{Selector, SelectorError};
pub use snapshot::Snapshot;
pub use tree::yaml_as_json;

/// The version of the resources.
pub const API_VERSION: &str = "projectcalico.org/v3";

/// A valid resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// A range of pod addresses.
    IpPool(IpPool),
    /// A node of the cluster.
    Node(Node),
    /// A BGP session beside the mesh.
    BgpPeer(BgpPeer),
    /// What holds for the whole cluster.
    BgpConfiguration(BgpConfiguration),
    /// A block of addresses that a node owns.
    BlockAffinity(BlockAffinity),
    /// Which routes peers may send and are told.
    BgpFilter(BgpFilter),
}

impl Resource {
    /// What the resource is known by.
    pub fn key(&self) -> Key {
        let (kind, name) = match self {
            Resource::IpPool(pool) => (Kind::IpPool, pool.name.as_str()),
            Resource::Node(node) => (Kind::Node, node.name.as_str()),
            Resource::BgpPeer(peer) => (Kind::BgpPeer, peer.name.as_str()),
            Resource::BgpConfiguration(_) => (Kind::BgpConfiguration, "default"),
            Resource::BlockAffinity(affinity) => (Kind::BlockAffinity, affinity.name.as_str()),
            Resource::BgpFilter(filter) => (Kind::BgpFilter, filter.name.as_str()),
        };
        Key { kind, name: name.to_owned() }
    }

    /// Sets the line that the resource begins at.
    pub fn set_line(&mut self, line: u64) {
        self.origin_mut().line = line;
    }

    fn set_origin(&mut self, origin: Origin) {
        *self.origin_mut() = origin;
    }

    fn origin_mut(&mut self) -> &mut Origin {
        match self {
            Resource::IpPool(pool) => &mut pool.origin,
            Resource::Node(node) => &mut node.origin,
            Resource::BgpPeer(peer) => &mut peer.origin,
            Resource::BgpConfiguration(configuration) => &mut configuration.origin,
            Resource::BlockAffinity(affinity) => &mut affinity.origin,
            Resource::BgpFilter(filter) => &mut filter.origin,
        }
    }

    /// Where it stands.
    pub fn origin(&self) -> &Origin {
        match self {
            Resource::IpPool(pool) => &pool.origin,
            Resource::Node(node) => &node.origin,
            Resource::BgpPeer(peer) => &peer.origin,
            Resource::BgpConfiguration(configuration) => &configuration.origin,
            Resource::BlockAffinity(affinity) => &affinity.origin,
            Resource::BgpFilter(filter) => &filter.origin,
        }
    }
}

#[cfg(test)]
mod configuration_tests;
#[cfg(test)]
mod parse_limit_tests;
#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod tests;
