//! Expected multipath exits of a prefix, derived from its paths alone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;

use super::Bed;
use crate::decide::{PathCandidate, Rank};
use crate::multipath::{candidate, exit_of};
use crate::table::RibPath;

/// Key of the steps before the tie-breakers; the lowest wins.
fn merit(candidate: &PathCandidate<'_>) -> (u32, u32, u8, bool) {
    let attrs = candidate.attrs;
    (u32::MAX - attrs.local_pref, attrs.hops, attrs.origin.code(), !candidate.external)
}

impl Bed {
    /// Returns the exits of all paths that are as good as the best one.
    fn equals(&self, ix: u32) -> BTreeSet<IpAddr> {
        let rib = &self.rib;
        let family = rib.table.family(ix);
        let of = |path| Some((path, candidate(&rib.sources, &rib.interner, path, family)?));
        let all: Vec<(RibPath, PathCandidate<'_>)> = rib.table.paths(ix).filter_map(of).collect();
        let top = all.iter().map(|(_, candidate)| candidate.rank).max();
        let top: Vec<_> = all.into_iter().filter(|(_, c)| Some(c.rank) == top).collect();
        // MED is compared among the remaining paths of one neighbor AS.
        let before = |c: &PathCandidate<'_>| (merit(c).0, merit(c).1, merit(c).2);
        let first = top.iter().map(|(_, candidate)| before(candidate)).min();
        let top: Vec<_> = top.into_iter().filter(|(_, c)| Some(before(c)) == first).collect();
        let beaten = |one: &PathCandidate<'_>| {
            top.iter().any(|(_, other)| {
                other.attrs.neighbor_as == one.attrs.neighbor_as && other.attrs.med < one.attrs.med
            })
        };
        let top: Vec<_> = top.iter().filter(|(_, candidate)| !beaten(candidate)).collect();
        let external = top.iter().any(|(_, candidate)| candidate.external);
        top.into_iter()
            .filter(|(_, candidate)| candidate.external == external && candidate.rank == Rank::Bgp)
            .filter(|(path, _)| !path.is_disputed())
            .map(|(path, _)| exit_of(&rib.sources, &rib.interner, *path))
            .collect()
    }

    /// Checks the reported exits against the paths.
    pub(super) fn exits_match_the_paths(&self) -> Result<(), TestCaseError> {
        for (prefix, best) in &self.best {
            let Some(ix) = self.rib.table.find(prefix) else { continue };
            let mut equals = self.equals(ix);
            if self.rib.table.advertised(ix).is_disputed() {
                equals.clear();
            }
            let limit = self.rib.config.multipath.max(1);
            prop_assert!(equals.is_empty() || equals.remove(&best.exit));
            let others: Vec<IpAddr> = equals.into_iter().take(limit - 1).collect();
            prop_assert_eq!(&*self.others[prefix], &others[..], "{} of {}", prefix, best.exit);
        }
        Ok(())
    }
}
