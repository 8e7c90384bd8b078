//! The operations that turn observed kernel state into desired state, except those on routes
//! (module `fib`).

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
};

use ipnet::IpNet;

use crate::{
    desired::{DesiredDevice, DesiredState, Device, IpipSpec, RouteKey, VXLAN_PORT, VXLAN_VNI, VxlanSpec},
    members::GroupMembers,
    node::Mac,
    observed::{LinkKind, ObservedLink, ObservedState},
    probe::TunnelPath,
};

/// Ids of our next-hop objects; ids in use by other programs are skipped.
pub const NEXTHOP_IDS: RangeInclusive<u32> = 0x7264_0001..=0x7264_ffff;

/// A change of kernel state; routes have `RouteOp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Each field is what its name says: an attribute of the kernel's object.
pub enum Op {
    /// Deletion of a tunnel device.
    DeleteLink { device: Device, index: u32 },
    /// Creation of the IP-in-IP device.
    CreateIpip(IpipSpec),
    /// Creation of the VXLAN device.
    CreateVxlan(VxlanSpec),
    /// Change of attributes in place.
    SetLink { device: Device, index: u32, mtu: Option<u32>, mac: Option<Mac>, up: bool },
    /// Addition of an address to a tunnel device.
    AddAddress { device: Device, index: u32, address: IpNet },
    /// Removal of an address from a tunnel device.
    DeleteAddress { device: Device, index: u32, address: IpNet },
    /// Addition or replacement of a permanent forwarding entry.
    SetFdb { index: u32, mac: Mac, remote: IpAddr },
    /// Removal of a forwarding entry.
    DeleteFdb { index: u32, mac: Mac, remote: IpAddr },
    /// Addition or replacement of a permanent neighbor.
    SetNeighbour { index: u32, address: IpAddr, mac: Mac },
    /// Removal of a neighbor.
    DeleteNeighbour { index: u32, address: IpAddr },
    /// Creation of a next-hop object; never replaces one.
    AddNexthop { id: u32, gateway: IpAddr, index: u32 },
    /// Replacement of a next-hop object observed as ours.
    ReplaceNexthop { id: u32, gateway: IpAddr, index: u32 },
    /// Creation of a group of next-hop objects; never replaces one.
    AddGroup { id: u32, members: GroupMembers },
    /// Deletion of a next-hop object or group observed as ours.
    DeleteNexthop { id: u32 },
    /// Addition of the rule by which probes of a tunnel path use its table.
    AddRule { path: TunnelPath },
    /// Removal of that rule.
    DeleteRule { path: TunnelPath },
    /// Addition or replacement of a probe route to a node, in the table of a tunnel path.
    SetProbeRoute { path: TunnelPath, address: Ipv4Addr, gateway: IpAddr, index: u32 },
    /// Removal of that route.
    DeleteProbeRoute { path: TunnelPath, address: Ipv4Addr },
}

/// The object of an operation: its key in the ledger of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// A tunnel device.
    Link(Device),
    /// An address of a tunnel device.
    Address(Device, IpNet),
    /// A forwarding entry.
    Fdb(Mac),
    /// A neighbor.
    Neighbour(IpAddr),
    /// A next-hop object, by gateway and interface index.
    Nexthop(IpAddr, u32),
    /// A group of next-hop objects.
    Group(GroupMembers),
    /// A next-hop object or group to delete, by id.
    UnwantedNexthop(u32),
    /// A route.
    Route(RouteKey),
    /// The rule of a tunnel path.
    Rule(TunnelPath),
    /// A probe route.
    ProbeRoute(TunnelPath, Ipv4Addr),
}

impl Op {
    /// Returns the object of the operation.
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
            Op::AddGroup { members, .. } => Object::Group(members),
            Op::DeleteNexthop { id } => Object::UnwantedNexthop(id),
            Op::AddRule { path } | Op::DeleteRule { path } => Object::Rule(path),
            Op::SetProbeRoute { path, address, .. } | Op::DeleteProbeRoute { path, address } => {
                Object::ProbeRoute(path, address)
            }
        }
    }

    /// Returns whether its effects, such as a new index or what the kernel removed with a device,
    /// have to be observed.
    pub fn changes_links(&self) -> bool {
        matches!(self, Op::DeleteLink { .. } | Op::CreateIpip(_) | Op::CreateVxlan(_))
    }
}

