//! Reading all attributes of a message, and writing them in canonical form.

use std::net::Ipv4Addr;

use super::list::{OPTIONAL_TRANSITIVE, RawAttribute, RawAttributes, code, flag, push};
use super::value::{
    Aggregator, MpReach, Origin, check_tunnel_encapsulation, is_host_v4, read_aggregator, read_mp_reach,
    read_mp_unreach,
};
use super::verdict::{Fault, Verdict, spec_of};
use crate::types::{Asn, Families, RouterId};
use crate::wire::as_path::{AsPath, AsWidth};
use crate::wire::cursor::exact_u32;
use crate::wire::error::ErrorCode;
use crate::wire::nlri::Nlri;

/// What the session settled that the reading of attributes depends on.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Width of AS numbers in AS_PATH and AGGREGATOR.
    pub as_width: AsWidth,
    /// Whether the peer is in our AS.
    pub internal: bool,
    /// The families that were negotiated; MP_REACH_NLRI of others is ignored.
    pub families: Families,
}

/// The attributes of one UPDATE, read and checked, borrowed from it.
#[derive(Clone, Debug, Default)]
pub struct Attributes<'a> {
    raw: &'a [u8],
    /// One bit per type code that was kept.
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
    /// Whether there was an MP_REACH_NLRI at all, of whatever family.
    pub has_mp_reach: bool,
    /// How many attributes stood in the message.
    pub count: usize,
}

impl<'a> Attributes<'a> {
    /// Reads a path attributes field; `report` is told of each fault, and what a fault leaves out is
    /// absent in the answer. Of an attribute that occurs twice the first counts (RFC 7606 §3 g).
    pub fn read(octets: &'a [u8], context: &Context, report: impl FnMut(Fault)) -> Attributes<'a> {
        let mut attributes = Attributes::default();
        attributes.fill(octets, context, report);
        attributes
    }

    /// [`Attributes::read`] in place, since there is much of them to move. They must be the default.
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
                if matches!(raw.code, code::MP_REACH_NLRI | code::MP_UNREACH_NLRI) {
                    report(Fault {
                        attribute: Some(raw.code),
                        verdict: Verdict::SessionReset,
                        code: ErrorCode::MALFORMED_ATTRIBUTE_LIST,
                        rule: "MP_REACH_NLRI and MP_UNREACH_NLRI occur at most once",
                    });
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
            // RFC 7606 §4: what follows can't be read, but the message's own lengths still hold.
            report(Fault {
                attribute: None,
                verdict: Verdict::TreatAsWithdraw,
                code: ErrorCode::ATTRIBUTE_LENGTH,
                rule: "the last attribute ends inside the path attributes field",
            });
        }
    }

    /// Reads one attribute into its field; whether it is kept among the canonical ones.
    #[inline]
    fn take(&mut self, raw: RawAttribute<'a>, context: &Context) -> Result<bool, Fault> {
        let Some(spec) = spec_of(raw.code) else {
            return take_unknown(raw);
        };
        let fault = |verdict, code, rule| Err(Fault { attribute: Some(raw.code), verdict, code, rule });
        // Out of place: left out before its form is looked at (RFC 7606 §7.5, §7.9, §7.10; RFC 6793 §6).
        let among_internal = matches!(raw.code, code::LOCAL_PREF | code::ORIGINATOR_ID | code::CLUSTER_LIST);
        if among_internal && !context.internal {
            return fault(
                Verdict::Discard,
                ErrorCode::OPTIONAL_ATTRIBUTE,
                "only internal peers send this attribute",
            );
        }
        let among_two_octet = matches!(raw.code, code::AS4_PATH | code::AS4_AGGREGATOR);
        if among_two_octet && context.as_width == AsWidth::Four {
            return fault(
                Verdict::Discard,
                ErrorCode::OPTIONAL_ATTRIBUTE,
                "a session with four-octet AS numbers carries no AS4 attribute",
            );
        }
        if raw.flags & (flag::OPTIONAL | flag::TRANSITIVE) != spec.flags {
            return fault(
                spec.wrong_flags,
                ErrorCode::ATTRIBUTE_FLAGS,
                "the Optional and Transitive bits are those of the attribute's type",
            );
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
            Err((code, rule)) => fault(spec.malformed, code, rule),
        }
    }

