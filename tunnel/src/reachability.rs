//! Reachability of each node by BGP and by the tunnel paths.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use crate::{
    node::{Config, FallbackMode, RemoteNode},
    probe::{PathState, TunnelPath},
    resolve::{Exit, ExitReason},
};

/// The state of a node's BGP paths after they were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BgpReachability {
    /// Only the static peer table has paths.
    Lost,
    /// There are BGP paths again, since this time.
    Returning(Instant),
}

/// The reachability of the nodes.
#[derive(Debug, Clone, Default)]
pub struct Reachability {
    /// True if only probe results count against IP-in-IP.
    trusting: bool,
    /// Path states by tunnel address.
    paths: HashMap<Ipv4Addr, [PathState; 3]>,
    /// Exits in use that are kept until IP-in-IP was probed, by tunnel address.
    pinned: HashMap<Ipv4Addr, Exit>,
    /// BGP state by next hop; nodes that never lost BGP or have returned are absent.
    bgp: HashMap<IpAddr, BgpReachability>,
}

fn place(path: TunnelPath) -> usize {
    match path {
        TunnelPath::Ipip => 0,
        TunnelPath::Vxlan => 1,
        TunnelPath::Direct => 2,
    }
}

impl Reachability {
    /// Returns the reachability in a network that passes everything: resolution yields the
    /// preferred exits.
    pub fn trusting() -> Self {
        Self { trusting: true, ..Self::default() }
    }

    /// Returns the state of a tunnel path to the node with this tunnel address.
    pub fn path_state(&self, address: Ipv4Addr, path: TunnelPath) -> PathState {
        self.paths.get(&address).map_or(PathState::Unknown, |paths| paths[place(path)])
    }

    /// Sets the state of a tunnel path. Returns whether packets may have to use another path.
    pub fn set(&mut self, address: Ipv4Addr, path: TunnelPath, state: PathState) -> bool {
        let before = std::mem::replace(&mut self.paths.entry(address).or_default()[place(path)], state);
        if path == TunnelPath::Ipip {
            self.pinned.remove(&address);
        }
        before != state
    }

    /// Keeps a node's packets on an exit until IP-in-IP was probed.
    pub fn pin(&mut self, address: Ipv4Addr, exit: Exit) {
        self.pinned.insert(address, exit);
    }

    /// Returns the exit that a node's packets are kept on.
    pub(crate) fn pinned(&self, node: &RemoteNode) -> Option<Exit> {
        self.pinned.get(&node.vtep?).copied()
    }

    /// Removes nodes that are not configured any more.
    pub fn retain(&mut self, config: &Config) {
        if !config.probes(TunnelPath::Ipip) {
            self.pinned.clear();
        }
        if self.paths.len() > config.nodes.len() {
            self.paths.retain(|address, _| config.nodes.iter().any(|n| n.vtep == Some(*address)));
        }
        if self.bgp.len() > config.nodes.len() {
            self.bgp.retain(|address, _| config.node_with_address(*address).is_some());
        }
    }

    /// Returns whether some node lost BGP and has not returned.
    pub fn any_lost(&self) -> bool {
        !self.bgp.is_empty()
    }

    /// Records that a node has no BGP path and uses the static peer table. Returns whether that is
    /// new.
    pub fn record_bgp_loss(&mut self, next_hop: IpAddr) -> bool {
        self.bgp.insert(next_hop.to_canonical(), BgpReachability::Lost) != Some(BgpReachability::Lost)
    }

    /// Records that a node has a BGP path. Returns whether that is new.
    pub fn record_bgp_path(&mut self, next_hop: IpAddr, now: Instant) -> bool {
        match self.bgp.get_mut(&next_hop.to_canonical()) {
            Some(bgp @ BgpReachability::Lost) => {
                *bgp = BgpReachability::Returning(now);
                true
            }
            _ => false,
        }
    }

    /// Returns the time at which the next node will have had BGP paths for long enough.
    pub fn deadline(&self, recover_after: Duration) -> Option<Instant> {
        let since = |bgp: &BgpReachability| match bgp {
            BgpReachability::Lost => None,
            BgpReachability::Returning(since) => Some(*since + recover_after),
        };
        self.bgp.values().filter_map(since).min()
    }

    /// Shifts all stored times into the past.
    #[cfg(test)]
    pub(crate) fn backdate(&mut self, by: Duration) {
        for bgp in self.bgp.values_mut() {
            if let BgpReachability::Returning(since) = bgp {
                *since = since.checked_sub(by).expect("the machine has run for longer");
            }
        }
    }

    /// Ends the return of nodes that have had BGP paths for long enough. Returns whether there were
    /// any.
    pub fn settle(&mut self, recover_after: Duration, now: Instant) -> bool {
        let before = self.bgp.len();
        self.bgp.retain(
            |_, bgp| !matches!(bgp, BgpReachability::Returning(since) if *since + recover_after <= now),
        );
        self.bgp.len() < before
    }

    /// Returns the reason to avoid IP-in-IP to a node, if there is one.
    pub(crate) fn avoids_ipip(
        &self,
        config: &Config,
        node: &RemoteNode,
        next_hop: IpAddr,
    ) -> Option<ExitReason> {
        if config.fallback == FallbackMode::None {
            return None;
        }
        match node.vtep.map(|vtep| self.path_state(vtep, TunnelPath::Ipip)) {
            Some(PathState::Blocked) => return Some(ExitReason::IpipBlocked),
            Some(PathState::Returning) => return Some(ExitReason::IpipReturning),
            Some(PathState::Unknown) if config.probing.doubted && !self.trusting => {
                return Some(ExitReason::IpipDoubted);
            }
            Some(PathState::Unknown | PathState::Unanswered | PathState::Passes) | None => {}
        }
        match self.bgp.get(&next_hop) {
            Some(BgpReachability::Returning(_)) => Some(ExitReason::BgpReturning),
            Some(BgpReachability::Lost) | None => None,
        }
    }

    /// Returns whether plain packets may be used to a node of the same subnet.
    pub(crate) fn may_go_direct(&self, config: &Config, node: Option<&RemoteNode>) -> bool {
        let Some(vtep) = node.and_then(|node| node.vtep) else { return true };
        !config.probes(TunnelPath::Direct) || self.path_state(vtep, TunnelPath::Direct) == PathState::Passes
    }
}
