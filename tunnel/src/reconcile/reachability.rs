//! Reachability of the nodes, and the choice of nodes to probe.

use std::{net::IpAddr, sync::Arc, time::Instant};

use ipnet::IpNet;

use super::{
    Reconciler,
    state::{ResolutionProgress, SyncState},
};
use crate::{
    activity::PathChange,
    dataplane::{Dataplane, KernelEvent},
    desired::{Device, RouteTarget},
    fib::DesiredRoute,
    node::{Config, LearnedPath, PathKind, RemoteNode},
    observed::{ObservedState, Via},
    probe::{PathState, TunnelPath, prober::ProbeTarget},
    reachability::Reachability,
    resolve::{Exit, ExitReason, resolve},
    table::RouteState,
};

impl<D: Dataplane> Reconciler<D> {
    /// Removes the path states from the events: they are not part of kernel state.
    pub(super) fn take_path_states(&mut self, events: &mut Vec<KernelEvent>) {
        let mut changed = false;
        events.retain(|event| {
            let KernelEvent::PathState { address, path, state } = *event else { return true };
            if self.reachability.set(address, path, state) {
                let named = |n: &&RemoteNode| n.vtep == Some(address);
                let node = self.config.as_ref().and_then(|c| c.nodes.iter().find(named));
                let node = node.map_or("", |n| n.name.as_str());
                self.publisher.activity.path_state(|| PathChange {
                    node: node.to_owned(),
                    address,
                    path,
                    state,
                });
                match state {
                    PathState::Blocked => {
                        self.work.fallbacks_ipip += u64::from(path == TunnelPath::Ipip);
                        tracing::warn!(node, %address, way = %path, "packets do not pass");
                    }
                    _ => tracing::info!(node, %address, way = %path, passage = ?state, "tunnel path changed"),
                }
                // VXLAN is the last resort: its state does not change the choice of an exit.
                changed |= path != TunnelPath::Vxlan;
            }
            false
        });
        if changed {
            self.resolve_again();
        }
    }

    /// Starts the resolution of all routes with the same configuration.
    fn resolve_again(&mut self) {
        self.resolver.clear_results();
        if self.fib.observed.is_some() && !self.resolver.is_stale() {
            self.resolver.progress = ResolutionProgress::Running(0);
        }
    }

    /// Updates the BGP state of a node from one of its paths.
    pub(super) fn update_bgp(&mut self, learned: &LearnedPath) {
        match learned.kind {
            PathKind::Static => {
                let by_bgp = LearnedPath { kind: PathKind::Bgp, ..*learned };
                if self.fib.is_learned(&by_bgp) {
                    return;
                }
                if self.reachability.record_bgp_loss(learned.next_hop) {
                    self.work.fallbacks_bgp += 1;
                    self.resolver.clear_results();
                }
            }
            PathKind::Bgp if self.reachability.any_lost() => {
                if self.reachability.record_bgp_path(learned.next_hop, Instant::now()) {
                    self.resolver.clear_results();
                }
            }
            PathKind::Bgp | PathKind::Discard => {}
        }
    }

    /// Ends the return of nodes whose BGP paths have been up for long enough, and updates the probe
    /// targets.
    pub(super) fn settle_reachability(&mut self, config: &Arc<Config>) {
        if self.reachability.settle(config.probing.recover_after, Instant::now()) {
            self.resolve_again();
        }
        let running = matches!(self.resolver.progress, ResolutionProgress::Running(_));
        if !running && std::mem::take(&mut self.resolver.repeat) {
            self.resolve_again();
        }
        if !std::mem::take(&mut self.due.probe_targets) {
            return;
        }
        let targets = if config.probes_any() {
            config.nodes.iter().filter_map(|node| self.probe_target(config, node)).collect()
        } else {
            Vec::new()
        };
        if let Some(observed) = &self.fib.observed {
            self.dataplane.probe(config, observed, &targets);
        }
    }

