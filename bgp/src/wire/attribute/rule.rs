//! Consequences of errors in an UPDATE (RFC 7606 and later RFCs). The table in this file is the
//! only source of verdicts, and `docs/update-errors.md` is generated from it.

use super::list::{OPTIONAL_TRANSITIVE, code, flag};
use crate::wire::as_path::PathFault;
use crate::wire::error::ErrorCode;

/// Consequence of an error, mildest first (RFC 7606 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UpdateVerdict {
    /// No error.
    Ok,
    /// The attribute is discarded; the routes are kept.
    Discard,
    /// The routes of the message are withdrawn; the session is kept.
    TreatAsWithdraw,
    /// A NOTIFICATION is sent and the session ends.
    SessionReset,
}

impl UpdateVerdict {
    /// Returns the name, as displayed and as used in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            UpdateVerdict::Ok => "ok",
            UpdateVerdict::Discard => "discard",
            UpdateVerdict::TreatAsWithdraw => "treat_as_withdraw",
            UpdateVerdict::SessionReset => "session_reset",
        }
    }
}

/// Fault in one attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Type code of the attribute; `None` if the list of attributes itself is malformed.
    pub attribute: Option<u8>,
    /// Consequence.
    pub verdict: UpdateVerdict,
    /// Code for the NOTIFICATION, if the session ends.
    pub code: ErrorCode,
    /// Rule that was violated.
    pub rule: &'static str,
}

impl From<&'static AttributeRule> for Fault {
    fn from(rule: &'static AttributeRule) -> Fault {
        Fault { attribute: rule.attribute, verdict: rule.verdict, code: rule.code, rule: rule.text }
    }
}

/// Entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributeRule {
    /// Type code of the attribute; `None`: the rule is about the message.
    pub attribute: Option<u8>,
    /// Consequence of a violation.
    pub verdict: UpdateVerdict,
    /// Code for the NOTIFICATION, if the session ends.
    pub code: ErrorCode,
    /// Text of the rule.
    pub text: &'static str,
    /// Source of the rule.
    pub source: &'static str,
}

macro_rules! rules {
    ($($name:ident: $attribute:expr, $verdict:ident, $code:ident, $text:expr, $source:literal;)*) => {
        $(pub(in crate::wire) static $name: AttributeRule = AttributeRule {
            attribute: $attribute,
            verdict: UpdateVerdict::$verdict,
            code: ErrorCode::$code,
            text: $text,
            source: $source,
        };)*

        /// All rules: those about the message, then the others by attribute.
        pub static RULES: &[&AttributeRule] = &[$(&$name),*];
    };
}

const FLAGS: &str = "the Optional and Transitive bits are those of the attribute's type";
const AMONG_INTERNAL: &str = "only internal peers send this attribute";
const AMONG_TWO_OCTET: &str = "a session with four-octet AS numbers carries no AS4 attribute";
const SEGMENT_TYPE: &str = "a path segment's type is 1 to 4";
const SEGMENT_LENGTH: &str = "a path segment has a length";
const SEGMENT_EMPTY: &str = "a path segment has at least one AS number";
const SEGMENT_OVERRUN: &str = "a path segment ends inside the attribute";
const AS_0: &str = "the path does not contain AS 0";

