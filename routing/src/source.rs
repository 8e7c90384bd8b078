//! Sources of paths and their numbers: local blocks, the static table, and sessions.

use std::sync::Arc;

use bgp::{Families, Family, PeerId};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::export_policies::ExportPolicyIx;
use crate::group_key::GroupKey;
use crate::path::{PeerSession, Source, SourceIx, SourceKind};
use crate::policy::PeerPolicy;
use crate::table::{RibPath, Scope};

/// Session that is Established, or some of whose paths still exist.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: PeerId,
    pub(crate) session: PeerSession,
    /// Number of received paths by family, including rejected ones.
    pub(crate) received: [usize; 2],
    /// Number of rejected paths among them.
    pub(crate) rejected: [usize; 2],
    /// Number of paths to blocks that the node table assigns to another node.
    pub(crate) disputed: usize,
    /// Policy of the peer.
    pub(crate) policy: Arc<PeerPolicy>,
    /// Number of its export policy.
    pub(crate) export: ExportPolicyIx,
    /// The warning about the prefix limit was reported.
    pub(crate) warned: bool,
    /// The peer exceeded its prefix limit; further routes are ignored.
    pub(crate) over_limit: bool,
    /// Families whose End-of-RIB marker was received.
    pub(crate) end_of_rib: Families,
    /// Families whose paths are being removed.
    pub(crate) leaving: Families,
    /// State of the paths that are kept after the end of the session.
    pub(crate) stale: Option<Staleness>,
    advertised: AdvertisedCounts,
}

/// State of stale paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Staleness {
    /// Stale families; the others are not affected.
    pub(crate) families: Families,
    /// The peer does not respond, so its paths rank below the static table.
    pub(crate) silent: bool,
    /// Families whose paths are long-lived stale (RFC 9494).
    pub(crate) llgr_stale: Families,
}

impl Member {
    /// Returns whether all its paths are being removed.
    pub(crate) fn is_gone(&self) -> bool {
        self.leaving == Families::BOTH
    }

    /// Returns the number of paths that are to be removed.
    pub(crate) fn left(&self) -> usize {
        self.leaving.iter().map(|family| self.received[family.index()]).sum()
    }

    /// Returns the key of its update group.
    pub(crate) fn key(&self) -> GroupKey {
        GroupKey::of(&self.session, self.export)
    }
}

/// Number of prefixes that are advertised with a path of a source, by family and scope.
type AdvertisedCounts = [[usize; Scope::ALL.len()]; 2];

/// All sources.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    slots: Vec<Option<Member>>,
    by_id: HashMap<PeerId, SourceIx, FixedState>,
    /// Sources of a peer with stale paths, the oldest first.
    retained: HashMap<PeerId, Vec<SourceIx>, FixedState>,
    /// Additional sources of sessions with path identifiers (RFC 7911).
    additional: HashMap<PeerId, Vec<SourceIx>, FixedState>,
    vacant: Vec<SourceIx>,
    /// Roles set for peers, which apply to their later sessions.
    roles: HashMap<PeerId, bool, FixedState>,
    /// Numbers of advertised prefixes by the kind of the source.
    advertised: [AdvertisedCounts; SourceKind::ALL.len()],
}

impl Sources {
    /// Adds a session. An earlier one of the same peer must have left.
    pub(crate) fn enter(
        &mut self,
        id: PeerId,
        mut session: PeerSession,
        policy: Arc<PeerPolicy>,
        export: ExportPolicyIx,
    ) -> SourceIx {
        if let Some(client) = self.roles.get(&id) {
            session.client = *client && session.internal;
        }
        let member = Member {
            id,
            session,
            received: [0, 0],
            rejected: [0; 2],
            disputed: 0,
            policy,
            export,
            warned: false,
            over_limit: false,
            end_of_rib: Families::NONE,
            leaving: Families::NONE,
            stale: None,
            advertised: AdvertisedCounts::default(),
        };
        let ix = match self.vacant.pop() {
            Some(ix) => ix,
            None => {
                self.slots.push(None);
                SourceIx(self.slots.len() as u32 - 1 + SourceIx::FIRST)
            }
        };
        self.slots[(ix.0 - SourceIx::FIRST) as usize] = Some(member);
        self.by_id.insert(id, ix);
        ix
    }

