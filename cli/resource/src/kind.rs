//! The kinds of resources and their names.

use serde::{Deserialize, Serialize};

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A range of pod addresses.
    #[serde(rename = "IPPool")]
    IpPool,
    /// A node of the cluster.
    Node,
    /// A BGP session in addition to the mesh.
    #[serde(rename = "BGPPeer")]
    BgpPeer,
    /// The settings of the whole cluster.
    #[serde(rename = "BGPConfiguration")]
    BgpConfiguration,
    /// A block of addresses that a node owns.
    BlockAffinity,
    /// A filter of the routes that are received from and advertised to peers.
    #[serde(rename = "BGPFilter")]
    BgpFilter,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 6] = [
        Kind::Node,
        Kind::IpPool,
        Kind::BgpPeer,
        Kind::BgpConfiguration,
        Kind::BgpFilter,
        Kind::BlockAffinity,
    ];

    /// Returns the name as the manifest's `kind` field spells it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::IpPool => "IPPool",
            Kind::Node => "Node",
            Kind::BgpPeer => "BGPPeer",
            Kind::BgpConfiguration => "BGPConfiguration",
            Kind::BlockAffinity => "BlockAffinity",
            Kind::BgpFilter => "BGPFilter",
        }
    }

    /// Returns the lower-case plural, as in the control API's paths.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::IpPool => "ippools",
            Kind::Node => "nodes",
            Kind::BgpPeer => "bgppeers",
            Kind::BgpConfiguration => "bgpconfigurations",
            Kind::BlockAffinity => "blockaffinities",
            Kind::BgpFilter => "bgpfilters",
        }
    }

    /// Returns the kind that a user names: singular, plural or short, in any case.
    pub fn from_user(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "node" | "nodes" | "no" | "nos" => Kind::Node,
            "ippool" | "ippools" | "ipp" | "ipps" | "pool" | "pools" => Kind::IpPool,
            "bgppeer" | "bgppeers" | "bgpp" | "bgpps" | "bp" | "bps" => Kind::BgpPeer,
            "bgpconfiguration" | "bgpconfigurations" | "bgpconfig" | "bgpconfigs" | "bgpc" => {
                Kind::BgpConfiguration
            }
            "bgpfilter" | "bgpfilters" | "bgpf" | "bgpfs" | "bf" | "bfs" => Kind::BgpFilter,
            "blockaffinity" | "blockaffinities" | "affinity" | "affinities" => Kind::BlockAffinity,
            _ => return None,
        })
    }

    pub(crate) fn from_manifest(text: &str) -> Option<Self> {
        Kind::ALL.into_iter().find(|kind| kind.name() == text)
    }
}

/// The identity of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// `metadata.name`.
    pub name: String,
}