rules! {
    MESSAGE_LENGTHS: None, SessionReset, MALFORMED_ATTRIBUTE_LIST,
        "Withdrawn Routes and Path Attributes end inside the message", "RFC 7606 §3 b";
    WITHDRAWN_ROUTES: None, SessionReset, INVALID_NETWORK_FIELD,
        "every withdrawn prefix is whole and at most /32", "RFC 7606 §3 i, §5.3";
    NLRI: None, SessionReset, INVALID_NETWORK_FIELD,
        "every prefix is whole and at most /32", "RFC 7606 §3 j, §5.3";
    LIST_CUT: None, TreatAsWithdraw, ATTRIBUTE_LENGTH,
        "the last attribute ends inside the path attributes field", "RFC 7606 §4";
    UNKNOWN_WELL_KNOWN: None, SessionReset, UNRECOGNIZED_WELL_KNOWN,
        "every well-known attribute is known", "RFC 4271 §6.3";

    ORIGIN_FLAGS: Some(code::ORIGIN), TreatAsWithdraw, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §3 c";
    ORIGIN_LENGTH: Some(code::ORIGIN), TreatAsWithdraw, ATTRIBUTE_LENGTH,
        "ORIGIN has one octet", "RFC 7606 §7.1";
    ORIGIN_VALUE: Some(code::ORIGIN), TreatAsWithdraw, INVALID_ORIGIN,
        "ORIGIN is 0, 1 or 2", "RFC 7606 §7.1";
    ORIGIN_MISSING: Some(code::ORIGIN), TreatAsWithdraw, MISSING_WELL_KNOWN,
        "announced routes have ORIGIN", "RFC 7606 §3 d";

    AS_PATH_FLAGS: Some(code::AS_PATH), TreatAsWithdraw, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §3 c";
    AS_PATH_TYPE: Some(code::AS_PATH), TreatAsWithdraw, MALFORMED_AS_PATH, SEGMENT_TYPE, "RFC 7606 §7.2";
    AS_PATH_LENGTH: Some(code::AS_PATH), TreatAsWithdraw, MALFORMED_AS_PATH, SEGMENT_LENGTH, "RFC 7606 §7.2";
    AS_PATH_EMPTY: Some(code::AS_PATH), TreatAsWithdraw, MALFORMED_AS_PATH, SEGMENT_EMPTY, "RFC 7606 §7.2";
    AS_PATH_OVERRUN: Some(code::AS_PATH), TreatAsWithdraw, MALFORMED_AS_PATH, SEGMENT_OVERRUN, "RFC 7606 §7.2";
    AS_PATH_AS_0: Some(code::AS_PATH), TreatAsWithdraw, MALFORMED_AS_PATH, AS_0, "RFC 7607 §2";
    AS_PATH_CONFEDERATION: Some(code::AS_PATH), TreatAsWithdraw, MALFORMED_AS_PATH,
        "confederation segments come only from members of our confederation", "RFC 5065 §5";
    AS_PATH_FIRST: Some(code::AS_PATH), TreatAsWithdraw, MALFORMED_AS_PATH,
        "the path of an external peer begins with the peer's AS", "RFC 4271 §6.3, RFC 7606 §7.2";
    AS_PATH_MISSING: Some(code::AS_PATH), TreatAsWithdraw, MISSING_WELL_KNOWN,
        "announced routes have AS_PATH", "RFC 7606 §3 d";

    NEXT_HOP_FLAGS: Some(code::NEXT_HOP), TreatAsWithdraw, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §3 c";
    NEXT_HOP_LENGTH: Some(code::NEXT_HOP), TreatAsWithdraw, ATTRIBUTE_LENGTH,
        "NEXT_HOP has four octets", "RFC 7606 §7.3";
    NEXT_HOP_HOST: Some(code::NEXT_HOP), TreatAsWithdraw, INVALID_NEXT_HOP,
        "NEXT_HOP is a unicast host address", "RFC 4271 §6.3, RFC 7606 §3 e";
    NEXT_HOP_MISSING: Some(code::NEXT_HOP), TreatAsWithdraw, MISSING_WELL_KNOWN,
        "announced IPv4 routes have NEXT_HOP", "RFC 7606 §3 d";

    MED_FLAGS: Some(code::MULTI_EXIT_DISC), TreatAsWithdraw, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §3 c";
    MED_LENGTH: Some(code::MULTI_EXIT_DISC), TreatAsWithdraw, ATTRIBUTE_LENGTH,
        "MULTI_EXIT_DISC has four octets", "RFC 7606 §7.4";

    LOCAL_PREF_EXTERNAL: Some(code::LOCAL_PREF), Discard, OPTIONAL_ATTRIBUTE, AMONG_INTERNAL, "RFC 7606 §7.5";
    LOCAL_PREF_FLAGS: Some(code::LOCAL_PREF), TreatAsWithdraw, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §3 c";
    LOCAL_PREF_LENGTH: Some(code::LOCAL_PREF), TreatAsWithdraw, ATTRIBUTE_LENGTH,
        "LOCAL_PREF has four octets", "RFC 7606 §7.5";

    ATOMIC_AGGREGATE_FLAGS: Some(code::ATOMIC_AGGREGATE), TreatAsWithdraw, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §3 c";
    ATOMIC_AGGREGATE_LENGTH: Some(code::ATOMIC_AGGREGATE), Discard, ATTRIBUTE_LENGTH,
        "ATOMIC_AGGREGATE is empty", "RFC 7606 §7.6";

    AGGREGATOR_FLAGS: Some(code::AGGREGATOR), TreatAsWithdraw, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §3 c";
    AGGREGATOR_LENGTH: Some(code::AGGREGATOR), Discard, ATTRIBUTE_LENGTH,
        "AGGREGATOR is an AS number and an IPv4 address", "RFC 7606 §7.7";
    AGGREGATOR_AS_0: Some(code::AGGREGATOR), Discard, OPTIONAL_ATTRIBUTE,
        "the AS of the aggregator is not 0", "RFC 7607 §2, RFC 7606 §7.7";

    COMMUNITIES_FLAGS: Some(code::COMMUNITIES), TreatAsWithdraw, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §3 c";
    COMMUNITIES_LENGTH: Some(code::COMMUNITIES), TreatAsWithdraw, ATTRIBUTE_LENGTH,
        "COMMUNITIES has four octets for each, at least one", "RFC 7606 §7.8";

    ORIGINATOR_ID_EXTERNAL: Some(code::ORIGINATOR_ID), Discard, OPTIONAL_ATTRIBUTE, AMONG_INTERNAL, "RFC 7606 §7.9";
    ORIGINATOR_ID_FLAGS: Some(code::ORIGINATOR_ID), TreatAsWithdraw, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §3 c";
    ORIGINATOR_ID_LENGTH: Some(code::ORIGINATOR_ID), TreatAsWithdraw, ATTRIBUTE_LENGTH,
        "ORIGINATOR_ID has four octets", "RFC 7606 §7.9";

    CLUSTER_LIST_EXTERNAL: Some(code::CLUSTER_LIST), Discard, OPTIONAL_ATTRIBUTE, AMONG_INTERNAL, "RFC 7606 §7.10";
    CLUSTER_LIST_FLAGS: Some(code::CLUSTER_LIST), TreatAsWithdraw, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §3 c";
    CLUSTER_LIST_LENGTH: Some(code::CLUSTER_LIST), TreatAsWithdraw, ATTRIBUTE_LENGTH,
        "CLUSTER_LIST has four octets for each, at least one", "RFC 7606 §7.10";

    MP_REACH_FLAGS: Some(code::MP_REACH_NLRI), SessionReset, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §5.3";
    MP_REACH_TWICE: Some(code::MP_REACH_NLRI), SessionReset, MALFORMED_ATTRIBUTE_LIST,
        "MP_REACH_NLRI occurs at most once", "RFC 7606 §3 g";
    MP_REACH_FAMILY: Some(code::MP_REACH_NLRI), SessionReset, OPTIONAL_ATTRIBUTE,
        "MP_REACH_NLRI has a family", "RFC 7606 §5.3";
    MP_REACH_NEXT_HOP: Some(code::MP_REACH_NLRI), SessionReset, OPTIONAL_ATTRIBUTE,
        "the next hop ends inside MP_REACH_NLRI", "RFC 7606 §7.11";
    MP_REACH_RESERVED: Some(code::MP_REACH_NLRI), SessionReset, OPTIONAL_ATTRIBUTE,
        "MP_REACH_NLRI has a reserved octet after the next hop", "RFC 4760 §3, RFC 7606 §5.3";
    MP_REACH_NEXT_HOP_LENGTH: Some(code::MP_REACH_NLRI), SessionReset, OPTIONAL_ATTRIBUTE,
        "the next hop's length is one of its family", "RFC 7606 §7.11";
    MP_REACH_NEXT_HOP_HOST: Some(code::MP_REACH_NLRI), TreatAsWithdraw, OPTIONAL_ATTRIBUTE,
        "the next hop is a unicast host address", "RFC 4271 §6.3";
    MP_REACH_PREFIXES: Some(code::MP_REACH_NLRI), SessionReset, OPTIONAL_ATTRIBUTE,
        "every prefix of MP_REACH_NLRI fits its family", "RFC 7606 §5.3";

    MP_UNREACH_FLAGS: Some(code::MP_UNREACH_NLRI), SessionReset, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §5.3";
    MP_UNREACH_TWICE: Some(code::MP_UNREACH_NLRI), SessionReset, MALFORMED_ATTRIBUTE_LIST,
        "MP_UNREACH_NLRI occurs at most once", "RFC 7606 §3 g";
    MP_UNREACH_FAMILY: Some(code::MP_UNREACH_NLRI), SessionReset, OPTIONAL_ATTRIBUTE,
        "MP_UNREACH_NLRI has a family", "RFC 7606 §5.3";
    MP_UNREACH_PREFIXES: Some(code::MP_UNREACH_NLRI), SessionReset, OPTIONAL_ATTRIBUTE,
        "every prefix of MP_UNREACH_NLRI fits its family", "RFC 7606 §5.3";

    EXTENDED_COMMUNITIES_FLAGS: Some(code::EXTENDED_COMMUNITIES), TreatAsWithdraw, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §3 c";
    EXTENDED_COMMUNITIES_LENGTH: Some(code::EXTENDED_COMMUNITIES), TreatAsWithdraw, ATTRIBUTE_LENGTH,
        "EXTENDED_COMMUNITIES has eight octets for each, at least one", "RFC 7606 §7.14";

    AS4_PATH_WIDTH: Some(code::AS4_PATH), Discard, OPTIONAL_ATTRIBUTE, AMONG_TWO_OCTET, "RFC 6793 §6";
    AS4_PATH_FLAGS: Some(code::AS4_PATH), Discard, ATTRIBUTE_FLAGS, FLAGS, "RFC 6793 §6";
    AS4_PATH_TYPE: Some(code::AS4_PATH), Discard, OPTIONAL_ATTRIBUTE, SEGMENT_TYPE, "RFC 6793 §6";
    AS4_PATH_LENGTH: Some(code::AS4_PATH), Discard, OPTIONAL_ATTRIBUTE, SEGMENT_LENGTH, "RFC 6793 §6";
    AS4_PATH_EMPTY: Some(code::AS4_PATH), Discard, OPTIONAL_ATTRIBUTE, SEGMENT_EMPTY, "RFC 6793 §6";
    AS4_PATH_OVERRUN: Some(code::AS4_PATH), Discard, OPTIONAL_ATTRIBUTE, SEGMENT_OVERRUN, "RFC 6793 §6";
    AS4_PATH_AS_0: Some(code::AS4_PATH), Discard, OPTIONAL_ATTRIBUTE, AS_0, "RFC 7607 §2";

    AS4_AGGREGATOR_WIDTH: Some(code::AS4_AGGREGATOR), Discard, OPTIONAL_ATTRIBUTE, AMONG_TWO_OCTET, "RFC 6793 §6";
    AS4_AGGREGATOR_FLAGS: Some(code::AS4_AGGREGATOR), Discard, ATTRIBUTE_FLAGS, FLAGS, "RFC 6793 §6";
    AS4_AGGREGATOR_LENGTH: Some(code::AS4_AGGREGATOR), Discard, ATTRIBUTE_LENGTH,
        "AS4_AGGREGATOR has eight octets", "RFC 6793 §6";
    AS4_AGGREGATOR_AS_0: Some(code::AS4_AGGREGATOR), Discard, OPTIONAL_ATTRIBUTE,
        "the AS of the aggregator is not 0", "RFC 7607 §2";

    PMSI_TUNNEL_FLAGS: Some(code::PMSI_TUNNEL), TreatAsWithdraw, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §3 c";
    PMSI_TUNNEL_LENGTH: Some(code::PMSI_TUNNEL), TreatAsWithdraw, ATTRIBUTE_LENGTH,
        "PMSI_TUNNEL has at least five octets", "RFC 6514 §5";

    TUNNEL_ENCAPSULATION_FLAGS: Some(code::TUNNEL_ENCAPSULATION), TreatAsWithdraw, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §3 c";
    TUNNEL_ENCAPSULATION_EMPTY: Some(code::TUNNEL_ENCAPSULATION), TreatAsWithdraw, OPTIONAL_ATTRIBUTE,
        "the Tunnel Encapsulation attribute has a TLV", "RFC 9012 §13";
    TUNNEL_ENCAPSULATION_TLV: Some(code::TUNNEL_ENCAPSULATION), TreatAsWithdraw, OPTIONAL_ATTRIBUTE,
        "a tunnel TLV or sub-TLV ends inside the enclosing field", "RFC 9012 §13";

    IPV6_EXTENDED_COMMUNITIES_FLAGS: Some(code::IPV6_EXTENDED_COMMUNITIES), TreatAsWithdraw, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §3 c";
    IPV6_EXTENDED_COMMUNITIES_LENGTH: Some(code::IPV6_EXTENDED_COMMUNITIES), TreatAsWithdraw, ATTRIBUTE_LENGTH,
        "IPV6_EXTENDED_COMMUNITIES has twenty octets for each, at least one", "RFC 7606 §7.15";

    LARGE_COMMUNITIES_FLAGS: Some(code::LARGE_COMMUNITIES), TreatAsWithdraw, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §3 c";
    LARGE_COMMUNITIES_LENGTH: Some(code::LARGE_COMMUNITIES), TreatAsWithdraw, ATTRIBUTE_LENGTH,
        "LARGE_COMMUNITIES has twelve octets for each, at least one", "RFC 8092 §6";

    ONLY_TO_CUSTOMER_FLAGS: Some(code::ONLY_TO_CUSTOMER), TreatAsWithdraw, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §3 c";
    ONLY_TO_CUSTOMER_LENGTH: Some(code::ONLY_TO_CUSTOMER), TreatAsWithdraw, ATTRIBUTE_LENGTH,
        "ONLY_TO_CUSTOMER has four octets", "RFC 9234 §5";

    PREFIX_SID_FLAGS: Some(code::PREFIX_SID), Discard, ATTRIBUTE_FLAGS, FLAGS, "RFC 8669 §6";
    PREFIX_SID_TLV: Some(code::PREFIX_SID), Discard, OPTIONAL_ATTRIBUTE,
        "PREFIX_SID is made of whole TLVs, none of type 0, at least one", "RFC 8669 §6";
    PREFIX_SID_LABEL_INDEX: Some(code::PREFIX_SID), Discard, OPTIONAL_ATTRIBUTE,
        "a Label-Index TLV has seven octets", "RFC 8669 §6";

    ATTR_SET_FLAGS: Some(code::ATTR_SET), TreatAsWithdraw, ATTRIBUTE_FLAGS, FLAGS, "RFC 7606 §3 c";
    ATTR_SET_LENGTH: Some(code::ATTR_SET), TreatAsWithdraw, ATTRIBUTE_LENGTH,
        "ATTR_SET is an AS number and whole attributes", "RFC 7606 §7.16";
}

