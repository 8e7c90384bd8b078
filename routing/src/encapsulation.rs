//! Tunnel encapsulation of routes (RFC 9012): the Tunnel Encapsulation attribute with one TLV, and
//! the Encapsulation extended community, which survives speakers that remove the attribute.
//!
//! Other tunnel types are ignored, and of a received tunnel all but the Tunnel Egress Endpoint.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp::wire::attribute::{code, flag};

use crate::rewrite::{AttributeEdit, rewrite};

/// Tunnel types (RFC 9012 §3.2.1, §3.2.3).
const VXLAN: u16 = 8;
const IP_IN_IP: u16 = 7;
/// Sub-TLV types.
const ENCAPSULATION: u8 = 1;
const EGRESS_ENDPOINT: u8 = 6;
/// Type and subtype of the extended community (RFC 9012 §4.1).
const COMMUNITY: [u8; 6] = [0x03, 0x0c, 0, 0, 0, 0];

/// Encapsulation of packets to this node's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelEncapsulation {
    /// IP-in-IP.
    Ipip,
    /// VXLAN.
    Vxlan {
        /// VXLAN network identifier, 24 bits.
        vni: u32,
        /// MAC address of this node's tunnel endpoint.
        mac: [u8; 6],
    },
}

impl TunnelEncapsulation {
    const fn tunnel_type(self) -> u16 {
        match self {
            TunnelEncapsulation::Ipip => IP_IN_IP,
            TunnelEncapsulation::Vxlan { .. } => VXLAN,
        }
    }

    /// Returns the attribute's value, with one TLV: two reset the sessions of FRR 8.4.
    fn attribute(self, endpoint: IpAddr) -> Vec<u8> {
        let mut subs = Vec::new();
        if let TunnelEncapsulation::Vxlan { vni, mac } = self {
            // The flags V and M: both fields are valid.
            subs.extend([ENCAPSULATION, 12, 0xc0]);
            subs.extend(&vni.to_be_bytes()[1..]);
            subs.extend(mac);
            subs.extend([0, 0]);
        }
        match endpoint {
            IpAddr::V4(address) => {
                subs.extend([EGRESS_ENDPOINT, 10, 0, 0, 0, 0, 0, 1]);
                subs.extend(address.octets());
            }
            IpAddr::V6(address) => {
                subs.extend([EGRESS_ENDPOINT, 22, 0, 0, 0, 0, 0, 2]);
                subs.extend(address.octets());
            }
        }
        let mut value = self.tunnel_type().to_be_bytes().to_vec();
        value.extend(u16::try_from(subs.len()).unwrap_or(0).to_be_bytes());
        value.extend(subs);
        value
    }

    /// Returns canonical attributes with the tunnel to `endpoint` added.
    pub(crate) fn added_to(self, canonical: &[u8], endpoint: IpAddr) -> Vec<u8> {
        let (mut out, mut value) = (Vec::new(), Vec::new());
        let wanted = [code::EXTENDED_COMMUNITIES, code::TUNNEL_ENCAPSULATION];
        rewrite(canonical, &wanted, &mut out, &mut value, |code, original, out| match code {
            code::EXTENDED_COMMUNITIES => {
                out.extend_from_slice(original.unwrap_or_default());
                out.extend(COMMUNITY);
                out.extend(self.tunnel_type().to_be_bytes());
                AttributeEdit::Set(flag::OPTIONAL | flag::TRANSITIVE)
            }
            code::TUNNEL_ENCAPSULATION => {
                out.extend(self.attribute(endpoint));
                AttributeEdit::Set(flag::OPTIONAL | flag::TRANSITIVE)
            }
            _ => AttributeEdit::Keep,
        });
        out
    }
}

/// Returns the egress endpoint of the first tunnel with a supported type; `None` if there is no
/// such tunnel, or if its endpoint is the next hop (RFC 9012 §3.1: address family 0).
pub(crate) fn egress(mut value: &[u8]) -> Option<IpAddr> {
    while let Some(([high, low, long, short], rest)) = value.split_first_chunk::<4>() {
        let (tunnel_type, len) = (u16::from_be_bytes([*high, *low]), u16::from_be_bytes([*long, *short]));
        let (subs, rest) = rest.split_at_checked(usize::from(len))?;
        if matches!(tunnel_type, IP_IN_IP | VXLAN) {
            return endpoint(subs);
        }
        value = rest;
    }
    None
}

fn endpoint(mut subs: &[u8]) -> Option<IpAddr> {
    while let Some((kind, rest)) = subs.split_first() {
        let (len, rest) = match (*kind < 128, rest) {
            (true, [len, rest @ ..]) => (usize::from(*len), rest),
            (false, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        if *kind == EGRESS_ENDPOINT {
            return match value {
                [_, _, _, _, 0, 1, address @ ..] => {
                    <[u8; 4]>::try_from(address).ok().map(|octets| Ipv4Addr::from(octets).into())
                }
                [_, _, _, _, 0, 2, address @ ..] => {
                    <[u8; 16]>::try_from(address).ok().map(|octets| Ipv6Addr::from(octets).into())
                }
                _ => None,
            };
        }
        subs = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AttrSet;
    use proptest::prelude::*;

    #[test]
    fn an_added_endpoint_is_read_back() {
        let next_hop = IpAddr::from([10, 0, 0, 1]);
        let mac = [0x66, 1, 2, 3, 4, 5];
        for encapsulation in [TunnelEncapsulation::Ipip, TunnelEncapsulation::Vxlan { vni: 4096, mac }] {
            for endpoint in [next_hop, "fd00::1".parse().expect("an address")] {
                let plain = AttrSet::originated(next_hop);
                let octets = encapsulation.added_to(plain.canonical(), endpoint);
                assert_eq!(AttrSet::from_canonical(&octets, next_hop).egress, Some(endpoint));
                // The codec accepts the attribute as well-formed.
                let mut report = Vec::new();
                let context = bgp::wire::attribute::Context::INTERNAL;
                bgp::wire::attribute::Attributes::read(&octets, &context, |fault| report.push(fault));
                assert_eq!(report, []);
            }
        }
        assert_eq!(AttrSet::originated(next_hop).egress, None);
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_a_panic(value: Vec<u8>) {
            let _ = egress(&value);
        }
    }
}
