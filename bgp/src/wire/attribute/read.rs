//! Reading all attributes of a message, and writing them in canonical form.

use std::net::Ipv4Addr;

use super::context::Context;
use super::list::{OPTIONAL_TRANSITIVE, RawAttribute, RawAttributes, code, flag, push};
use super::rule::{self, AttributeRule, Fault, spec_of};
use super::value::{
    Aggregator, MpReach, Origin, check_attr_set, check_prefix_sid, check_tunnel_encapsulation, is_host_v4,
    read_aggregator, read_mp_reach, read_mp_unreach,
};
use crate::types::{Asn, RouterId};
use crate::wire::as_path::{AsPath, AsWidth};
use crate::wire::cursor::exact_u32;
use crate::wire::nlri::Nlri;

/// Checked attributes of one UPDATE, borrowed from it.
#[derive(Clone, Debug, Default)]
pub struct Attributes<'a> {
    raw: &'a [u8],
    /// Bit set of the type codes that are kept.
    kept: [u64; 4],
    /// ORIGIN.
    pub origin: Option<Origin>,
    /// AS_PATH.
    pub as_path: Option<AsPath<'a>>,
    /// AS4_PATH, only on sessions with two-octet numbers.
    pub as4_path: Option<AsPath<'a>>,
    /// NEXT_HOP.
    pub next_hop: Option<Ipv4Addr>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF, only from internal peers.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR.
    pub aggregator: Option<Aggregator>,
    /// AS4_AGGREGATOR, only on sessions with two-octet numbers.
    pub as4_aggregator: Option<Aggregator>,
    /// COMMUNITIES: four octets each.
    pub communities: Option<&'a [u8]>,
    /// EXTENDED_COMMUNITIES: eight octets each.
    pub extended_communities: Option<&'a [u8]>,
    /// LARGE_COMMUNITIES: twelve octets each.
    pub large_communities: Option<&'a [u8]>,
    /// ORIGINATOR_ID, only from internal peers.
    pub originator_id: Option<RouterId>,
    /// CLUSTER_LIST, only from internal peers: four octets each, the last reflector first.
    pub cluster_list: Option<&'a [u8]>,
    /// MP_REACH_NLRI of a negotiated family.
    pub mp_reach: Option<MpReach<'a>>,
    /// MP_UNREACH_NLRI of a negotiated family.
    pub mp_unreach: Option<Nlri<'a>>,
    /// An MP_REACH_NLRI of any family was present.
    pub has_mp_reach: bool,
    /// Number of attributes in the message.
    pub count: usize,
}

