//! What the daemon runs at one moment: the source of all that `routectl show` says.

use std::net::IpAddr;
use std::sync::Arc;

use bgp::PeerId;
use bgp::net::{BfdReport, PeerStatus};
use routing::policy::PrefixLimit;
use tokio::sync::watch;

use crate::node_config::Plan;
use crate::node_config::peering::Peering;
use datastore::Revision;
use resource::{Mistake, Snapshot, Warning};

/// A session that is run.
#[derive(Clone, Debug)]
pub(crate) struct RosterPeer {
    pub(crate) id: PeerId,
    pub(crate) peering: Peering,
    pub(crate) max_prefixes: Option<PrefixLimit>,
    pub(crate) status: watch::Receiver<PeerStatus>,
    pub(crate) bfd: Option<watch::Receiver<BfdReport>>,
}

/// The state of the daemon as its parts were last arranged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster {
    pub(crate) snapshot: Snapshot,
    pub(crate) revision: Option<Revision>,
    pub(crate) warnings: Vec<Warning>,
    /// In a shared store, what is wrong with resources that don't run while the others do.
    pub(crate) refused: Vec<Mistake>,
    /// What is wrong with resources that are not running.
    pub(crate) mistakes: Vec<String>,
    pub(crate) plan: Option<Arc<Plan>>,
    /// Why there is no plan, or why part of it can't be done.
    pub(crate) problems: Vec<String>,
    pub(crate) peers: Vec<RosterPeer>,
    /// The port that is listened on.
    pub(crate) listening: Option<u16>,
    /// All routes were there once, and the kernel was swept.
    pub(crate) in_sync: bool,
}

impl Roster {
    /// The peer with this name, or with this address.
    pub(crate) fn peer_named(&self, name: &str) -> Option<&RosterPeer> {
        let is = |peer: &&RosterPeer| peer.peering.name == name || name.parse() == Ok(peer.peering.address);
        self.peers.iter().find(is)
    }

    /// The name of a peer.
    pub(crate) fn name_of(&self, id: PeerId) -> Option<&str> {
        self.peers.iter().find(|peer| peer.id == id).map(|peer| peer.peering.name.as_str())
    }

    /// The name of the node that has an address.
    pub(crate) fn node_at(&self, address: IpAddr) -> Option<&str> {
        let has = |node: &&resource::Node| {
            node.ipv4.is_some_and(|net| IpAddr::V4(net.addr()) == address)
                || node.ipv6.is_some_and(|net| IpAddr::V6(net.addr()) == address)
        };
        self.snapshot.nodes.iter().find(has).map(|node| node.name.as_str())
    }
}
