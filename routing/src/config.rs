//! What import, export and the RIB depend on beside sessions and routes.

use std::net::{IpAddr, Ipv4Addr};

use bgp::{Asn, Family, RouterId};

/// What the RIB is configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RibConfig {
    /// Our AS.
    pub local_as: Asn,
    /// Our BGP identifier.
    pub router_id: RouterId,
    /// Our cluster, if we are a route reflector.
    pub cluster_id: Option<Ipv4Addr>,
    /// The addresses of this node; the first of a family is the next hop we give.
    pub local_addresses: Vec<IpAddr>,
    /// At most so many exits share the packets of a prefix that has several best paths; with 1 (or 0) the best path has
    /// them all.
    pub multipath: usize,
}

/// How many exits share a prefix's packets unless configured: as many as BIRD merges.
pub const DEFAULT_MULTIPATH: usize = 16;

impl RibConfig {
    /// The next hop we give for routes of a family; an IPv6 one serves IPv4 prefixes where there is no other
    /// (RFC 8950), for peers that can take it.
    pub fn next_hop_self(&self, family: Family) -> Option<IpAddr> {
        let of = |v4: bool| self.local_addresses.iter().copied().find(|address| address.is_ipv4() == v4);
        match family {
            Family::Ipv4Unicast => of(true).or_else(|| of(false)),
            Family::Ipv6Unicast => of(false),
        }
    }
}
