//! Prefixes with several exits (ECMP): each exit is resolved by itself, so that encapsulations may
//! differ.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Reconciler;
use crate::{
    dataplane::Dataplane,
    desired::RouteTarget,
    fib::DesiredRoute,
    node::{Config, Encapsulation, LearnedPath, RemoteNode},
    resolve::Exit,
};

impl<D: Dataplane> Reconciler<D> {
    /// Resolves the exits of a multipath route. Unreachable exits leave the packets to the others.
    pub(super) fn resolve_multipath(&mut self, config: &Config, slot: u32, learned: LearnedPath) {
        let state = *self.fib.table().state(slot);
        let others: Vec<IpAddr> = self.fib.others(&state).to_vec();
        let (mut exits, mut reason, mut refusal) = (Vec::new(), None, None);
        for next_hop in std::iter::once(learned.next_hop).chain(others) {
            let one = self.resolve_or_adopt(config, slot, LearnedPath { next_hop, ..learned }, &state);
            match one.target {
                Some(RouteTarget::Exit(exit)) => {
                    exits.push(exit);
                    reason = reason.or(one.reason);
                }
                _ => refusal = refusal.or(one.reason),
            }
        }
        exits.sort_unstable();
        exits.dedup();
        let reason = reason.or(refusal);
        match (&exits[..], reason) {
            ([_, _, ..], Some(reason)) => self.fib.set_desired_exits(slot, &exits, reason),
            _ => {
                let target = exits.first().copied().map(RouteTarget::Exit);
                self.fib.set_desired(slot, DesiredRoute { target, reason });
            }
        }
    }

    /// Returns the encapsulation of a prefix's installed route; of a multipath route that of the
    /// exit to `node`.
    pub(crate) fn installed(&self, prefix: &IpNet, node: &RemoteNode) -> Option<Encapsulation> {
        let state = self.route(prefix)?;
        let target = self.fib.desired_route(state).target.filter(|_| self.fib.is_installed(state))?;
        let is_its = |exit: &&Exit| match exit {
            Exit::Direct { gateway, .. } => node.has_address(*gateway),
            Exit::Ipip { remote } => node.has_address((*remote).into()),
            Exit::Vxlan { vtep } => node.vtep_for(prefix) == Some(*vtep),
        };
        let exit = match self.fib.exits_of(&target) {
            [exit] => Some(exit),
            several => several.iter().find(is_its),
        };
        exit.map(Exit::encapsulation)
    }
}
