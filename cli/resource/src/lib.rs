//! Calico's resources: parsing, validation, selectors, the field reference and block allocation.
//!
//! The resources are pools, nodes, peers, filters, the BGP configuration and block affinities, in
//! the forms that existing files have: `projectcalico.org/v3`, `crd.projectcalico.org/v1`, and the
//! v1 kinds `ipPool`, `node` and `bgpPeer`. The crate is pure: it reads texts, not files.
//!
//! | Stage | Modules |
//! |---|---|
//! | YAML text to a tree of values with line numbers | `stream`, [`tree`] |
//! | Tree to typed resources, with every mistake | [`reader`], [`scalar`], `parse`, `document`, one module per kind |
//! | Documents that have not changed | `parse_cache` |
//! | Resources of all files to one [`Snapshot`] | `assembly`, `rules`, `snapshot` |
//! | Labels | `selector`, `kubectl_selector` |
//! | Blocks of addresses for nodes | [`ipam`] |
//! | Table of all fields, for `docs/resources.md` | [`mod@reference`] |
//!
//! Errors are lists of [`Mistake`]s, each with its file, line, field and the rule that it breaks.
//!
//! # Example
//!
//! ```
//! use resource::{EncapsulationKind, EncapsulationMode, assemble, parse_file};
//!
//! let text = "
//! apiVersion: projectcalico.org/v3
//! kind: IPPool
//! metadata: {name: pods}
//! spec: {cidr: 10.1.0.0/16, ipipMode: CrossSubnet}
//! ---
//! apiVersion: projectcalico.org/v3
//! kind: Node
//! metadata: {name: node-a}
//! spec: {bgp: {ipv4Address: 192.168.0.1/24}, podCIDRs: [10.1.2.0/26]}
//! ";
//! let file = parse_file("cluster.yaml", text);
//! assert!(file.mistakes.is_empty());
//!
//! let assembly = assemble(&file.documents);
//! assert!(assembly.mistakes.is_empty());
//! let snapshot = assembly.snapshot;
//! let block = "10.1.2.0/26".parse()?;
//! assert_eq!(snapshot.blocks_of("node-a"), [block]);
//! let encapsulation = (EncapsulationKind::Ipip, EncapsulationMode::CrossSubnet);
//! assert_eq!(snapshot.encapsulation_of(&block), Some(encapsulation));
//!
//! // A mistake names its file, line and field.
//! let file = parse_file("bad.yaml", "kind: Node\nmetadata: {name: node-b}\n");
//! assert_eq!(file.mistakes[0].to_string(), "bad.yaml:1: apiVersion: is required");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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

/// The `apiVersion` of the resources.
pub const API_VERSION: &str = "projectcalico.org/v3";

/// A valid resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// A range of pod addresses.
    IpPool(IpPool),
    /// A node of the cluster.
    Node(Node),
    /// A BGP session in addition to the mesh.
    BgpPeer(BgpPeer),
    /// The settings of the whole cluster.
    BgpConfiguration(BgpConfiguration),
    /// A block of addresses that a node owns.
    BlockAffinity(BlockAffinity),
    /// A filter of the routes that are received from and advertised to peers.
    BgpFilter(BgpFilter),
}

impl Resource {
    /// Returns the kind and name that identify the resource.
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

    /// Returns the file and line of the resource.
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
