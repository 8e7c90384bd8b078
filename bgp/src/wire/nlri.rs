//! Network Layer Reachability Information: prefixes as `<length, octets>` (RFC 4271 §4.3).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::cursor::Cursor;
use crate::types::Family;

/// List of prefixes that was checked once, borrowed from the message.
#[derive(Clone, Copy, Debug)]
pub struct Nlri<'a> {
    family: Family,
    /// Every prefix has a path identifier (RFC 7911 §3).
    with_ids: bool,
    octets: &'a [u8],
}

impl<'a> Nlri<'a> {
    /// Checks that every length is valid for the family and that every prefix is complete;
    /// otherwise returns `None` (RFC 7606 §5.3).
    pub fn check(family: Family, octets: &'a [u8]) -> Option<Nlri<'a>> {
        let mut cursor = Cursor(octets);
        while let Some(bits) = cursor.u8() {
            if bits > family.max_prefix_len() {
                return None;
            }
            cursor.take(usize::from(bits.div_ceil(8)))?;
            // Most prefixes have as many octets as the one before. Within a run of those the
            // position of the next prefix does not depend on this one's length: 700 x /26 are
            // checked in 60% of the time.
            match bits {
                17..=24 => cursor.0 = run::<4>(cursor.0, 17),
                25..=32 => cursor.0 = run::<5>(cursor.0, 25),
                121..=128 => cursor.0 = run::<17>(cursor.0, 121),
                _ => {}
            }
        }
        Some(Nlri { family, with_ids: false, octets })
    }

    /// Checks a list with a path identifier before every prefix (RFC 7911 §3); see [`Nlri::check`].
    pub fn check_with_ids(family: Family, octets: &'a [u8]) -> Option<Nlri<'a>> {
        let mut cursor = Cursor(octets);
        while !cursor.is_empty() {
            cursor.u32()?;
            let bits = cursor.u8().filter(|bits| *bits <= family.max_prefix_len())?;
            cursor.take(usize::from(bits.div_ceil(8)))?;
        }
        Some(Nlri { family, with_ids: true, octets })
    }

    /// Returns an empty list.
    pub const fn empty(family: Family) -> Nlri<'static> {
        Nlri { family, with_ids: false, octets: &[] }
    }

    /// Returns the family of the prefixes.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Returns whether the list has no prefix.
    pub const fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// Returns whether every prefix has a path identifier (RFC 7911 §3).
    pub const fn with_ids(&self) -> bool {
        self.with_ids
    }

    /// Returns the prefixes, with host bits cleared (RFC 4271 §4.3: trailing bits are irrelevant).
    pub fn iter(&self) -> Prefixes<'a> {
        Prefixes { family: self.family, with_ids: self.with_ids, cursor: Cursor(self.octets) }
    }

    /// Returns the prefixes with their path identifiers, which are 0 in a list without them.
    pub fn paths(&self) -> impl Iterator<Item = (u32, IpNet)> + use<'a> {
        let with_ids = self.with_ids;
        let mut prefixes = Prefixes { with_ids: false, ..self.iter() };
        std::iter::from_fn(move || {
            let id = if with_ids { prefixes.cursor.u32()? } else { 0 };
            Some((id, prefixes.next()?))
        })
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
    with_ids: bool,
    cursor: Cursor<'a>,
}

impl Iterator for Prefixes<'_> {
    type Item = IpNet;

    #[inline]
    fn next(&mut self) -> Option<IpNet> {
        if self.with_ids {
            self.cursor.u32()?;
        }
        let bits = self.cursor.u8()?;
        match self.family {
            Family::Ipv4Unicast => {
                let address = ipv4(&mut self.cursor, bits)?;
                let mask = u32::MAX.checked_shl(u32::from(32_u8.saturating_sub(bits))).unwrap_or(0);
                let address = Ipv4Addr::from_bits(u32::from_be_bytes(address) & mask);
                Ipv4Net::new(address, bits).ok().map(IpNet::V4)
            }
            Family::Ipv6Unicast => {
                let octets = self.cursor.take(usize::from(bits.div_ceil(8)))?;
                let mut address = [0; 16];
                address.get_mut(..octets.len())?.copy_from_slice(octets);
                let mask = u128::MAX.checked_shl(u32::from(128_u8.saturating_sub(bits))).unwrap_or(0);
                let address = Ipv6Addr::from_bits(u128::from_be_bytes(address) & mask);
                Ipv6Net::new(address, bits).ok().map(IpNet::V6)
            }
        }
    }
}

