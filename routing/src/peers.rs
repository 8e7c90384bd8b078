//! Sessions that come and go, and what becomes of their paths: at once gone, or kept as stale until the
//! peer has sent them again (RFC 4724, RFC 7313, RFC 8538, RFC 9494).
//!
//! A session is a source of paths, and so is each earlier session of the same peer whose paths are
//! kept: a path of the newer takes the place of one of the older. So nothing is noted at a path, and a
//! session costs nothing for what may become of it.

use std::sync::Arc;

use bgp::session::{Retain, Stale};
use bgp::{Families, Family, PeerId};
use hashbrown::hash_map::Entry as MapEntry;
use ipnet::IpNet;

use crate::attrs::AttrSet;
use crate::decide::Rank;
use crate::group_key::GroupKey;
use crate::outbox::Outbox;
use crate::path::PeerSession;
use crate::path::SourceIx;
use crate::rib::Rib;
use crate::source::{Member, Staleness};

/// Places looked at for each prefix of a budget, when the paths of a session that ended are sought.
const SWEEP: usize = 8;
/// Earlier sessions of a peer whose paths are kept: what a peer that is back and gone again and again
/// can cost, since each of its prefixes is kept once. Of more, the oldest goes.
const RETAINED: usize = 4;

impl Rib {
    /// A session is Established: the peer gets everything, then End-of-RIB. Call [`Rib::resume`] next.
    pub fn peer_up(&mut self, id: PeerId, session: PeerSession) {
        self.peer_down(id, Retain::default());
        self.owner_session_up(session.address);
        let policy = self.policies.get(&id).cloned().unwrap_or_default();
        let export = self.exports.acquire(&policy.export);
        let ix = self.sources.enter(id, session, policy, export);
        let session = self.sources.member(ix).map_or(session, |member| member.session);
        let held = self.holds_markers && session.restarts;
        let group = self.groups.entry(GroupKey::of(&session, export)).or_default();
        group.join(id, self.table.end(), session.families.without(session.sends_add_path), held);
        self.add_path_peers.join(id, session.sends_add_path, self.table.end(), held);
    }

    /// A session ended. Of its paths those of `retain` are kept as stale; the others count no more,
    /// and [`Rib::run`] takes them out.
    pub fn peer_down(&mut self, id: PeerId, retain: Retain) {
        let Some(ix) = self.sources.leave(id) else { return };
        if let Some(key) = self.sources.member(ix).map(Member::key) {
            self.leave_group(id, key);
            self.add_path_peers.leave(id);
            self.exports.release(key.export);
        }
        if !retain.older {
            self.drop_stale(id, Families::BOTH);
        }
        let additional = self.sources.take_additional_sources(id);
        self.retain_source(id, ix, retain.families, additional.len());
        for source_ix in &additional {
            self.retain_source(id, *source_ix, retain.families, additional.len());
        }
        for source in self.sources.retained(id).to_vec() {
            if let Some(stale) = self.sources.member_mut(source).and_then(|member| member.stale.as_mut()) {
                stale.families = retain.families;
                stale.silent = retain.silent;
            }
            self.drop_families(source, Families::BOTH.without(retain.families));
        }
        if retain.silent && !self.sources.retained(id).is_empty() {
            self.mark_used();
        }
    }

    /// The paths of some families of a source of a peer are from now on stale.
    /// Beside it, it has so many `additional`.
    fn retain_source(&mut self, id: PeerId, ix: SourceIx, families: Families, additional: usize) {
        let Some(member) = self.sources.member_mut(ix) else { return };
        member.stale = Some(Staleness { families, ..Staleness::default() });
        self.sources.retain(id, ix);
        if self.sources.retained(id).len() > RETAINED + additional {
            let stale = |source: &&SourceIx| {
                let stale = self.sources.member(**source).and_then(|member| member.stale);
                stale.is_some_and(|stale| !stale.families.is_empty())
            };
            let oldest = self.sources.retained(id).iter().find(stale).copied();
            if let Some(oldest) = oldest {
                self.drop_stale_of(oldest, Families::BOTH);
            }
        }
    }

    /// The peer will send all its routes of a family anew (RFC 7313): those it has sent are stale.
    pub fn refresh_begins(&mut self, id: PeerId, family: Family) {
        let Some(before) = self.sources.find(id) else { return };
        let Some(member) = self.sources.member(before) else { return };
        let (session, end_of_rib) = (member.session, member.end_of_rib);
        let (policy, export) = (Arc::clone(&member.policy), member.export);
        let (warned, over_limit) = (member.warned, member.over_limit);
        let families = Families::from(family);
        for source in self.sources.retained(id).to_vec() {
            if let Some(stale) = self.sources.member_mut(source).and_then(|member| member.stale.as_mut()) {
                stale.families.insert(family);
            }
        }
        let additional = self.sources.take_additional_sources(id);
        let ix = self.sources.enter(id, session, policy, export);
        if let Some(member) = self.sources.member_mut(ix) {
            member.end_of_rib = end_of_rib;
            (member.warned, member.over_limit) = (warned, over_limit);
        }
        for source_ix in &additional {
            self.retain_source(id, *source_ix, families, additional.len());
        }
        self.retain_source(id, before, families, additional.len());
    }

