//! The static peer table: this node, the other nodes, the pools, and learned paths.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha1::{Digest, Sha1};

use crate::probe::{TunnelPath, packet::ProbeKey};

/// A 48-bit Ethernet address, in transmission order.
pub type Mac = [u8; 6];

/// Encapsulation of packets between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encapsulation {
    /// IP in IP (RFC 2003), IP protocol 4.
    Ipip,
    /// VXLAN (RFC 7348), UDP port 4789.
    Vxlan,
    /// No encapsulation.
    None,
}

/// The condition for encapsulation of a pool's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolMode {
    /// To every other node.
    Always,
    /// To nodes that are not on-link in the local node's subnet.
    CrossSubnet,
    /// To no node.
    Never,
}

/// The path to a block without a BGP path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FallbackMode {
    /// VXLAN to the VTEP of the static peer table.
    Vxlan,
    /// None: the block is unreachable.
    None,
}

/// This node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalNode {
    /// Name in the cluster.
    pub name: String,
    /// IPv4 address, with the prefix length of its subnet.
    pub ipv4: Option<Ipv4Net>,
    /// IPv6 address, with the prefix length of its subnet.
    pub ipv6: Option<Ipv6Net>,
    /// Pod blocks of this node.
    pub blocks: Vec<IpNet>,
    /// Address (a /32) of both tunnel devices, the source of the node's own packets.
    pub tunnel_address: Option<Ipv4Addr>,
    /// IPv6 address (a /128) of the VXLAN device; the default is the network address of the lowest
    /// IPv6 block.
    pub tunnel_ipv6: Option<Ipv6Addr>,
    /// MAC of the VXLAN device; the default is [`vtep_mac`] of the name.
    pub vtep_mac: Option<Mac>,
}

impl LocalNode {
    /// Returns the MAC of this node's VXLAN device.
    pub fn mac(&self) -> Mac {
        self.vtep_mac.unwrap_or_else(|| vtep_mac(&self.name))
    }

    /// Returns the IPv6 address of this node's VXLAN device.
    pub fn vtep_ipv6(&self) -> Option<Ipv6Addr> {
        self.tunnel_ipv6.or_else(|| default_vtep_ipv6(&self.blocks))
    }

    /// Returns whether `address` is one of this node's own.
    pub fn has_address(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(a) => self.ipv4.is_some_and(|n| n.addr() == a) || self.tunnel_address == Some(a),
            IpAddr::V6(a) => self.ipv6.is_some_and(|n| n.addr() == a),
        }
    }

    /// Returns whether `address` is in the subnet of this node's address. A /32 (/128) contains no
    /// other node.
    pub fn subnet_contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(a) => self.ipv4.is_some_and(|n| n.contains(&a)),
            IpAddr::V6(a) => self.ipv6.is_some_and(|n| n.contains(&a)),
        }
    }

    /// Returns the source address of this node's tunnel packets: IPv4 if it has one.
    pub fn underlay(&self) -> Option<IpAddr> {
        self.ipv4.map(|n| IpAddr::V4(n.addr())).or_else(|| self.ipv6.map(|n| IpAddr::V6(n.addr())))
    }
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteNode {
    /// Name in the cluster.
    pub name: String,
    /// IPv4 address, with the prefix length of its subnet.
    pub ipv4: Option<Ipv4Net>,
    /// IPv6 address, with the prefix length of its subnet.
    pub ipv6: Option<Ipv6Net>,
    /// Pod blocks of that node.
    pub blocks: Vec<IpNet>,
    /// Address of its VXLAN device (VTEP).
    pub vtep: Option<Ipv4Addr>,
    /// IPv6 address of its VXLAN device; the default is the network address of its lowest IPv6
    /// block.
    pub vtep_ipv6: Option<Ipv6Addr>,
    /// MAC of its VXLAN device; the default is [`vtep_mac`] of the name.
    pub mac: Option<Mac>,
}

impl RemoteNode {
    /// Returns the MAC of its VXLAN device.
    pub fn mac(&self) -> Mac {
        self.mac.unwrap_or_else(|| vtep_mac(&self.name))
    }

    /// Returns the VTEP address for prefixes of the family of `prefix`.
    pub fn vtep_for(&self, prefix: &IpNet) -> Option<IpAddr> {
        match prefix {
            IpNet::V4(_) => self.vtep.map(IpAddr::V4),
            IpNet::V6(_) => self.vtep_ipv6.or_else(|| default_vtep_ipv6(&self.blocks)).map(IpAddr::V6),
        }
    }

