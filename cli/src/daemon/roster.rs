//! What the daemon runs at one moment: the source of all that `routectl show` says.

use std::net::IpAddr;
use std::sync::Arc;

use bgp::PeerId;
use bgp::net::{BfdReport, PeerStatus};
use routing::policy::PrefixLimit;
use tokio::sync::watch;

use super::peering::Peering;
use super::plan::Plan;
use crate::resource::{Mistake, Snapshot, Warning};
use crate::store::Revision;

/// A session that is run.
#[derive(Clone, Debug)]
pub(super) struct RosterPeer {
    pub(super) id: PeerId,
    pub(super) peering: Peering,
    pub(super) max_prefixes: Option<PrefixLimit>,
    pub(super) status: watch::Receiver<PeerStatus>,
    pub(super) bfd: Option<watch::Receiver<BfdReport>>,
}

/// The state of the daemon as its parts were last arranged.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    pub(super) snapshot: Snapshot,
    pub(super) revision: Option<Revision>,
    pub(super) warnings: Vec<Warning>,
    /// In a shared store, what is wrong with resources that don't run while the others do.
    pub(super) refused: Vec<Mistake>,
    /// What is wrong with resources that are not running.
    pub(super) mistakes: Vec<String>,
    pub(super) plan: Option<Arc<Plan>>,
    /// Why there is no plan, or why part of it can't be done.
    pub(super) problems: Vec<String>,
    pub(super) peers: Vec<RosterPeer>,
    /// The port that is listened on.
    pub(super) listening: Option<u16>,
    /// All routes were there once, and the kernel was swept.
    pub(super) in_sync: bool,
}

impl Roster {
    /// The peer with this name, or with this address.
    pub(super) fn peer_named(&self, name: &str) -> Option<&RosterPeer> {
        let is = |peer: &&RosterPeer| peer.peering.name == name || name.parse() == Ok(peer.peering.address);
        self.peers.iter().find(is)
    }

    /// The name of a peer.
    pub(super) fn name_of(&self, id: PeerId) -> Option<&str> {
        self.peers.iter().find(|peer| peer.id == id).map(|peer| peer.peering.name.as_str())
    }

    /// The name of the node that has an address.
    pub(super) fn node_at(&self, address: IpAddr) -> Option<&str> {
        let has = |node: &&crate::resource::Node| {
            node.ipv4.is_some_and(|net| IpAddr::V4(net.addr()) == address)
                || node.ipv6.is_some_and(|net| IpAddr::V6(net.addr()) == address)
        };
        self.snapshot.nodes.iter().find(has).map(|node| node.name.as_str())
    }
}
