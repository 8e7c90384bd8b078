//! Attribute sets, stored once for all paths that share them.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp::wire::as_path::{AsPath, AsWidth};
use bgp::wire::attribute::{Attributes, Origin, RawAttributes, code, flag, push};
use bgp::{Asn, RouterId};

use crate::community::Community;
use crate::encapsulation::egress;

/// LOCAL_PREF of a path without the attribute.
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// Attributes and next hop of a path. Equal sets have equal canonical octets, so only those are
/// compared; the values that the decision process needs are decoded once.
#[derive(Debug)]
pub struct AttrSet {
    canonical: Box<[u8]>,
    /// BGP next hop.
    pub next_hop: IpAddr,
    /// LOCAL_PREF, or [`DEFAULT_LOCAL_PREF`].
    pub local_pref: u32,
    /// MULTI_EXIT_DISC, or 0: the lowest possible (RFC 4271 §9.1.2.2 c).
    pub med: u32,
    /// Length of AS_PATH.
    pub hops: u32,
    /// ORIGIN.
    pub origin: Origin,
    /// AS that the route was learned from.
    pub neighbor_as: Option<Asn>,
    /// ORIGINATOR_ID.
    pub originator_id: Option<RouterId>,
    /// Length of CLUSTER_LIST.
    pub cluster_list_len: u32,
    /// Tunnel egress endpoint, if the attribute has one (RFC 9012).
    pub egress: Option<IpAddr>,
    /// ONLY_TO_CUSTOMER (RFC 9234).
    pub only_to_customer: Option<Asn>,
    /// Well-known communities.
    pub well_known: WellKnownCommunities,
    /// Received attributes, if import policy changed them; a changed policy is applied to those.
    received: Option<Arc<AttrSet>>,
}

/// Well-known communities of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WellKnownCommunities {
    /// NO_ADVERTISE (RFC 1997): advertised to no peer.
    pub no_advertise: bool,
    /// NO_EXPORT, NO_EXPORT_SUBCONFED (RFC 1997) or BLACKHOLE (RFC 7999): not advertised outside
    /// the AS.
    pub no_export: bool,
    /// BLACKHOLE (RFC 7999).
    pub blackhole: bool,
    /// GRACEFUL_SHUTDOWN (RFC 8326).
    pub graceful_shutdown: bool,
    /// LLGR_STALE (RFC 9494 §4.6): kept by a speaker long after the loss of the session it came
    /// from.
    pub llgr_stale: bool,
    /// NO_LLGR (RFC 9494 §4.7): not to be kept as long-lived stale.
    pub no_llgr: bool,
}

impl WellKnownCommunities {
    fn of(communities: &[u8]) -> WellKnownCommunities {
        let mut well_known = WellKnownCommunities::default();
        let (all, _) = communities.as_chunks::<4>();
        for community in all {
            // All well-known communities have this first octet.
            if community[0] != 0xff {
                continue;
            }
            match Community::Standard(u32::from_be_bytes(*community)) {
                Community::NO_ADVERTISE => well_known.no_advertise = true,
                Community::NO_EXPORT | Community::NO_EXPORT_SUBCONFED => well_known.no_export = true,
                Community::BLACKHOLE => (well_known.blackhole, well_known.no_export) = (true, true),
                Community::GRACEFUL_SHUTDOWN => well_known.graceful_shutdown = true,
                Community::LLGR_STALE => well_known.llgr_stale = true,
                Community::NO_LLGR => well_known.no_llgr = true,
                _ => {}
            }
        }
        well_known
    }
}

impl AttrSet {
    /// Creates the set of a received message; `scratch` is a buffer for reuse.
    pub fn from_update(attributes: &Attributes<'_>, next_hop: IpAddr, scratch: &mut Vec<u8>) -> AttrSet {
        scratch.clear();
        attributes.write_canonical(scratch);
        AttrSet::from_canonical(scratch, next_hop)
    }

    /// Creates the set of a local route: ORIGIN IGP, an empty AS_PATH, LOCAL_PREF 100.
    pub fn originated(next_hop: IpAddr) -> AttrSet {
        let mut out = Vec::new();
        push(&mut out, flag::WELL_KNOWN, code::ORIGIN, |out| out.push(Origin::Igp.code()));
        push(&mut out, flag::WELL_KNOWN, code::AS_PATH, |_| {});
        push(&mut out, flag::WELL_KNOWN, code::LOCAL_PREF, |out| {
            out.extend(DEFAULT_LOCAL_PREF.to_be_bytes())
        });
        AttrSet::from_canonical(&out, next_hop)
    }

