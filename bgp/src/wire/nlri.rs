//! Network Layer Reachability Information: prefixes as `<length, octets>` (RFC 4271 §4.3).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::cursor::Cursor;
use crate::types::Family;

/// A list of prefixes, checked once when it was made and borrowed from the message.
#[derive(Clone, Copy, Debug)]
pub struct Nlri<'a> {
    family: Family,
    octets: &'a [u8],
}

impl<'a> Nlri<'a> {
    /// Takes a list after checking that every length fits its family and that every prefix is whole;
    /// `None` otherwise (RFC 7606 §5.3).
    pub fn check(family: Family, octets: &'a [u8]) -> Option<Nlri<'a>> {
        let mut cursor = Cursor(octets);
        while let Some(bits) = cursor.u8() {
            if bits > family.max_prefix_len() {
                return None;
            }
            cursor.take(usize::from(bits.div_ceil(8)))?;
        }
        Some(Nlri { family, octets })
    }

    /// The empty list.
    pub const fn empty(family: Family) -> Nlri<'static> {
        Nlri { family, octets: &[] }
    }

    /// The family of every prefix.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Whether the list has no prefix.
    pub const fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// The prefixes, host bits cleared (RFC 4271 §4.3: trailing bits are irrelevant).
    pub fn iter(&self) -> Prefixes<'a> {
        Prefixes { family: self.family, cursor: Cursor(self.octets) }
    }
}

impl<'a> IntoIterator for Nlri<'a> {
    type Item = IpNet;
    type IntoIter = Prefixes<'a>;

    fn into_iter(self) -> Prefixes<'a> {
        self.iter()
    }
}

/// Iterator over the prefixes of an [`Nlri`].
#[derive(Clone, Debug)]
pub struct Prefixes<'a> {
    family: Family,
    cursor: Cursor<'a>,
}

impl Iterator for Prefixes<'_> {
    type Item = IpNet;

    #[inline]
    fn next(&mut self) -> Option<IpNet> {
        let bits = self.cursor.u8()?;
        let octets = self.cursor.take(usize::from(bits.div_ceil(8)))?;
        match self.family {
            Family::Ipv4Unicast => {
                let mut address = [0; 4];
                address.get_mut(..octets.len())?.copy_from_slice(octets);
                let mask = u32::MAX.checked_shl(u32::from(32_u8.saturating_sub(bits))).unwrap_or(0);
                let address = Ipv4Addr::from_bits(u32::from_be_bytes(address) & mask);
                Ipv4Net::new(address, bits).ok().map(IpNet::V4)
            }
            Family::Ipv6Unicast => {
                let mut address = [0; 16];
                address.get_mut(..octets.len())?.copy_from_slice(octets);
                let mask = u128::MAX.checked_shl(u32::from(128_u8.saturating_sub(bits))).unwrap_or(0);
                let address = Ipv6Addr::from_bits(u128::from_be_bytes(address) & mask);
                Ipv6Net::new(address, bits).ok().map(IpNet::V6)
            }
        }
    }
}

/// Appends one prefix; returns how many octets that took (1 to 17).
pub fn push(out: &mut Vec<u8>, prefix: &IpNet) -> usize {
    let before = out.len();
    let bits = prefix.prefix_len();
    let count = usize::from(bits.div_ceil(8));
    out.push(bits);
    match prefix {
        IpNet::V4(net) => out.extend(net.network().octets().iter().take(count)),
        IpNet::V6(net) => out.extend(net.network().octets().iter().take(count)),
    }
    out.len().saturating_sub(before)
}

/// Octets that [`push`] takes for `prefix`.
pub fn encoded_len(prefix: &IpNet) -> usize {
    usize::from(prefix.prefix_len().div_ceil(8)).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_over_the_family_or_a_cut_prefix_is_refused() {
        assert!(Nlri::check(Family::Ipv4Unicast, &[33, 10, 0, 0, 0, 0]).is_none());
        assert!(Nlri::check(Family::Ipv4Unicast, &[24, 10, 0]).is_none());
        assert!(Nlri::check(Family::Ipv6Unicast, &[129]).is_none());
        assert!(Nlri::check(Family::Ipv6Unicast, &[33, 0x20, 1, 0xd, 0xb8, 0]).is_some());
    }

    #[test]
    fn trailing_bits_are_cleared() {
        let list = Nlri::check(Family::Ipv4Unicast, &[26, 10, 1, 2, 0xff, 0, 8, 0xff]).unwrap();
        let prefixes: Vec<_> = list.iter().map(|p| p.to_string()).collect();
        assert_eq!(prefixes, ["10.1.2.192/26", "0.0.0.0/0", "255.0.0.0/8"]);
    }

    proptest::proptest! {
        #[test]
        fn prefixes_survive_the_wire(v4: bool, bits: u128, len in 0u8..=128) {
            let net: IpNet = if v4 {
                Ipv4Net::new(Ipv4Addr::from_bits(bits as u32), len % 33).unwrap().trunc().into()
            } else {
                Ipv6Net::new(Ipv6Addr::from_bits(bits), len).unwrap().trunc().into()
            };
            let mut out = Vec::new();
            assert_eq!(push(&mut out, &net), encoded_len(&net));
            let back: Vec<_> = Nlri::check(Family::of(&net), &out).unwrap().iter().collect();
            assert_eq!(back, [net]);
        }

        #[test]
        fn any_octets_are_read_without_a_panic(octets: Vec<u8>) {
            for family in Family::ALL {
                if let Some(list) = Nlri::check(family, &octets) {
                    assert!(list.iter().count() <= octets.len());
                }
            }
        }
    }
}
