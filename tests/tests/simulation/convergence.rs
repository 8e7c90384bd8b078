//! Checks that a world has converged after the faults.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bgp::session::SessionState;
use ipnet::IpNet;

use crate::node_names::{address, id};
use crate::world::{NODES, World};

impl World {
    /// Every session is up, and every RIB has each block of each node, by that node.
    pub(crate) fn check(&self) -> Result<(), String> {
        let expected: BTreeMap<IpNet, IpAddr> = (0..NODES)
            .flat_map(|node| self.nodes[node].blocks.iter().map(move |block| (*block, address(node))))
            .collect();
        if !self.lost.is_empty() {
            return Err(self.lost.join("\n"));
        }
        for (at, node) in self.nodes.iter().enumerate() {
            for (peer, state) in &node.peers {
                if state.state() != SessionState::Established {
                    return Err(format!("node {at} is {} with node {peer}", state.state()));
                }
                if !node.rib.is_synced(id(*peer)) {
                    return Err(format!("node {at} has no End-of-RIB from node {peer}"));
                }
            }
            let found: BTreeMap<IpNet, IpAddr> =
                node.best.iter().map(|(p, best)| (*p, best.next_hop)).collect();
            if found != expected {
                return Err(format!("node {at} has {found:#?}, not {expected:#?}"));
            }
        }
        Ok(())
    }
}
