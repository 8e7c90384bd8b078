//! What is known of how well each node is reached, beside what is configured: BGP, and the ways that probes go.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use crate::{
    node::{Config, Fallback, RemoteNode},
    probe::{PathState, TunnelPath},
    resolve::{Exit, ExitReason},
};

/// How a node stands with BGP once it had to be reached without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BgpReachability {
    /// All that is known of it is the static peer table.
    Lost,
    /// There are paths again, since then.
    Returning(Instant),
}

/// What is known of the nodes.
#[derive(Debug, Clone, Default)]
pub struct Reachability {
    /// Nothing is held against IP-in-IP but what was seen.
    trusting: bool,
    /// By tunnel address.
    paths: HashMap<Ipv4Addr, [PathState; 3]>,
    /// Exits that stay in use, by tunnel address, until it is known whether IP-in-IP passes.
    held: HashMap<Ipv4Addr, Exit>,
    /// By next hop; who is not here was never lost, or has returned.
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
    /// Of nodes that nothing is known of, in a network that passes everything: what follows is what is preferred.
    pub fn trusting() -> Self {
        Self { trusting: true, ..Self::default() }
    }

    /// What is known of a way to the node with this tunnel address.
    pub fn path_state(&self, address: Ipv4Addr, path: TunnelPath) -> PathState {
        self.paths.get(&address).map_or(PathState::Unknown, |paths| paths[place(path)])
    }

    /// Notes what is known of a way. Returns whether packets may have to go another way now.
    pub fn set(&mut self, address: Ipv4Addr, path: TunnelPath, state: PathState) -> bool {
        let before = std::mem::replace(&mut self.paths.entry(address).or_default()[place(path)], state);
        if path == TunnelPath::Ipip {
            self.held.remove(&address);
        }
        before != state
    }

    /// Keeps a node's packets on an exit until it is known whether IP-in-IP passes.
    pub fn hold(&mut self, address: Ipv4Addr, exit: Exit) {
        self.held.insert(address, exit);
    }

    /// The exit that a node's packets are kept on, if they are.
    pub(crate) fn held(&self, node: &RemoteNode) -> Option<Exit> {
        self.held.get(&node.vtep?).copied()
    }

    /// Forgets nodes that are no more.
    pub fn retain(&mut self, config: &Config) {
        if !config.probes(TunnelPath::Ipip) {
            self.held.clear();
        }
        if self.paths.len() > config.nodes.len() {
            self.paths.retain(|address, _| config.nodes.iter().any(|n| n.vtep == Some(*address)));
        }
        if self.bgp.len() > config.nodes.len() {
            self.bgp.retain(|address, _| config.node_with_address(*address).is_some());
        }
    }

    /// Whether some node is or was without BGP.
    pub fn any_lost(&self) -> bool {
        !self.bgp.is_empty()
    }

    /// Notes that a node has no path by BGP and is reached by the static table. Returns whether that is news.
    pub fn lost(&mut self, next_hop: IpAddr) -> bool {
        self.bgp.insert(next_hop.to_canonical(), BgpReachability::Lost) != Some(BgpReachability::Lost)
    }

    /// Notes that a node has a path by BGP. Returns whether that is news.
    pub fn found(&mut self, next_hop: IpAddr, now: Instant) -> bool {
        match self.bgp.get_mut(&next_hop.to_canonical()) {
            Some(bgp @ BgpReachability::Lost) => {
                *bgp = BgpReachability::Returning(now);
                true
            }
            _ => false,
        }
    }

    /// When somebody's BGP will have been well for long enough.
    pub fn deadline(&self, recover_after: Duration) -> Option<Instant> {
        let since = |bgp: &BgpReachability| match bgp {
            BgpReachability::Lost => None,
            BgpReachability::Returning(since) => Some(*since + recover_after),
        };
        self.bgp.values().filter_map(since).min()
    }

    /// Makes everything that is stored older.
    #[cfg(test)]
    pub(crate) fn backdate(&mut self, by: Duration) {
        for bgp in self.bgp.values_mut() {
            if let BgpReachability::Returning(since) = bgp {
                *since = since.checked_sub(by).expect("the machine has run for longer");
            }
        }
    }

    /// Takes those as returned whose BGP has been well for long enough. Returns whether there were any.
    pub fn settle(&mut self, recover_after: Duration, now: Instant) -> bool {
        let before = self.bgp.len();
        self.bgp.retain(
            |_, bgp| !matches!(bgp, BgpReachability::Returning(since) if *since + recover_after <= now),
        );
        self.bgp.len() < before
    }

    /// Why a node is not to be reached by IP-in-IP although that is preferred, if it is not.
    pub(crate) fn avoids_ipip(
        &self,
        config: &Config,
        node: &RemoteNode,
        next_hop: IpAddr,
    ) -> Option<ExitReason> {
        if config.fallback == Fallback::None {
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

    /// Whether packets to a node of the same subnet may go unwrapped.
    pub(crate) fn may_go_direct(&self, config: &Config, node: Option<&RemoteNode>) -> bool {
        let Some(vtep) = node.and_then(|node| node.vtep) else { return true };
        !config.probes(TunnelPath::Direct) || self.path_state(vtep, TunnelPath::Direct) == PathState::Passes
    }
}
