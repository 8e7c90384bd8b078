//! The desired contents of this node's firewall table: encapsulated packets are accepted from known
//! nodes only, and packets that leave the pools get the node's address.

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::{
    node::{Config, Encapsulation},
    resolve::Exit,
};

/// The sources that encapsulated packets are accepted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TunnelsFrom {
    /// Nodes of the node table, and exit points that only BGP names.
    #[default]
    Nodes,
    /// Any source: there is no rule.
    Any,
}

/// The desired table. It does not depend on the order of nodes and pools.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Firewall {
    /// Accepted sources.
    pub from: TunnelsFrom,
    /// True if IP-in-IP packets (IP protocol 4 inside IPv4) to this node are checked.
    pub guards_ipip: bool,
    /// True if packets of our VXLAN (UDP port 4789, our VNI) to this node are checked.
    pub guards_vxlan: bool,
    /// Accepted outer sources, both families.
    pub nodes: BTreeSet<IpAddr>,
    /// All pools: packets to these keep their source. Disjoint, sorted.
    pub pools: Vec<IpNet>,
    /// Pools whose packets to any other destination get this node's address (`natOutgoing`).
    /// Disjoint, sorted.
    pub masqueraded: Vec<IpNet>,
}

impl Firewall {
    /// Derives the table from the configuration; `masqueraded` are the pools with `natOutgoing`.
    ///
    /// An encapsulation that this node does not use is not checked: its packets belong to another
    /// program.
    pub fn of(config: &Config, from: TunnelsFrom, masqueraded: &[IpNet]) -> Self {
        let guards = from == TunnelsFrom::Nodes;
        let (guards_ipip, guards_vxlan) = (guards && config.needs_ipip(), guards && config.needs_vxlan());
        let addresses = config.nodes.iter().flat_map(|node| {
            let v4 = node.ipv4.map(|net| IpAddr::V4(net.addr()));
            let v6 = node.ipv6.map(|net| IpAddr::V6(net.addr()));
            v4.into_iter().chain(v6)
        });
        let pools: Vec<IpNet> = config.pools.iter().map(|pool| pool.cidr).collect();
        Self {
            from,
            guards_ipip,
            guards_vxlan,
            nodes: if guards { addresses.collect() } else { BTreeSet::new() },
            // Without masquerading the pools are not needed.
            pools: if masqueraded.is_empty() { Vec::new() } else { apart(&pools) },
            masqueraded: apart(masqueraded),
        }
    }

    /// Returns the table with the sources and devices that follow from the state of the tunnels.
    pub fn with(mut self, tunnels: &Tunnels) -> Self {
        if self.from == TunnelsFrom::Nodes {
            self.guards_ipip |= tunnels.ipip;
            self.guards_vxlan |= tunnels.vxlan;
            self.nodes.extend(&tunnels.strangers);
        }
        self
    }

    /// Returns whether there is nothing to do, so that there is to be no table.
    pub fn is_empty(&self) -> bool {
        !self.guards_ipip && !self.guards_vxlan && self.masqueraded.is_empty()
    }
}

/// Returns the networks without those inside others, siblings merged, sorted: intervals of a set
/// must not overlap.
fn apart(nets: &[IpNet]) -> Vec<IpNet> {
    let truncated: Vec<IpNet> = nets.iter().map(IpNet::trunc).collect();
    let mut apart = IpNet::aggregate(&truncated);
    apart.sort();
    apart
}

/// The state of the tunnels that the firewall depends on in addition to the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tunnels {
    /// Destinations of IP-in-IP packets that the node table does not know: exit points that only
    /// BGP names, such as those of a reflector's clients without a Node resource.
    pub strangers: BTreeSet<IpAddr>,
    /// True if all routes are known, so that former strangers may be removed.
    pub whole: bool,
    /// True if there is an IP-in-IP device; a device that no pool uses any more lingers and
    /// receives packets.
    pub ipip: bool,
    /// True if there is a VXLAN device.
    pub vxlan: bool,
}

