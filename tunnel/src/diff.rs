//! The operations that lead from the observed kernel state to the desired one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    ops::RangeInclusive,
};

use ipnet::IpNet;

use crate::{
    desired::{Desired, Device, IpipSpec, RouteKey, Target, VXLAN_PORT, VXLAN_VNI, VxlanSpec, Wanted},
    node::Mac,
    observed::{Link, LinkKind, Observed, Via},
    resolve::Exit,
};

/// The ids that next-hop objects of ours are given; those in use by others are skipped.
pub const NEXTHOP_IDS: RangeInclusive<u32> = 0x7264_0001..=0x7264_ffff;

/// One change of kernel state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Each field is what its name says: an attribute of the kernel's object.
pub enum Op {
    /// Delete a tunnel device.
    DeleteLink { device: Device, index: u32 },
    /// Create the IP-in-IP device.
    CreateIpip(IpipSpec),
    /// Create the VXLAN device.
    CreateVxlan(VxlanSpec),
    /// Change what can be changed in place.
    SetLink { device: Device, index: u32, mtu: Option<u32>, mac: Option<Mac>, up: bool },
    /// Add an address to a tunnel device.
    AddAddress { device: Device, index: u32, address: IpNet },
    /// Remove an address from a tunnel device.
    DeleteAddress { device: Device, index: u32, address: IpNet },
    /// Add or replace a permanent forwarding entry.
    SetFdb { index: u32, mac: Mac, remote: IpAddr },
    /// Remove a forwarding entry.
    DeleteFdb { index: u32, mac: Mac, remote: IpAddr },
    /// Add or replace a permanent neighbour.
    SetNeighbour { index: u32, address: IpAddr, mac: Mac },
    /// Remove a neighbour.
    DeleteNeighbour { index: u32, address: IpAddr },
    /// Create a next-hop object; never replaces one.
    AddNexthop { id: u32, gateway: IpAddr, index: u32 },
    /// Replace a next-hop object observed as ours.
    ReplaceNexthop { id: u32, gateway: IpAddr, index: u32 },
    /// Delete a next-hop object observed as ours.
    DeleteNexthop { id: u32 },
    /// Create a route; never replaces one.
    AddRoute { key: RouteKey, via: Via },
    /// Replace a route observed as ours.
    ReplaceRoute { key: RouteKey, via: Via },
    /// Delete a route observed as ours.
    DeleteRoute { key: RouteKey },
}

/// What an operation acts on: its key in the ledger of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// A tunnel device.
    Link(Device),
    /// An address of a tunnel device.
    Address(Device, IpNet),
    /// A forwarding entry.
    Fdb(Mac),
    /// A neighbour.
    Neighbour(IpAddr),
    /// A next-hop object, by gateway and interface index.
    Nexthop(IpAddr, u32),
    /// A next-hop object to be deleted, by id.
    UnwantedNexthop(u32),
    /// A route.
    Route(RouteKey),
}

impl Op {
    /// What it acts on.
    pub fn object(&self) -> Object {
        match *self {
            Op::DeleteLink { device, .. } | Op::SetLink { device, .. } => Object::Link(device),
            Op::CreateIpip(_) => Object::Link(Device::Ipip),
            Op::CreateVxlan(_) => Object::Link(Device::Vxlan),
            Op::AddAddress { device, address, .. } | Op::DeleteAddress { device, address, .. } => {
                Object::Address(device, address)
            }
            Op::SetFdb { mac, .. } | Op::DeleteFdb { mac, .. } => Object::Fdb(mac),
            Op::SetNeighbour { address, .. } | Op::DeleteNeighbour { address, .. } => {
                Object::Neighbour(address)
            }
            Op::AddNexthop { gateway, index, .. } | Op::ReplaceNexthop { gateway, index, .. } => {
                Object::Nexthop(gateway, index)
            }
            Op::DeleteNexthop { id } => Object::UnwantedNexthop(id),
            Op::AddRoute { key, .. } | Op::ReplaceRoute { key, .. } | Op::DeleteRoute { key } => {
                Object::Route(key)
            }
        }
    }

    /// Whether the kernel's own answer (a new index, what went with a device) must be observed after it.
    pub fn changes_links(&self) -> bool {
        matches!(self, Op::DeleteLink { .. } | Op::CreateIpip(_) | Op::CreateVxlan(_))
    }
}

/// Which routes to compare; all else is always compared.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// All of them.
    All,
    /// Those that changed on either side since the last comparison.
    Routes(&'a HashSet<RouteKey>),
}