impl<'a> Attributes<'a> {
    /// Reads a path attributes field and reports each fault to `report`; attributes with a fault
    /// are absent in the result. The first of several attributes of one type counts (RFC 7606 §3
    /// g).
    pub fn read(octets: &'a [u8], context: &Context, report: impl FnMut(Fault)) -> Attributes<'a> {
        let mut attributes = Attributes::default();
        attributes.fill(octets, context, report);
        attributes
    }

    /// Reads attributes in place, since moving them is expensive; see [`Attributes::read`]. `self`
    /// must be the default.
    #[inline]
    pub(in crate::wire) fn fill(
        &mut self,
        octets: &'a [u8],
        context: &Context,
        mut report: impl FnMut(Fault),
    ) {
        self.raw = octets;
        let mut seen = [0; 4];
        let mut list = RawAttributes::new(octets);
        for raw in list.by_ref() {
            self.count = self.count.saturating_add(1);
            if !insert(&mut seen, raw.code) {
                match raw.code {
                    code::MP_REACH_NLRI => report(Fault::from(&rule::MP_REACH_TWICE)),
                    code::MP_UNREACH_NLRI => report(Fault::from(&rule::MP_UNREACH_TWICE)),
                    _ => {}
                }
                continue;
            }
            match self.take(raw, context) {
                Ok(true) => _ = insert(&mut self.kept, raw.code),
                Ok(false) => {}
                Err(fault) => report(fault),
            }
        }
        if list.is_cut() {
            // The rest of the list is unreadable, but the lengths of the message are still valid.
            report(Fault::from(&rule::LIST_CUT));
        }
    }

    /// Reads one attribute into its field; returns whether it is kept among the canonical ones.
    #[inline]
    fn take(&mut self, raw: RawAttribute<'a>, context: &Context) -> Result<bool, Fault> {
        let Some(spec) = spec_of(raw.code) else {
            return take_unknown(raw);
        };
        // Not allowed on this session: omitted before its form is checked.
        if let Some(rule) = spec.external
            && !context.internal
        {
            return Err(rule.into());
        }
        if let Some(rule) = spec.four_octet
            && context.as_width == AsWidth::Four
        {
            return Err(rule.into());
        }
        if raw.flags & (flag::OPTIONAL | flag::TRANSITIVE) != spec.flags {
            return Err(spec.wrong_flags.into());
        }
        match self.store(raw, context) {
            Ok(()) => Ok(!matches!(
                raw.code,
                code::NEXT_HOP
                    | code::MP_REACH_NLRI
                    | code::MP_UNREACH_NLRI
                    | code::AS4_PATH
                    | code::AS4_AGGREGATOR
            )),
            Err(rule) => Err(rule.into()),
        }
    }

    #[inline]
    fn store(&mut self, raw: RawAttribute<'a>, context: &Context) -> Result<(), &'static AttributeRule> {
        let value = raw.value;
        let list = |of: usize, rule: &'static AttributeRule| {
            if value.is_empty() || !value.len().is_multiple_of(of) { Err(rule) } else { Ok(Some(value)) }
        };
        match raw.code {
            code::ORIGIN => {
                self.origin = Some(match value {
                    [0] => Origin::Igp,
                    [1] => Origin::Egp,
                    [2] => Origin::Incomplete,
                    [_] => return Err(&rule::ORIGIN_VALUE),
                    _ => return Err(&rule::ORIGIN_LENGTH),
                });
            }
            code::AS_PATH => {
                let path = AsPath::check(value, context.as_width).map_err(AttributeRule::of_as_path)?;
                if path.segments().any(|segment| segment.kind.is_confederation()) {
                    return Err(&rule::AS_PATH_CONFEDERATION);
                }
                if context.first_as.is_some_and(|asn| !path.begins_with(asn)) {
                    return Err(&rule::AS_PATH_FIRST);
                }
                self.as_path = Some(path);
            }
            code::NEXT_HOP => {
                let address = exact_u32(value).map(Ipv4Addr::from_bits).ok_or(&rule::NEXT_HOP_LENGTH)?;
                if !is_host_v4(address) {
                    return Err(&rule::NEXT_HOP_HOST);
                }
                self.next_hop = Some(address);
            }
            code::MULTI_EXIT_DISC => self.med = Some(exact_u32(value).ok_or(&rule::MED_LENGTH)?),
            code::LOCAL_PREF => self.local_pref = Some(exact_u32(value).ok_or(&rule::LOCAL_PREF_LENGTH)?),
            code::ATOMIC_AGGREGATE => {
                if !value.is_empty() {
                    return Err(&rule::ATOMIC_AGGREGATE_LENGTH);
                }
                self.atomic_aggregate = true;
            }
            code::AGGREGATOR => {
                let aggregator = read_aggregator(value, context.as_width).ok_or(&rule::AGGREGATOR_LENGTH)?;
                if aggregator.asn.0 == 0 {
                    return Err(&rule::AGGREGATOR_AS_0);
                }
                self.aggregator = Some(aggregator);
            }
            code::AS4_AGGREGATOR => {
                let aggregator = read_aggregator(value, AsWidth::Four).ok_or(&rule::AS4_AGGREGATOR_LENGTH)?;
                if aggregator.asn.0 == 0 {
                    return Err(&rule::AS4_AGGREGATOR_AS_0);
                }
                self.as4_aggregator = Some(aggregator);
            }
            code::AS4_PATH => {
                self.as4_path =
                    Some(AsPath::check(value, AsWidth::Four).map_err(AttributeRule::of_as4_path)?);
            }
            code::COMMUNITIES => self.communities = list(4, &rule::COMMUNITIES_LENGTH)?,
            code::EXTENDED_COMMUNITIES => {
                self.extended_communities = list(8, &rule::EXTENDED_COMMUNITIES_LENGTH)?;
            }
            code::LARGE_COMMUNITIES => self.large_communities = list(12, &rule::LARGE_COMMUNITIES_LENGTH)?,
            code::CLUSTER_LIST => self.cluster_list = list(4, &rule::CLUSTER_LIST_LENGTH)?,
            code::ORIGINATOR_ID => {
                let bits = exact_u32(value).ok_or(&rule::ORIGINATOR_ID_LENGTH)?;
                self.originator_id = Some(RouterId(Ipv4Addr::from_bits(bits)));
            }
            code::MP_REACH_NLRI => {
                self.has_mp_reach = true;
                self.mp_reach = read_mp_reach(value, context)?;
            }
            code::MP_UNREACH_NLRI => self.mp_unreach = read_mp_unreach(value, context)?,
            code::TUNNEL_ENCAPSULATION => check_tunnel_encapsulation(value)?,
            // Checked but not used; see `AttributeSpec::used`.
            code::IPV6_EXTENDED_COMMUNITIES => _ = list(20, &rule::IPV6_EXTENDED_COMMUNITIES_LENGTH)?,
            code::PMSI_TUNNEL if value.len() < 5 => return Err(&rule::PMSI_TUNNEL_LENGTH),
            code::ONLY_TO_CUSTOMER if value.len() != 4 => return Err(&rule::ONLY_TO_CUSTOMER_LENGTH),
            code::PREFIX_SID => check_prefix_sid(value)?,
            code::ATTR_SET => check_attr_set(value)?,
            _ => {}
        }
        Ok(())
    }

    /// Returns the attributes as received: equal octets mean equal attributes.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Returns whether the attribute is among the canonical ones.
    pub fn keeps(&self, code: u8) -> bool {
        contains(&self.kept, code)
    }

    /// Appends the attributes in canonical form, which is also the format for four-octet sessions:
    /// each once, in the order of type codes, AS4 attributes merged (RFC 6793 §4.2.3), unknown
    /// transitive ones with the Partial bit set; without next hops and MP attributes.
    pub fn write_canonical(&self, out: &mut Vec<u8>) {
        for code in 1..=u8::MAX {
            if !self.keeps(code) {
                continue;
            }
            match code {
                code::AS_PATH => {
                    let Some(path) = self.as_path else { continue };
                    push(out, flag::WELL_KNOWN, code, |out| match self.as4_path {
                        Some(as4_path) if self.merges_as4() => path.write_merged(as4_path, out),
                        _ => path.write_four(out),
                    });
                }
                code::AGGREGATOR => {
                    let Some(aggregator) = self.effective_aggregator() else { continue };
                    push(out, OPTIONAL_TRANSITIVE, code, |out| {
                        out.extend(aggregator.asn.0.to_be_bytes());
                        out.extend(aggregator.id.octets());
                    });
                }
                code::LARGE_COMMUNITIES => {
                    let Some(raw) = RawAttributes::new(self.raw).find(|raw| raw.code == code) else {
                        continue;
                    };
                    push(out, raw.flags & !flag::EXTENDED_LENGTH, code, |out| push_distinct(out, raw.value));
                }
                _ => {
                    let Some(raw) = RawAttributes::new(self.raw).find(|raw| raw.code == code) else {
                        continue;
                    };
                    let partial = if spec_of(code).is_some_and(|spec| spec.used) {
                        raw.flags & flag::PARTIAL
                    } else {
                        flag::PARTIAL
                    };
                    let flags = raw.flags & (flag::OPTIONAL | flag::TRANSITIVE);
                    let partial = if flags == OPTIONAL_TRANSITIVE { partial } else { 0 };
                    push(out, flags | partial, code, |out| out.extend_from_slice(raw.value));
                }
            }
        }
    }

    /// Returns whether AS4 attributes are valid. An AGGREGATOR with a real AS next to an
    /// AS4_AGGREGATOR means that the AS4 attributes are obsolete (RFC 6793 §4.2.3).
    fn merges_as4(&self) -> bool {
        self.as4_aggregator.is_none() || self.aggregator.is_none_or(|aggregator| aggregator.asn == Asn::TRANS)
    }

    /// Returns the AGGREGATOR, with the number from AS4_AGGREGATOR in place of AS_TRANS.
    pub fn effective_aggregator(&self) -> Option<Aggregator> {
        match (self.aggregator, self.as4_aggregator) {
            (Some(_), Some(four)) if self.merges_as4() => Some(four),
            (aggregator, _) => aggregator,
        }
    }
}

fn take_unknown(raw: RawAttribute<'_>) -> Result<bool, Fault> {
    if raw.flags & flag::OPTIONAL == 0 {
        return Err(Fault { attribute: Some(raw.code), ..Fault::from(&rule::UNKNOWN_WELL_KNOWN) });
    }
    // RFC 4271 §9: unknown non-transitive attributes are silently ignored. Type 0 is reserved.
    Ok(raw.flags & flag::TRANSITIVE != 0 && raw.code != 0)
}

/// Appends large communities, each once (RFC 8092 §5).
fn push_distinct(out: &mut Vec<u8>, value: &[u8]) {
    /// Number up to which a linear search is faster than sorting.
    const FEW: usize = 16;
    let (all, _) = value.as_chunks::<12>();
    if all.len() > FEW {
        let mut sorted: Vec<usize> = (0..all.len()).collect();
        sorted.sort_unstable_by_key(|at| (all.get(*at), *at));
        sorted.dedup_by_key(|at| all.get(*at));
        sorted.sort_unstable();
        sorted.iter().filter_map(|at| all.get(*at)).for_each(|one| out.extend_from_slice(one));
        return;
    }
    for (at, one) in all.iter().enumerate() {
        if !all.iter().take(at).any(|earlier| earlier == one) {
            out.extend_from_slice(one);
        }
    }
}

fn slot(code: u8) -> (usize, u64) {
    (usize::from(code / 64), 1_u64.checked_shl(u32::from(code % 64)).unwrap_or(0))
}

fn contains(set: &[u64; 4], code: u8) -> bool {
    let (word, bit) = slot(code);
    set.get(word).is_some_and(|word| word & bit != 0)
}

/// Adds `code`; returns whether it is new.
fn insert(set: &mut [u64; 4], code: u8) -> bool {
    let (word, bit) = slot(code);
    let Some(word) = set.get_mut(word) else { return false };
    let new = *word & bit == 0;
    *word |= bit;
    new
}
