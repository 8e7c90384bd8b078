//! Dynamic neighbors: admits connections from the configured ranges, and removes neighbors that
//! have had no session for too long.

use std::net::IpAddr;
use std::time::Instant;

use bgp::net::DynamicConnection;
use bgp::session::SessionState;
use bgp::wire::error::ErrorCode;

use crate::daemon::Daemon;
use crate::node_config::NodeConfig;
use crate::node_config::dynamic_neighbors::NeighborAdmission;

impl Daemon {
    /// Admits connections from the ranges and passes each to its peer.
    pub(crate) async fn accept_connections(&mut self, connections: Vec<DynamicConnection>) {
        for DynamicConnection { address, stream } in connections {
            self.admit_neighbor(address).await;
            if let Some(peer) = self.peers.get(&address) {
                peer.handle.take(stream);
            }
        }
        self.publish_peers();
    }

    /// Applies the configured ranges. Neighbors whose range is unchanged keep their sessions.
    pub(crate) async fn update_neighbors(&mut self, node_config: &NodeConfig) {
        for configured in &node_config.peers {
            self.neighbors.remove(configured.peering.address);
        }
        for address in self.neighbors.set_ranges(node_config.ranges.clone()) {
            self.stop_peer(address, ErrorCode::PEER_DECONFIGURED).await;
        }
        let known: Vec<IpAddr> =
            self.peers.keys().copied().filter(|address| self.neighbors.contains(*address)).collect();
        for address in known {
            let Some(wanted) = self.neighbors.range_of(address).map(|range| range.for_neighbor(address))
            else {
                continue;
            };
            let Some(peer) = self.peers.get_mut(&address) else { continue };
            if peer.settings.policy != wanted.policy {
                self.rib.set_peer_policy(peer.id, wanted.policy.clone()).await;
                peer.handle.resume().await;
            }
            if peer.settings.peering.client != wanted.peering.client {
                self.rib.set_client(peer.id, wanted.peering.client).await;
            }
            peer.settings = wanted;
        }
        self.update_accepted_ranges().await;
    }

    /// Starts a peer for a neighbor that connects for the first time, if its range has room.
    async fn admit_neighbor(&mut self, address: IpAddr) {
        let is_running = self.peers.contains_key(&address);
        if is_running && !self.neighbors.contains(address) {
            // A BGPPeer for this address was applied after the connection was accepted.
            return;
        }
        match self.neighbors.admit(address, Instant::now()) {
            NeighborAdmission::Refused => {
                tracing::debug!(%address, "refused: its range has as many neighbours as peerLimit allows");
                return;
            }
            NeighborAdmission::New(Some(replaced)) => {
                self.stop_peer(replaced, ErrorCode::OUT_OF_RESOURCES).await;
            }
            NeighborAdmission::New(None) | NeighborAdmission::Known => {}
        }
        if is_running {
            return;
        }
        let settings = self.neighbors.range_of(address).map(|range| range.for_neighbor(address));
        if let Some(settings) = settings {
            let peer = self.start_peer(&settings).await;
            self.peers.insert(address, peer);
        }
    }

    /// Removes neighbors that have had no session for too long.
    pub(crate) async fn expire_neighbors(&mut self) {
        let peers = &self.peers;
        let established = |address: IpAddr| {
            peers
                .get(&address)
                .is_some_and(|peer| peer.handle.watch().borrow().state == SessionState::Established)
        };
        let expired = self.neighbors.expire(Instant::now(), established);
        if expired.is_empty() {
            return;
        }
        for address in expired {
            self.stop_peer(address, ErrorCode::PEER_DECONFIGURED).await;
        }
        self.publish_peers();
    }
}
