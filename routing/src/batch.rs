//! Routes of one session, gathered to be handed over together.

use std::sync::Arc;

use ipnet::IpNet;

use crate::attrs::AttrSet;

/// Announcements and withdrawals in the order they came; prefixes lie in one list, so that none
/// needs an allocation of its own.
#[derive(Debug, Default)]
pub struct RouteBatch {
    prefixes: Vec<IpNet>,
    /// Their path identifiers (RFC 7911), where the session has them.
    ids: Vec<u32>,
    /// Attributes (`None`: withdrawn) of the prefixes up to an end.
    runs: Vec<(Option<Arc<AttrSet>>, usize)>,
    attribute_octets: usize,
}

impl RouteBatch {
    /// Adds prefixes that are announced with `attrs`, or withdrawn.
    pub fn push(&mut self, attrs: Option<&Arc<AttrSet>>, prefixes: impl IntoIterator<Item = IpNet>) {
        self.prefixes.extend(prefixes);
        if !self.ids.is_empty() {
            self.ids.resize(self.prefixes.len(), 0);
        }
        self.end_run(attrs);
    }

    /// The same with path identifiers (RFC 7911).
    pub fn push_paths(
        &mut self,
        attrs: Option<&Arc<AttrSet>>,
        paths: impl IntoIterator<Item = (u32, IpNet)>,
    ) {
        self.ids.resize(self.prefixes.len(), 0);
        for (id, prefix) in paths {
            self.ids.push(id);
            self.prefixes.push(prefix);
        }
        self.end_run(attrs);
    }

    fn end_run(&mut self, attrs: Option<&Arc<AttrSet>>) {
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
        self.prefixes.len() * size_of::<IpNet>() + self.ids.len() * size_of::<u32>() + self.attribute_octets
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// The runs, in order: attributes, prefixes, and as many path identifiers or none.
    pub fn runs(&self) -> impl Iterator<Item = (Option<&Arc<AttrSet>>, &[IpNet], &[u32])> {
        let mut start = 0;
        self.runs.iter().map(move |(attrs, end)| {
            let prefixes = &self.prefixes[start..*end];
            let ids = if self.ids.is_empty() { &[] } else { &self.ids[start..*end] };
            start = *end;
            (attrs.as_ref(), prefixes, ids)
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
