//! Basic types that the other modules share.

use std::fmt;
use std::net::Ipv4Addr;

/// Autonomous system number of four octets (RFC 6793).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Asn(pub u32);

impl Asn {
    /// Placeholder in two-octet fields for a number that does not fit (RFC 6793 §9).
    pub const TRANS: Asn = Asn(23456);

    /// Returns the value for a two-octet field: the number itself, or [`Asn::TRANS`].
    pub fn two_octets(self) -> u16 {
        u16::try_from(self.0).unwrap_or(23456)
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// BGP identifier: four octets, unique within the AS, never zero (RFC 6286).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouterId(pub Ipv4Addr);

impl RouterId {
    /// Returns the identifier as the unsigned number that RFC 4271 §6.8 and §9.1.2.2 compare.
    pub fn to_bits(self) -> u32 {
        self.0.to_bits()
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a configured neighbor; assigned by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u32);

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Address family and subsequent address family, as on the wire (RFC 4760).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AfiSafi {
    /// Address Family Identifier.
    pub afi: u16,
    /// Subsequent Address Family Identifier.
    pub safi: u8,
}

/// Address family whose routes are exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

impl Family {
    /// Both families, in wire order.
    pub const ALL: [Family; 2] = [Family::Ipv4Unicast, Family::Ipv6Unicast];

    /// Returns the AFI and SAFI.
    pub const fn afi_safi(self) -> AfiSafi {
        match self {
            Family::Ipv4Unicast => AfiSafi { afi: 1, safi: 1 },
            Family::Ipv6Unicast => AfiSafi { afi: 2, safi: 1 },
        }
    }

    /// Returns the family with this AFI and SAFI, if it is supported.
    pub fn from_afi_safi(wire: AfiSafi) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.afi_safi() == wire)
    }

    /// Returns the longest prefix length, in bits.
    pub const fn max_prefix_len(self) -> u8 {
        match self {
            Family::Ipv4Unicast => 32,
            Family::Ipv6Unicast => 128,
        }
    }

    /// Returns the index of the family in [`Family::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Family::Ipv4Unicast => 0,
            Family::Ipv6Unicast => 1,
        }
    }

    /// Returns the family of a prefix.
    pub fn of(prefix: &ipnet::IpNet) -> Family {
        match prefix {
            ipnet::IpNet::V4(_) => Family::Ipv4Unicast,
            ipnet::IpNet::V6(_) => Family::Ipv6Unicast,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ipv4Unicast => "ipv4-unicast",
            Family::Ipv6Unicast => "ipv6-unicast",
        })
    }
}

impl From<Family> for Families {
    fn from(family: Family) -> Families {
        let mut families = Families::NONE;
        families.insert(family);
        families
    }
}

/// Set of [`Family`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Families {
    ipv4: bool,
    ipv6: bool,
}

impl Families {
    /// The empty set.
    pub const NONE: Families = Families { ipv4: false, ipv6: false };
    /// IPv4 unicast alone, which a peer without the multiprotocol capability supports (RFC 4760
    /// §8).
    pub const IPV4: Families = Families { ipv4: true, ipv6: false };
    /// IPv4 and IPv6 unicast.
    pub const BOTH: Families = Families { ipv4: true, ipv6: true };

    /// Returns whether `family` is in the set.
    pub const fn contains(self, family: Family) -> bool {
        match family {
            Family::Ipv4Unicast => self.ipv4,
            Family::Ipv6Unicast => self.ipv6,
        }
    }

    /// Adds `family`.
    pub fn insert(&mut self, family: Family) {
        match family {
            Family::Ipv4Unicast => self.ipv4 = true,
            Family::Ipv6Unicast => self.ipv6 = true,
        }
    }

    /// Removes `family`.
    pub fn remove(&mut self, family: Family) {
        match family {
            Family::Ipv4Unicast => self.ipv4 = false,
            Family::Ipv6Unicast => self.ipv6 = false,
        }
    }

    /// Returns the families that are in both sets.
    pub fn intersection(self, other: Families) -> Families {
        Families { ipv4: self.ipv4 && other.ipv4, ipv6: self.ipv6 && other.ipv6 }
    }

    /// Returns the families that are in either set.
    pub fn union(self, other: Families) -> Families {
        Families { ipv4: self.ipv4 || other.ipv4, ipv6: self.ipv6 || other.ipv6 }
    }

    /// Returns the families that are in this set and not in the other.
    pub fn without(self, other: Families) -> Families {
        Families { ipv4: self.ipv4 && !other.ipv4, ipv6: self.ipv6 && !other.ipv6 }
    }

    /// Returns whether the set has no family.
    pub fn is_empty(self) -> bool {
        !self.ipv4 && !self.ipv6
    }

    /// Returns the families in wire order.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(move |family| self.contains(*family))
    }
}
