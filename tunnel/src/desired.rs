//! The desired kernel state, derived from the configuration and the resolved routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    node::{Config, Mac},
    probe::TunnelPath,
    resolve::Exit,
};

/// Metric of the blackhole routes of the node's own blocks: the highest, so that a CNI plugin's
/// connected route to the block wins.
pub const BLACKHOLE_METRIC: u32 = u32::MAX;
/// VXLAN network identifier, the same as Calico's.
pub const VXLAN_VNI: u32 = 4096;
/// UDP port of VXLAN (RFC 7348 §8).
pub const VXLAN_PORT: u16 = 4789;
/// Overhead of IP in IP in octets: the outer IPv4 header.
pub const IPIP_OVERHEAD: u32 = 20;
/// Overhead of VXLAN over IPv4 in octets: IPv4, UDP, VXLAN and the inner Ethernet header.
pub const VXLAN_OVERHEAD: u32 = 50;
/// Overhead of VXLAN over IPv6 in octets.
pub const VXLAN_OVERHEAD_IPV6: u32 = 70;

/// A tunnel device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Device {
    /// `routed.ipip`.
    Ipip,
    /// `routed.vxlan`.
    Vxlan,
}

impl Device {
    /// Both devices.
    pub const ALL: [Device; 2] = [Device::Ipip, Device::Vxlan];

    /// Returns the name of the interface.
    pub fn name(self) -> &'static str {
        match self {
            Device::Ipip => "routed.ipip",
            Device::Vxlan => "routed.vxlan",
        }
    }
}

/// The desired state of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DesiredDevice<T> {
    /// The device is not needed: no pool uses it.
    #[default]
    Absent,
    /// The device is needed, but no interface has the node's address at the moment: it stays as it
    /// is.
    Unknown,
    /// The device has these attributes.
    Present(T),
}

/// Attributes of the IP-in-IP device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpipSpec {
    /// Outer source address.
    pub local: Ipv4Addr,
    /// MTU in octets: that of the parent minus [`IPIP_OVERHEAD`].
    pub mtu: u32,
}

/// Attributes of the VXLAN device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VxlanSpec {
    /// Outer source address.
    pub local: IpAddr,
    /// Interface index of the device that has `local`.
    pub parent: u32,
    /// MTU in octets: that of the parent minus [`VXLAN_OVERHEAD`] or [`VXLAN_OVERHEAD_IPV6`].
    pub mtu: u32,
    /// Ethernet address, the VTEP MAC.
    pub mac: Mac,
}

/// The interface that has the node's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Interface index.
    pub index: u32,
    /// MTU in octets.
    pub mtu: u32,
}

/// The key of a route of ours in table main.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKey {
    /// Destination.
    pub prefix: IpNet,
    /// Metric (`RTA_PRIORITY`).
    pub metric: u32,
}

/// The target of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteTarget {
    /// An exit point.
    Exit(Exit),
    /// Several exit points that share the packets, by the id of their list
    /// (`Fib::exits_of`).
    Exits(u32),
    /// Discard: the unassigned addresses of an own block.
    Blackhole,
    /// A device: the host route of an IPv6 VTEP, which makes the VTEP a valid gateway there.
    Device(Device),
}

/// Desired kernel state, except routes to learned prefixes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredState {
    /// The IP-in-IP device.
    pub ipip: DesiredDevice<IpipSpec>,
    /// The VXLAN device.
    pub vxlan: DesiredDevice<VxlanSpec>,
    /// Addresses of the tunnel devices.
    pub addresses: BTreeSet<(Device, IpNet)>,
    /// Permanent neighbors on the VXLAN device: VTEP to MAC.
    pub neighbours: BTreeMap<IpAddr, Mac>,
    /// Permanent forwarding entries of the VXLAN device: MAC to node address.
    pub fdb: BTreeMap<Mac, IpAddr>,
    /// Tunnel paths that are probed.
    pub rules: BTreeSet<TunnelPath>,
    /// Exits of probes, by tunnel path and tunnel address of the node.
    pub probe_routes: BTreeMap<(TunnelPath, Ipv4Addr), Exit>,
    /// Routes of the node's own blocks and to VTEPs.
    pub routes: Vec<(RouteKey, RouteTarget)>,
}

impl DesiredState {
    /// Derives the state from the configuration alone. `parent` is the interface with the node's
    /// address, if there is one.
    pub fn from_config(config: &Config, parent: Option<Parent>) -> Self {
        let mut desired = Self::default();
        let local = &config.local;
        let mut host = BTreeSet::new();
        if let Some(address) = local.tunnel_address {
            host.insert(IpNet::V4(Ipv4Net::from(address)));
        }
        if config.needs_ipip() {
            desired.ipip = match (parent, local.ipv4) {
                (Some(parent), Some(net)) => DesiredDevice::Present(IpipSpec {
                    local: net.addr(),
                    mtu: parent.mtu.saturating_sub(IPIP_OVERHEAD),
                }),
                _ => DesiredDevice::Unknown,
            };
            desired.addresses.extend(host.iter().map(|a| (Device::Ipip, *a)));
        }
        if config.needs_vxlan()
            && let Some(underlay) = local.underlay()
        {
            let overhead = if underlay.is_ipv4() { VXLAN_OVERHEAD } else { VXLAN_OVERHEAD_IPV6 };
            desired.vxlan = match parent {
                Some(parent) => DesiredDevice::Present(VxlanSpec {
                    local: underlay,
                    parent: parent.index,
                    mtu: parent.mtu.saturating_sub(overhead),
                    mac: local.mac(),
                }),
                None => DesiredDevice::Unknown,
            };
            if let Some(address) = local.vtep_ipv6() {
                host.insert(IpNet::V6(Ipv6Net::from(address)));
            }
            desired.addresses.extend(host.iter().map(|a| (Device::Vxlan, *a)));
            desired.add_vteps(config, underlay);
        }
        desired.add_probes(config, parent);
        for block in &local.blocks {
            // A /32 or /128 block is one pod's own address, which a blackhole would shadow.
            if block.prefix_len() < block.max_prefix_len() {
                let key = RouteKey { prefix: block.trunc(), metric: BLACKHOLE_METRIC };
                desired.routes.push((key, RouteTarget::Blackhole));
            }
        }
        desired
    }

