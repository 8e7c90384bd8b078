//! Next-hop objects: creation, reuse, and removal.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
};

use super::Fib;
use crate::{
    desired::RouteTarget,
    diff::{NEXTHOP_IDS, Object, Op},
    members::GroupMembers,
    observed::{Nexthop, ObservedState, Via},
    resolve::Exit,
};

/// Objects that have to be created first.
#[derive(Default)]
struct MissingObjects {
    /// Objects by exit.
    objects: BTreeMap<Exit, (IpAddr, u32)>,
    groups: BTreeSet<GroupMembers>,
}

/// The realisation of exits.
enum Realisation {
    /// Known; `None` if there is none as things are.
    Now(Option<Via>),
    /// Pending until missing objects are created.
    Later,
}

impl Fib {
    /// Returns the number of our routes that use a next-hop object.
    pub fn nexthop_references(&self, id: u32) -> u32 {
        self.vias.holders(&Via::Nexthop(id))
    }

    /// Returns the desired exits.
    pub fn exits(&self) -> impl Iterator<Item = Exit> {
        self.desired_routes
            .iter()
            .filter_map(|(_, want)| want.target.as_ref())
            .flat_map(|target| self.exits_of(target))
            .copied()
    }

    /// Returns gateway and interface index of each desired exit that can be used now.
    pub fn desired_contents(&self) -> HashSet<(IpAddr, u32)> {
        let Some(observed) = &self.observed else { return HashSet::new() };
        self.exits().filter_map(|exit| observed.realise(&exit)).collect()
    }

    /// Computes the realisation of desired routes. Returns the operations on next-hop objects, then
    /// those on groups; the caller executes them and repeats the call. A new exit reuses the object
    /// of the exit that its routes leave, if all of them do: one replacement, no change of routes
    /// or groups.
    pub fn realise(&mut self, blocked: &dyn Fn(&Object) -> bool) -> Vec<Op> {
        if self.unrealised.is_empty() {
            return Vec::new();
        }
        let Some(observed) = &self.observed else { return Vec::new() };
        self.before.clear();
        let mut missing = MissingObjects::default();
        let mut later = Vec::new();
        for id in std::mem::take(&mut self.unrealised) {
            let Some(want) = self.desired_routes.value(id).filter(|_| self.desired_routes.is_held(id)) else {
                continue;
            };
            let via = match &want.target {
                None => continue,
                Some(RouteTarget::Blackhole) => Some(Via::Blackhole),
                Some(RouteTarget::Device(device)) => observed.link(*device).map(|link| Via::Link(link.index)),
                Some(target @ (RouteTarget::Exit(_) | RouteTarget::Exits(_))) => {
                    match self.realise_exits(observed, self.exits_of(target), blocked, &mut missing) {
                        Realisation::Now(via) => via,
                        Realisation::Later => {
                            later.push(id);
                            None
                        }
                    }
                }
            };
            if let Some(realised) = usize::try_from(id).ok().and_then(|i| self.realised.get_mut(i)) {
                *realised = via;
            }
        }
        self.unrealised = later;
        if missing.objects.is_empty() && missing.groups.is_empty() {
            return Vec::new();
        }
        let heirs = self.reusable_objects(&missing.objects);
        let mut ops = Vec::with_capacity(missing.objects.len() + missing.groups.len());
        for (exit, (gateway, index)) in missing.objects {
            if let Some(id) = heirs.get(&exit) {
                ops.push(Op::ReplaceNexthop { id: *id, gateway, index });
            } else if let Some(id) = self.free_id() {
                ops.push(Op::AddNexthop { id, gateway, index });
            }
        }
        for members in missing.groups {
            ops.extend(self.free_id().map(|id| Op::AddGroup { id, members }));
        }
        ops
    }

