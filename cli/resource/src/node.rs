//! Node: the addresses, blocks and tunnel endpoints of a node, an entry of the static peer table.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::kind::Kind;
use super::mistake::Origin;
use super::reader::{Fields, Report};
use super::scalar;
use super::tree::Value;

/// The annotation by which a node that registered itself recognizes its own resource.
pub const HOST_ANNOTATION: &str = "routed/host";

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The file and line of the resource.
    pub origin: Origin,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// The host that registered itself (annotation [`HOST_ANNOTATION`]); `None` if a user wrote
    /// the resource.
    pub host: Option<String>,
    /// `spec.bgp.ipv4Address`: the node's address with the length of its subnet, host bits
    /// kept; `/32` if the length was not written.
    pub ipv4: Option<Ipv4Net>,
    /// `spec.bgp.ipv6Address`, likewise; `/128` if the length was not written.
    pub ipv6: Option<Ipv6Net>,
    /// `spec.bgp.asNumber`; `None` inherits the number of the cluster.
    pub as_number: Option<u32>,
    /// `spec.bgp.routeReflectorClusterID`. If set, the node is a route reflector.
    pub cluster_id: Option<Ipv4Addr>,
    /// `spec.podCIDRs`: blocks of this node, in addition to its BlockAffinity resources.
    pub pod_cidrs: Vec<IpNet>,
    /// `spec.bgp.ipv4IPIPTunnelAddr`.
    pub ipip_tunnel_address: Option<Ipv4Addr>,
    /// `spec.ipv4VXLANTunnelAddr`.
    pub vxlan_tunnel_address: Option<Ipv4Addr>,
    /// `spec.ipv6VXLANTunnelAddr`.
    pub vxlan_tunnel_address_v6: Option<Ipv6Addr>,
    /// `spec.vxlanTunnelMACAddr`.
    pub vxlan_mac: Option<[u8; 6]>,
    /// `spec.vxlanTunnelMACAddrV6`.
    pub vxlan_mac_v6: Option<[u8; 6]>,
}

/// Reads the `spec` of a node. The v1 form has the `bgp` part under the same names.
pub(crate) fn read(
    origin: Origin,
    name: String,
    labels: BTreeMap<String, String>,
    spec: Option<Fields<'_>>,
    report: &mut Report,
) -> Option<Node> {
    let mut node = Node {
        origin,
        name,
        labels,
        host: None,
        ipv4: None,
        ipv6: None,
        as_number: None,
        cluster_id: None,
        pod_cidrs: Vec::new(),
        ipip_tunnel_address: None,
        vxlan_tunnel_address: None,
        vxlan_tunnel_address_v6: None,
        vxlan_mac: None,
        vxlan_mac_v6: None,
    };
    let Some(mut spec) = spec else { return Some(node) };
    if let Some(mut bgp) = spec.fields("bgp", report) {
        node.ipv4 = bgp.optional("ipv4Address", report, scalar::ipv4_interface);
        node.ipv6 = bgp.optional("ipv6Address", report, scalar::ipv6_interface);
        node.as_number = bgp.optional("asNumber", report, scalar::as_number);
        node.cluster_id = bgp.optional("routeReflectorClusterID", report, scalar::cluster_id);
        node.ipip_tunnel_address = bgp.optional("ipv4IPIPTunnelAddr", report, scalar::ipv4_address);
        bgp.finish(report);
    }
    node.pod_cidrs = spec.list("podCIDRs", report, scalar::prefix);
    node.vxlan_tunnel_address = spec.optional("ipv4VXLANTunnelAddr", report, scalar::ipv4_address);
    node.vxlan_tunnel_address_v6 = spec.optional("ipv6VXLANTunnelAddr", report, |value| match value {
        Value::Text(text) => text.parse().map_err(|_| "must be an IPv6 address".into()),
        _ => Err("must be an IPv6 address".into()),
    });
    node.vxlan_mac = spec.optional("vxlanTunnelMACAddr", report, scalar::mac);
    node.vxlan_mac_v6 = spec.optional("vxlanTunnelMACAddrV6", report, scalar::mac);
    // Calico's own components write these; they have no effect here.
    spec.ignore(&["addresses", "interfaces", "orchRefs"], report);
    spec.refused(Kind::Node, "wireguard", report, is_empty);
    spec.finish(report);
    Some(node)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Map(entries) => entries.is_empty(),
        Value::List(items) => items.is_empty(),
        _ => false,
    }
}

/// Returns the default address of a node's tunnel devices: the network address of its lowest IPv4
/// block. A /32 block does not count, since its address belongs to a pod.
pub fn default_tunnel_address(blocks: &[IpNet]) -> Option<Ipv4Addr> {
    let networks = blocks.iter().filter_map(|block| match block {
        IpNet::V4(net) if net.prefix_len() < 32 => Some(net.network()),
        _ => None,
    });
    networks.min()
}
