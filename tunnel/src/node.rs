//! The static peer table: this node, the other nodes, the pools, and what was learned.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;
use sha1::{Digest, Sha1};

use crate::probe::{TunnelPath, packet::ProbeKey};

/// A 48-bit Ethernet address, in transmission order.
pub type Mac = [u8; 6];

/// How packets between nodes are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Encapsulation {
    /// IP in IP (RFC 2003), IP protocol 4.
    Ipip,
    /// VXLAN (RFC 7348), UDP port 4789.
    Vxlan,
    /// Not at all.
    None,
}

/// When a pool's packets are encapsulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// To every other node.
    Always,
    /// To nodes that are not on-link in the local node's subnet.
    CrossSubnet,
    /// To no node.
    Never,
}

/// What a block without a BGP path is reached through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// VXLAN to the VTEP of the static peer table.
    Vxlan,
    /// Nothing.
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
    /// Pod blocks that live on this node.
    pub blocks: Vec<IpNet>,
    /// The address (a /32) of both tunnel devices, the source of the node's own packets.
    pub tunnel_address: Option<Ipv4Addr>,
    /// The IPv6 address (a /128) of the VXLAN device; the default is the network address of the lowest IPv6 block.
    pub tunnel_ipv6: Option<Ipv6Addr>,
    /// The VXLAN device's MAC; the default is [`vtep_mac`] of the name.
    pub vtep_mac: Option<Mac>,
}

impl LocalNode {
    /// The MAC of this node's VXLAN device.
    pub fn mac(&self) -> Mac {
        self.vtep_mac.unwrap_or_else(|| vtep_mac(&self.name))
    }

    /// The IPv6 address of this node's VXLAN device.
    pub fn vtep_ipv6(&self) -> Option<Ipv6Addr> {
        self.tunnel_ipv6.or_else(|| default_vtep_ipv6(&self.blocks))
    }

    /// Whether `address` is one of this node's own.
    pub fn has_address(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(a) => self.ipv4.is_some_and(|n| n.addr() == a) || self.tunnel_address == Some(a),
            IpAddr::V6(a) => self.ipv6.is_some_and(|n| n.addr() == a),
        }
    }

    /// Whether `address` lies in the subnet of this node's address. A /32 (/128) contains nobody.
    pub fn subnet_contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(a) => self.ipv4.is_some_and(|n| n.contains(&a)),
            IpAddr::V6(a) => self.ipv6.is_some_and(|n| n.contains(&a)),
        }
    }

    /// The address that tunnel packets of this node come from: IPv4 where there is one.
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
    /// Pod blocks that live on that node.
    pub blocks: Vec<IpNet>,
    /// The address of its VXLAN device (VTEP).
    pub vtep: Option<Ipv4Addr>,
    /// The IPv6 address of its VXLAN device; the default is the network address of its lowest IPv6 block.
    pub vtep_ipv6: Option<Ipv6Addr>,
    /// The MAC of its VXLAN device; the default is [`vtep_mac`] of the name.
    pub mac: Option<Mac>,
}

impl RemoteNode {
    /// The MAC of its VXLAN device.
    pub fn mac(&self) -> Mac {
        self.mac.unwrap_or_else(|| vtep_mac(&self.name))
    }

    /// The VTEP address that prefixes of `prefix`'s family are routed to.
    pub fn vtep_for(&self, prefix: &IpNet) -> Option<IpAddr> {
        match prefix {
            IpNet::V4(_) => self.vtep.map(IpAddr::V4),
            IpNet::V6(_) => self.vtep_ipv6.or_else(|| default_vtep_ipv6(&self.blocks)).map(IpAddr::V6),
        }
    }

    /// The address outer packets are sent to, of the same family as `underlay`.
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

/// A range that pod addresses are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The range.
    pub cidr: IpNet,
    /// How its packets are wrapped between nodes.
    pub encapsulation: Encapsulation,
    /// When they are.
    pub mode: Mode,
}

/// All that the kernel's desired state depends on besides learned routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub local: LocalNode,
    /// The other nodes.
    pub nodes: Vec<RemoteNode>,
    /// The pools; where several contain a prefix the most specific one decides.
    pub pools: Vec<Pool>,
    /// The cluster's encapsulation, mode Always, where there is no pool at all.
    pub encapsulation: Encapsulation,
    /// What a block without a BGP path is reached through.
    pub fallback: Fallback,
    /// The `rtm_protocol` of the routes and next-hop objects that are ours.
    pub route_protocol: u8,
    /// Metric of learned routes (default [`DEFAULT_ROUTE_METRIC`]).
    pub route_metric: u32,
    /// Leave `net.ipv4.nexthop_compat_mode` as it is.
    pub nexthop_compat_keep: bool,
    /// How it is found out whether packets pass.
    pub probing: ProbeConfig,
    /// How long a tunnel device that no pool uses any more still takes packets in: other nodes may use it longer.
    pub device_linger: Duration,
}