/// What of ours is deleted if it is not desired.
#[derive(Debug, Clone, Copy)]
pub enum Sweep<'a> {
    /// All of it.
    All,
    /// These routes alone: the rest may be desired once all is known.
    Routes(&'a HashSet<RouteKey>),
}

/// The operations, in stages: each one needs the stages before it to have succeeded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Stages, none of them empty.
    pub stages: Vec<Vec<Op>>,
}

impl Plan {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    fn push(&mut self, stage: Vec<Op>) {
        if !stage.is_empty() {
            self.stages.push(stage);
        }
    }
}

/// Compares. What is ours and not desired is deleted as far as `sweep` allows. Objects for which `blocked` answers true failed not long ago and are left alone. Where links have to change, the
/// plan holds that alone, since all else hangs on their interface indexes: compare again afterwards.
/// A plan that was carried out may leave next-hop objects unused: compare until the plan is empty.
pub fn diff(
    desired: &Desired,
    observed: &Observed,
    scope: Scope<'_>,
    sweep: Sweep<'_>,
    blocked: &dyn Fn(&Object) -> bool,
) -> Plan {
    let mut plan = Plan::default();
    let links = allowed(link_ops(desired, observed), blocked);
    if !links.is_empty() {
        plan.push(links);
        return plan;
    }
    plan.push(allowed(address_ops(desired, observed), blocked));
    plan.push(allowed(vtep_ops(desired, observed), blocked));

    let (nexthops, ids) = nexthop_ops(desired, observed, scope, blocked);
    let mut routes = RouteOps::default();
    match scope {
        Scope::All => {
            for key in desired.routes().keys() {
                routes.compare(desired, observed, key, &ids);
            }
            for key in observed.routes().keys().filter(|k| !desired.routes().contains_key(k)) {
                routes.deletes.push(Op::DeleteRoute { key: *key });
            }
        }
        Scope::Routes(keys) => {
            for key in keys {
                if desired.routes().contains_key(key) {
                    routes.compare(desired, observed, key, &ids);
                } else if observed.routes().contains_key(key) {
                    routes.deletes.push(Op::DeleteRoute { key: *key });
                }
            }
        }
    }
    plan.push(allowed(routes.hosts, blocked));
    plan.push(nexthops);
    plan.push(allowed(routes.writes, blocked));
    match sweep {
        Sweep::All => {
            plan.push(allowed(routes.deletes, blocked));
            plan.push(allowed(unused_nexthop_ops(desired, observed), blocked));
            plan.push(allowed(unwanted_ops(desired, observed), blocked));
        }
        Sweep::Routes(keys) => {
            routes.deletes.retain(|op| matches!(op, Op::DeleteRoute { key } if keys.contains(key)));
            plan.push(allowed(routes.deletes, blocked));
        }
    }
    plan
}

fn allowed(mut ops: Vec<Op>, blocked: &dyn Fn(&Object) -> bool) -> Vec<Op> {
    ops.retain(|op| !blocked(&op.object()));
    ops
}

fn link_ops(desired: &Desired, observed: &Observed) -> Vec<Op> {
    let mut ops = Vec::new();
    if let Wanted::Present(spec) = desired.ipip {
        match &observed.ipip {
            None => ops.push(Op::CreateIpip(spec)),
            Some(link) if !observed.ipip_is_tunl0 && !ipip_matches(link, &spec) => {
                // ipip's changelink keeps a stale flow label of the lower device; a new device has none.
                ops.push(Op::DeleteLink { device: Device::Ipip, index: link.index });
                ops.push(Op::CreateIpip(spec));
            }
            Some(link) => ops.extend(set_link(Device::Ipip, link, spec.mtu, None)),
        }
    }
    if let Wanted::Present(spec) = desired.vxlan {
        match &observed.vxlan {
            // The kernel refuses a second device with the same VNI and port.
            None if observed.vxlan_rival.is_some() => {}
            None => ops.push(Op::CreateVxlan(spec)),
            Some(link) if !vxlan_matches(link, &spec) => {
                ops.push(Op::DeleteLink { device: Device::Vxlan, index: link.index });
                ops.push(Op::CreateVxlan(spec));
            }
            Some(link) => ops.extend(set_link(Device::Vxlan, link, spec.mtu, Some(spec.mac))),
        }
    }
    ops
}

fn ipip_matches(link: &Link, spec: &IpipSpec) -> bool {
    link.kind == LinkKind::Ipip { local: Some(IpAddr::V4(spec.local)), remote: None, pmtudisc: true }
}