    /// Creates a set from canonical octets that were checked before.
    pub fn from_canonical(canonical: &[u8], next_hop: IpAddr) -> AttrSet {
        let mut set = AttrSet {
            canonical: canonical.into(),
            next_hop,
            local_pref: DEFAULT_LOCAL_PREF,
            med: 0,
            hops: 0,
            origin: Origin::Incomplete,
            neighbor_as: None,
            originator_id: None,
            cluster_list_len: 0,
            egress: None,
            only_to_customer: None,
            well_known: WellKnownCommunities::default(),
            received: None,
        };
        for raw in RawAttributes::new(canonical) {
            let number = || raw.value.try_into().ok().map(u32::from_be_bytes);
            match raw.code {
                code::ORIGIN => {
                    set.origin = match raw.value {
                        [0] => Origin::Igp,
                        [1] => Origin::Egp,
                        _ => Origin::Incomplete,
                    };
                }
                code::AS_PATH => {
                    let path = AsPath::check(raw.value, AsWidth::Four).unwrap_or(AsPath::EMPTY);
                    set.hops = u32::try_from(path.hops()).unwrap_or(u32::MAX);
                    set.neighbor_as = path.neighbor_as();
                }
                code::MULTI_EXIT_DISC => set.med = number().unwrap_or(0),
                code::LOCAL_PREF => set.local_pref = number().unwrap_or(DEFAULT_LOCAL_PREF),
                code::ORIGINATOR_ID => {
                    set.originator_id = number().map(|bits| RouterId(Ipv4Addr::from_bits(bits)));
                }
                code::COMMUNITIES => set.well_known = WellKnownCommunities::of(raw.value),
                code::TUNNEL_ENCAPSULATION => set.egress = egress(raw.value),
                code::ONLY_TO_CUSTOMER => set.only_to_customer = number().map(Asn),
                code::CLUSTER_LIST => {
                    set.cluster_list_len = u32::try_from(raw.value.len() / 4).unwrap_or(u32::MAX);
                }
                _ => {}
            }
        }
        set
    }

    /// Creates the result of import policy for `received`: the same next hop with other canonical
    /// attributes.
    pub fn derived(canonical: &[u8], received: &Arc<AttrSet>) -> AttrSet {
        let set = AttrSet::from_canonical(canonical, received.next_hop);
        AttrSet { received: Some(Arc::clone(received)), ..set }
    }

    /// Returns the received attributes, if import policy changed them.
    pub fn received(&self) -> Option<&Arc<AttrSet>> {
        self.received.as_ref()
    }

    /// Returns the canonical attributes, without the next hop.
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// Returns AS_PATH.
    pub fn as_path(&self) -> AsPath<'_> {
        self.value(code::AS_PATH)
            .and_then(|value| AsPath::check(value, AsWidth::Four).ok())
            .unwrap_or(AsPath::EMPTY)
    }

    /// Returns the cluster identifiers of CLUSTER_LIST, the last reflector first.
    pub fn cluster_list(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let (ids, _) = self.value(code::CLUSTER_LIST).unwrap_or_default().as_chunks::<4>();
        ids.iter().map(|id| Ipv4Addr::from(*id))
    }

    /// Returns whether COMMUNITIES or LARGE_COMMUNITIES has `community`.
    pub fn has_community(&self, community: Community) -> bool {
        match community {
            Community::Standard(number) => {
                let (all, _) = self.value(code::COMMUNITIES).unwrap_or_default().as_chunks::<4>();
                all.contains(&number.to_be_bytes())
            }
            Community::Large(_) => {
                let (all, _) = self.value(code::LARGE_COMMUNITIES).unwrap_or_default().as_chunks::<12>();
                let mut wanted = Vec::with_capacity(12);
                community.push(&mut wanted);
                all.iter().any(|one| one[..] == wanted[..])
            }
        }
    }

    pub(crate) fn value(&self, code: u8) -> Option<&[u8]> {
        RawAttributes::new(&self.canonical).find(|raw| raw.code == code).map(|raw| raw.value)
    }
}

impl PartialEq for AttrSet {
    fn eq(&self, other: &AttrSet) -> bool {
        self.next_hop == other.next_hop
            && self.canonical == other.canonical
            && self.received == other.received
    }
}

impl Eq for AttrSet {}

impl Hash for AttrSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical.hash(state);
        self.next_hop.hash(state);
    }
}
