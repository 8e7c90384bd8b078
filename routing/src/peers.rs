//! Start and end of sessions. Paths of a session that ended are removed at once, or kept as stale
//! until the peer has sent them again (RFC 4724, RFC 7313, RFC 8538, RFC 9494).
//!
//! A session is a source of paths, and so is each earlier session of the same peer whose paths are
//! kept. A path of a newer source replaces that of an older one. Paths therefore need no stale
//! mark, and a session costs nothing for its possible retention.

use std::sync::Arc;

use bgp::session::{Retention, StaleAction};
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

/// Places visited per prefix of the budget, when the paths of an ended session are searched.
const SWEEP: usize = 8;
/// Maximum number of earlier sessions whose paths are kept: the limit for a peer that restarts
/// again and again, since each of its prefixes is kept once. The oldest is removed beyond it.
const RETAINED: usize = 4;

impl Rib {
    /// Adds an Established session: the peer receives all routes, then End-of-RIB. Call
    /// [`Rib::resume`] afterwards.
    pub fn peer_up(&mut self, id: PeerId, session: PeerSession) {
        self.peer_down(id, Retention::default());
        self.owner_session_up(session.address);
        let policy = self.policies.get(&id).cloned().unwrap_or_default();
        let export = self.exports.acquire(&policy.export);
        let ix = self.sources.enter(id, session, policy, export);
        let session = self.sources.member(ix).map_or(session, |member| member.session);
        let hold_marker = self.holds_markers && session.restarts;
        let group = self.groups.entry(GroupKey::of(&session, export)).or_default();
        group.join(id, self.table.end(), session.families.without(session.sends_add_path), hold_marker);
        self.add_path_peers.join(id, session.sends_add_path, self.table.end(), hold_marker);
    }

    /// Ends a session. Its paths in the families of `retain` are kept as stale; [`Rib::run`]
    /// removes the others.
    pub fn peer_down(&mut self, id: PeerId, retain: Retention) {
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

    /// Marks the paths of a source in some families as stale; `additional` is the number of
    /// additional sources of the session.
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

    /// Starts an answer to a ROUTE-REFRESH (RFC 7313): the paths of the family are stale until the
    /// peer sends them again.
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

    /// Changes the treatment of the stale paths of a peer.
    pub fn stale(&mut self, id: PeerId, stale: StaleAction) {
        match stale {
            StaleAction::Drop(families) => self.drop_stale(id, families),
            StaleAction::LlgrStale(families) => {
                for source in self.sources.retained(id).to_vec() {
                    let member = self.sources.member_mut(source);
                    if let Some(stale) = member.and_then(|member| member.stale.as_mut()) {
                        stale.llgr_stale = stale.llgr_stale.union(families);
                    }
                }
                // Their attributes get LLGR_STALE.
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

    /// Removes stale paths of a peer to prefixes that it has announced or withdrawn again.
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

    /// Searches for paths of ended sessions and removes them; stops after `budget` prefixes.
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

    /// Sets whether a peer is a route reflector client, for its current session and later ones.
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

    /// Removes a peer from its group and returns its pending changes.
    pub(crate) fn leave_group(&mut self, id: PeerId, key: GroupKey) -> Option<Outbox> {
        let MapEntry::Occupied(mut group) = self.groups.entry(key) else { return None };
        let outbox = group.get_mut().leave(id);
        if group.get().is_empty() {
            group.remove();
        }
        outbox
    }

    /// Holds End-of-RIB for peers that keep our routes over a restart of this node (RFC 4724 §4.1),
    /// or releases it. Returns the peers for which to call [`Rib::resume`].
    ///
    /// Deviation: RFC 4724 §4.1 defers route selection too. Here a route is used and advertised as
    /// soon as it is received: it replaces what a peer has kept, nothing is withdrawn, and a node
    /// that waited for a dead peer would forward nothing meanwhile.
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
    /// Returns the rank of the member's paths.
    pub(crate) fn rank(&self, attrs: &AttrSet) -> Rank {
        match self.stale {
            _ if attrs.well_known.llgr_stale => Rank::LlgrStale,
            // A path through another node does not depend on this peer's forwarding.
            Some(stale) if stale.silent && attrs.next_hop == self.session.address => Rank::Silent,
            _ => Rank::Bgp,
        }
    }

    /// Returns the families in which its paths are long-lived stale.
    pub(crate) fn llgr_stale(&self) -> Families {
        self.stale.map_or(Families::NONE, |stale| stale.llgr_stale)
    }
}