    /// Returns the destination address of outer packets, of the same family as `underlay`.
    pub fn address_like(&self, underlay: IpAddr) -> Option<IpAddr> {
        match underlay {
            IpAddr::V4(_) => self.ipv4.map(|n| n.addr().into()),
            IpAddr::V6(_) => self.ipv6.map(|n| n.addr().into()),
        }
    }

    pub(crate) fn has_address(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => self.ipv4.is_some_and(|n| n.addr() == a),
            IpAddr::V6(a) => self.ipv6.is_some_and(|n| n.addr() == a),
        }
    }
}

/// A range of pod addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Range.
    pub cidr: IpNet,
    /// Encapsulation of its packets between nodes.
    pub encapsulation: Encapsulation,
    /// Condition for the encapsulation.
    pub mode: PoolMode,
}

/// The configuration that desired kernel state is derived from, together with learned routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub local: LocalNode,
    /// The other nodes.
    pub nodes: Vec<RemoteNode>,
    /// Pools; the most specific one that contains a prefix decides.
    pub pools: Vec<Pool>,
    /// Encapsulation of the cluster, mode Always, used if there is no pool.
    pub encapsulation: Encapsulation,
    /// Path to a block without a BGP path.
    pub fallback: FallbackMode,
    /// `rtm_protocol` of our routes and next-hop objects.
    pub route_protocol: u8,
    /// Metric of learned routes (default [`DEFAULT_ROUTE_METRIC`]).
    pub route_metric: u32,
    /// True if `net.ipv4.nexthop_compat_mode` is left as it is.
    pub nexthop_compat_keep: bool,
    /// Probing.
    pub probing: ProbeConfig,
    /// Time for which a tunnel device that no pool uses any more still receives packets: other
    /// nodes may use it longer.
    pub device_linger: Duration,
}

/// Probing of tunnel paths, and the use of its results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeConfig {
    /// True if probes are sent and answered where they are useful.
    pub enabled: bool,
    /// UDP port of probes and answers.
    pub port: u16,
    /// Key of the cluster, if it has one.
    pub key: Option<ProbeKey>,
    /// Time for which BGP or a tunnel path must have been up before it is used again.
    pub recover_after: Duration,
    /// True if IP-in-IP counts as blocked until a probe passes: this network is known to drop it.
    pub doubted: bool,
    /// True if plain packets are used within a subnet only after a plain probe passed.
    pub direct: bool,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            port: DEFAULT_PROBE_PORT,
            key: None,
            recover_after: Duration::from_secs(30),
            doubted: false,
            direct: false,
        }
    }
}

/// Default of the time that devices linger: more than the slowest node needs for the new
/// configuration.
pub const DEFAULT_DEVICE_LINGER: Duration = Duration::from_secs(300);

/// Default UDP port of probes.
pub const DEFAULT_PROBE_PORT: u16 = 4788;

/// Default metric of learned routes.
pub const DEFAULT_ROUTE_METRIC: u32 = 512;

impl Config {
    /// Returns the encapsulation and mode for `prefix`, or `None` if it is outside every pool.
    pub fn policy(&self, prefix: &IpNet) -> Option<(Encapsulation, PoolMode)> {
        if self.pools.is_empty() {
            return Some((self.encapsulation, PoolMode::Always));
        }
        let pool =
            self.pools.iter().filter(|p| p.cidr.contains(prefix)).max_by_key(|p| p.cidr.prefix_len())?;
        Some((pool.encapsulation, pool.mode))
    }

    /// Returns the other node with `address`.
    pub fn node_with_address(&self, address: IpAddr) -> Option<&RemoteNode> {
        let address = address.to_canonical();
        self.nodes.iter().find(|n| n.has_address(address))
    }

    /// Returns whether some pool may use `encapsulation`.
    pub fn may_use(&self, encapsulation: Encapsulation) -> bool {
        let wraps = |e: Encapsulation, m: PoolMode| e == encapsulation && m != PoolMode::Never;
        if self.pools.is_empty() {
            wraps(self.encapsulation, PoolMode::Always)
        } else {
            self.pools.iter().any(|p| wraps(p.encapsulation, p.mode))
        }
    }

    /// Returns whether this node needs the IP-in-IP device.
    pub fn needs_ipip(&self) -> bool {
        self.local.ipv4.is_some() && self.may_use(Encapsulation::Ipip)
    }

