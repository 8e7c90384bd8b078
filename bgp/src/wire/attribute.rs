//! Path attributes: what each is, and one verdict for each that is wrong (RFC 7606).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::as_path::{AsPath, AsWidth};
use super::cursor::{Cursor, exact_u32};
use super::error::ErrorCode;
use super::nlri::Nlri;
use crate::types::{AfiSafi, Asn, Families, Family, RouterId};

/// Attribute type codes.
pub mod code {
    #![allow(missing_docs)]
    pub const ORIGIN: u8 = 1;
    pub const AS_PATH: u8 = 2;
    pub const NEXT_HOP: u8 = 3;
    pub const MULTI_EXIT_DISC: u8 = 4;
    pub const LOCAL_PREF: u8 = 5;
    pub const ATOMIC_AGGREGATE: u8 = 6;
    pub const AGGREGATOR: u8 = 7;
    pub const COMMUNITIES: u8 = 8;
    pub const ORIGINATOR_ID: u8 = 9;
    pub const CLUSTER_LIST: u8 = 10;
    pub const MP_REACH_NLRI: u8 = 14;
    pub const MP_UNREACH_NLRI: u8 = 15;
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    pub const AS4_PATH: u8 = 17;
    pub const AS4_AGGREGATOR: u8 = 18;
    pub const TUNNEL_ENCAPSULATION: u8 = 23;
    pub const LARGE_COMMUNITIES: u8 = 32;
}

/// Attribute flag bits (RFC 4271 §4.3).
pub mod flag {
    /// Not every speaker knows it.
    pub const OPTIONAL: u8 = 0x80;
    /// Passed on, even by speakers that don't know it.
    pub const TRANSITIVE: u8 = 0x40;
    /// Somebody on the way passed it on without knowing it.
    pub const PARTIAL: u8 = 0x20;
    /// The length field has two octets.
    pub const EXTENDED_LENGTH: u8 = 0x10;
    /// The flags of a well-known attribute.
    pub const WELL_KNOWN: u8 = TRANSITIVE;
}

/// What an error costs, mildest first (RFC 7606 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Nothing is wrong.
    Ok,
    /// The attribute is left out, the routes stay.
    Discard,
    /// The routes of the message are withdrawn, the session stays.
    TreatAsWithdraw,
    /// A NOTIFICATION is sent and the session ends.
    SessionReset,
}

/// What is wrong with one attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The attribute's type code; `None` where the list of attributes itself is broken.
    pub attribute: Option<u8>,
    /// What it costs.
    pub verdict: Verdict,
    /// The NOTIFICATION's code, should the session end for it.
    pub code: ErrorCode,
    /// The rule that was broken.
    pub rule: &'static str,
}

/// What is known of an attribute type: its flags, and what a malformed one costs.
struct Spec {
    flags: u8,
    wrong_flags: Verdict,
    malformed: Verdict,
}

const OPTIONAL_TRANSITIVE: u8 = flag::OPTIONAL | flag::TRANSITIVE;

/// RFC 7606 §7 as data; RFC 6793 §6 for the AS4 attributes, RFC 8092 §6, RFC 9012 §13. `None`: we
/// don't know the type.
const fn spec(code: u8) -> Option<Spec> {
    use Verdict::{Discard, SessionReset, TreatAsWithdraw};
    let (flags, wrong_flags, malformed) = match code {
        code::ORIGIN => (flag::WELL_KNOWN, TreatAsWithdraw, TreatAsWithdraw),
        code::AS_PATH => (flag::WELL_KNOWN, TreatAsWithdraw, TreatAsWithdraw),
        code::NEXT_HOP => (flag::WELL_KNOWN, TreatAsWithdraw, TreatAsWithdraw),
        code::MULTI_EXIT_DISC => (flag::OPTIONAL, TreatAsWithdraw, TreatAsWithdraw),
        code::LOCAL_PREF => (flag::WELL_KNOWN, TreatAsWithdraw, TreatAsWithdraw),
        code::ATOMIC_AGGREGATE => (flag::WELL_KNOWN, TreatAsWithdraw, Discard),
        code::AGGREGATOR => (OPTIONAL_TRANSITIVE, TreatAsWithdraw, Discard),
        code::COMMUNITIES => (OPTIONAL_TRANSITIVE, TreatAsWithdraw, TreatAsWithdraw),
        code::ORIGINATOR_ID => (flag::OPTIONAL, TreatAsWithdraw, TreatAsWithdraw),
        code::CLUSTER_LIST => (flag::OPTIONAL, TreatAsWithdraw, TreatAsWithdraw),
        code::MP_REACH_NLRI => (flag::OPTIONAL, SessionReset, SessionReset),
        code::MP_UNREACH_NLRI => (flag::OPTIONAL, SessionReset, SessionReset),
        code::EXTENDED_COMMUNITIES => (OPTIONAL_TRANSITIVE, TreatAsWithdraw, TreatAsWithdraw),
        code::AS4_PATH => (OPTIONAL_TRANSITIVE, Discard, Discard),
        code::AS4_AGGREGATOR => (OPTIONAL_TRANSITIVE, Discard, Discard),
        code::TUNNEL_ENCAPSULATION => (OPTIONAL_TRANSITIVE, TreatAsWithdraw, TreatAsWithdraw),
        code::LARGE_COMMUNITIES => (OPTIONAL_TRANSITIVE, TreatAsWithdraw, TreatAsWithdraw),
        _ => return None,
    };
    Some(Spec { flags, wrong_flags, malformed })
}