impl AttributeRule {
    /// Returns the rule that a malformed AS_PATH violates.
    pub(super) fn of_as_path(fault: PathFault) -> &'static AttributeRule {
        match fault {
            PathFault::Type => &AS_PATH_TYPE,
            PathFault::Length => &AS_PATH_LENGTH,
            PathFault::Empty => &AS_PATH_EMPTY,
            PathFault::Overrun => &AS_PATH_OVERRUN,
            PathFault::As0 => &AS_PATH_AS_0,
        }
    }

    /// Returns the rule that a malformed AS4_PATH violates.
    pub(super) fn of_as4_path(fault: PathFault) -> &'static AttributeRule {
        match fault {
            PathFault::Type => &AS4_PATH_TYPE,
            PathFault::Length => &AS4_PATH_LENGTH,
            PathFault::Empty => &AS4_PATH_EMPTY,
            PathFault::Overrun => &AS4_PATH_OVERRUN,
            PathFault::As0 => &AS4_PATH_AS_0,
        }
    }
}

/// Properties of an attribute type.
pub(super) struct AttributeSpec {
    /// Optional and Transitive bits.
    pub(super) flags: u8,
    /// Rule against other values of these bits.
    pub(super) wrong_flags: &'static AttributeRule,
    /// Rule against the attribute from another AS.
    pub(super) external: Option<&'static AttributeRule>,
    /// Rule against the attribute in sessions with four-octet AS numbers.
    pub(super) four_octet: Option<&'static AttributeRule>,
    /// The attribute is used here. Others are only checked, since malformed ones have reset
    /// sessions of other speakers far away, and are passed on like unknown ones.
    pub(super) used: bool,
}

