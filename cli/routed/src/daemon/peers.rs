//! Peers and the listener: starts, changes and stops them as the configuration requires.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bgp::PeerId;
use bgp::net::{Listener, spawn_peer};
use bgp::wire::error::ErrorCode;

use crate::daemon::{Daemon, ManagedPeer};
use crate::node_config::{NodeConfig, PeerSettings};

impl Daemon {
    /// Listens on `port`, or stops listening. A failure is added to `problems`; sessions that this
    /// node opens still work then.
    pub(super) async fn listen(&mut self, port: Option<u16>, problems: &mut Vec<String>) {
        if self.listener.as_ref().map(|(port, _)| *port) == port {
            return;
        }
        self.listener = None;
        let Some(port) = port else { return };
        // IPv6 may be disabled in this kernel; IPv4 alone is enough then.
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        match Listener::bind(&[v4, v6]).or_else(|_| Listener::bind(&[v4])) {
            Ok(listener) => {
                for peer in self.peers.values() {
                    peer.handle.listen(&listener).await;
                }
                self.accept_ranges_on(&listener).await;
                listener.open().await;
                self.listener = Some((port, listener));
            }
            Err(error) => {
                let hint = "is another BGP speaker running, or is CAP_NET_BIND_SERVICE missing?";
                tracing::error!("{error}: {hint} Sessions that we call still work");
                problems.push(format!("{error}: {hint}"));
            }
        }
    }

    /// Starts, changes and stops peers so that they match the configuration. Dynamic neighbors are
    /// left to [`Daemon::update_neighbors`].
    pub(super) async fn update_peers(&mut self, node_config: &NodeConfig) {
        let wanted: BTreeMap<IpAddr, &PeerSettings> =
            node_config.peers.iter().map(|peer| (peer.peering.address, peer)).collect();
        let is_removed =
            |address: &IpAddr| !wanted.contains_key(address) && !self.neighbors.contains(*address);
        let removed: Vec<IpAddr> = self.peers.keys().copied().filter(is_removed).collect();
        for address in removed {
            self.stop_peer(address, ErrorCode::PEER_DECONFIGURED).await;
        }
        for (address, settings) in wanted {
            if let Some(mut peer) = self.peers.remove(&address) {
                self.update_peer(&mut peer, settings).await;
                self.peers.insert(address, peer);
                continue;
            }
            let peer = self.start_peer(settings).await;
            self.peers.insert(address, peer);
        }
        while self.stopping.try_join_next().is_some() {}
    }

    async fn update_peer(&mut self, peer: &mut ManagedPeer, settings: &PeerSettings) {
        if peer.settings.peering.client != settings.peering.client {
            self.rib.set_client(peer.id, settings.peering.client).await;
        }
        if peer.settings.policy != settings.policy {
            self.rib.set_peer_policy(peer.id, settings.policy.clone()).await;
            // The new policy may permit a peer that was stopped for too many prefixes.
            peer.handle.resume().await;
        }
        if peer.settings.config != settings.config || peer.settings.address != settings.address {
            peer.handle.reconfigure(settings.config.clone(), settings.address.clone()).await;
            if let Some((_, listener)) = &self.listener {
                peer.handle.listen(listener).await;
            }
        }
        peer.settings = settings.clone();
        self.update_bfd_session(peer).await;
    }

    /// Starts a peer. The caller adds it to the map of peers.
    pub(super) async fn start_peer(&mut self, settings: &PeerSettings) -> ManagedPeer {
        let id = PeerId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.rib.set_peer_policy(id, settings.policy.clone()).await;
        let sink = self.rib.session(id, settings.peering.address, settings.peering.client);
        // Jitter must differ between nodes that start together.
        let seed = u64::from(settings.config.router_id.to_bits()) << 32 | u64::from(id.0);
        let address = settings.address.clone();
        let config = settings.initial_config(self.is_fresh());
        let handle = spawn_peer(config, address, seed, self.restarted.subscribe(), sink);
        if let Some((_, listener)) = &self.listener {
            handle.listen(listener).await;
        }
        let mut peer = ManagedPeer { id, settings: settings.clone(), handle, bfd: None };
        self.update_bfd_session(&mut peer).await;
        peer
    }

    /// Removes a peer and ends its session with a Cease NOTIFICATION of `code`.
    pub(super) async fn stop_peer(&mut self, address: IpAddr, code: ErrorCode) {
        let Some(peer) = self.peers.remove(&address) else { return };
        let (rib, id) = (self.rib.clone(), peer.id);
        self.stopping.spawn(async move {
            peer.handle.stop(code).await;
            // After the session has ended: without its policy a session would accept every route.
            rib.forget_peer(id).await;
        });
        if let Some((_, listener)) = &self.listener {
            listener.remove(address).await;
        }
    }

    /// Makes the listener accept connections from the current ranges.
    pub(super) async fn update_accepted_ranges(&self) {
        if let Some((_, listener)) = &self.listener {
            self.accept_ranges_on(listener).await;
        }
    }

    async fn accept_ranges_on(&self, listener: &Listener) {
        let nets = self.neighbors.ranges().iter().map(|range| range.range.net).collect();
        listener.accept_ranges(nets, self.dynamic_connections.0.clone()).await;
    }
}
