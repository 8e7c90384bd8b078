//! The small values that everything else speaks of.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// An autonomous system number, four octets (RFC 6793).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Asn(pub u32);

impl Asn {
    /// Stands in two-octet fields for a number that does not fit there (RFC 6793 §9).
    pub const TRANS: Asn = Asn(23456);

    /// The number as a two-octet field carries it: itself, or [`Asn::TRANS`].
    pub fn two_octets(self) -> u16 {
        u16::try_from(self.0).unwrap_or(23456)
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A BGP identifier: four octets, unique in the AS, never zero (RFC 6286).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RouterId(pub Ipv4Addr);

impl RouterId {
    /// The identifier as the unsigned number that RFC 4271 §6.8 and §9.1.2.2 compare.
    pub fn to_bits(self) -> u32 {
        self.0.to_bits()
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A configured neighbour, numbered by whoever configured it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
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

/// A family whose routes we exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

impl Family {
    /// Both, in wire order.
    pub const ALL: [Family; 2] = [Family::Ipv4Unicast, Family::Ipv6Unicast];

    /// Its numbers on the wire.
    pub const fn afi_safi(self) -> AfiSafi {
        match self {
            Family::Ipv4Unicast => AfiSafi { afi: 1, safi: 1 },
            Family::Ipv6Unicast => AfiSafi { afi: 2, safi: 1 },
        }
    }

    /// The family with these numbers, if it is one of ours.
    pub fn from_afi_safi(wire: AfiSafi) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.afi_safi() == wire)
    }

    /// The longest prefix length, in bits.
    pub const fn max_prefix_len(self) -> u8 {
        match self {
            Family::Ipv4Unicast => 32,
            Family::Ipv6Unicast => 128,
        }
    }

    /// Its place in [`Family::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Family::Ipv4Unicast => 0,
            Family::Ipv6Unicast => 1,
        }
    }

    /// The family that a prefix belongs to.
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

/// A set of [`Family`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Families {
    ipv4: bool,
    ipv6: bool,
}

impl Families {
    /// No family.
    pub const NONE: Families = Families { ipv4: false, ipv6: false };
    /// IPv4 unicast alone: what a peer without the multiprotocol capability speaks (RFC 4760 §8).
    pub const IPV4: Families = Families { ipv4: true, ipv6: false };
    /// IPv4 and IPv6 unicast.
    pub const BOTH: Families = Families { ipv4: true, ipv6: true };

    /// Whether `family` is in the set.
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

    /// Takes `family` out.
    pub fn remove(&mut self, family: Family) {
        match family {
            Family::Ipv4Unicast => self.ipv4 = false,
            Family::Ipv6Unicast => self.ipv6 = false,
        }
    }

    /// What both sets have.
    pub fn intersection(self, other: Families) -> Families {
        Families { ipv4: self.ipv4 && other.ipv4, ipv6: self.ipv6 && other.ipv6 }
    }

    /// What either set has.
    pub fn union(self, other: Families) -> Families {
        Families { ipv4: self.ipv4 || other.ipv4, ipv6: self.ipv6 || other.ipv6 }
    }

    /// What this set has and the other has not.
    pub fn without(self, other: Families) -> Families {
        Families { ipv4: self.ipv4 && !other.ipv4, ipv6: self.ipv6 && !other.ipv6 }
    }

    /// Whether nothing is in the set.
    pub fn is_empty(self) -> bool {
        !self.ipv4 && !self.ipv6
    }

    /// The members, in wire order.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(move |family| self.contains(*family))
    }
}
