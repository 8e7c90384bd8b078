//! Path representation in eight octets.

use crate::attrs::WellKnownCommunities;
use crate::decide::PathReason;
use crate::interner::AttrId;
use crate::path::SourceIx;

/// Number of bits for the source, the lowest ones.
const SOURCE_BITS: u32 = 24;
/// Number of bits for the reason of a rejection, above the source.
const CODE_BITS: u32 = 5;
/// Position of the scope, two bits above the reason.
const SCOPE_AT: u32 = SOURCE_BITS + CODE_BITS;
/// Flag: the node table assigns the prefix to another node.
const DISPUTED: u32 = 1 << 31;

/// Scope of advertisement of a path (RFC 1997).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All peers.
    #[default]
    Everywhere,
    /// Peers in the AS.
    Internal,
    /// Internal peers that support long-lived graceful restart (RFC 9494 §4.3).
    ///
    /// Deviation: external peers that support it could receive the path too, but a block whose
    /// owner is long gone is useless to them.
    LlgrStale,
    /// No peer.
    Nobody,
}

impl Scope {
    /// All scopes, in the order of their numbers.
    pub(crate) const ALL: [Scope; 4] = [Scope::Everywhere, Scope::Internal, Scope::LlgrStale, Scope::Nobody];

    /// Returns the scope that the communities of a received path request.
    pub(crate) fn of(well_known: WellKnownCommunities) -> Scope {
        match well_known {
            WellKnownCommunities { no_advertise: true, .. } => Scope::Nobody,
            WellKnownCommunities { llgr_stale: true, .. } => Scope::LlgrStale,
            WellKnownCommunities { no_export: true, .. } => Scope::Internal,
            _ => Scope::Everywhere,
        }
    }
}

/// Attributes and source of a path, and its import outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RibPath {
    attrs: AttrId,
    source: u32,
}

impl RibPath {
    /// No path.
    pub(crate) const NONE: RibPath = RibPath { attrs: AttrId::NONE, source: u32::MAX };

    pub(crate) fn new(attrs: AttrId, source: SourceIx, rejected: Option<PathReason>) -> RibPath {
        let code = rejected.map_or(0, |reason| reason as u32 + 1);
        RibPath { attrs, source: source.0 | code << SOURCE_BITS }
    }

    pub(crate) fn is_none(self) -> bool {
        self == RibPath::NONE
    }

    pub(crate) fn attrs(self) -> AttrId {
        self.attrs
    }

    pub(crate) fn source(self) -> SourceIx {
        SourceIx(self.source & ((1 << SOURCE_BITS) - 1))
    }

    /// Returns whether the path is excluded from the decision process.
    pub(crate) fn is_rejected(self) -> bool {
        self.source >> SOURCE_BITS & ((1 << CODE_BITS) - 1) != 0
    }

    /// Returns the reason why the path is excluded, if it is.
    pub(crate) fn rejected(self) -> Option<PathReason> {
        let code = (self.source >> SOURCE_BITS) as usize & ((1 << CODE_BITS) - 1);
        // The usual case, checked for every prefix.
        if code == 0 {
            return None;
        }
        PathReason::REJECTIONS.into_iter().find(|reason| *reason as usize + 1 == code)
    }

    /// Returns the path with this scope.
    pub(crate) fn scoped(self, scope: Scope) -> RibPath {
        RibPath { source: self.source & !(3 << SCOPE_AT) | (scope as u32) << SCOPE_AT, ..self }
    }

    /// Returns the scope.
    pub(crate) fn scope(self) -> Scope {
        match self.source >> SCOPE_AT & 3 {
            0 => Scope::Everywhere,
            1 => Scope::Internal,
            2 => Scope::LlgrStale,
            _ => Scope::Nobody,
        }
    }

    /// Returns the path, marked as disputed by the node table.
    pub(crate) fn disputed(self) -> RibPath {
        RibPath { source: self.source | DISPUTED, ..self }
    }

    /// Returns whether the node table assigns the prefix to another node.
    pub(crate) fn is_disputed(self) -> bool {
        self.source & DISPUTED != 0 && self.source != u32::MAX
    }

    /// Returns a key that sorts paths which can share a message next to each other.
    pub(crate) fn order(self) -> u64 {
        u64::from(self.attrs.0) << 32 | u64::from(self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rejection_is_read_back() {
        for reason in PathReason::REJECTIONS.into_iter().map(Some).chain([None]) {
            let path = RibPath::new(AttrId(7), SourceIx(12), reason);
            assert_eq!((path.source(), path.rejected()), (SourceIx(12), reason));
            for scope in Scope::ALL {
                let path = path.scoped(Scope::Nobody).scoped(scope).disputed();
                assert_eq!((path.source(), path.rejected()), (SourceIx(12), reason));
                assert_eq!((path.scope(), path.is_disputed()), (scope, true));
            }
            assert!(!path.is_disputed());
            assert_eq!(path.is_rejected(), reason.is_some());
        }
        let last = PathReason::REJECTIONS.map(|reason| reason as u32 + 1).into_iter().max();
        assert!(last.is_some_and(|last| last < 1 << CODE_BITS), "every reason fits its bits");
    }
}
