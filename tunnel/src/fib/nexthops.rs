//! Next-hop objects: which there have to be, which a new exit takes over, and which are of no use any more.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
};

use super::Fib;
use crate::{
    desired::Target,
    diff::{NEXTHOP_IDS, Object, Op},
    observed::{Nexthop, Via},
    resolve::Exit,
};

impl Fib {
    /// How many routes of ours use a next-hop object.
    pub fn nexthop_references(&self, id: u32) -> u32 {
        self.vias.holders(&Via::Nexthop(id))
    }

    /// The exits that are wanted now.
    pub fn exits(&self) -> impl Iterator<Item = Exit> {
        self.wants.iter().filter_map(|(_, want)| match want.target {
            Some(Target::Exit(exit)) => Some(exit),
            _ => None,
        })
    }

    /// Gateway and interface index of each wanted exit that can be realised now.
    pub fn wanted_contents(&self) -> HashSet<(IpAddr, u32)> {
        let Some(observed) = &self.observed else { return HashSet::new() };
        self.exits().filter_map(|exit| observed.realise(&exit)).collect()
    }

    /// Finds out how each want is realised. What comes back are the next-hop objects that it takes: carry them
    /// out, and ask again. An exit that is new takes over the object of the one that its routes leave, if they all
    /// do: one replace, no route touched.
    pub fn realise(&mut self, blocked: &dyn Fn(&Object) -> bool) -> Vec<Op> {
        if self.unrealised.is_empty() {
            return Vec::new();
        }
        let Some(observed) = &self.observed else { return Vec::new() };
        let mut missing: BTreeMap<Exit, (IpAddr, u32)> = BTreeMap::new();
        let mut later = Vec::new();
        for id in self.unrealised.drain(..) {
            let Some(want) = self.wants.value(id).filter(|_| self.wants.is_held(id)) else { continue };
            let via = match want.target {
                None => continue,
                Some(Target::Blackhole) => Some(Via::Blackhole),
                Some(Target::Device(device)) => observed.link(device).map(|link| Via::Link(link.index)),
                Some(Target::Exit(exit)) => observed.realise(&exit).and_then(|content| {
                    let (gateway, index) = content;
                    if !observed.nexthop_objects {
                        return Some(Via::Gateway { gateway, index });
                    }
                    let known = self.by_content.get(&content).map(|id| Via::Nexthop(*id));
                    if known.is_none() && !blocked(&Object::Nexthop(gateway, index)) {
                        missing.insert(exit, content);
                        later.push(id);
                    }
                    known
                }),
            };
            if let Some(realised) = usize::try_from(id).ok().and_then(|i| self.realised.get_mut(i)) {
                *realised = via;
            }
        }
        self.unrealised = later;
        if missing.is_empty() {
            return Vec::new();
        }
        let heirs = self.heirs(&missing);
        let mut ops = Vec::with_capacity(missing.len());
        for (exit, (gateway, index)) in missing {
            if let Some(id) = heirs.get(&exit) {
                ops.push(Op::ReplaceNexthop { id: *id, gateway, index });
            } else if let Some(id) = self.free_id() {
                ops.push(Op::AddNexthop { id, gateway, index });
            }
        }
        ops
    }

    /// An id that no next-hop object has.
    fn free_id(&mut self) -> Option<u32> {
        let observed = self.observed.as_ref()?;
        let from = self.next_id.max(*NEXTHOP_IDS.start());
        let mut ids = (from..=*NEXTHOP_IDS.end()).chain(*NEXTHOP_IDS.start()..from);
        let id = ids.find(|id| !observed.nexthops.contains_key(id))?;
        self.next_id = id + 1;
        Some(id)
    }

    /// For each missing exit the object it can take over: wanted by no exit, of the same family, and left
    /// by all of its routes for this one exit.
    fn heirs(&self, missing: &BTreeMap<Exit, (IpAddr, u32)>) -> HashMap<Exit, u32> {
        let Some(observed) = self.observed.as_ref().filter(|_| self.may_inherit) else {
            return HashMap::new();
        };
        let mut moves: BTreeMap<(u32, Exit), u32> = BTreeMap::new();
        let mut note = |slot: u32| {
            let state = self.table.state(slot);
            if let Some(Via::Nexthop(id)) = self.via(state)
                && let Some(Target::Exit(exit)) = self.want(state).target
                && missing.contains_key(&exit)
            {
                *moves.entry((*id, exit)).or_default() += 1;
            }
        };
        // A route that leaves its object is in the queue, or everything is to be compared.
        match self.scan {
            Some(_) => self.table.slots().for_each(&mut note),
            None => self.queue.iter().for_each(&mut note),
        }
        // The objects left, by content, with how many routes they have.
        let mut left: HashMap<(IpAddr, u32), (u32, u32)> = moves
            .keys()
            .filter_map(|(id, _)| {
                let content = observed.nexthops.get(id)?.content()?;
                Some((content, (*id, self.nexthop_references(*id))))
            })
            .collect();
        for content in self.exits().filter_map(|exit| observed.realise(&exit)) {
            left.remove(&content);
        }
        let left: HashMap<u32, (IpAddr, u32)> =
            left.into_iter().map(|((gateway, _), (id, references))| (id, (gateway, references))).collect();
        let mut heirs: HashMap<Exit, (u32, u32)> = HashMap::new();
        for ((id, exit), count) in moves {
            let Some((gateway, references)) = left.get(&id) else { continue };
            if gateway.is_ipv4() == exit.is_ipv4() && count == *references {
                let best = heirs.entry(exit).or_insert((count, id));
                if count > best.0 {
                    *best = (count, id);
                }
            }
        }
        heirs.into_iter().map(|(exit, (_, id))| (exit, id)).collect()
    }

    /// Notes that the kernel carried out an operation.
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
        if let Op::AddNexthop { id, gateway, index } | Op::ReplaceNexthop { id, gateway, index } = *op {
            self.by_content.insert((gateway, index), id);
        }
    }

    /// Next-hop objects of ours that no route uses and no want needs, to be deleted.
    pub fn unused_nexthops(&self) -> Vec<Op> {
        let Some(observed) = &self.observed else { return Vec::new() };
        let wanted = if observed.nexthop_objects { self.wanted_contents() } else { HashSet::new() };
        // Deleting an object deletes its routes, so it has to be without any first.
        let unused = |id: u32, nexthop: &Nexthop| {
            let needed = nexthop.gateway.is_some_and(|g| wanted.contains(&(g, nexthop.index)));
            nexthop.ours && !needed && self.nexthop_references(id) == 0
        };
        let unused = observed.nexthops.iter().filter(|(id, nexthop)| unused(**id, nexthop));
        unused.map(|(id, _)| Op::DeleteNexthop { id: *id }).collect()
    }
}