/// [`spec`] by type code, so that an attribute costs a load where a chain of branches would stand.
static SPECS: [Option<Spec>; 33] = {
    let mut specs = [const { None }; 33];
    let (mut rest, mut code): (&mut [Option<Spec>], u8) = (&mut specs, 0);
    while let [first, others @ ..] = rest {
        *first = spec(code);
        (rest, code) = (others, code + 1);
    }
    specs
};

fn spec_of(code: u8) -> Option<&'static Spec> {
    SPECS.get(usize::from(code))?.as_ref()
}

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

/// An attribute as it stands in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawAttribute<'a> {
    /// Flag bits, see [`flag`].
    pub flags: u8,
    /// Type code, see [`code`].
    pub code: u8,
    /// The value.
    pub value: &'a [u8],
}

/// Iterator over a list of attributes; ends early where one is cut off, see [`RawAttributes::is_cut`].
#[derive(Clone, Debug)]
pub struct RawAttributes<'a> {
    cursor: Cursor<'a>,
    cut: bool,
}

impl<'a> RawAttributes<'a> {
    /// Over the path attributes field of an UPDATE.
    pub fn new(octets: &'a [u8]) -> RawAttributes<'a> {
        RawAttributes { cursor: Cursor(octets), cut: false }
    }

    /// Whether the iterator ended in the middle of an attribute.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    fn read(&mut self) -> Option<RawAttribute<'a>> {
        let flags = self.cursor.u8()?;
        let code = self.cursor.u8()?;
        let value = if flags & flag::EXTENDED_LENGTH == 0 {
            self.cursor.prefixed_u8()?
        } else {
            self.cursor.prefixed_u16()?
        };
        Some(RawAttribute { flags, code, value })
    }
}

impl<'a> Iterator for RawAttributes<'a> {
    type Item = RawAttribute<'a>;

    #[inline]
    fn next(&mut self) -> Option<RawAttribute<'a>> {
        if self.cut || self.cursor.is_empty() {
            return None;
        }
        let attribute = self.read();
        self.cut = attribute.is_none();
        attribute
    }
}

/// ORIGIN, the better first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// 0.
    Igp,
    /// 1.
    Egp,
    /// 2.
    Incomplete,
}

impl Origin {
    /// The value octet.
    pub const fn code(self) -> u8 {
        match self {
            Origin::Igp => 0,
            Origin::Egp => 1,
            Origin::Incomplete => 2,
        }
    }
}

/// AGGREGATOR: who formed the aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Aggregator {
    /// Its AS.
    pub asn: Asn,
    /// Its BGP identifier.
    pub id: Ipv4Addr,
}

