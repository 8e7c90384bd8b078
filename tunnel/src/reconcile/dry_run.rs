//! The changes that another configuration would make, computed without making them.

use std::collections::{BTreeSet, HashMap};

use ipnet::IpNet;

use crate::{
    dataplane::Dataplane,
    desired::{DesiredState, RouteTarget},
    dry_run::{DryRun, PlannedAction, compare, leads},
    node::{Config, LearnedPath, RouteChange},
    resolve::{Exit, ExitReason, resolve},
};

use super::Reconciler;

/// The learned path of a prefix, and the next hops that share its packets.
type PlannedPaths = (Option<LearnedPath>, Vec<std::net::IpAddr>);

impl<D: Dataplane> Reconciler<D> {
    /// Returns the changes that `config`, and these paths with it, would make. Nothing is changed.
    pub fn dry_run(&mut self, config: &Config, paths: Vec<RouteChange>) -> DryRun {
        let Some(observed) = self.fib.observed.clone() else { return DryRun::default() };
        let mut changes =
            compare(&self.fib.desired, &DesiredState::from_config(config, self.observation.parent));
        if config.route_metric != self.resolver.metric {
            let text =
                format!("metric of all routes: {}, then {}", self.resolver.metric, config.route_metric);
            changes.object(PlannedAction::Replace, text);
        }
        let mut others: HashMap<IpNet, PlannedPaths> = paths
            .into_iter()
            .map(|path| (path.prefix.trunc(), (path.learned, path.others.into_vec())))
            .collect();
        let (mut before_hops, mut after_hops) = (BTreeSet::new(), BTreeSet::new());
        let mut answers: HashMap<_, Option<RouteTarget>> = HashMap::new();
        let reachability = self.reachability.clone();
        let mut resolved = |dataplane: &mut D, prefix: &IpNet, learned: LearnedPath| {
            let own = config.local.blocks.contains(prefix);
            let question = (learned, config.policy(prefix), prefix.addr().is_ipv4(), own.then_some(*prefix));
            *answers.entry(question).or_insert_with(|| {
                let reach = &mut |address| dataplane.reach(address, &observed);
                let resolution = resolve(config, &reachability, prefix, &learned, reach);
                match resolution.reason {
                    ExitReason::Discard => Some(RouteTarget::Blackhole),
                    _ => resolution.exit.map(RouteTarget::Exit),
                }
            })
        };
        let slots: Vec<u32> = self.fib.table().slots().collect();
        let mut routes: Vec<(IpNet, Option<String>, PlannedPaths)> = Vec::new();
        for slot in slots {
            let (key, state) = (self.fib.table().key(slot), *self.fib.table().state(slot));
            let Some(learned) = self.fib.learned(&state).copied() else { continue };
            let target = self.fib.desired_route(&state).target;
            let before = target.as_ref().map(|target| self.exits_and_words(target));
            before_hops.extend(before.iter().flat_map(|(exits, _)| exits.iter().copied()));
            let now = (Some(learned), self.fib.others(&state).to_vec());
            let after = others.remove(&key.prefix).unwrap_or(now);
            routes.push((key.prefix, before.map(|(_, words)| words), after));
        }
        routes.extend(others.into_iter().map(|(prefix, paths)| (prefix, None, paths)));
        routes.sort_by_key(|(prefix, ..)| *prefix);
        for (prefix, before, (learned, sharing)) in routes {
            let mut exits: Vec<Exit> = Vec::new();
            let mut words = None;
            if let Some(learned) = learned {
                let all = std::iter::once(learned)
                    .chain(sharing.into_iter().map(|next_hop| LearnedPath { next_hop, ..learned }));
                for learned in all {
                    match resolved(&mut self.dataplane, &prefix, learned) {
                        Some(RouteTarget::Exit(exit)) if !exits.contains(&exit) => exits.push(exit),
                        Some(RouteTarget::Blackhole) => words = Some(leads(&RouteTarget::Blackhole, &[])),
                        _ => {}
                    }
                }
            }
            exits.sort_unstable();
            if !exits.is_empty() {
                words = Some(
                    exits
                        .iter()
                        .map(|exit| leads(&RouteTarget::Exit(*exit), &[]))
                        .collect::<Vec<_>>()
                        .join(" and "),
                );
            }
            after_hops.extend(exits);
            changes.route(&prefix, before.as_deref(), words.as_deref());
        }
        for exit in before_hops.symmetric_difference(&after_hops) {
            let change = if after_hops.contains(exit) { PlannedAction::Add } else { PlannedAction::Remove };
            changes.object(change, format!("next hop {}", leads(&RouteTarget::Exit(*exit), &[])));
        }
        changes
    }

    fn exits_and_words(&self, target: &RouteTarget) -> (Vec<Exit>, String) {
        let mut exits = self.fib.exits_of(target).to_vec();
        exits.sort_unstable();
        let words = leads(target, &exits);
        (exits, words)
    }
}
