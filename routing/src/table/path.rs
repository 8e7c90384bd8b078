//! A path in eight octets.

use crate::decide::Reason;
use crate::interner::AttrId;
use crate::source::SourceIx;

/// Bits of a path's source that are the source; the rest says why the path is rejected.
const SOURCE_BITS: u32 = 24;

/// Which attributes, from whom, and whether they may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    attrs: AttrId,
    source: u32,
}

impl Path {
    /// No path.
    pub(crate) const NONE: Path = Path { attrs: AttrId::NONE, source: u32::MAX };

    pub(crate) fn new(attrs: AttrId, source: SourceIx, rejected: Option<Reason>) -> Path {
        let code = rejected.map_or(0, |reason| reason as u32 + 1);
        Path { attrs, source: source.0 | code << SOURCE_BITS }
    }

    pub(crate) fn is_none(self) -> bool {
        self == Path::NONE
    }

    pub(crate) fn attrs(self) -> AttrId {
        self.attrs
    }

    pub(crate) fn source(self) -> SourceIx {
        SourceIx(self.source & ((1 << SOURCE_BITS) - 1))
    }

    /// Why it takes no part in the decision, if it doesn't.
    pub(crate) fn rejected(self) -> Option<Reason> {
        let code = (self.source >> SOURCE_BITS) as usize;
        Reason::REJECTIONS.into_iter().find(|reason| *reason as usize + 1 == code)
    }

    /// The same, judged anew.
    pub(crate) fn judged(self, rejected: Option<Reason>) -> Path {
        Path::new(self.attrs, self.source(), rejected)
    }

    /// What brings paths together that can share a message.
    pub(crate) fn order(self) -> u64 {
        u64::from(self.attrs.0) << 32 | u64::from(self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rejection_is_read_back() {
        for reason in Reason::REJECTIONS.into_iter().map(Some).chain([None]) {
            let path = Path::new(AttrId(7), SourceIx(12), reason);
            assert_eq!((path.source(), path.rejected()), (SourceIx(12), reason));
        }
    }
}