/// How it is found out whether packets pass between nodes, and when that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeConfig {
    /// Whether probes are sent and answered where they are of use.
    pub enabled: bool,
    /// UDP port of probes and answers.
    pub port: u16,
    /// The cluster's key, if it has one.
    pub key: Option<ProbeKey>,
    /// How long BGP or a way must have been well before it is used again.
    pub recover_after: Duration,
    /// IP-in-IP counts as blocked until it was seen to pass: this network is known to drop it.
    pub doubted: bool,
    /// Whether unwrapped packets have to be seen to pass before packets go unwrapped within a subnet.
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

/// How long devices linger unless said otherwise: until the slowest node has the new configuration, and then some.
pub const DEFAULT_DEVICE_LINGER: Duration = Duration::from_secs(300);

/// UDP port of probes unless configured.
pub const DEFAULT_PROBE_PORT: u16 = 4788;

/// Metric of learned routes unless configured.
pub const DEFAULT_ROUTE_METRIC: u32 = 512;

impl Config {
    /// The encapsulation and mode that hold for `prefix`, or `None` if it lies outside every pool.
    pub fn policy(&self, prefix: &IpNet) -> Option<(Encapsulation, Mode)> {
        if self.pools.is_empty() {
            return Some((self.encapsulation, Mode::Always));
        }
        let pool =
            self.pools.iter().filter(|p| p.cidr.contains(prefix)).max_by_key(|p| p.cidr.prefix_len())?;
        Some((pool.encapsulation, pool.mode))
    }

    /// The other node that has `address`.
    pub fn node_with_address(&self, address: IpAddr) -> Option<&RemoteNode> {
        let address = address.to_canonical();
        self.nodes.iter().find(|n| n.has_address(address))
    }

    /// Whether some pool may send packets through `encapsulation`.
    pub fn may_use(&self, encapsulation: Encapsulation) -> bool {
        let wraps = |e: Encapsulation, m: Mode| e == encapsulation && m != Mode::Never;
        if self.pools.is_empty() {
            wraps(self.encapsulation, Mode::Always)
        } else {
            self.pools.iter().any(|p| wraps(p.encapsulation, p.mode))
        }
    }

    /// Whether this node needs the IP-in-IP device.
    pub fn needs_ipip(&self) -> bool {
        self.local.ipv4.is_some() && self.may_use(Encapsulation::Ipip)
    }

    /// Whether nodes ask each other at all: what is asked by the way that packets go anyway says whether it carries them,
    /// where there is no other to take as well.
    pub fn asks(&self) -> bool {
        let wraps = self.may_use(Encapsulation::Ipip) || self.may_use(Encapsulation::Vxlan);
        self.can_ask() && wraps || self.probes(TunnelPath::Direct)
    }

    fn can_ask(&self) -> bool {
        self.probing.enabled && self.local.ipv4.is_some() && self.local.tunnel_address.is_some()
    }

    /// Whether nodes ask each other by this way to find out whether to take it: then probes have a table of its own, and
    /// go by it whatever way packets go.
    pub fn probes(&self, path: TunnelPath) -> bool {
        if !self.can_ask() {
            return false;
        }
        let falls_back = self.fallback == Fallback::Vxlan && self.may_use(Encapsulation::Ipip);
        match path {
            TunnelPath::Ipip | TunnelPath::Vxlan => falls_back,
            TunnelPath::Direct => {
                self.probing.direct && self.pools.iter().any(|p| p.mode == Mode::CrossSubnet)
            }
        }
    }

    /// Whether this node needs the VXLAN device: for a VXLAN pool, or as the fallback of IP-in-IP.
    pub fn needs_vxlan(&self) -> bool {
        self.local.underlay().is_some()
            && (self.may_use(Encapsulation::Vxlan)
                || self.fallback == Fallback::Vxlan && self.may_use(Encapsulation::Ipip))
    }
}

/// Where a path comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// A BGP session.
    Bgp,
    /// The static peer table: there is no BGP path.
    Static,
    /// A BGP session, and packets are to go nowhere (RFC 7999).
    Discard,
}

/// The best path of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LearnedPath {
    /// The exit point's address: the BGP next hop, or the node's address of the static peer table.
    pub next_hop: IpAddr,
    /// Where the path comes from.
    pub kind: PathKind,
}

/// A change of a prefix's best path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteChange {
    /// The prefix.
    pub prefix: IpNet,
    /// Its best path now; `None` when it has none any more.
    pub learned: Option<LearnedPath>,
    /// Other exit points that share its packets, as good as the path's own; mostly none.
    pub others: Box<[IpAddr]>,
}

/// The MAC of a node's VXLAN device: 66 and the first five bytes of the name's SHA-1, as Calico computes it.
pub fn vtep_mac(name: &str) -> Mac {
    let hash = Sha1::digest(name.as_bytes());
    let mut mac = [0x66, 0, 0, 0, 0, 0];
    for (octet, byte) in mac.iter_mut().skip(1).zip(hash.iter()) {
        *octet = *byte;
    }
    mac
}

/// The network address of the lowest IPv6 block that is not a single address.
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
