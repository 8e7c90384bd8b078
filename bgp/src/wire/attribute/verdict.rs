//! What an error in an attribute costs (RFC 7606), as data.

use super::list::{OPTIONAL_TRANSITIVE, code, flag};
use crate::wire::error::ErrorCode;

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
pub(super) struct Spec {
    pub(super) flags: u8,
    pub(super) wrong_flags: Verdict,
    pub(super) malformed: Verdict,
}

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

pub(super) fn spec_of(code: u8) -> Option<&'static Spec> {
    SPECS.get(usize::from(code))?.as_ref()
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