fn vxlan_matches(link: &Link, spec: &VxlanSpec) -> bool {
    link.kind
        == LinkKind::Vxlan {
            vni: VXLAN_VNI,
            port: VXLAN_PORT,
            local: Some(spec.local),
            parent: spec.parent,
            learning: false,
        }
}

fn set_link(device: Device, link: &Link, mtu: u32, mac: Option<Mac>) -> Option<Op> {
    let mtu = (link.mtu != mtu).then_some(mtu);
    let mac = mac.filter(|m| *m != link.mac);
    (mtu.is_some() || mac.is_some() || !link.up).then_some(Op::SetLink {
        device,
        index: link.index,
        mtu,
        mac,
        up: true,
    })
}

fn address_ops(desired: &Desired, observed: &Observed) -> Vec<Op> {
    desired
        .addresses
        .difference(&observed.addresses)
        .filter_map(|(device, address)| {
            let index = observed.link(*device)?.index;
            Some(Op::AddAddress { device: *device, index, address: *address })
        })
        .collect()
}

/// Forwarding entries before neighbours: a neighbour makes packets flow, and they must not be flooded.
fn vtep_ops(desired: &Desired, observed: &Observed) -> Vec<Op> {
    let Some(index) = observed.vxlan.map(|l| l.index) else { return Vec::new() };
    let fdb = desired
        .fdb
        .iter()
        .filter(|(mac, remote)| {
            let has = |r: &IpAddr| observed.fdb.contains(&(**mac, *r));
            !has(remote)
        })
        .map(|(mac, remote)| Op::SetFdb { index, mac: *mac, remote: *remote });
    let neighbours = desired
        .neighbours
        .iter()
        .filter(|(address, mac)| observed.neighbours.get(address) != Some(mac))
        .map(|(address, mac)| Op::SetNeighbour { index, address: *address, mac: *mac });
    fdb.chain(neighbours).collect()
}

/// Next-hop objects for the exits in scope, and the id that each exit has afterwards. An exit that is new
/// takes over the object of the one that its routes leave, if they all do: one replace, no route touched.
fn nexthop_ops(
    desired: &Desired,
    observed: &Observed,
    scope: Scope<'_>,
    blocked: &dyn Fn(&Object) -> bool,
) -> (Vec<Op>, HashMap<Exit, u32>) {
    let mut ids = HashMap::new();
    if !observed.nexthop_objects {
        return (Vec::new(), ids);
    }
    let mut by_content: HashMap<(IpAddr, u32), u32> = HashMap::new();
    for (id, nexthop) in &observed.nexthops {
        if nexthop.ours
            && nexthop.onlink
            && let Some(gateway) = nexthop.gateway
        {
            by_content.entry((gateway, nexthop.index)).or_insert(*id);
        }
    }
    let exit_of = |key: &RouteKey| match desired.routes().get(key) {
        Some(Target::Exit(exit)) => Some(*exit),
        _ => None,
    };
    let exits: BTreeSet<Exit> = match scope {
        Scope::All => desired.exits().keys().copied().collect(),
        Scope::Routes(keys) => keys.iter().filter_map(exit_of).collect(),
    };
    let mut missing = BTreeMap::new();
    for exit in exits {
        let Some(content) = observed.realise(&exit) else { continue };
        match by_content.get(&content) {
            Some(id) => {
                ids.insert(exit, *id);
            }
            None if blocked(&Object::Nexthop(content.0, content.1)) => {}
            None => {
                missing.insert(exit, content);
            }
        }
    }
    if missing.is_empty() {
        return (Vec::new(), ids);
    }
    let mut heirs = heirs(desired, observed, scope, &missing);
    let mut ops = Vec::new();
    let mut free = NEXTHOP_IDS.filter(|id| !observed.nexthops.contains_key(id));
    for (exit, (gateway, index)) in missing {
        if let Some(id) = heirs.remove(&exit) {
            ids.insert(exit, id);
            ops.push(Op::ReplaceNexthop { id, gateway, index });
        } else if let Some(id) = free.next() {
            ids.insert(exit, id);
            ops.push(Op::AddNexthop { id, gateway, index });
        }
    }
    (ops, ids)
}