    /// What becomes of the paths of a peer that are stale.
    pub fn stale(&mut self, id: PeerId, stale: Stale) {
        match stale {
            Stale::Drop(families) => self.drop_stale(id, families),
            Stale::LlgrStale(families) => {
                for source in self.sources.retained(id).to_vec() {
                    let member = self.sources.member_mut(source);
                    if let Some(stale) = member.and_then(|member| member.stale.as_mut()) {
                        stale.llgr_stale = stale.llgr_stale.union(families);
                    }
                }
                // Their attributes say so from now on.
                self.mark_for_import();
            }
        }
    }

    pub(crate) fn drop_stale(&mut self, id: PeerId, families: Families) {
        for source in self.sources.retained(id).to_vec() {
            self.drop_stale_of(source, families);
        }
    }

    fn drop_stale_of(&mut self, source: SourceIx, families: Families) {
        let Some(stale) = self.sources.member_mut(source).and_then(|member| member.stale.as_mut()) else {
            return;
        };
        let dropped = stale.families.intersection(families);
        stale.families = stale.families.without(families);
        self.drop_families(source, dropped);
    }

    fn drop_families(&mut self, source: SourceIx, families: Families) {
        if !self.sources.drop_families(source, families) {
            return;
        }
        match self.leaving.iter_mut().find(|(leaving, _)| *leaving == source) {
            Some((_, start)) => *start = 0,
            None => self.leaving.push_back((source, 0)),
        }
    }

    /// A peer has said something newer of these prefixes than what is kept of its earlier sessions.
    pub(crate) fn supersede(&mut self, id: PeerId, prefixes: &[IpNet]) {
        if self.sources.retained(id).is_empty() {
            return;
        }
        for source in self.sources.retained(id).to_vec() {
            for prefix in prefixes {
                if let Some(ix) = self.table.find(prefix) {
                    self.take(ix, source);
                }
            }
        }
    }

    /// Looks for the paths that count no more, as far as `budget` prefixes go.
    pub(crate) fn sweep(&mut self, budget: usize) {
        let mut places = budget.saturating_mul(SWEEP);
        let mut found = 0;
        for at in 0..self.leaving.len() {
            let (source, start) = self.leaving[at];
            let leaving = self.sources.member(source).map_or(Families::NONE, |member| member.leaving);
            let left = |rib: &Rib| rib.sources.member(source).map_or(0, Member::left);
            let mut ix = start;
            while left(self) > 0 && ix < self.table.end() && places > 0 && found < budget {
                if self.table.may_have(ix, source) && leaving.contains(self.table.family(ix)) {
                    found += usize::from(self.take(ix, source));
                }
                ix += 1;
                places -= 1;
            }
            self.leaving[at].1 = ix;
        }
    }

    pub(crate) fn is_swept(&self) -> bool {
        let left = |(source, _): &(SourceIx, u32)| self.sources.member(*source).map_or(0, Member::left);
        self.leaving.iter().all(|leaving| left(leaving) == 0)
    }

    /// Whether a peer is our client may change while its session lasts, and holds for later ones.
    pub fn set_client(&mut self, id: PeerId, client: bool) {
        self.sources.set_role(id, client);
        let sources: Vec<SourceIx> = self.sources.of(id).collect();
        let mut changed = false;
        for source in sources {
            let Some(member) = self.sources.member(source) else { continue };
            let (old, export) = (member.session, member.export);
            let client = client && old.internal;
            if old.client == client {
                continue;
            }
            changed = true;
            self.sources.set_client(source, client);
            if self.sources.find(id) == Some(source) {
                let outbox = self.leave_group(id, GroupKey::of(&old, export));
                let session = PeerSession { client, ..old };
                let group = self.groups.entry(GroupKey::of(&session, export)).or_default();
                let families = session.families.without(session.sends_add_path);
                group.take_over(id, self.table.end(), families, outbox.unwrap_or_default());
            }
        }
        if changed {
            self.mark_all();
        }
    }

    /// Takes a peer out of its group; its arrears.
    pub(crate) fn leave_group(&mut self, id: PeerId, key: GroupKey) -> Option<Outbox> {
        let MapEntry::Occupied(mut group) = self.groups.entry(key) else { return None };
        let outbox = group.get_mut().leave(id);
        if group.get().is_empty() {
            group.remove();
        }
        outbox
    }

    /// Whether End-of-RIB waits, for peers that keep what we sent before a restart of this node until
    /// it comes (RFC 4724 §4.1). After `false`, call [`Rib::resume`] for those returned.
    ///
    /// Deviation: RFC 4724 §4.1 defers the choice of routes too. Here a route is used and told as soon as it is
    /// there: what a peer has kept is replaced by it, never withdrawn, and a node that waits for one that is
    /// down would carry no traffic meanwhile.
    pub fn hold_markers(&mut self, hold: bool) -> Vec<PeerId> {
        self.holds_markers = hold;
        if hold {
            return Vec::new();
        }
        let mut released = self.add_path_peers.release_markers();
        released.extend(self.groups.values_mut().flat_map(|group| group.release_markers()));
        released
    }
}

impl Member {
    /// How paths of it rank.
    pub(crate) fn rank(&self, attrs: &AttrSet) -> Rank {
        match self.stale {
            _ if attrs.well_known.llgr_stale => Rank::LlgrStale,
            // What another node forwards to is not in doubt.
            Some(stale) if stale.silent && attrs.next_hop == self.session.address => Rank::Silent,
            _ => Rank::Bgp,
        }
    }

    /// Families in which its paths are a last resort.
    pub(crate) fn llgr_stale(&self) -> Families {
        self.stale.map_or(Families::NONE, |stale| stale.llgr_stale)
    }
}
