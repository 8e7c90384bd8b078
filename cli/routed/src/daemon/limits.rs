//! What the daemon does about peers that nobody planned: those that send too much, and those that come from a
//! range.

use std::net::IpAddr;
use std::time::Instant;

use bgp::net::DynamicConnection;
use bgp::session::SessionState;
use bgp::wire::error::ErrorCode;
use routing::limits::PrefixLimitReport;

use crate::daemon::Daemon;
use crate::node_config::Plan;
use crate::node_config::dynamic_neighbors::Welcome;

impl Daemon {
    /// Takes in who calls from a range.
    pub(crate) async fn called(&mut self, strangers: Vec<DynamicConnection>) {
        for DynamicConnection { address, stream } in strangers {
            self.stranger_calls(address).await;
            if let Some(running) = self.peers.get(&address) {
                running.handle.take(stream);
            }
        }
        self.show_peers();
    }

    /// A peer has sent as many prefixes as it may, or nearly.
    pub(crate) async fn limit_reached(&mut self, reached: PrefixLimitReport) {
        let PrefixLimitReport { peer, held, limit, exceeded } = reached;
        let Some(running) = self.peers.values().find(|running| running.id == peer) else { return };
        let name = &running.plan.peering.name;
        if !exceeded {
            tracing::warn!(
                peer = %name,
                "{held} prefixes of at most {limit}: raise spec.routed.maxPrefixes.limit, or ask what the peer sends"
            );
            return;
        }
        let again = match running.plan.restart_after {
            Some(after) => format!("again in {} s", after.as_secs()),
            None => "not again before its configuration changes".to_owned(),
        };
        tracing::error!(
            peer = %name,
            "more than {limit} prefixes: the session ends, {again}; raise spec.routed.maxPrefixes.limit, or ask what \
             the peer sends"
        );
        running.handle.cease(ErrorCode::MAXIMUM_PREFIXES, running.plan.restart_after).await;
    }

    /// Takes the plan's ranges; neighbours whose range is as it was keep their sessions.
    pub(crate) async fn arrange_neighbours(&mut self, plan: &Plan) {
        for configured in &plan.peers {
            self.neighbours.forget(configured.peering.address);
        }
        for address in self.neighbours.set_ranges(plan.ranges.clone()) {
            self.stop_peer(address, ErrorCode::PEER_DECONFIGURED).await;
        }
        let known: Vec<IpAddr> =
            self.peers.keys().copied().filter(|address| self.neighbours.contains(*address)).collect();
        for address in known {
            let Some(wanted) = self.neighbours.range_of(address).map(|range| range.neighbour(address)) else {
                continue;
            };
            let Some(running) = self.peers.get_mut(&address) else { continue };
            if running.plan.policy != wanted.policy {
                self.rib.set_peer_policy(running.id, wanted.policy.clone()).await;
                running.handle.resume().await;
            }
            if running.plan.peering.client != wanted.peering.client {
                self.rib.set_client(running.id, wanted.peering.client).await;
            }
            running.plan = wanted;
        }
        self.welcome_strangers().await;
    }

    /// Somebody calls from a range.
    async fn stranger_calls(&mut self, address: IpAddr) {
        let running = self.peers.contains_key(&address);
        if running && !self.neighbours.contains(address) {
            // Configured since it called.
            return;
        }
        match self.neighbours.call(address, Instant::now()) {
            Welcome::Refused => {
                tracing::debug!(%address, "refused: its range has as many neighbours as peerLimit allows");
                return;
            }
            Welcome::New(Some(instead)) => self.stop_peer(instead, ErrorCode::OUT_OF_RESOURCES).await,
            Welcome::New(None) | Welcome::Known => {}
        }
        if running {
            return;
        }
        let plan = self.neighbours.range_of(address).map(|range| range.neighbour(address));
        if let Some(plan) = plan {
            let running = self.start_peer(&plan).await;
            self.peers.insert(address, running);
        }
    }

    /// Forgets neighbours that have been gone for long.
    pub(crate) async fn look_at_neighbours(&mut self) {
        let peers = &self.peers;
        let established = |address: IpAddr| {
            peers
                .get(&address)
                .is_some_and(|running| running.handle.watch().borrow().state == SessionState::Established)
        };
        let gone = self.neighbours.look(Instant::now(), established);
        if gone.is_empty() {
            return;
        }
        for address in gone {
            self.stop_peer(address, ErrorCode::PEER_DECONFIGURED).await;
        }
        self.show_peers();
    }
}
