//! Where paths come from, by number: this node, the static table, and the sessions.

use std::sync::Arc;

use bgp::{Families, Family, PeerId};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::export_policies::ExportPolicyIx;
use crate::group_key::GroupKey;
use crate::path::{PeerSession, Source, SourceIx, SourceKind};
use crate::policy::PeerPolicy;
use crate::table::{RibPath, Scope};

/// A session that is Established, or whose paths are not all gone yet.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: PeerId,
    pub(crate) session: PeerSession,
    /// Paths it has sent, rejected ones too, by family.
    pub(crate) received: [usize; 2],
    /// Those of them that are rejected.
    pub(crate) rejected: [usize; 2],
    /// Paths to blocks that the node table gives to another node.
    pub(crate) disputed: usize,
    /// What is configured for it.
    pub(crate) policy: Arc<PeerPolicy>,
    /// The number of its export policy.
    pub(crate) export: ExportPolicyIx,
    /// It has sent nearly as many prefixes as it may, and that was said.
    pub(crate) warned: bool,
    /// It has sent more than it may: nothing more is taken from it.
    pub(crate) over_limit: bool,
    /// Families whose End-of-RIB marker it has sent.
    pub(crate) end_of_rib: Families,
    /// Families whose paths count no more.
    pub(crate) leaving: Families,
    /// Its paths are kept although the peer does not speak for them now.
    pub(crate) stale: Option<Staleness>,
    advertised: AdvertisedCounts,
}

/// How the paths of a session that ended count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Staleness {
    /// The families that are; others count as before.
    pub(crate) families: Families,
    /// Nothing is heard of the peer: that it forwards is less sure than that the static table is right.
    pub(crate) silent: bool,
    /// Families in which they are a last resort (RFC 9494).
    pub(crate) llgr_stale: Families,
}

impl Member {
    /// Whether nothing of it counts any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.leaving == Families::BOTH
    }

    /// Paths of families that count no more.
    pub(crate) fn left(&self) -> usize {
        self.leaving.iter().map(|family| self.received[family.index()]).sum()
    }

    /// The update group it belongs to.
    pub(crate) fn key(&self) -> GroupKey {
        GroupKey::of(&self.session, self.export)
    }
}

/// How many prefixes were told with a path of a source, for each family and how far the path may go.
type AdvertisedCounts = [[usize; Scope::ALL.len()]; 2];

/// The sources.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    slots: Vec<Option<Member>>,
    by_id: HashMap<PeerId, SourceIx, FixedState>,
    /// Sources of a peer whose paths are kept as stale, the oldest first.
    retained: HashMap<PeerId, Vec<SourceIx>, FixedState>,
    /// Further sources of sessions that send several paths to a prefix.
    additional: HashMap<PeerId, Vec<SourceIx>, FixedState>,
    vacant: Vec<SourceIx>,
    /// Roles that peers were given while they had one; their next sessions have them too.
    roles: HashMap<PeerId, bool, FixedState>,
    /// By the kind of the source.
    advertised: [AdvertisedCounts; SourceKind::ALL.len()],
}

impl Sources {
    /// A new session; another one of the same peer must have left.
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

    /// A further source of a session (RFC 7911).
    pub(crate) fn add_session_source(&mut self, id: PeerId) -> Option<SourceIx> {
        let member = self.by_id(id)?;
        let (session, policy, export) = (member.session, Arc::clone(&member.policy), member.export);
        let first = self.find(id)?;
        let source_ix = self.enter(id, session, policy, export);
        self.by_id.insert(id, first);
        self.additional.entry(id).or_default().push(source_ix);
        Some(source_ix)
    }