    /// Adds a route to every node by every tunnel path that some node may probe: a probe is
    /// answered by the path it came by.
    fn add_probes(&mut self, config: &Config, parent: Option<Parent>) {
        for path in TunnelPath::ALL.into_iter().filter(|path| config.probes(*path)) {
            self.rules.insert(path);
            for node in &config.nodes {
                let (Some(vtep), Some(net)) = (node.vtep, node.ipv4) else { continue };
                let exit = match path {
                    TunnelPath::Ipip => Exit::Ipip { remote: net.addr() },
                    TunnelPath::Vxlan => Exit::Vxlan { vtep: vtep.into() },
                    TunnelPath::Direct => match parent {
                        Some(parent) if config.local.subnet_contains(net.addr().into()) => {
                            Exit::Direct { gateway: net.addr().into(), index: parent.index }
                        }
                        _ => continue,
                    },
                };
                self.probe_routes.insert((path, vtep), exit);
            }
        }
    }

    /// Adds the VTEP of every node, used or not, so that a fallback changes only the next hop.
    fn add_vteps(&mut self, config: &Config, underlay: IpAddr) {
        for node in &config.nodes {
            let Some(remote) = node.address_like(underlay) else { continue };
            let vteps = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
                .iter()
                .filter_map(|family| node.vtep_for(family))
                .collect::<Vec<_>>();
            for vtep in &vteps {
                self.neighbours.insert(*vtep, node.mac());
                if let IpAddr::V6(address) = vtep {
                    let key =
                        RouteKey { prefix: IpNet::V6(Ipv6Net::from(*address)), metric: config.route_metric };
                    self.routes.push((key, RouteTarget::Device(Device::Vxlan)));
                }
            }
            if !vteps.is_empty() {
                self.fdb.insert(node.mac(), remote);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Encapsulation, FallbackMode, LocalNode, ProbeConfig, RemoteNode};

    fn config() -> Config {
        Config {
            local: LocalNode {
                name: "a".into(),
                ipv4: Some("192.168.0.1/24".parse().expect("net")),
                ipv6: None,
                blocks: vec!["10.1.1.0/26".parse().expect("block"), "10.1.9.9/32".parse().expect("block")],
                tunnel_address: Some("10.1.1.0".parse().expect("address")),
                tunnel_ipv6: None,
                vtep_mac: None,
            },
            nodes: vec![RemoteNode {
                name: "b".into(),
                ipv4: Some("192.168.0.2/24".parse().expect("net")),
                ipv6: None,
                blocks: vec![],
                vtep: Some("10.1.2.0".parse().expect("address")),
                vtep_ipv6: Some("fd10::2".parse().expect("address")),
                mac: None,
            }],
            pools: vec![],
            encapsulation: Encapsulation::Ipip,
            fallback: FallbackMode::Vxlan,
            route_protocol: 179,
            route_metric: 512,
            nexthop_compat_keep: false,
            probing: ProbeConfig::default(),
            device_linger: std::time::Duration::ZERO,
        }
    }

    #[test]
    fn an_ipip_cluster_with_vxlan_fallback_has_both_devices_and_every_vtep() {
        let desired = DesiredState::from_config(&config(), Some(Parent { index: 7, mtu: 1500 }));
        assert_eq!(
            desired.ipip,
            DesiredDevice::Present(IpipSpec { local: "192.168.0.1".parse().expect("address"), mtu: 1480 })
        );
        let DesiredDevice::Present(vxlan) = desired.vxlan else { panic!("no VXLAN device") };
        assert_eq!((vxlan.mtu, vxlan.parent), (1450, 7));
        assert_eq!(desired.addresses.len(), 2);
        assert_eq!(desired.neighbours.len(), 2);
        assert_eq!(desired.fdb.len(), 1);
    }

    #[test]
    fn own_blocks_are_blackholed_but_a_slash_32_is_not() {
        let desired = DesiredState::from_config(&config(), None);
        let blackholes: Vec<_> = desired
            .routes
            .iter()
            .filter(|(_, t)| *t == RouteTarget::Blackhole)
            .map(|(k, _)| (k.prefix.to_string(), k.metric))
            .collect();
        assert_eq!(blackholes, [("10.1.1.0/26".to_string(), u32::MAX)]);
        assert_eq!((desired.ipip, desired.vxlan), (DesiredDevice::Unknown, DesiredDevice::Unknown));
    }
}
