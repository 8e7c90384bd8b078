//! The terms of a session that the reading of attributes depends on.

use crate::types::{Asn, Families, Family};
use crate::wire::as_path::AsWidth;
use crate::wire::nlri::Nlri;

/// What the session settled that the reading of attributes depends on.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Width of AS numbers in AS_PATH and AGGREGATOR.
    pub as_width: AsWidth,
    /// Whether the peer is in our AS.
    pub internal: bool,
    /// The AS that the paths of an external peer begin with; `None`: they may begin with any.
    pub first_as: Option<Asn>,
    /// The families that were negotiated; MP_REACH_NLRI of others is ignored.
    pub families: Families,
    /// Those of them in which the peer sends path identifiers (RFC 7911).
    pub add_path: Families,
    /// Whether IPv4 prefixes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
}

impl Context {
    /// Of an internal peer with four-octet AS numbers that exchanges all families and knows nothing else.
    pub const INTERNAL: Context = Context {
        as_width: AsWidth::Four,
        internal: true,
        first_as: None,
        families: Families::BOTH,
        add_path: Families::NONE,
        extended_next_hop: false,
    };

    /// A list of prefixes of a family; see [`Nlri::check`].
    #[inline]
    pub(in crate::wire) fn nlri<'a>(&self, family: Family, octets: &'a [u8]) -> Option<Nlri<'a>> {
        if self.add_path.contains(family) {
            return Nlri::check_with_ids(family, octets);
        }
        Nlri::check(family, octets)
    }
}
