//! Observed kernel state, and the effect of operations on it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;

use crate::{
    desired::{Device, Parent},
    diff::Op,
    members::GroupMembers,
    node::Mac,
    probe::TunnelPath,
    resolve::Exit,
};

/// The kind of an observed link with its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// An IP-in-IP device.
    Ipip {
        /// Outer source, if one is set.
        local: Option<IpAddr>,
        /// Outer destination, if one is set.
        remote: Option<IpAddr>,
        /// Path MTU discovery of the outer packet.
        pmtudisc: bool,
    },
    /// A VXLAN device.
    Vxlan {
        /// VXLAN network identifier.
        vni: u32,
        /// UDP port.
        port: u16,
        /// Outer source, if one is set.
        local: Option<IpAddr>,
        /// Interface index of the lower device, 0 if none.
        parent: u32,
        /// True if the device learns MACs from traffic.
        learning: bool,
    },
    /// Any other kind.
    Other,
}

/// An observed tunnel device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedLink {
    /// Interface index.
    pub index: u32,
    /// True if the device is administratively up.
    pub up: bool,
    /// MTU in octets.
    pub mtu: u32,
    /// Ethernet address; zero for a device without one.
    pub mac: Mac,
    /// Kind and attributes.
    pub kind: LinkKind,
}

/// A next-hop object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nexthop {
    /// True if the object carries our protocol number and is a single gateway or a group.
    pub ours: bool,
    /// Gateway.
    pub gateway: Option<IpAddr>,
    /// Interface index, 0 for a group.
    pub index: u32,
    /// `RTNH_F_ONLINK`.
    pub onlink: bool,
    /// Members of a group.
    pub members: GroupMembers,
}

/// The next hop of an observed route of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// A next-hop object.
    Nexthop(u32),
    /// A gateway.
    Gateway {
        /// Gateway.
        gateway: IpAddr,
        /// Interface index.
        index: u32,
    },
    /// `RTN_BLACKHOLE`.
    Blackhole,
    /// An interface, without a gateway.
    Link(u32),
    /// Anything else, which is never written.
    Other,
}

/// Observed kernel state, except routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedState {
    /// True if the kernel has next-hop objects (Linux 5.3).
    pub nexthop_objects: bool,
    /// The interface with the node's address.
    pub parent: Option<Parent>,
    /// The IP-in-IP device.
    pub ipip: Option<ObservedLink>,
    /// True if the IP-in-IP device in use is `tunl0`, because a second one cannot be created.
    pub ipip_is_tunl0: bool,
    /// True if `tunl0` exists.
    pub has_tunl0: bool,
    /// The VXLAN device.
    pub vxlan: Option<ObservedLink>,
    /// Name of another VXLAN device with our VNI and port: ours cannot exist in addition to it.
    pub vxlan_rival: Option<String>,
    /// Addresses of the tunnel devices.
    pub addresses: BTreeSet<(Device, IpNet)>,
    /// Permanent neighbors of the VXLAN device.
    pub neighbours: BTreeMap<IpAddr, Mac>,
    /// Permanent forwarding entries of the VXLAN device.
    pub fdb: BTreeSet<(Mac, IpAddr)>,
    /// All next-hop objects, by id.
    pub nexthops: BTreeMap<u32, Nexthop>,
    /// Tunnel paths whose rules exist.
    pub rules: BTreeSet<TunnelPath>,
    /// Routes of the probe tables: gateway and interface index; `None` if the route is not as we
    /// write it.
    pub probe_routes: BTreeMap<(TunnelPath, Ipv4Addr), Option<(IpAddr, u32)>>,
}

impl ObservedState {
    /// Returns a tunnel device.
    pub fn link(&self, device: Device) -> Option<&ObservedLink> {
        match device {
            Device::Ipip => self.ipip.as_ref(),
            Device::Vxlan => self.vxlan.as_ref(),
        }
    }

    /// Returns gateway and interface index of an exit now; `None` while its device is missing or
    /// down.
    pub fn realise(&self, exit: &Exit) -> Option<(IpAddr, u32)> {
        match exit {
            Exit::Direct { gateway, index } => Some((*gateway, *index)),
            Exit::Ipip { remote } => self.ipip.filter(|l| l.up).map(|link| (IpAddr::V4(*remote), link.index)),
            Exit::Vxlan { vtep } => self.vxlan.filter(|l| l.up).map(|link| (*vtep, link.index)),
        }
    }

