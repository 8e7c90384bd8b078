//! The fields of a Node.

use super::{Field, honoured, refused, stored};

pub(super) const FIELDS: &[Field] = &[
    honoured(
        "spec.bgp",
        "a mapping",
        "none",
        "the node's BGP settings",
        "{bgp: {ipv4Address: 192.168.0.2/24}}",
    ),
    honoured(
        "spec.bgp.ipv4Address",
        "an address with its subnet's length; unique",
        "detected by a node that registers itself",
        "the node's address and subnet; without a length the subnet is the address alone (/32)",
        "{bgp: {ipv4Address: 192.168.0.2/24}}",
    ),
    honoured(
        "spec.bgp.ipv6Address",
        "an address with its subnet's length; unique",
        "none",
        "the same for IPv6",
        "{bgp: {ipv6Address: 'fd00::2/64'}}",
    ),
    honoured(
        "spec.bgp.asNumber",
        "1 to 4294967295, or as `1.10`",
        "the cluster's",
        "the node's AS",
        "{bgp: {asNumber: 64513}}",
    ),
    honoured(
        "spec.bgp.routeReflectorClusterID",
        "as an IPv4 address, not 0.0.0.0",
        "none",
        "the node is a route reflector of this cluster ID (RFC 4456)",
        "{bgp: {routeReflectorClusterID: 244.0.0.1}}",
    ),
    honoured(
        "spec.bgp.ipv4IPIPTunnelAddr",
        "an IPv4 address; unique",
        "the network address of its lowest block, chosen once",
        "the address of its IP-in-IP device",
        "{bgp: {ipv4IPIPTunnelAddr: 10.1.2.0}}",
    ),
    honoured(
        "spec.ipv4VXLANTunnelAddr",
        "an IPv4 address; unique",
        "as ipv4IPIPTunnelAddr",
        "its VTEP's address",
        "{ipv4VXLANTunnelAddr: 10.1.2.0}",
    ),
    honoured(
        "spec.ipv6VXLANTunnelAddr",
        "an IPv6 address",
        "as for IPv4",
        "the same for IPv6",
        "{ipv6VXLANTunnelAddr: 'fd00:1::'}",
    ),
    honoured(
        "spec.vxlanTunnelMACAddr",
        "a unicast MAC address; unique",
        "66 and five octets of the name's SHA-1",
        "its VTEP's MAC address",
        "{vxlanTunnelMACAddr: '66:aa:bb:cc:dd:ee'}",
    ),
    honoured(
        "spec.vxlanTunnelMACAddrV6",
        "a unicast MAC address",
        "66 and five octets of the SHA-1 of the name and `-v6`",
        "the same for IPv6",
        "{vxlanTunnelMACAddrV6: '66:aa:bb:cc:dd:ef'}",
    ),
    honoured(
        "spec.podCIDRs",
        "a list of prefixes, inside pools where there are any, each of one node",
        "none",
        "blocks of this node, in addition to its BlockAffinity resources; the field of a Kubernetes Node",
        "{podCIDRs: [10.1.2.0/26]}",
    ),
    stored(
        "spec.addresses",
        "a list",
        "detected by Calico's node agent",
        "{addresses: [{address: 192.168.0.2/24, type: CalicoNodeIP}]}",
    ),
    stored(
        "spec.interfaces",
        "a list",
        "detected by Calico's node agent",
        "{interfaces: [{name: eth0, addresses: [192.168.0.2]}]}",
    ),
    stored(
        "spec.orchRefs",
        "a list",
        "the node's name in an orchestrator",
        "{orchRefs: [{nodeName: a, orchestrator: k8s}]}",
    ),
    refused(
        "spec.wireguard",
        "a mapping",
        "none",
        "packets are not encrypted here: leave it out, and encrypt below (IPsec or WireGuard between the nodes' addresses)",
        "{wireguard: {interfaceIPv4Address: 10.1.2.3}}",
    ),
];