/// For each missing exit the object it can take over: wanted by no exit, of the same family, and left
/// by all of its routes for this one exit.
fn heirs(
    desired: &Desired,
    observed: &Observed,
    scope: Scope<'_>,
    missing: &BTreeMap<Exit, (IpAddr, u32)>,
) -> HashMap<Exit, u32> {
    let wanted: HashSet<(IpAddr, u32)> = desired.exits().keys().filter_map(|e| observed.realise(e)).collect();
    let mut moves: BTreeMap<(u32, Exit), usize> = BTreeMap::new();
    let mut note = |key: &RouteKey| {
        let (Some(Target::Exit(exit)), Some(Via::Nexthop(id))) =
            (desired.routes().get(key), observed.routes().get(key))
        else {
            return;
        };
        if missing.contains_key(exit) {
            *moves.entry((*id, *exit)).or_default() += 1;
        }
    };
    match scope {
        Scope::All => desired.routes().keys().for_each(&mut note),
        Scope::Routes(keys) => keys.iter().for_each(&mut note),
    }
    let mut heirs: HashMap<Exit, (usize, u32)> = HashMap::new();
    for ((id, exit), count) in moves {
        let Some(old) = observed.nexthops.get(&id) else { continue };
        let Some(gateway) = old.gateway.filter(|_| old.ours) else { continue };
        let unwanted = !wanted.contains(&(gateway, old.index));
        if unwanted && gateway.is_ipv4() == exit.is_ipv4() && count == observed.nexthop_references(id) {
            let best = heirs.entry(exit).or_insert((count, id));
            if count > best.0 {
                *best = (count, id);
            }
        }
    }
    heirs.into_iter().map(|(exit, (_, id))| (exit, id)).collect()
}

#[derive(Default)]
struct RouteOps {
    /// Routes that make next hops legal, written before them.
    hosts: Vec<Op>,
    writes: Vec<Op>,
    deletes: Vec<Op>,
}

impl RouteOps {
    fn compare(&mut self, desired: &Desired, observed: &Observed, key: &RouteKey, ids: &HashMap<Exit, u32>) {
        let Some(target) = desired.routes().get(key) else { return };
        let via = match target {
            Target::Blackhole => Some(Via::Blackhole),
            Target::Device(device) => observed.link(*device).map(|l| Via::Link(l.index)),
            Target::Exit(exit) if observed.nexthop_objects => ids.get(exit).map(|id| Via::Nexthop(*id)),
            Target::Exit(exit) => {
                observed.realise(exit).map(|(gateway, index)| Via::Gateway { gateway, index })
            }
        };
        let Some(via) = via else { return };
        let stage = match target {
            Target::Device(_) => &mut self.hosts,
            _ => &mut self.writes,
        };
        match observed.routes().get(key) {
            Some(old) if *old == via => {}
            Some(_) => stage.push(Op::ReplaceRoute { key: *key, via }),
            None => stage.push(Op::AddRoute { key: *key, via }),
        }
    }
}

fn unused_nexthop_ops(desired: &Desired, observed: &Observed) -> Vec<Op> {
    let mut wanted: HashSet<(IpAddr, u32)> = HashSet::new();
    if observed.nexthop_objects {
        wanted.extend(desired.exits().keys().filter_map(|e| observed.realise(e)));
    }
    observed
        .nexthops
        .iter()
        .filter(|(id, nexthop)| {
            let needed = nexthop.gateway.is_some_and(|g| wanted.contains(&(g, nexthop.index)));
            // Deleting an object deletes its routes, so it has to be without any first.
            nexthop.ours && observed.nexthop_references(**id) == 0 && !needed
        })
        .map(|(id, _)| Op::DeleteNexthop { id: *id })
        .collect()
}

fn unwanted_ops(desired: &Desired, observed: &Observed) -> Vec<Op> {
    let mut ops = Vec::new();
    if let Some(link) = &observed.vxlan {
        for address in observed.neighbours.keys().filter(|a| !desired.neighbours.contains_key(a)) {
            ops.push(Op::DeleteNeighbour { index: link.index, address: *address });
        }
        for (mac, remote) in observed.fdb.iter().filter(|(mac, remote)| desired.fdb.get(mac) != Some(remote))
        {
            ops.push(Op::DeleteFdb { index: link.index, mac: *mac, remote: *remote });
        }
    }
    for (device, address) in observed.addresses.difference(&desired.addresses) {
        if let Some(link) = observed.link(*device) {
            ops.push(Op::DeleteAddress { device: *device, index: link.index, address: *address });
        }
    }
    if let (Wanted::Absent, Some(link)) = (desired.ipip, &observed.ipip)
        && !observed.ipip_is_tunl0
    {
        ops.push(Op::DeleteLink { device: Device::Ipip, index: link.index });
    }
    if let (Wanted::Absent, Some(link)) = (desired.vxlan, &observed.vxlan) {
        ops.push(Op::DeleteLink { device: Device::Vxlan, index: link.index });
    }
    ops
}

#[cfg(test)]
mod tests;