    #[inline]
    fn store(&mut self, raw: RawAttribute<'a>, context: &Context) -> Result<(), (ErrorCode, &'static str)> {
        let value = raw.value;
        let length = |rule| (ErrorCode::ATTRIBUTE_LENGTH, rule);
        let list = |of: usize, rule| {
            if value.is_empty() || !value.len().is_multiple_of(of) {
                Err(length(rule))
            } else {
                Ok(Some(value))
            }
        };
        match raw.code {
            code::ORIGIN => {
                self.origin = Some(match value {
                    [0] => Origin::Igp,
                    [1] => Origin::Egp,
                    [2] => Origin::Incomplete,
                    [_] => return Err((ErrorCode::INVALID_ORIGIN, "ORIGIN is 0, 1 or 2")),
                    _ => return Err(length("ORIGIN has one octet")),
                });
            }
            code::AS_PATH => {
                let path = AsPath::check(value, context.as_width)
                    .map_err(|rule| (ErrorCode::MALFORMED_AS_PATH, rule))?;
                if path.segments().any(|segment| segment.kind.is_confederation()) {
                    let rule = "confederation segments come only from members of our confederation";
                    return Err((ErrorCode::MALFORMED_AS_PATH, rule));
                }
                self.as_path = Some(path);
            }
            code::NEXT_HOP => {
                let address =
                    exact_u32(value).map(Ipv4Addr::from_bits).ok_or(length("NEXT_HOP has four octets"))?;
                if !is_host_v4(address) {
                    return Err((ErrorCode::INVALID_NEXT_HOP, "NEXT_HOP is a unicast host address"));
                }
                self.next_hop = Some(address);
            }
            code::MULTI_EXIT_DISC => {
                self.med = Some(exact_u32(value).ok_or(length("MULTI_EXIT_DISC has four octets"))?);
            }
            code::LOCAL_PREF => {
                self.local_pref = Some(exact_u32(value).ok_or(length("LOCAL_PREF has four octets"))?);
            }
            code::ATOMIC_AGGREGATE => {
                if !value.is_empty() {
                    return Err(length("ATOMIC_AGGREGATE is empty"));
                }
                self.atomic_aggregate = true;
            }
            code::AGGREGATOR => {
                self.aggregator = Some(
                    read_aggregator(value, context.as_width)
                        .ok_or(length("AGGREGATOR is an AS number and an IPv4 address"))?,
                );
            }
            code::AS4_AGGREGATOR => {
                self.as4_aggregator = Some(
                    read_aggregator(value, AsWidth::Four).ok_or(length("AS4_AGGREGATOR has eight octets"))?,
                );
            }
            code::AS4_PATH => {
                self.as4_path = Some(
                    AsPath::check(value, AsWidth::Four)
                        .map_err(|rule| (ErrorCode::MALFORMED_AS_PATH, rule))?,
                );
            }
            code::COMMUNITIES => {
                self.communities = list(4, "COMMUNITIES has four octets for each, at least one")?
            }
            code::EXTENDED_COMMUNITIES => {
                self.extended_communities =
                    list(8, "EXTENDED_COMMUNITIES has eight octets for each, at least one")?;
            }
            code::LARGE_COMMUNITIES => {
                self.large_communities =
                    list(12, "LARGE_COMMUNITIES has twelve octets for each, at least one")?;
            }
            code::CLUSTER_LIST => {
                self.cluster_list = list(4, "CLUSTER_LIST has four octets for each, at least one")?;
            }
            code::ORIGINATOR_ID => {
                let bits = exact_u32(value).ok_or(length("ORIGINATOR_ID has four octets"))?;
                self.originator_id = Some(RouterId(Ipv4Addr::from_bits(bits)));
            }
            code::TUNNEL_ENCAPSULATION => check_tunnel_encapsulation(value)?,
            code::MP_REACH_NLRI => {
                self.has_mp_reach = true;
                self.mp_reach = read_mp_reach(value, context.families)?;
            }
            code::MP_UNREACH_NLRI => self.mp_unreach = read_mp_unreach(value, context.families)?,
            _ => {}
        }
        Ok(())
    }

    /// The attributes as they stood in the message: equal octets mean equal attributes.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether the attribute is among the canonical ones.
    pub fn keeps(&self, code: u8) -> bool {
        contains(&self.kept, code)
    }

    /// Appends the attributes in canonical form, which is also the form on four-octet sessions: each
    /// once, in the order of type codes, AS4 attributes merged (RFC 6793 §4.2.3), unknown transitive
    /// ones with the Partial bit set; without next hops and MP attributes.
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
                _ => {
                    let Some(raw) = RawAttributes::new(self.raw).find(|raw| raw.code == code) else {
                        continue;
                    };
                    let partial =
                        if spec_of(code).is_some() { raw.flags & flag::PARTIAL } else { flag::PARTIAL };
                    let flags = raw.flags & (flag::OPTIONAL | flag::TRANSITIVE);
                    let partial = if flags == OPTIONAL_TRANSITIVE { partial } else { 0 };
                    push(out, flags | partial, code, |out| out.extend_from_slice(raw.value));
                }
            }
        }
    }

    /// RFC 6793 §4.2.3: an AGGREGATOR of a real AS means that the AS4 attributes are left over from before it.
    fn merges_as4(&self) -> bool {
        self.aggregator.is_none_or(|aggregator| aggregator.asn == Asn::TRANS)
    }

    /// The AGGREGATOR, with the number from AS4_AGGREGATOR where AS_TRANS stands for it.
    pub fn effective_aggregator(&self) -> Option<Aggregator> {
        match (self.aggregator, self.as4_aggregator) {
            (Some(_), Some(four)) if self.merges_as4() => Some(four),
            (aggregator, _) => aggregator,
        }
    }
}

fn take_unknown(raw: RawAttribute<'_>) -> Result<bool, Fault> {
    if raw.flags & flag::OPTIONAL == 0 {
        return Err(Fault {
            attribute: Some(raw.code),
            verdict: Verdict::SessionReset,
            code: ErrorCode::UNRECOGNIZED_WELL_KNOWN,
            rule: "every well-known attribute is known",
        });
    }
    // RFC 4271 §9: unknown and non-transitive is quietly left out. Type 0 is reserved.
    Ok(raw.flags & flag::TRANSITIVE != 0 && raw.code != 0)
}

fn slot(code: u8) -> (usize, u64) {
    (usize::from(code / 64), 1_u64.checked_shl(u32::from(code % 64)).unwrap_or(0))
}

fn contains(set: &[u64; 4], code: u8) -> bool {
    let (word, bit) = slot(code);
    set.get(word).is_some_and(|word| word & bit != 0)
}

/// Adds `code`; false if it was there.
fn insert(set: &mut [u64; 4], code: u8) -> bool {
    let (word, bit) = slot(code);
    let Some(word) = set.get_mut(word) else { return false };
    let new = *word & bit == 0;
    *word |= bit;
    new
}