    /// Returns the paths by which a node is to be probed. Every node is a target, so that its
    /// requests are answered.
    fn probe_target(&mut self, config: &Config, node: &RemoteNode) -> Option<ProbeTarget> {
        let (address, next_hop) = (node.vtep?, node.ipv4?.addr());
        let observed = self.fib.observed.as_ref()?;
        let (reached, dataplane) = (&mut self.resolver.reached, &mut self.dataplane);
        let mut reach = |a| *reached.entry(a).or_insert_with(|| dataplane.reach(a, observed));
        let learned = LearnedPath { next_hop: next_hop.into(), kind: PathKind::Bgp };
        let fallback = config.probes(TunnelPath::Ipip);
        let mut target = ProbeTarget {
            address,
            ipip: false,
            fallback,
            vxlan: false,
            direct: false,
            doubted: fallback
                && match self.reachability.path_state(address, TunnelPath::Ipip) {
                    PathState::Unknown => config.probing.doubted,
                    known => known.is_avoided(),
                },
        };
        // Without tables of their own probes use the route of the block that contains the tunnel address.
        let is_probed = |block: &IpNet| fallback || block.contains(&IpAddr::from(address));
        let mut policies = Vec::new();
        for block in node.blocks.iter().filter(|block| matches!(block, IpNet::V4(_))) {
            let question = (config.policy(block), is_probed(block));
            if policies.contains(&question) {
                continue;
            }
            policies.push(question);
            // The exit if nothing were held against any path.
            let preferred = resolve(config, &Reachability::trusting(), block, &learned, &mut reach);
            target.ipip |= question.1 && matches!(preferred.exit, Some(Exit::Ipip { .. }));
            target.vxlan |= question.1 && matches!(preferred.exit, Some(Exit::Vxlan { .. }));
            target.direct |= preferred.reason == ExitReason::DirectUnproven;
        }
        Some(target)
    }

    /// Returns whether a route that prefers IP-in-IP uses another exit at the moment, which is to
    /// be kept for now. After a start the earlier run had its reason to use VXLAN, so VXLAN is kept
    /// until IP-in-IP has passed for long enough; later the configuration changed, and the other
    /// node may not have it yet.
    pub(super) fn adopts(
        &mut self,
        config: &Config,
        learned: &LearnedPath,
        want: &DesiredRoute,
        state: &RouteState,
    ) -> bool {
        let (Some(RouteTarget::Exit(Exit::Ipip { .. })), Some(observed)) = (want.target, &self.fib.observed)
        else {
            return false;
        };
        let node = config.node_with_address(learned.next_hop);
        let Some(vtep) = node.and_then(|n| n.vtep).filter(|_| config.probes(TunnelPath::Ipip)) else {
            return false;
        };
        if self.reachability.path_state(vtep, TunnelPath::Ipip) != PathState::Unknown {
            return false;
        }
        let contents = self.fib.via(state).map(|via| contents(observed, via)).unwrap_or_default();
        let of = |device, index| observed.link(device).is_some_and(|link| link.index == index);
        let direct = !self.reachability.path_state(vtep, TunnelPath::Direct).is_avoided();
        // Of several gateways only the node's own address is known to lead to the node.
        let alone = contents.len() == 1;
        let exit = contents.iter().find_map(|(gateway, index)| match gateway {
            IpAddr::V4(gateway) if of(Device::Vxlan, *index) => {
                (*gateway == vtep).then_some(Exit::Vxlan { vtep: vtep.into() })
            }
            IpAddr::V4(_)
                if !of(Device::Ipip, *index) && direct && (alone || *gateway == learned.next_hop) =>
            {
                Some(Exit::Direct { gateway: *gateway, index: *index })
            }
            _ => None,
        });
        let Some(exit) = exit else { return false };
        match exit {
            Exit::Vxlan { .. } if self.sync != SyncState::Adopted => {
                self.reachability.set(vtep, TunnelPath::Ipip, PathState::Returning);
            }
            _ => self.reachability.pin(vtep, exit),
        }
        self.due.probe_targets = true;
        // Other routes of the node may have been resolved before.
        self.resolver.repeat = true;
        self.resolver.clear_results();
        true
    }
}

/// Returns gateways and interface indices of a route.
fn contents(observed: &ObservedState, via: &Via) -> Vec<(IpAddr, u32)> {
    match via {
        Via::Nexthop(id) => observed.contents(*id),
        Via::Gateway { gateway, index } => vec![(*gateway, *index)],
        Via::Blackhole | Via::Link(_) | Via::Other => Vec::new(),
    }
}