    /// The sources of a session: its own, then the further ones.
    pub(crate) fn session_sources(&self, id: PeerId) -> impl Iterator<Item = SourceIx> + '_ {
        self.find(id).into_iter().chain(self.additional.get(&id).into_iter().flatten().copied())
    }

    /// The further sources of a session are no longer its.
    pub(crate) fn take_additional_sources(&mut self, id: PeerId) -> Vec<SourceIx> {
        self.additional.remove(&id).unwrap_or_default()
    }

    /// A session ended; its number lasts until [`Sources::forget`].
    pub(crate) fn leave(&mut self, id: PeerId) -> Option<SourceIx> {
        self.by_id.remove(&id)
    }

    /// Notes that the paths of a source of `id` are stale.
    pub(crate) fn retain(&mut self, id: PeerId, ix: SourceIx) {
        self.retained.entry(id).or_default().push(ix);
    }

    /// The sources of a peer whose paths are stale, the oldest first.
    pub(crate) fn retained(&self, id: PeerId) -> &[SourceIx] {
        self.retained.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Paths of some families of a source count no more; whether there are any to be taken out.
    pub(crate) fn drop_families(&mut self, ix: SourceIx, families: Families) -> bool {
        let Some(member) = self.member_mut(ix) else { return false };
        member.leaving = member.leaving.union(families);
        // Nothing is kept at an empty place.
        let rest = Families::BOTH.without(member.leaving);
        if member.stale.is_some() && rest.iter().all(|family| member.received[family.index()] == 0) {
            member.leaving = Families::BOTH;
        }
        let (id, gone) = (member.id, member.is_gone());
        if gone && let Some(list) = self.retained.get_mut(&id) {
            list.retain(|other| *other != ix);
            if list.is_empty() {
                self.retained.remove(&id);
            }
        }
        true
    }

    /// All sources of a peer: the session's, if it lasts, and those whose paths are stale.
    pub(crate) fn of(&self, id: PeerId) -> impl Iterator<Item = SourceIx> + '_ {
        self.session_sources(id).chain(self.retained(id).iter().copied())
    }

    /// Gives up the number of a session that left, once no path is from it and none was told;
    /// whether that is so.
    pub(crate) fn forget(&mut self, ix: SourceIx) -> bool {
        let gone = self.member(ix).is_none_or(|member| {
            member.is_gone() && member.received == [0, 0] && member.advertised == AdvertisedCounts::default()
        });
        if gone {
            self.slots[(ix.0 - SourceIx::FIRST) as usize] = None;
            self.vacant.push(ix);
        }
        gone
    }

    /// How many sessions have a number.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// The number of a session that lasts.
    pub(crate) fn find(&self, id: PeerId) -> Option<SourceIx> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn member(&self, ix: SourceIx) -> Option<&Member> {
        self.slots.get(ix.0.checked_sub(SourceIx::FIRST)? as usize)?.as_ref()
    }

    pub(crate) fn member_mut(&mut self, ix: SourceIx) -> Option<&mut Member> {
        self.slots.get_mut(ix.0.checked_sub(SourceIx::FIRST)? as usize)?.as_mut()
    }

    /// The sessions that have a number.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.slots.iter().flatten()
    }

    /// Whether paths from it come from outside the cluster.
    pub(crate) fn is_outside(&self, ix: SourceIx) -> bool {
        self.member(ix).is_some_and(|member| member.policy.import.outside)
    }

    /// The session of a peer, while it lasts.
    pub(crate) fn by_id(&self, id: PeerId) -> Option<&Member> {
        self.member(self.find(id)?)
    }

    pub(crate) fn by_id_mut(&mut self, id: PeerId) -> Option<&mut Member> {
        self.member_mut(self.find(id)?)
    }

    /// Whether paths of a family from it may be used at all.
    pub(crate) fn is_usable(&self, ix: SourceIx, family: Family) -> bool {
        ix.0 < SourceIx::FIRST || self.member(ix).is_some_and(|member| !member.leaving.contains(family))
    }

    /// Whether a path in place of another makes no difference to anybody: the same attributes, of another
    /// session of the same peer.
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

    /// Notes that so many prefixes are told with a path of a source.
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

    /// Notes that they no longer are.
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

    /// Forgets the role that a peer was given.
    pub(crate) fn forget_role(&mut self, id: PeerId) {
        self.roles.remove(&id);
    }

    /// Notes whether a peer is our client, for sessions to come.
    pub(crate) fn set_role(&mut self, id: PeerId, client: bool) {
        self.roles.insert(id, client);
    }

    /// Sets whether a peer is our client; what was told moves with it.
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

    /// How many prefixes were told with a path of a source of this kind that may go so far.
    pub(crate) fn advertised_of_kind(&self, kind: SourceKind, family: Family, scope: Scope) -> usize {
        self.advertised[kind as usize][family.index()][scope as usize]
    }

    /// How many were told with a path of this session.
    pub(crate) fn advertised_by(&self, member: &Member, family: Family, scope: Scope) -> usize {
        member.advertised[family.index()][scope as usize]
    }
}
