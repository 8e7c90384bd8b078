//! Reuse of next-hop objects: a new exit gets the object of the exit that its routes leave, if all
//! users of the object do.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use super::Fib;
use crate::{
    desired::RouteTarget,
    observed::{ObservedState, Via},
    resolve::Exit,
};

/// Gateway and interface index.
type Content = (IpAddr, u32);

impl Fib {
    /// Returns for each missing exit the object to reuse: one that no desired exit needs, of the
    /// same family, and that all of its routes leave for this exit, alone or in groups.
    pub(super) fn reusable_objects(&self, missing: &BTreeMap<Exit, Content>) -> HashMap<Exit, u32> {
        let Some(observed) = self.observed.as_ref().filter(|_| self.may_inherit) else {
            return HashMap::new();
        };
        let mut moves: BTreeMap<(u32, Exit), u32> = BTreeMap::new();
        // Groups, with the lists of exits that their routes move to.
        let mut shared: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        let mut note = |slot: u32| {
            let state = self.table.state(slot);
            let Some(Via::Nexthop(id)) = self.via(state) else { return };
            match self.desired_route(state).target {
                Some(RouteTarget::Exit(exit)) if missing.contains_key(&exit) => {
                    *moves.entry((*id, exit)).or_default() += 1;
                }
                Some(RouteTarget::Exits(exits)) => *shared.entry((*id, exits)).or_default() += 1,
                _ => {}
            }
        };
        // Routes that leave their object are in the queue, or everything is being compared.
        match self.scan {
            Some(_) => self.table.slots().for_each(&mut note),
            None => self.queue.iter().for_each(&mut note),
        }
        let whole = |((id, exits), count): ((u32, u32), u32)| {
            let is_group = observed.nexthops.get(&id).is_some_and(|n| n.ours && !n.members.is_empty());
            (is_group && count == self.nexthop_references(id)).then_some((id, exits))
        };
        let shared: BTreeMap<u32, u32> = shared.into_iter().filter_map(whole).collect();

        // Objects that routes leave, by contents, with the number of their routes.
        let members = shared.keys().filter_map(|id| observed.nexthops.get(id)).flat_map(|n| n.members.ids());
        let objects: BTreeSet<u32> = moves.keys().map(|(id, _)| *id).chain(members.copied()).collect();
        let mut left: HashMap<Content, (u32, u32)> = objects
            .into_iter()
            .filter_map(|id| {
                let content = observed.nexthops.get(&id)?.content()?;
                Some((content, (id, self.nexthop_references(id))))
            })
            .collect();
        for content in self.exits().filter_map(|exit| observed.realise(&exit)) {
            left.remove(&content);
        }
        let left: HashMap<u32, AbandonedObject> = left
            .into_iter()
            .map(|((gateway, _), (id, references))| {
                (id, AbandonedObject { is_ipv4: gateway.is_ipv4(), references })
            })
            .collect();

        let mut heirs: BTreeMap<Exit, (u32, u32)> = BTreeMap::new();
        for ((id, exit), count) in moves {
            let Some(object) = left.get(&id) else { continue };
            if object.is_ipv4 == exit.is_ipv4() && count == object.references {
                let best = heirs.entry(exit).or_insert((count, id));
                if count > best.0 {
                    *best = (count, id);
                }
            }
        }
        let mut heirs: BTreeMap<Exit, u32> = heirs.into_iter().map(|(exit, (_, id))| (exit, id)).collect();
        for (group, exits) in &shared {
            self.pair(observed, *group, *exits, missing, &left, &mut heirs);
        }
        self.keep_consistent(observed, &shared, &mut heirs);
        heirs.into_iter().collect()
    }

    /// Pairs the objects that a group's routes leave with the exits that they move to, where no
    /// route uses these alone: in order.
    fn pair(
        &self,
        observed: &ObservedState,
        group: u32,
        exits: u32,
        missing: &BTreeMap<Exit, Content>,
        left: &HashMap<u32, AbandonedObject>,
        heirs: &mut BTreeMap<Exit, u32>,
    ) {
        let taken: HashSet<u32> = heirs.values().copied().collect();
        let Some(nexthop) = observed.nexthops.get(&group) else { return };
        let mut free = nexthop.members.ids().iter().filter_map(|id| {
            let object = left.get(id).filter(|object| object.references == 0 && !taken.contains(id))?;
            Some((*id, object.is_ipv4))
        });
        let exits = RouteTarget::Exits(exits);
        for exit in self.exits_of(&exits).iter().filter(|exit| missing.contains_key(exit)) {
            if !heirs.contains_key(exit)
                && let Some((id, is_ipv4)) = free.next()
                && is_ipv4 == exit.is_ipv4()
            {
                heirs.insert(*exit, id);
            }
        }
    }

    /// Removes pairs that would change the meaning of a group for some of its routes.
    fn keep_consistent(
        &self,
        observed: &ObservedState,
        shared: &BTreeMap<u32, u32>,
        heirs: &mut BTreeMap<Exit, u32>,
    ) {
        if self.by_members.is_empty() {
            return;
        }
        loop {
            let after: HashMap<u32, Content> =
                heirs.iter().filter_map(|(exit, id)| Some((*id, observed.realise(exit)?))).collect();
            let agrees = |group: &u32| {
                let Some(exits) = shared.get(group).copied().map(RouteTarget::Exits) else { return false };
                let Some(nexthop) = observed.nexthops.get(group) else { return false };
                let of = |id: &u32| after.get(id).copied().or_else(|| observed.nexthops.get(id)?.content());
                let members: Option<HashSet<Content>> = nexthop.members.ids().iter().map(of).collect();
                let wanted = self.exits_of(&exits).iter().filter_map(|exit| observed.realise(exit));
                members == Some(wanted.collect())
            };
            let mut wrong: HashSet<u32> = HashSet::new();
            for (members, group) in &self.by_members {
                let concerned = members.ids().iter().any(|id| after.contains_key(id));
                if concerned && self.nexthop_references(*group) > 0 && !agrees(group) {
                    wrong.extend(members.ids());
                }
            }
            let before = heirs.len();
            heirs.retain(|_, id| !wrong.contains(id));
            if heirs.len() == before {
                return;
            }
        }
    }
}

/// An object that its routes leave.
struct AbandonedObject {
    is_ipv4: bool,
    /// Number of routes that use it alone.
    references: u32,
}