    /// Returns the realisation of exits. Exits without a device, or whose objects are refused,
    /// leave the packets to the others.
    fn realise_exits(
        &self,
        observed: &ObservedState,
        exits: &[Exit],
        blocked: &dyn Fn(&Object) -> bool,
        missing: &mut MissingObjects,
    ) -> Realisation {
        let mut contents = exits.iter().filter_map(|exit| Some((*exit, observed.realise(exit)?)));
        if !observed.nexthop_objects {
            // Without next-hop objects one exit gets all packets.
            return Realisation::Now(
                contents.next().map(|(_, (gateway, index))| Via::Gateway { gateway, index }),
            );
        }
        let (mut ids, mut waits) = (Vec::new(), false);
        for (exit, content) in contents {
            match self.by_content.get(&content) {
                Some(id) => ids.push(*id),
                None if blocked(&Object::Nexthop(content.0, content.1)) => {}
                None => {
                    missing.objects.insert(exit, content);
                    waits = true;
                }
            }
        }
        let members = GroupMembers::new(ids);
        match members.ids() {
            _ if waits => Realisation::Later,
            [] => Realisation::Now(None),
            [id] => Realisation::Now(Some(Via::Nexthop(*id))),
            [first, ..] => match self.by_members.get(&members) {
                Some(id) => Realisation::Now(Some(Via::Nexthop(*id))),
                None if blocked(&Object::Group(members)) => Realisation::Now(Some(Via::Nexthop(*first))),
                None => {
                    missing.groups.insert(members);
                    Realisation::Later
                }
            },
        }
    }

    /// Returns an id that no next-hop object has.
    fn free_id(&mut self) -> Option<u32> {
        let observed = self.observed.as_ref()?;
        let from = self.next_id.max(*NEXTHOP_IDS.start());
        let mut ids = (from..=*NEXTHOP_IDS.end()).chain(*NEXTHOP_IDS.start()..from);
        let id = ids.find(|id| !observed.nexthops.contains_key(id))?;
        self.next_id = id + 1;
        Some(id)
    }

    /// Records that the kernel executed an operation.
    pub fn done(&mut self, op: &Op) {
        let Some(observed) = &mut self.observed else { return };
        let before = match op {
            Op::ReplaceNexthop { id, .. } | Op::DeleteNexthop { id } => {
                observed.nexthops.get(id).and_then(Nexthop::content).map(|content| (content, *id))
            }
            _ => None,
        };
        observed.apply(op);
        if let Some((content, id)) = before
            && self.by_content.get(&content) == Some(&id)
        {
            self.by_content.remove(&content);
        }
        match *op {
            Op::AddNexthop { id, gateway, index } | Op::ReplaceNexthop { id, gateway, index } => {
                self.by_content.insert((gateway, index), id);
            }
            Op::AddGroup { id, members } => _ = self.by_members.insert(members, id),
            Op::DeleteNexthop { id } if !self.by_members.is_empty() => {
                self.by_members.retain(|members, group| *group != id && !members.contains(id));
            }
            _ => {}
        }
    }

    /// Returns whether desired exits share a group of these objects.
    pub fn needs_group(&self, members: &GroupMembers) -> bool {
        let Some(observed) = &self.observed else { return false };
        let lists = self.desired_routes.iter().filter_map(|(_, want)| want.target.as_ref());
        lists.filter(|target| matches!(target, RouteTarget::Exits(_))).any(|target| {
            let contents = self.exits_of(target).iter().filter_map(|exit| observed.realise(exit));
            GroupMembers::new(contents.filter_map(|content| self.by_content.get(&content).copied()))
                == *members
        })
    }

    /// Returns the deletions of next-hop objects of ours that no route and no desired route uses:
    /// groups first, since an object that is deleted leaves its groups.
    pub fn unused_nexthops(&self) -> Vec<Op> {
        let Some(observed) = &self.observed else { return Vec::new() };
        let wanted = if observed.nexthop_objects { self.desired_contents() } else { HashSet::new() };
        let needed: HashSet<Via> =
            self.desired_routes.iter().filter_map(|(id, _)| self.realised_by(id)).collect();
        // The kernel deletes the routes of a deleted object, so it must not have any.
        let (mut groups, mut singles, mut shared) = (Vec::new(), Vec::new(), HashSet::<u32>::new());
        for (id, nexthop) in &observed.nexthops {
            let used = self.nexthop_references(*id) > 0;
            match nexthop.content() {
                _ if !nexthop.members.is_empty() => {
                    if nexthop.ours && !used && !needed.contains(&Via::Nexthop(*id)) {
                        groups.push(*id);
                    } else {
                        shared.extend(nexthop.members.ids());
                    }
                }
                content if nexthop.ours && !used && content.is_none_or(|c| !wanted.contains(&c)) => {
                    singles.push(*id);
                }
                _ => {}
            }
        }
        singles.retain(|id| !shared.contains(id));
        groups.into_iter().chain(singles).map(|id| Op::DeleteNexthop { id }).collect()
    }
}
