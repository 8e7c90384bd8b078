//! The published state of the daemon: the source of the views of `routectl show`.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;

use bgp::PeerId;
use bgp::net::{BfdReport, PeerStatus};
use datastore::Revision;
use resource::{Mistake, Snapshot, Warning};
use routing::policy::PrefixLimit;

use crate::node_config::NodeConfig;
use crate::node_config::peering::Peering;

/// A peer of the daemon.
#[derive(Clone, Debug)]
pub(crate) struct PeerEntry {
    pub(crate) id: PeerId,
    pub(crate) peering: Peering,
    pub(crate) max_prefixes: Option<PrefixLimit>,
    pub(crate) status: watch::Receiver<PeerStatus>,
    pub(crate) bfd: Option<watch::Receiver<BfdReport>>,
}

/// The state of the daemon after resources were last applied.
#[derive(Clone, Debug, Default)]
pub(crate) struct DaemonState {
    pub(crate) snapshot: Snapshot,
    pub(crate) revision: Option<Revision>,
    pub(crate) warnings: Vec<Warning>,
    /// The mistakes in resources of a shared store that are refused while the others are used.
    pub(crate) refused: Vec<Mistake>,
    /// The mistakes in resources that are not used, one line each.
    pub(crate) mistakes: Vec<String>,
    /// The configuration in use; `None` before the first valid one.
    pub(crate) node_config: Option<Arc<NodeConfig>>,
    /// Why there is no configuration, or why a part of it can't be applied, one line each.
    pub(crate) problems: Vec<String>,
    pub(crate) peers: Vec<PeerEntry>,
    /// The port that BGP listens on.
    pub(crate) listening: Option<u16>,
    /// True if all routes were received once and stale kernel routes were removed.
    pub(crate) in_sync: bool,
}

impl DaemonState {
    /// Returns the peer with this name or address.
    pub(crate) fn peer_named(&self, name: &str) -> Option<&PeerEntry> {
        let is = |peer: &&PeerEntry| peer.peering.name == name || name.parse() == Ok(peer.peering.address);
        self.peers.iter().find(is)
    }

    /// Returns the name of a peer.
    pub(crate) fn name_of(&self, id: PeerId) -> Option<&str> {
        self.peers.iter().find(|peer| peer.id == id).map(|peer| peer.peering.name.as_str())
    }

    /// Returns the name of the node that has an address.
    pub(crate) fn node_at(&self, address: IpAddr) -> Option<&str> {
        let has = |node: &&resource::Node| {
            node.ipv4.is_some_and(|net| IpAddr::V4(net.addr()) == address)
                || node.ipv6.is_some_and(|net| IpAddr::V6(net.addr()) == address)
        };
        self.snapshot.nodes.iter().find(has).map(|node| node.name.as_str())
    }
}
