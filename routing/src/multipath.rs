//! Selection of the best path, and multipath (ECMP): paths that lose only in tie-breaking steps
//! share the traffic in forwarding, while only the best one is advertised.

use std::net::IpAddr;

use bgp::Family;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::decide::{PathCandidate, PathReason, Rank, select};
use crate::interner::AttrInterner;
use crate::path::SourceIx;
use crate::path::SourceKind;
use crate::source::Sources;
use crate::table::{RibPath, Table};

/// Tunnel exits of prefixes with several of them, by place. The exits include that of the best path
/// and are sorted by address. Prefixes with a single exit have no entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct MultipathExits {
    of: HashMap<u32, Box<[IpAddr]>, FixedState>,
}

impl MultipathExits {
    /// Returns the exits of a prefix, if it has several.
    pub(crate) fn of(&self, ix: u32) -> &[IpAddr] {
        self.of.get(&ix).map_or(&[], |legs| legs)
    }

    /// Sets the exits of a prefix; fewer than two remove the entry. Returns whether they have
    /// changed.
    pub(crate) fn set(&mut self, ix: u32, exits: &[IpAddr]) -> bool {
        if exits.len() < 2 {
            let removed = self.of.remove(&ix).is_some();
            if self.of.is_empty() {
                self.of = HashMap::default();
            }
            return removed;
        }
        if self.of(ix) == exits {
            return false;
        }
        self.of.insert(ix, exits.into());
        true
    }

    /// Returns the number of prefixes with several exits.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.of.len()
    }
}

/// Buffers for the paths of a prefix; their memory is reused.
#[derive(Default)]
pub(crate) struct SelectScratch<'a> {
    paths: Vec<RibPath>,
    candidates: Vec<PathCandidate<'a>>,
    field: Vec<usize>,
    tied: Vec<usize>,
    /// Exits of the prefix after [`select_best`], if there are several.
    pub(crate) exits: Vec<IpAddr>,
}

/// Returns the best path of a prefix with at most one path, or [`RibPath::NONE`]; `None` if there
/// are several paths.
#[inline]
pub(crate) fn single_path(table: &Table, sources: &Sources, ix: u32) -> Option<RibPath> {
    let single_path = table.single_path(ix)?;
    let usable = !single_path.is_none()
        && !single_path.is_rejected()
        && sources.is_usable(single_path.source(), table.family(ix));
    Some(if usable { single_path } else { RibPath::NONE })
}

/// Returns the best path of a prefix, or [`RibPath::NONE`]; `limit` is the maximum number of exits.
pub(crate) fn select_best<'a>(
    table: &Table,
    interner: &'a AttrInterner,
    sources: &Sources,
    ix: u32,
    limit: usize,
    scratch: &mut SelectScratch<'a>,
) -> RibPath {
    let SelectScratch { paths, candidates, field, tied, exits } = scratch;
    paths.clear();
    candidates.clear();
    tied.clear();
    exits.clear();
    let family = table.family(ix);
    for path in table.paths(ix) {
        if let Some(candidate) = candidate(sources, interner, path, family) {
            paths.push(path);
            candidates.push(candidate);
        }
    }
    let best = select(candidates, field, |lost, reason| {
        if limit > 1 && reason.breaks_ties() {
            tied.push(lost);
        }
    });
    let Some(at) = best else { return RibPath::NONE };
    let best = paths[at];
    // Long-lived stale, static, blackhole and disputed paths do not take part in multipath.
    let shares = |path: RibPath| !path.is_disputed() && !interner.set(path.attrs()).well_known.blackhole;
    if !tied.is_empty() && candidates[at].rank == Rank::Bgp && shares(best) {
        let first = exit_of(sources, interner, best);
        let others = tied.iter().map(|at| paths[*at]).filter(|path| shares(*path));
        exits.extend(others.map(|path| exit_of(sources, interner, path)).filter(|exit| *exit != first));
        exits.sort_unstable();
        exits.dedup();
        exits.truncate(limit - 1);
        let place = exits.partition_point(|exit| *exit < first);
        exits.insert(place, first);
    }
    best
}

impl PathReason {
    /// Returns whether the reason is a tie-breaker between equally good paths.
    pub fn breaks_ties(self) -> bool {
        matches!(
            self,
            PathReason::RouterId
                | PathReason::ClusterListLength
                | PathReason::PeerAddress
                | PathReason::FurtherPath
        )
    }
}

/// Returns the tunnel exit of a path: the egress endpoint in its attributes, if its sender is in
/// our AS, where tunnels end (RFC 9012 §11); otherwise the next hop.
pub(crate) fn exit_of(sources: &Sources, interner: &AttrInterner, path: RibPath) -> IpAddr {
    let attrs = interner.set(path.attrs());
    match sources.kind(path.source()) {
        SourceKind::Ebgp | SourceKind::Static => attrs.next_hop,
        SourceKind::Local | SourceKind::Ibgp | SourceKind::Client => attrs.egress.unwrap_or(attrs.next_hop),
    }
}

/// Returns a path as the input of the decision process; `None` if it is excluded.
pub(crate) fn candidate<'a>(
    sources: &Sources,
    interner: &'a AttrInterner,
    path: RibPath,
    family: Family,
) -> Option<PathCandidate<'a>> {
    if path.is_rejected() {
        return None;
    }
    let attrs = interner.set(path.attrs());
    match path.source() {
        SourceIx::LOCAL => Some(PathCandidate::unpeered(Rank::Local, attrs)),
        SourceIx::STATIC => Some(PathCandidate::unpeered(Rank::Static, attrs)),
        source => sources.member(source).filter(|member| !member.leaving.contains(family)).map(|member| {
            PathCandidate {
                rank: member.rank(attrs),
                attrs,
                external: !member.session.internal,
                router_id: member.session.router_id,
                address: member.session.address,
                source: source.0,
            }
        }),
    }
}