/// Skips a run of prefixes of `N - 1` octets and returns the rest; `shortest` is the smallest
/// prefix length of that size.
#[inline]
fn run<const N: usize>(mut octets: &[u8], shortest: u8) -> &[u8] {
    let wanted = shortest..=shortest.saturating_add(7);
    while let Some((prefix, rest)) = octets.split_first_chunk::<N>()
        && prefix.first().is_some_and(|bits| wanted.contains(bits))
    {
        octets = rest;
    }
    octets
}

/// Reads the octets of an IPv4 prefix. There is one match arm per size, since the processor can
/// predict the arm and continue, but would have to wait for a variable size.
#[inline]
fn ipv4(cursor: &mut Cursor<'_>, bits: u8) -> Option<[u8; 4]> {
    Some(match bits {
        0 => [0; 4],
        1..=8 => cursor.octets().map(|[a]| [a, 0, 0, 0])?,
        9..=16 => cursor.octets().map(|[a, b]| [a, b, 0, 0])?,
        17..=24 => cursor.octets().map(|[a, b, c]| [a, b, c, 0])?,
        25..=32 => cursor.octets()?,
        _ => return None,
    })
}

/// Entry of a list of prefixes to encode.
pub trait NlriItem {
    /// Returns the prefix.
    fn prefix(&self) -> &IpNet;
    /// Returns the encoded length, in octets.
    fn encoded_len(&self) -> usize;
    /// Appends the encoded entry.
    fn push(&self, out: &mut Vec<u8>);
}

impl NlriItem for IpNet {
    fn prefix(&self) -> &IpNet {
        self
    }

    fn encoded_len(&self) -> usize {
        encoded_len(self)
    }

    fn push(&self, out: &mut Vec<u8>) {
        push(out, self);
    }
}

/// A prefix with a path identifier (RFC 7911 §3).
impl NlriItem for (u32, IpNet) {
    fn prefix(&self) -> &IpNet {
        &self.1
    }

    fn encoded_len(&self) -> usize {
        encoded_len(&self.1).saturating_add(4)
    }

    fn push(&self, out: &mut Vec<u8>) {
        out.extend(self.0.to_be_bytes());
        push(out, &self.1);
    }
}

/// Appends one prefix; returns its encoded length in octets (1 to 17).
pub fn push(out: &mut Vec<u8>, prefix: &IpNet) -> usize {
    let before = out.len();
    let bits = prefix.prefix_len();
    let count = usize::from(bits.div_ceil(8));
    // The whole address, then a cut: a copy of constant length takes two instructions.
    match prefix {
        IpNet::V4(net) => {
            let [a, b, c, d] = net.network().octets();
            out.extend_from_slice(&[bits, a, b, c, d]);
        }
        IpNet::V6(net) => {
            out.push(bits);
            out.extend_from_slice(&net.network().octets());
        }
    }
    out.truncate(before.saturating_add(1).saturating_add(count));
    out.len().saturating_sub(before)
}

/// Returns the encoded length of `prefix`, in octets; see [`push`].
pub fn encoded_len(prefix: &IpNet) -> usize {
    usize::from(prefix.prefix_len().div_ceil(8)).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_family_or_a_cut_prefix_is_rejected() {
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
        fn a_list_is_valid_if_every_prefix_is_complete(
            v4: bool,
            prefixes in proptest::collection::vec((0usize..6, proptest::array::uniform17(proptest::num::u8::ANY)), 0..20),
            cut in 0usize..4,
            wrong in proptest::option::of(0usize..20),
        ) {
            let family = if v4 { Family::Ipv4Unicast } else { Family::Ipv6Unicast };
            // Few different lengths, so that runs of equal ones occur.
            let lens: [u8; 6] = if v4 { [26, 32, 24, 17, 12, 0] } else { [122, 128, 24, 32, 64, 0] };
            let mut octets = Vec::new();
            let mut last = 0;
            for (at, (choice, address)) in prefixes.iter().enumerate() {
                let bits = if wrong == Some(at) { family.max_prefix_len() + 1 } else { lens[*choice] };
                last = usize::from(lens[*choice].div_ceil(8));
                octets.push(bits);
                octets.extend(&address[..last]);
            }
            let wrong = wrong.is_some_and(|at| at < prefixes.len());
            let cut = cut.min(last);
            octets.truncate(octets.len() - cut);
            let list = Nlri::check(family, &octets);
            assert_eq!(list.is_some(), !wrong && cut == 0);
            if let Some(list) = list {
                let read: Vec<u8> = list.iter().map(|prefix| prefix.prefix_len()).collect();
                let written: Vec<u8> = prefixes.iter().map(|(choice, _)| lens[*choice]).collect();
                assert_eq!(read, written);
            }
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
