//! The path to use of a prefix, and where packets go where several are as good (ECMP): paths that differ only in what
//! breaks ties have the same say in forwarding, while peers are told of one.

use std::net::IpAddr;

use bgp::Family;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::decide::{PathCandidate, Rank, Reason, select};
use crate::interner::AttrInterner;
use crate::path::SourceIx;
use crate::path::SourceKind;
use crate::source::Sources;
use crate::table::{RibPath, Table};

/// Prefixes whose packets are shared among several exits, by place: all of the exits, the best path's too, in the
/// order of their addresses. Most prefixes have one, and cost nothing here.
#[derive(Clone, Debug, Default)]
pub(crate) struct MultipathExits {
    of: HashMap<u32, Box<[IpAddr]>, FixedState>,
}

impl MultipathExits {
    /// The exits of a prefix that has several, else none.
    pub(crate) fn of(&self, ix: u32) -> &[IpAddr] {
        self.of.get(&ix).map_or(&[], |legs| legs)
    }

    /// Takes the exits of a prefix; one is as good as none. Whether they were others before.
    pub(crate) fn set(&mut self, ix: u32, exits: &[IpAddr]) -> bool {
        if exits.len() < 2 {
            let gone = self.of.remove(&ix).is_some();
            if self.of.is_empty() {
                self.of = HashMap::default();
            }
            return gone;
        }
        if self.of(ix) == exits {
            return false;
        }
        self.of.insert(ix, exits.into());
        true
    }

    /// How many prefixes have several.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.of.len()
    }
}

/// Room for the paths of a prefix, used again.
#[derive(Default)]
pub(crate) struct SelectScratch<'a> {
    paths: Vec<RibPath>,
    candidates: Vec<PathCandidate<'a>>,
    field: Vec<usize>,
    tied: Vec<usize>,
    /// After [`select_best`]: the exits that share the prefix's packets, if they are several.
    pub(crate) exits: Vec<IpAddr>,
}

/// The path to use of a prefix that has no more than one, or [`RibPath::NONE`].
#[inline]
pub(crate) fn single_path(table: &Table, sources: &Sources, ix: u32) -> Option<RibPath> {
    let single_path = table.single_path(ix)?;
    let usable = !single_path.is_none()
        && !single_path.is_rejected()
        && sources.is_usable(single_path.source(), table.family(ix));
    Some(if usable { single_path } else { RibPath::NONE })
}

/// The path to use of a prefix that may have several, or [`RibPath::NONE`]; `limit`: so many exits may share the packets.
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
    // What is kept for want of better, what is to be discarded, and what may be a mistake is shared with nobody.
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

impl Reason {
    /// Whether the other path was no better, only another.
    pub fn breaks_ties(self) -> bool {
        matches!(
            self,
            Reason::RouterId | Reason::ClusterListLength | Reason::PeerAddress | Reason::FurtherPath
        )
    }
}

/// Where packets are to leave the tunnel: where the path says so, if whoever sent it is in our AS, which
/// is where tunnels end (RFC 9012 §11), else at the next hop.
pub(crate) fn exit_of(sources: &Sources, interner: &AttrInterner, path: RibPath) -> IpAddr {
    let attrs = interner.set(path.attrs());
    match sources.kind(path.source()) {
        SourceKind::Ebgp | SourceKind::Static => attrs.next_hop,
        SourceKind::Local | SourceKind::Ibgp | SourceKind::Client => attrs.egress.unwrap_or(attrs.next_hop),
    }
}

/// A path as the decision sees it; `None` for one that takes no part.
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
