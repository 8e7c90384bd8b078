//! Configuration of the RIB.

use std::net::{IpAddr, Ipv4Addr};

use bgp::{Asn, Family, RouterId};

/// Configuration of the RIB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RibConfig {
    /// The local AS.
    pub local_as: Asn,
    /// The local BGP identifier.
    pub router_id: RouterId,
    /// Cluster identifier of a route reflector (RFC 4456).
    pub cluster_id: Option<Ipv4Addr>,
    /// Addresses of this node; the first one of a family is the advertised next hop.
    pub local_addresses: Vec<IpAddr>,
    /// Maximum number of tunnel exits of a multipath route; 1 or 0 disables multipath.
    pub multipath: usize,
}

/// Default for [`RibConfig::multipath`]; the same as in BIRD.
pub const DEFAULT_MULTIPATH: usize = 16;

impl RibConfig {
    /// Returns our address as the next hop for routes of a family. For IPv4 prefixes it is an IPv6
    /// address if there is no other, for peers that support it (RFC 8950).
    pub fn next_hop_self(&self, family: Family) -> Option<IpAddr> {
        let of = |v4: bool| self.local_addresses.iter().copied().find(|address| address.is_ipv4() == v4);
        match family {
            Family::Ipv4Unicast => of(true).or_else(|| of(false)),
            Family::Ipv6Unicast => of(false),
        }
    }
}
