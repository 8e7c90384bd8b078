//! Record of errors in a session's UPDATEs (RFC 7606 §8: errors are to be visible to operators).

use std::time::SystemTime;

use crate::wire::WireError;
use crate::wire::attribute::UpdateVerdict;
use crate::wire::error::ErrorCode;
use crate::wire::update::UpdateMessage;

/// Octets of an attribute that are kept.
const KEPT: usize = 64;

/// Error counters since the peer was configured, and the last error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateErrors {
    /// Number of UPDATEs with an error.
    pub count: u64,
    /// Number of UPDATEs whose routes were withdrawn.
    pub treated_as_withdraw: u64,
    /// Number of UPDATEs whose routes were accepted without the attribute.
    pub discarded: u64,
    /// Last error.
    pub last: Option<UpdateError>,
}

/// Error in one UPDATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateError {
    /// Time at which it was received.
    pub at: SystemTime,
    /// Type code of the attribute; `None`: the error is in the message.
    pub attribute: Option<u8>,
    /// Rule that was violated.
    pub rule: &'static str,
    /// Consequence.
    pub verdict: UpdateVerdict,
    /// Attribute as received, or the unreadable part of the message; the first 64 octets.
    pub octets: Vec<u8>,
}

impl UpdateErrors {
    /// Records the fault of an UPDATE that does not end the session. Returns whether the error is
    /// of another kind than the last one.
    pub(super) fn note(&mut self, update: &UpdateMessage<'_>, at: SystemTime) -> bool {
        let Some(fault) = update.fault else { return false };
        match fault.verdict {
            UpdateVerdict::Discard => self.discarded += 1,
            UpdateVerdict::TreatAsWithdraw => self.treated_as_withdraw += 1,
            UpdateVerdict::Ok | UpdateVerdict::SessionReset => {}
        }
        let octets = update.offending().iter().take(KEPT).copied().collect();
        let error =
            UpdateError { at, attribute: fault.attribute, rule: fault.rule, verdict: fault.verdict, octets };
        self.push(error)
    }

    /// Records an error that ends the session, if it is an error in an UPDATE.
    pub(super) fn note_reset(&mut self, error: &WireError, at: SystemTime) {
        if error.code.code == ErrorCode::MALFORMED_ATTRIBUTE_LIST.code {
            self.push(UpdateError {
                at,
                attribute: error.attribute,
                rule: error.rule,
                verdict: UpdateVerdict::SessionReset,
                octets: error.data.clone(),
            });
        }
    }

    fn push(&mut self, error: UpdateError) -> bool {
        self.count += 1;
        let known = self.last.as_ref();
        let new = known.is_none_or(|last| (last.attribute, last.rule) != (error.attribute, error.rule));
        self.last = Some(error);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::attribute::{Context, code, flag, push};
    use crate::wire::update::UpdateView;

    #[test]
    fn errors_are_counted_by_verdict_and_kept_with_their_octets() {
        let context = Context::INTERNAL;
        let mut errors = UpdateErrors::default();
        let mut note = |flags, code, value: &[u8]| {
            let mut attributes = Vec::new();
            push(&mut attributes, flag::WELL_KNOWN, code::ORIGIN, |out| out.push(0));
            push(&mut attributes, flag::WELL_KNOWN, code::AS_PATH, |_| {});
            push(&mut attributes, flag::WELL_KNOWN, code::NEXT_HOP, |out| out.extend([10, 0, 0, 1]));
            push(&mut attributes, flags, code, |out| out.extend(value));
            let view = UpdateView { withdrawn: &[], attributes: &attributes, nlri: &[8, 10] };
            let update = view.read(&context).unwrap();
            (errors.note(&update, SystemTime::UNIX_EPOCH), errors.clone())
        };
        assert!(!note(0x80, code::MULTI_EXIT_DISC, &[0; 4]).0, "nothing is wrong");
        assert!(note(0x40, code::ATOMIC_AGGREGATE, &[1]).0, "the first of its kind");
        assert!(!note(0x40, code::ATOMIC_AGGREGATE, &[2]).0, "the second of its kind");
        let (new, errors) = note(0xc0, code::COMMUNITIES, &[9; 99]);
        assert!(new);
        assert_eq!((errors.count, errors.treated_as_withdraw, errors.discarded), (3, 1, 2));
        let last = errors.last.unwrap();
        assert_eq!((last.attribute, last.octets.len()), (Some(8), 64));
        assert_eq!(last.octets[..4], [0xc0, 8, 99, 9]);
    }
}
