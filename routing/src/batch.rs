//! Routes of one session, gathered to be handed over together.

use std::sync::Arc;

use ipnet::IpNet;

use crate::attrs::AttrSet;

/// Announcements and withdrawals in the order they came; prefixes lie in one list, so that none
/// needs an allocation of its own.
#[derive(Debug, Default)]
pub struct RouteBatch {
    prefixes: Vec<IpNet>,
    /// Attributes (`None`: withdrawn) of the prefixes up to an end.
    runs: Vec<(Option<Arc<AttrSet>>, usize)>,
    attribute_octets: usize,
}

impl RouteBatch {
    /// Adds prefixes that are announced with `attrs`, or withdrawn.
    pub fn push(&mut self, attrs: Option<&Arc<AttrSet>>, prefixes: impl IntoIterator<Item = IpNet>) {
        self.prefixes.extend(prefixes);
        let end = self.prefixes.len();
        match self.runs.last_mut() {
            Some((last, last_end)) if same(last.as_ref(), attrs) => *last_end = end,
            _ => {
                self.attribute_octets += attrs.map_or(0, |attrs| attrs.canonical().len());
                self.runs.push((attrs.cloned(), end));
            }
        }
    }

    /// How many prefixes are in it.
    pub fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// About how many octets of memory it takes.
    pub fn octets(&self) -> usize {
        self.prefixes.len() * size_of::<IpNet>() + self.attribute_octets
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// The runs, in order.
    pub fn runs(&self) -> impl Iterator<Item = (Option<&Arc<AttrSet>>, &[IpNet])> {
        let mut start = 0;
        self.runs.iter().map(move |(attrs, end)| {
            let prefixes = &self.prefixes[start..*end];
            start = *end;
            (attrs.as_ref(), prefixes)
        })
    }
}

fn same(a: Option<&Arc<AttrSet>>, b: Option<&Arc<AttrSet>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}