    /// Returns whether nodes probe each other at all: also where there is only one tunnel path, to
    /// report whether it passes.
    pub fn probes_any(&self) -> bool {
        let wraps = self.may_use(Encapsulation::Ipip) || self.may_use(Encapsulation::Vxlan);
        self.can_probe() && wraps || self.probes(TunnelPath::Direct)
    }

    fn can_probe(&self) -> bool {
        self.probing.enabled && self.local.ipv4.is_some() && self.local.tunnel_address.is_some()
    }

    /// Returns whether nodes probe this path to decide on its use: then its probes have a table of
    /// their own, and use this path independently of the routes.
    pub fn probes(&self, path: TunnelPath) -> bool {
        if !self.can_probe() {
            return false;
        }
        let falls_back = self.fallback == FallbackMode::Vxlan && self.may_use(Encapsulation::Ipip);
        match path {
            TunnelPath::Ipip | TunnelPath::Vxlan => falls_back,
            TunnelPath::Direct => {
                self.probing.direct && self.pools.iter().any(|p| p.mode == PoolMode::CrossSubnet)
            }
        }
    }

    /// Returns whether this node needs the VXLAN device: for a VXLAN pool, or as the fallback of
    /// IP-in-IP.
    pub fn needs_vxlan(&self) -> bool {
        self.local.underlay().is_some()
            && (self.may_use(Encapsulation::Vxlan)
                || self.fallback == FallbackMode::Vxlan && self.may_use(Encapsulation::Ipip))
    }
}

/// Origin of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathKind {
    /// A BGP session.
    Bgp,
    /// The static peer table: there is no BGP path.
    Static,
    /// A BGP session that requests discard of the packets (RFC 7999).
    Discard,
}

/// The best path of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LearnedPath {
    /// Address of the exit point: the BGP next hop, or the node's address of the static peer table.
    pub next_hop: IpAddr,
    /// Origin.
    pub kind: PathKind,
}

/// A change of a prefix's best path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteChange {
    /// Prefix.
    pub prefix: IpNet,
    /// Best path; `None` if there is none any more.
    pub learned: Option<LearnedPath>,
    /// Other exit points that share the packets, as good as the best path's; mostly none.
    pub others: Box<[IpAddr]>,
}

/// Returns the MAC of a node's VXLAN device: 66 and the first five octets of the name's SHA-1, as
/// Calico computes it.
pub fn vtep_mac(name: &str) -> Mac {
    let hash = Sha1::digest(name.as_bytes());
    let mut mac = [0x66, 0, 0, 0, 0, 0];
    for (octet, byte) in mac.iter_mut().skip(1).zip(hash.iter()) {
        *octet = *byte;
    }
    mac
}

/// Returns the network address of the lowest IPv6 block that is not a single address.
fn default_vtep_ipv6(blocks: &[IpNet]) -> Option<Ipv6Addr> {
    blocks
        .iter()
        .filter_map(|b| match b {
            IpNet::V6(n) if n.prefix_len() < 128 => Some(n.network()),
            _ => None,
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vtep_mac_is_66_and_the_head_of_the_names_sha1() {
        // sha1("node-a") from coreutils' sha1sum.
        let expected = sha1sum("node-a");
        assert_eq!(
            vtep_mac("node-a"),
            [0x66, expected[0], expected[1], expected[2], expected[3], expected[4]]
        );
    }

    fn sha1sum(text: &str) -> Vec<u8> {
        use std::io::Write;
        let mut child = std::process::Command::new("sha1sum")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("sha1sum");
        child.stdin.take().expect("stdin").write_all(text.as_bytes()).expect("write");
        let out = child.wait_with_output().expect("output").stdout;
        (0..20)
            .map(|i| {
                u8::from_str_radix(std::str::from_utf8(&out[2 * i..2 * i + 2]).expect("ascii"), 16)
                    .expect("hex")
            })
            .collect()
    }

    #[test]
    fn a_slash_32_subnet_contains_no_other_node() {
        let local = LocalNode {
            name: "a".into(),
            ipv4: Some("10.0.0.1/32".parse().expect("net")),
            ipv6: None,
            blocks: vec![],
            tunnel_address: None,
            tunnel_ipv6: None,
            vtep_mac: None,
        };
        assert!(!local.subnet_contains("10.0.0.2".parse().expect("address")));
        assert!(local.has_address("10.0.0.1".parse().expect("address")));
    }
}