/// Returns the operations that everything else depends on: those on links, or if links are right,
/// on addresses, forwarding entries and neighbors. Objects for which `blocked` returns true failed
/// recently and are left alone. The caller executes them and repeats the call until there are none.
pub fn base_ops(
    desired: &DesiredState,
    observed: &ObservedState,
    blocked: &dyn Fn(&Object) -> bool,
) -> Vec<Op> {
    let links = allowed(link_ops(desired, observed), blocked);
    if !links.is_empty() {
        return links;
    }
    let mut ops = address_ops(desired, observed);
    ops.extend(vtep_ops(desired, observed));
    ops.extend(probe_ops(desired, observed));
    allowed(ops, blocked)
}

fn allowed(mut ops: Vec<Op>, blocked: &dyn Fn(&Object) -> bool) -> Vec<Op> {
    ops.retain(|op| !blocked(&op.object()));
    ops
}

fn link_ops(desired: &DesiredState, observed: &ObservedState) -> Vec<Op> {
    let mut ops = Vec::new();
    if let DesiredDevice::Present(spec) = desired.ipip {
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
    if let DesiredDevice::Present(spec) = desired.vxlan {
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

fn ipip_matches(link: &ObservedLink, spec: &IpipSpec) -> bool {
    link.kind == LinkKind::Ipip { local: Some(IpAddr::V4(spec.local)), remote: None, pmtudisc: true }
}

fn vxlan_matches(link: &ObservedLink, spec: &VxlanSpec) -> bool {
    link.kind
        == LinkKind::Vxlan {
            vni: VXLAN_VNI,
            port: VXLAN_PORT,
            local: Some(spec.local),
            parent: spec.parent,
            learning: false,
        }
}

fn set_link(device: Device, link: &ObservedLink, mtu: u32, mac: Option<Mac>) -> Option<Op> {
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

fn address_ops(desired: &DesiredState, observed: &ObservedState) -> Vec<Op> {
    desired
        .addresses
        .difference(&observed.addresses)
        .filter_map(|(device, address)| {
            let index = observed.link(*device)?.index;
            Some(Op::AddAddress { device: *device, index, address: *address })
        })
        .collect()
}

/// Forwarding entries come before neighbors: a neighbor makes packets flow, and they must not be
/// flooded.
fn vtep_ops(desired: &DesiredState, observed: &ObservedState) -> Vec<Op> {
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

/// A probe route requires that its device is up, and packets need both the route and the rule.
fn probe_ops(desired: &DesiredState, observed: &ObservedState) -> Vec<Op> {
    let routes = desired.probe_routes.iter().filter_map(|((path, address), exit)| {
        let (gateway, index) = observed.realise(exit)?;
        let there = observed.probe_routes.get(&(*path, *address)) == Some(&Some((gateway, index)));
        (!there).then_some(Op::SetProbeRoute { path: *path, address: *address, gateway, index })
    });
    let rules = desired.rules.difference(&observed.rules).map(|path| Op::AddRule { path: *path });
    routes.chain(rules).collect()
}

/// Returns the deletions of objects of ours that are not desired, once no route needs them.
pub fn unwanted_ops(
    desired: &DesiredState,
    observed: &ObservedState,
    blocked: &dyn Fn(&Object) -> bool,
) -> Vec<Op> {
    let mut ops: Vec<Op> =
        observed.rules.difference(&desired.rules).map(|path| Op::DeleteRule { path: *path }).collect();
    for (path, address) in observed.probe_routes.keys().filter(|key| !desired.probe_routes.contains_key(key))
    {
        ops.push(Op::DeleteProbeRoute { path: *path, address: *address });
    }
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
    if let (DesiredDevice::Absent, Some(link)) = (desired.ipip, &observed.ipip)
        && !observed.ipip_is_tunl0
    {
        ops.push(Op::DeleteLink { device: Device::Ipip, index: link.index });
    }
    if let (DesiredDevice::Absent, Some(link)) = (desired.vxlan, &observed.vxlan) {
        ops.push(Op::DeleteLink { device: Device::Vxlan, index: link.index });
    }
    allowed(ops, blocked)
}
