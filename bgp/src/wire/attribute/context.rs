//! Session parameters for reading attributes.

use crate::types::{Asn, Families, Family};
use crate::wire::as_path::AsWidth;
use crate::wire::nlri::Nlri;

/// Session parameters that affect the reading of attributes.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Width of AS numbers in AS_PATH and AGGREGATOR.
    pub as_width: AsWidth,
    /// The peer is in our AS.
    pub internal: bool,
    /// AS that the paths of an external peer must begin with; `None`: any.
    pub first_as: Option<Asn>,
    /// Negotiated families; MP_REACH_NLRI of others is ignored.
    pub families: Families,
    /// Families among them in which the peer sends path identifiers (RFC 7911).
    pub add_path: Families,
    /// IPv4 prefixes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
}

impl Context {
    /// Parameters of an internal peer with four-octet AS numbers and all families, without other
    /// features.
    pub const INTERNAL: Context = Context {
        as_width: AsWidth::Four,
        internal: true,
        first_as: None,
        families: Families::BOTH,
        add_path: Families::NONE,
        extended_next_hop: false,
    };

    /// Checks a list of prefixes of a family; see [`Nlri::check`].
    #[inline]
    pub(in crate::wire) fn nlri<'a>(&self, family: Family, octets: &'a [u8]) -> Option<Nlri<'a>> {
        if self.add_path.contains(family) {
            return Nlri::check_with_ids(family, octets);
        }
        Nlri::check(family, octets)
    }
}