impl Tunnels {
    /// Returns the strangers among `exits`.
    pub fn strangers_among(exits: impl Iterator<Item = Exit>, config: &Config) -> BTreeSet<IpAddr> {
        if !config.may_use(Encapsulation::Ipip) {
            return BTreeSet::new();
        }
        let known: HashSet<IpAddr> =
            config.nodes.iter().filter_map(|node| Some(node.ipv4?.addr().into())).collect();
        let stranger = |exit| match exit {
            Exit::Ipip { remote } => Some(IpAddr::V4(remote)).filter(|address| !known.contains(address)),
            Exit::Direct { .. } | Exit::Vxlan { .. } => None,
        };
        exits.filter_map(stranger).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{
        DEFAULT_ROUTE_METRIC, FallbackMode, LocalNode, Pool, PoolMode, ProbeConfig, RemoteNode,
    };

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn config(encapsulation: Encapsulation, fallback: FallbackMode) -> Config {
        let node = |name: &str, ipv4: Option<&str>, ipv6: Option<&str>| RemoteNode {
            name: name.into(),
            ipv4: ipv4.map(|text| text.parse().expect("net")),
            ipv6: ipv6.map(|text| text.parse().expect("net")),
            blocks: Vec::new(),
            vtep: None,
            vtep_ipv6: None,
            mac: None,
        };
        Config {
            local: LocalNode {
                name: "a".into(),
                ipv4: Some("192.168.0.1/24".parse().expect("net")),
                ipv6: None,
                blocks: Vec::new(),
                tunnel_address: None,
                tunnel_ipv6: None,
                vtep_mac: None,
            },
            nodes: vec![
                node("b", Some("192.168.0.2/24"), Some("fd00::2/64")),
                node("c", None, Some("fd00::3/64")),
            ],
            pools: vec![
                Pool { cidr: net("10.2.0.0/16"), encapsulation, mode: PoolMode::Always },
                Pool { cidr: net("10.1.0.0/16"), encapsulation: Encapsulation::None, mode: PoolMode::Never },
            ],
            encapsulation,
            fallback,
            route_protocol: 179,
            route_metric: DEFAULT_ROUTE_METRIC,
            nexthop_compat_keep: false,
            probing: ProbeConfig::default(),
            device_linger: std::time::Duration::ZERO,
        }
    }

    #[test]
    fn encapsulations_in_use_are_guarded_and_nodes_are_accepted() {
        let of = |encapsulation, fallback, from| {
            let firewall = Firewall::of(&config(encapsulation, fallback), from, &[]);
            (firewall.guards_ipip, firewall.guards_vxlan, firewall.nodes.len(), firewall.is_empty())
        };
        let nodes = TunnelsFrom::Nodes;
        assert_eq!(of(Encapsulation::Ipip, FallbackMode::Vxlan, nodes), (true, true, 3, false));
        assert_eq!(of(Encapsulation::Ipip, FallbackMode::None, nodes), (true, false, 3, false));
        assert_eq!(of(Encapsulation::Vxlan, FallbackMode::Vxlan, nodes), (false, true, 3, false));
        assert_eq!(of(Encapsulation::None, FallbackMode::Vxlan, nodes), (false, false, 3, true));
        assert_eq!(of(Encapsulation::Ipip, FallbackMode::Vxlan, TunnelsFrom::Any), (false, false, 0, true));
    }

    #[test]
    fn packets_to_any_pool_keep_their_source_and_without_nat_outgoing_nothing_is_masqueraded() {
        let config = config(Encapsulation::Ipip, FallbackMode::Vxlan);
        assert_eq!(Firewall::of(&config, TunnelsFrom::Any, &[]).pools, []);
        let firewall = Firewall::of(&config, TunnelsFrom::Any, &[net("10.2.0.0/16")]);
        assert_eq!(firewall.pools, [net("10.1.0.0/16"), net("10.2.0.0/16")]);
        assert_eq!(firewall.masqueraded, [net("10.2.0.0/16")]);
        assert!(!firewall.is_empty());
    }

    #[test]
    fn nested_and_adjacent_pools_are_merged() {
        let nets = ["10.1.1.0/24", "10.1.0.0/16", "fd00:1::/64", "10.0.0.0/16"].map(net);
        assert_eq!(apart(&nets), [net("10.0.0.0/15"), net("fd00:1::/64")]);
    }

    #[test]
    fn strangers_are_the_ipip_exits_that_belong_to_no_node() {
        let config = config(Encapsulation::Ipip, FallbackMode::Vxlan);
        let exits = [
            Exit::Ipip { remote: [192, 168, 0, 2].into() },
            Exit::Ipip { remote: [192, 168, 0, 77].into() },
            Exit::Vxlan { vtep: [10, 1, 1, 0].into() },
            Exit::Direct { gateway: [192, 168, 0, 254].into(), index: 2 },
        ];
        let strangers = Tunnels::strangers_among(exits.into_iter(), &config);
        assert_eq!(strangers, BTreeSet::from([IpAddr::from([192, 168, 0, 77])]));
    }

    #[test]
    fn lingering_devices_are_guarded_unless_any_source_is_accepted() {
        let lingering = Tunnels {
            strangers: BTreeSet::from([[192, 168, 0, 77].into()]),
            ipip: true,
            ..Tunnels::default()
        };
        let config = config(Encapsulation::None, FallbackMode::None);
        let firewall = Firewall::of(&config, TunnelsFrom::Nodes, &[]).with(&lingering);
        assert_eq!((firewall.guards_ipip, firewall.guards_vxlan, firewall.nodes.len()), (true, false, 4));
        let open = Firewall::of(&config, TunnelsFrom::Any, &[]);
        assert_eq!(open.clone().with(&lingering), open);
    }
}