    /// Applies an operation that the kernel executed. Created links are not added: their index is
    /// known at the next observation.
    pub fn apply(&mut self, op: &Op) {
        match *op {
            Op::DeleteLink { device, .. } => self.remove_link(device),
            Op::CreateIpip(_) | Op::CreateVxlan(_) => {}
            Op::SetLink { device, mtu, mac, up, .. } => {
                let link = match device {
                    Device::Ipip => self.ipip.as_mut(),
                    Device::Vxlan => self.vxlan.as_mut(),
                };
                if let Some(link) = link {
                    link.mtu = mtu.unwrap_or(link.mtu);
                    link.mac = mac.unwrap_or(link.mac);
                    link.up |= up;
                }
            }
            Op::AddAddress { device, address, .. } => {
                self.addresses.insert((device, address));
            }
            Op::DeleteAddress { device, address, .. } => {
                self.addresses.remove(&(device, address));
            }
            Op::SetFdb { mac, remote, .. } => {
                let lowest = (mac, IpAddr::from([0; 4]));
                let old: Vec<_> = self.fdb.range(lowest..).take_while(|(m, _)| *m == mac).copied().collect();
                for entry in &old {
                    self.fdb.remove(entry);
                }
                self.fdb.insert((mac, remote));
            }
            Op::DeleteFdb { mac, remote, .. } => {
                self.fdb.remove(&(mac, remote));
            }
            Op::SetNeighbour { address, mac, .. } => {
                self.neighbours.insert(address, mac);
            }
            Op::DeleteNeighbour { address, .. } => {
                self.neighbours.remove(&address);
            }
            Op::AddNexthop { id, gateway, index } | Op::ReplaceNexthop { id, gateway, index } => {
                let members = GroupMembers::default();
                let nexthop = Nexthop { ours: true, gateway: Some(gateway), index, onlink: true, members };
                self.nexthops.insert(id, nexthop);
            }
            Op::AddGroup { id, members } => {
                self.nexthops.insert(id, Nexthop::group(members));
            }
            Op::DeleteNexthop { id } => {
                self.nexthops.remove(&id);
                self.leave_groups(id);
            }
            Op::AddRule { path } => {
                self.rules.insert(path);
            }
            Op::DeleteRule { path } => {
                self.rules.remove(&path);
            }
            Op::SetProbeRoute { path, address, gateway, index } => {
                self.probe_routes.insert((path, address), Some((gateway, index)));
            }
            Op::DeleteProbeRoute { path, address } => {
                self.probe_routes.remove(&(path, address));
            }
        }
    }

    /// Removes a link with everything that the kernel removes with it; routes have to be observed
    /// again.
    pub fn remove_link(&mut self, device: Device) {
        let link = match device {
            Device::Ipip => self.ipip.take(),
            Device::Vxlan => self.vxlan.take(),
        };
        let Some(link) = link else { return };
        self.addresses.retain(|(d, _)| *d != device);
        if device == Device::Vxlan {
            self.neighbours.clear();
            self.fdb.clear();
        }
        let gone: Vec<u32> =
            self.nexthops.iter().filter(|(_, n)| n.index == link.index).map(|(id, _)| *id).collect();
        for id in gone {
            self.nexthops.remove(&id);
            self.leave_groups(id);
        }
        self.probe_routes.retain(|_, via| via.is_none_or(|(_, index)| index != link.index));
    }

    /// Removes an object from its groups, and groups that have no member left.
    fn leave_groups(&mut self, id: u32) {
        self.nexthops.retain(|_, nexthop| {
            if !nexthop.members.contains(id) {
                return true;
            }
            nexthop.members = nexthop.members.without(id);
            !nexthop.members.is_empty()
        });
    }

    /// Returns the gateways and interface indices behind an object: one, or several for a group.
    pub fn contents(&self, id: u32) -> Vec<(IpAddr, u32)> {
        let Some(nexthop) = self.nexthops.get(&id) else { return Vec::new() };
        let members = nexthop.members.ids().iter().filter_map(|member| self.nexthops.get(member));
        nexthop.content().into_iter().chain(members.filter_map(Nexthop::content)).collect()
    }

    /// Returns the number of our entries in which `self` and `other` differ.
    pub fn count_differences(&self, other: &ObservedState) -> u64 {
        fn maps<K: Eq + std::hash::Hash, V: PartialEq>(a: &HashMap<K, V>, b: &HashMap<K, V>) -> usize {
            a.iter().filter(|(k, v)| b.get(k) != Some(v)).count()
                + b.keys().filter(|k| !a.contains_key(k)).count()
        }
        fn ours(o: &ObservedState) -> HashMap<u32, Nexthop> {
            o.nexthops.iter().filter(|(_, n)| n.ours).map(|(id, n)| (*id, *n)).collect()
        }
        let links = Device::ALL.iter().filter(|d| self.link(**d) != other.link(**d)).count();
        let neighbours: HashMap<_, _> = self.neighbours.iter().collect();
        let probes: HashMap<_, _> = self.probe_routes.iter().collect();
        let differences = links
            + self.addresses.symmetric_difference(&other.addresses).count()
            + self.fdb.symmetric_difference(&other.fdb).count()
            + self.rules.symmetric_difference(&other.rules).count()
            + maps(&probes, &other.probe_routes.iter().collect())
            + maps(&neighbours, &other.neighbours.iter().collect())
            + maps(&ours(self), &ours(other));
        u64::try_from(differences).unwrap_or(u64::MAX)
    }
}

impl Nexthop {
    /// Returns a group of ours.
    pub fn group(members: GroupMembers) -> Self {
        Self { ours: true, gateway: None, index: 0, onlink: false, members }
    }

    /// Returns gateway and interface index, if the object is one of ours as we write them.
    pub fn content(&self) -> Option<(IpAddr, u32)> {
        self.gateway.filter(|_| self.ours && self.onlink).map(|gateway| (gateway, self.index))
    }
}