    /// Adds an additional source to a session (RFC 7911).
    pub(crate) fn add_session_source(&mut self, id: PeerId) -> Option<SourceIx> {
        let member = self.by_id(id)?;
        let (session, policy, export) = (member.session, Arc::clone(&member.policy), member.export);
        let first = self.find(id)?;
        let source_ix = self.enter(id, session, policy, export);
        self.by_id.insert(id, first);
        self.additional.entry(id).or_default().push(source_ix);
        Some(source_ix)
    }

    /// Returns the sources of a session: its own, then the additional ones.
    pub(crate) fn session_sources(&self, id: PeerId) -> impl Iterator<Item = SourceIx> + '_ {
        self.find(id).into_iter().chain(self.additional.get(&id).into_iter().flatten().copied())
    }

    /// Removes the additional sources of a session and returns them.
    pub(crate) fn take_additional_sources(&mut self, id: PeerId) -> Vec<SourceIx> {
        self.additional.remove(&id).unwrap_or_default()
    }

    /// Ends a session. Its number remains valid until [`Sources::forget`].
    pub(crate) fn leave(&mut self, id: PeerId) -> Option<SourceIx> {
        self.by_id.remove(&id)
    }

    /// Adds a source with stale paths to `id`.
    pub(crate) fn retain(&mut self, id: PeerId, ix: SourceIx) {
        self.retained.entry(id).or_default().push(ix);
    }

    /// Returns the sources of a peer with stale paths, the oldest first.
    pub(crate) fn retained(&self, id: PeerId) -> &[SourceIx] {
        self.retained.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Marks paths of some families of a source for removal; returns whether the source exists.
    pub(crate) fn drop_families(&mut self, ix: SourceIx, families: Families) -> bool {
        let Some(member) = self.member_mut(ix) else { return false };
        member.leaving = member.leaving.union(families);
        // A stale source without paths in the other families is not kept.
        let rest = Families::BOTH.without(member.leaving);
        if member.stale.is_some() && rest.iter().all(|family| member.received[family.index()] == 0) {
            member.leaving = Families::BOTH;
        }
        let (id, is_gone) = (member.id, member.is_gone());
        if is_gone && let Some(list) = self.retained.get_mut(&id) {
            list.retain(|other| *other != ix);
            if list.is_empty() {
                self.retained.remove(&id);
            }
        }
        true
    }

    /// Returns all sources of a peer: those of the session, if it is up, and those with stale
    /// paths.
    pub(crate) fn of(&self, id: PeerId) -> impl Iterator<Item = SourceIx> + '_ {
        self.session_sources(id).chain(self.retained(id).iter().copied())
    }

    /// Releases the number of a session that left, if none of its paths exists or is advertised.
    /// Returns whether it was released.
    pub(crate) fn forget(&mut self, ix: SourceIx) -> bool {
        let is_unused = self.member(ix).is_none_or(|member| {
            member.is_gone() && member.received == [0, 0] && member.advertised == AdvertisedCounts::default()
        });
        if is_unused {
            self.slots[(ix.0 - SourceIx::FIRST) as usize] = None;
            self.vacant.push(ix);
        }
        is_unused
    }

    /// Returns the number of sessions.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Returns the source of a session that is up.
    pub(crate) fn find(&self, id: PeerId) -> Option<SourceIx> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn member(&self, ix: SourceIx) -> Option<&Member> {
        self.slots.get(ix.0.checked_sub(SourceIx::FIRST)? as usize)?.as_ref()
    }

    pub(crate) fn member_mut(&mut self, ix: SourceIx) -> Option<&mut Member> {
        self.slots.get_mut(ix.0.checked_sub(SourceIx::FIRST)? as usize)?.as_mut()
    }

    /// Returns all sessions.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.slots.iter().flatten()
    }

    /// Returns whether paths of a source come from outside the cluster.
    pub(crate) fn is_outside(&self, ix: SourceIx) -> bool {
        self.member(ix).is_some_and(|member| member.policy.import.outside)
    }

    /// Returns the session of a peer, if it is up.
    pub(crate) fn by_id(&self, id: PeerId) -> Option<&Member> {
        self.member(self.find(id)?)
    }

    pub(crate) fn by_id_mut(&mut self, id: PeerId) -> Option<&mut Member> {
        self.member_mut(self.find(id)?)
    }

    /// Returns whether paths of a source in a family may be used.
    pub(crate) fn is_usable(&self, ix: SourceIx, family: Family) -> bool {
        ix.0 < SourceIx::FIRST || self.member(ix).is_some_and(|member| !member.leaving.contains(family))
    }

    /// Returns whether replacing a path by another makes no difference for peers: the attributes
    /// are equal, and both are from sessions of the same peer.
    pub(crate) fn are_advertised_alike(&self, before: RibPath, after: RibPath) -> bool {
        if before.attrs() != after.attrs() {
            return false;
        }
        let (before, after) = (self.member(before.source()), self.member(after.source()));
        before.zip(after).is_some_and(|(before, after)| {
            before.id == after.id && before.session.is_advertised_like(&after.session)
        })
    }

    pub(crate) fn source(&self, ix: SourceIx) -> Source {
        match (ix, self.member(ix)) {
            (_, Some(member)) => Source::Peer(member.id),
            (SourceIx::LOCAL, None) => Source::Local,
            (_, None) => Source::Static,
        }
    }

    pub(crate) fn kind(&self, ix: SourceIx) -> SourceKind {
        match (ix, self.member(ix)) {
            (_, Some(member)) => member.session.kind(),
            (SourceIx::LOCAL, None) => SourceKind::Local,
            (_, None) => SourceKind::Static,
        }
    }

    /// Counts `count` prefixes that are advertised with a path of a source.
    pub(crate) fn count_advertised(&mut self, ix: SourceIx, family: Family, scope: Scope, count: usize) {
        let kind = match self.member_mut(ix) {
            Some(member) => {
                member.advertised[family.index()][scope as usize] += count;
                member.session.kind()
            }
            None => self.kind(ix),
        };
        self.advertised[kind as usize][family.index()][scope as usize] += count;
    }

    /// Reverts [`Sources::count_advertised`].
    pub(crate) fn uncount_advertised(&mut self, ix: SourceIx, family: Family, scope: Scope, count: usize) {
        let kind = match self.member_mut(ix) {
            Some(member) => {
                member.advertised[family.index()][scope as usize] -= count;
                member.session.kind()
            }
            None => self.kind(ix),
        };
        self.advertised[kind as usize][family.index()][scope as usize] -= count;
    }

    /// Removes the role of a peer.
    pub(crate) fn forget_role(&mut self, id: PeerId) {
        self.roles.remove(&id);
    }

    /// Sets whether a peer is our client, for later sessions.
    pub(crate) fn set_role(&mut self, id: PeerId, client: bool) {
        self.roles.insert(id, client);
    }

    /// Sets whether the session of a source is with a client, and moves the counts of advertised
    /// prefixes.
    pub(crate) fn set_client(&mut self, ix: SourceIx, client: bool) {
        let Some(member) = self.member_mut(ix) else { return };
        let advertised = member.advertised;
        let before = member.session.kind() as usize;
        member.session.client = client;
        let after = member.session.kind() as usize;
        for (family, advertised) in advertised.into_iter().enumerate() {
            for (scope, advertised) in advertised.into_iter().enumerate() {
                self.advertised[before][family][scope] -= advertised;
                self.advertised[after][family][scope] += advertised;
            }
        }
    }

    /// Returns the number of prefixes that are advertised with paths of a kind and a scope.
    pub(crate) fn advertised_of_kind(&self, kind: SourceKind, family: Family, scope: Scope) -> usize {
        self.advertised[kind as usize][family.index()][scope as usize]
    }

    /// Returns the number of prefixes that are advertised with paths of one session.
    pub(crate) fn advertised_by(&self, member: &Member, family: Family, scope: Scope) -> usize {
        member.advertised[family.index()][scope as usize]
    }
}