/// MP_REACH_NLRI of a family that we exchange.
#[derive(Clone, Copy, Debug)]
pub struct MpReach<'a> {
    /// The (global) next hop.
    pub next_hop: IpAddr,
    /// The link-local next hop beside it (RFC 2545 §3).
    pub link_local: Option<Ipv6Addr>,
    /// The announced prefixes.
    pub nlri: Nlri<'a>,
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
    pub(super) fn fill(&mut self, octets: &'a [u8], context: &Context, mut report: impl FnMut(Fault)) {
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

/// Appends one attribute, with a two-octet length only where it is needed.
pub fn push(out: &mut Vec<u8>, flags: u8, code: u8, value: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([flags & !flag::EXTENDED_LENGTH, code, 0]);
    let body = out.len();
    value(out);
    let len = out.len().saturating_sub(body);
    if let Ok(len) = u8::try_from(len) {
        if let Some(field) = out.get_mut(start.saturating_add(2)) {
            *field = len;
        }
        return;
    }
    // A value over 65,535 octets can't be sent; the encoder refuses such a message by its length.
    let [high, low] = u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    out.insert(body, low);
    if let Some([flags, _, field]) = out.get_mut(start..body) {
        *flags |= flag::EXTENDED_LENGTH;
        *field = high;
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

fn read_aggregator(value: &[u8], width: AsWidth) -> Option<Aggregator> {
    let mut cursor = Cursor(value);
    let asn = match width {
        AsWidth::Two => Asn(u32::from(cursor.u16()?)),
        AsWidth::Four => Asn(cursor.u32()?),
    };
    let id = Ipv4Addr::from_bits(cursor.u32()?);
    // RFC 7607 §2: malformed as a wrong length is.
    (cursor.is_empty() && asn.0 != 0).then_some(Aggregator { asn, id })
}

fn read_family(cursor: &mut Cursor<'_>) -> Option<AfiSafi> {
    Some(AfiSafi { afi: cursor.u16()?, safi: cursor.u8()? })
}

fn read_mp_reach(value: &[u8], families: Families) -> Result<Option<MpReach<'_>>, (ErrorCode, &'static str)> {
    let wrong = |rule| (ErrorCode::OPTIONAL_ATTRIBUTE, rule);
    let mut cursor = Cursor(value);
    let wire = read_family(&mut cursor).ok_or(wrong("MP_REACH_NLRI has a family"))?;
    let next_hop = cursor.prefixed_u8().ok_or(wrong("the next hop ends inside MP_REACH_NLRI"))?;
    cursor.u8().ok_or(wrong("MP_REACH_NLRI has a reserved octet after the next hop"))?;
    let Some(family) = Family::from_afi_safi(wire).filter(|family| families.contains(*family)) else {
        return Ok(None);
    };
    let mut addresses = Cursor(next_hop);
    let (next_hop, link_local) = match (family, next_hop.len()) {
        (Family::Ipv4Unicast, 4) => (addresses.octets::<4>().map(IpAddr::from), None),
        (Family::Ipv6Unicast, 16) => (addresses.octets::<16>().map(IpAddr::from), None),
        (Family::Ipv6Unicast, 32) => {
            (addresses.octets::<16>().map(IpAddr::from), addresses.octets::<16>().map(Ipv6Addr::from))
        }
        _ => (None, None),
    };
    let next_hop = next_hop.ok_or(wrong("the next hop's length is one of its family"))?;
    let nlri = Nlri::check(family, cursor.0).ok_or(wrong("every prefix of MP_REACH_NLRI fits its family"))?;
    Ok(Some(MpReach { next_hop, link_local, nlri }))
}

fn read_mp_unreach(value: &[u8], families: Families) -> Result<Option<Nlri<'_>>, (ErrorCode, &'static str)> {
    let wrong = |rule| (ErrorCode::OPTIONAL_ATTRIBUTE, rule);
    let mut cursor = Cursor(value);
    let wire = read_family(&mut cursor).ok_or(wrong("MP_UNREACH_NLRI has a family"))?;
    let Some(family) = Family::from_afi_safi(wire).filter(|family| families.contains(*family)) else {
        return Ok(None);
    };
    Nlri::check(family, cursor.0).map(Some).ok_or(wrong("every prefix of MP_UNREACH_NLRI fits its family"))
}

/// RFC 9012 §2: TLVs of a two-octet type and length, sub-TLVs with a one-octet length below type 128.
fn check_tunnel_encapsulation(value: &[u8]) -> Result<(), (ErrorCode, &'static str)> {
    let wrong = (ErrorCode::OPTIONAL_ATTRIBUTE, "a tunnel TLV or sub-TLV ends inside what holds it");
    let mut tlvs = Cursor(value);
    if tlvs.is_empty() {
        return Err((ErrorCode::OPTIONAL_ATTRIBUTE, "the Tunnel Encapsulation attribute has a TLV"));
    }
    while !tlvs.is_empty() {
        tlvs.u16().ok_or(wrong)?;
        let mut subs = Cursor(tlvs.prefixed_u16().ok_or(wrong)?);
        while let Some(kind) = subs.u8() {
            let sub = if kind < 128 { subs.prefixed_u8() } else { subs.prefixed_u16() };
            sub.ok_or(wrong)?;
        }
    }
    Ok(())
}

/// Whether packets can be sent to `address` as a host (RFC 4271 §6.3).
pub fn is_host_v4(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first < 224 && !address.is_loopback()
}

/// Whether packets can be sent to `address` as a host.
pub fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_host_v4(address),
        IpAddr::V6(address) => !address.is_unspecified() && !address.is_loopback() && !address.is_multicast(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_every_type_that_is_known() {
        for code in 0..=u8::MAX {
            assert_eq!(spec_of(code).is_some(), spec(code).is_some(), "{code}");
        }
    }
}
