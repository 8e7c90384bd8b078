//! Where paths come from, by number: this node, the static table, and the sessions.

use std::sync::Arc;

use bgp::{Families, Family, PeerId};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::exports::ExportIx;
use crate::group::GroupKey;
use crate::path::{PeerSession, Source, SourceKind};
use crate::policy::PeerPolicy;
use crate::table::Scope;

/// The number of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SourceIx(pub(crate) u32);

impl SourceIx {
    /// This node.
    pub(crate) const LOCAL: SourceIx = SourceIx(0);
    /// The static peer table.
    pub(crate) const STATIC: SourceIx = SourceIx(1);
    /// Of the first session.
    const FIRST: u32 = 2;
}

/// A session that is Established, or whose paths are not all gone yet.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: PeerId,
    pub(crate) session: PeerSession,
    /// Paths it has sent, rejected ones too.
    pub(crate) received: usize,
    /// Paths that may be used.
    pub(crate) accepted: usize,
    /// Paths to blocks that the node table gives to another node.
    pub(crate) disputed: usize,
    /// What is configured for it.
    pub(crate) policy: Arc<PeerPolicy>,
    /// The number of its export policy.
    pub(crate) export: ExportIx,
    /// It has sent nearly as many prefixes as it may, and that was said.
    pub(crate) warned: bool,
    /// It has sent more than it may: nothing more is taken from it.
    pub(crate) over_limit: bool,
    /// Families whose End-of-RIB marker it has sent.
    pub(crate) end_of_rib: Families,
    /// Its session ended: its paths count no more.
    pub(crate) leaving: bool,
    told: Told,
}

impl Member {
    /// The update group it belongs to.
    pub(crate) fn key(&self) -> GroupKey {
        GroupKey::of(&self.session, self.export)
    }
}

/// How many prefixes were told with a path of a source, for each family and how far the path may go.
type Told = [[usize; 3]; 2];

fn of(family: Family) -> usize {
    match family {
        Family::Ipv4Unicast => 0,
        Family::Ipv6Unicast => 1,
    }
}

/// The sources.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    slots: Vec<Option<Member>>,
    by_id: HashMap<PeerId, SourceIx, FixedState>,
    vacant: Vec<SourceIx>,
    /// By the kind of the source.
    told: [Told; SourceKind::ALL.len()],
}

impl Sources {
    /// A new session; another one of the same peer must have left.
    pub(crate) fn enter(
        &mut self,
        id: PeerId,
        session: PeerSession,
        policy: Arc<PeerPolicy>,
        export: ExportIx,
    ) -> SourceIx {
        let member = Member {
            id,
            session,
            received: 0,
            accepted: 0,
            disputed: 0,
            policy,
            export,
            warned: false,
            over_limit: false,
            end_of_rib: Families::NONE,
            leaving: false,
            told: Told::default(),
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

    /// A session ended; its number lasts until [`Sources::forget`].
    pub(crate) fn leave(&mut self, id: PeerId) -> Option<SourceIx> {
        let ix = self.by_id.remove(&id)?;
        self.member_mut(ix)?.leaving = true;
        Some(ix)
    }

    /// Gives up the number of a session that left, once no path is from it and none was told;
    /// whether that is so.
    pub(crate) fn forget(&mut self, ix: SourceIx) -> bool {
        let gone = self
            .member(ix)
            .is_none_or(|member| member.leaving && member.received == 0 && member.told == Told::default());
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

    /// Whether paths from it may be used at all.
    pub(crate) fn is_usable(&self, ix: SourceIx) -> bool {
        ix.0 < SourceIx::FIRST || self.member(ix).is_some_and(|member| !member.leaving)
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

    /// Notes that a prefix is told with a path of a source.
    pub(crate) fn tell(&mut self, ix: SourceIx, family: Family, scope: Scope) {
        self.told[self.kind(ix) as usize][of(family)][scope as usize] += 1;
        if let Some(member) = self.member_mut(ix) {
            member.told[of(family)][scope as usize] += 1;
        }
    }

    /// Notes that it no longer is.
    pub(crate) fn untell(&mut self, ix: SourceIx, family: Family, scope: Scope) {
        self.told[self.kind(ix) as usize][of(family)][scope as usize] -= 1;
        if let Some(member) = self.member_mut(ix) {
            member.told[of(family)][scope as usize] -= 1;
        }
    }

    /// Sets whether a peer is our client; what was told moves with it.
    pub(crate) fn set_client(&mut self, ix: SourceIx, client: bool) {
        let Some(member) = self.member_mut(ix) else { return };
        let told = member.told;
        let before = member.session.kind() as usize;
        member.session.client = client;
        let after = member.session.kind() as usize;
        for (family, told) in told.into_iter().enumerate() {
            for (scope, told) in told.into_iter().enumerate() {
                self.told[before][family][scope] -= told;
                self.told[after][family][scope] += told;
            }
        }
    }

    /// How many prefixes were told with a path of a source of this kind that may go so far.
    pub(crate) fn told_of(&self, kind: SourceKind, family: Family, scope: Scope) -> usize {
        self.told[kind as usize][of(family)][scope as usize]
    }

    /// How many were told with a path of this session.
    pub(crate) fn told_by(&self, member: &Member, family: Family, scope: Scope) -> usize {
        member.told[of(family)][scope as usize]
    }
}
