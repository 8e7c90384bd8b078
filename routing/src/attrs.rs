//! Attribute sets, each kept once however many paths share it.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};

use bgp::wire::as_path::{AsPath, AsWidth};
use bgp::wire::attribute::{Attributes, Origin, RawAttributes, code, flag, push};
use bgp::{Asn, RouterId};

/// LOCAL_PREF of a path that carries none.
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// The community of paths that are a last resort (RFC 9494 §4.6).
const LLGR_STALE: u32 = 0xffff_0006;

fn has_community(value: &[u8], community: u32) -> bool {
    value.as_chunks::<4>().0.contains(&community.to_be_bytes())
}

/// The attributes and the next hop of a path. Equal sets have equal canonical octets, so those are
/// all that is compared; what the decision process needs is read from them once.
#[derive(Debug)]
pub struct AttrSet {
    canonical: Box<[u8]>,
    /// The BGP next hop.
    pub next_hop: IpAddr,
    /// LOCAL_PREF, or [`DEFAULT_LOCAL_PREF`].
    pub local_pref: u32,
    /// MULTI_EXIT_DISC, or 0: the lowest possible (RFC 4271 §9.1.2.2 c).
    pub med: u32,
    /// Length of AS_PATH.
    pub hops: u32,
    /// ORIGIN.
    pub origin: Origin,
    /// The AS it was learned from.
    pub neighbor_as: Option<Asn>,
    /// ORIGINATOR_ID.
    pub originator_id: Option<RouterId>,
    /// How many reflectors it went through.
    pub cluster_list_len: u32,
    /// LLGR_STALE: whoever sent it has kept it for long without a word from where it comes (RFC 9494 §4.2).
    pub is_last_resort: bool,
}

impl AttrSet {
    /// Of a received message; `scratch` is used for writing and may be used again.
    pub fn from_update(attributes: &Attributes<'_>, next_hop: IpAddr, scratch: &mut Vec<u8>) -> AttrSet {
        scratch.clear();
        attributes.write_canonical(scratch);
        AttrSet::from_canonical(scratch, next_hop)
    }

    /// Of a route that this node originates: ORIGIN IGP, an empty AS_PATH, LOCAL_PREF 100.
    pub fn originated(next_hop: IpAddr) -> AttrSet {
        let mut out = Vec::new();
        push(&mut out, flag::WELL_KNOWN, code::ORIGIN, |out| out.push(Origin::Igp.code()));
        push(&mut out, flag::WELL_KNOWN, code::AS_PATH, |_| {});
        push(&mut out, flag::WELL_KNOWN, code::LOCAL_PREF, |out| {
            out.extend(DEFAULT_LOCAL_PREF.to_be_bytes())
        });
        AttrSet::from_canonical(&out, next_hop)
    }

    /// Of canonical octets that were checked before.
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
            is_last_resort: false,
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
                code::CLUSTER_LIST => {
                    set.cluster_list_len = u32::try_from(raw.value.len() / 4).unwrap_or(u32::MAX);
                }
                code::COMMUNITIES => set.is_last_resort = has_community(raw.value, LLGR_STALE),
                _ => {}
            }
        }
        set
    }

    /// The attributes as octets, without the next hop.
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// AS_PATH.
    pub fn as_path(&self) -> AsPath<'_> {
        self.value(code::AS_PATH)
            .and_then(|value| AsPath::check(value, AsWidth::Four).ok())
            .unwrap_or(AsPath::EMPTY)
    }

    /// The cluster identifiers it went through, the last first.
    pub fn cluster_list(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let (ids, _) = self.value(code::CLUSTER_LIST).unwrap_or_default().as_chunks::<4>();
        ids.iter().map(|id| Ipv4Addr::from(*id))
    }

    fn value(&self, code: u8) -> Option<&[u8]> {
        RawAttributes::new(&self.canonical).find(|raw| raw.code == code).map(|raw| raw.value)
    }
}

impl PartialEq for AttrSet {
    fn eq(&self, other: &AttrSet) -> bool {
        self.next_hop == other.next_hop && self.canonical == other.canonical
    }
}

impl Eq for AttrSet {}

impl Hash for AttrSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical.hash(state);
        self.next_hop.hash(state);
    }
}