/// Returns the properties of a type; `None` if it is unknown.
const fn spec(code: u8) -> Option<AttributeSpec> {
    let (flags, wrong_flags, used) = match code {
        code::ORIGIN => (flag::WELL_KNOWN, &ORIGIN_FLAGS, true),
        code::AS_PATH => (flag::WELL_KNOWN, &AS_PATH_FLAGS, true),
        code::NEXT_HOP => (flag::WELL_KNOWN, &NEXT_HOP_FLAGS, true),
        code::MULTI_EXIT_DISC => (flag::OPTIONAL, &MED_FLAGS, true),
        code::LOCAL_PREF => (flag::WELL_KNOWN, &LOCAL_PREF_FLAGS, true),
        code::ATOMIC_AGGREGATE => (flag::WELL_KNOWN, &ATOMIC_AGGREGATE_FLAGS, true),
        code::AGGREGATOR => (OPTIONAL_TRANSITIVE, &AGGREGATOR_FLAGS, true),
        code::COMMUNITIES => (OPTIONAL_TRANSITIVE, &COMMUNITIES_FLAGS, true),
        code::ORIGINATOR_ID => (flag::OPTIONAL, &ORIGINATOR_ID_FLAGS, true),
        code::CLUSTER_LIST => (flag::OPTIONAL, &CLUSTER_LIST_FLAGS, true),
        code::MP_REACH_NLRI => (flag::OPTIONAL, &MP_REACH_FLAGS, true),
        code::MP_UNREACH_NLRI => (flag::OPTIONAL, &MP_UNREACH_FLAGS, true),
        code::EXTENDED_COMMUNITIES => (OPTIONAL_TRANSITIVE, &EXTENDED_COMMUNITIES_FLAGS, true),
        code::AS4_PATH => (OPTIONAL_TRANSITIVE, &AS4_PATH_FLAGS, true),
        code::AS4_AGGREGATOR => (OPTIONAL_TRANSITIVE, &AS4_AGGREGATOR_FLAGS, true),
        code::PMSI_TUNNEL => (OPTIONAL_TRANSITIVE, &PMSI_TUNNEL_FLAGS, false),
        code::TUNNEL_ENCAPSULATION => (OPTIONAL_TRANSITIVE, &TUNNEL_ENCAPSULATION_FLAGS, true),
        code::IPV6_EXTENDED_COMMUNITIES => (OPTIONAL_TRANSITIVE, &IPV6_EXTENDED_COMMUNITIES_FLAGS, false),
        code::LARGE_COMMUNITIES => (OPTIONAL_TRANSITIVE, &LARGE_COMMUNITIES_FLAGS, true),
        code::ONLY_TO_CUSTOMER => (OPTIONAL_TRANSITIVE, &ONLY_TO_CUSTOMER_FLAGS, false),
        code::PREFIX_SID => (OPTIONAL_TRANSITIVE, &PREFIX_SID_FLAGS, false),
        code::ATTR_SET => (OPTIONAL_TRANSITIVE, &ATTR_SET_FLAGS, false),
        _ => return None,
    };
    let external = match code {
        code::LOCAL_PREF => Some(&LOCAL_PREF_EXTERNAL),
        code::ORIGINATOR_ID => Some(&ORIGINATOR_ID_EXTERNAL),
        code::CLUSTER_LIST => Some(&CLUSTER_LIST_EXTERNAL),
        _ => None,
    };
    let four_octet = match code {
        code::AS4_PATH => Some(&AS4_PATH_WIDTH),
        code::AS4_AGGREGATOR => Some(&AS4_AGGREGATOR_WIDTH),
        _ => None,
    };
    Some(AttributeSpec { flags, wrong_flags, external, four_octet, used })
}

/// Table of [`spec`] by type code, so that the lookup is a load instead of a chain of branches.
static SPECS: [Option<AttributeSpec>; 129] = {
    let mut specs = [const { None }; 129];
    let (mut rest, mut code): (&mut [Option<AttributeSpec>], u8) = (&mut specs, 0);
    while let [first, others @ ..] = rest {
        *first = spec(code);
        (rest, code) = (others, code + 1);
    }
    specs
};

pub(super) fn spec_of(code: u8) -> Option<&'static AttributeSpec> {
    SPECS.get(usize::from(code))?.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_known_type() {
        for code in 0..=u8::MAX {
            assert_eq!(spec_of(code).is_some(), spec(code).is_some(), "{code}");
        }
    }

    #[test]
    fn every_rule_of_a_type_names_that_type() {
        for (code, spec) in (0..=u8::MAX).filter_map(|code| Some((code, spec_of(code)?))) {
            let rules = [Some(spec.wrong_flags), spec.external, spec.four_octet];
            assert!(rules.into_iter().flatten().all(|rule| rule.attribute == Some(code)), "{code}");
        }
    }
}
