//! Batches of routes from one session to the RIB.

use std::sync::Arc;

use ipnet::IpNet;

use crate::attrs::AttrSet;

/// Announcements and withdrawals in order of arrival. The prefixes are in one list, so that none
/// needs an allocation of its own.
#[derive(Debug, Default)]
pub struct RouteBatch {
    prefixes: Vec<IpNet>,
    /// Path identifiers of the prefixes (RFC 7911), if the session has them.
    ids: Vec<u32>,
    /// Runs: attributes (`None`: withdrawn) and the end of their prefixes.
    runs: Vec<(Option<Arc<AttrSet>>, usize)>,
    attribute_octets: usize,
}

impl RouteBatch {
    /// Adds prefixes that are announced with `attrs`, or withdrawn if that is `None`.
    pub fn push(&mut self, attrs: Option<&Arc<AttrSet>>, prefixes: impl IntoIterator<Item = IpNet>) {
        self.prefixes.extend(prefixes);
        if !self.ids.is_empty() {
            self.ids.resize(self.prefixes.len(), 0);
        }
        self.end_run(attrs);
    }

    /// Adds prefixes with path identifiers (RFC 7911); see [`RouteBatch::push`].
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

    /// Returns the number of prefixes.
    pub fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Returns the approximate memory size in octets.
    pub fn octets(&self) -> usize {
        self.prefixes.len() * size_of::<IpNet>() + self.ids.len() * size_of::<u32>() + self.attribute_octets
    }

    /// Returns whether the batch has no routes.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// Returns the runs in order: attributes, prefixes, and their path identifiers, if there are
    /// any.
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
