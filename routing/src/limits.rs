//! Policy changes while the RIB runs, and prefix limits of peers (RFC 4486 §4).

use std::sync::Arc;

use bgp::PeerId;

use crate::group_key::GroupKey;
use crate::path::SourceIx;
pub use crate::policy::PrefixLimitReport;
use crate::policy::{ClusterPolicy, PeerPolicy};
use crate::rib::Rib;
use crate::source::Member;

impl Rib {
    /// Sets the policy for all peers; sessions are kept. Call [`Rib::originate`] afterwards for the
    /// communities of local blocks.
    pub fn set_cluster_policy(&mut self, policy: ClusterPolicy) {
        if *self.cluster == policy {
            return;
        }
        let before = std::mem::replace(&mut self.cluster, Arc::new(policy));
        self.restore_unannounced();
        if !before.is_same_but_for_owners(&self.cluster) {
            self.mark_all();
            return;
        }
        // Ownership affects which paths are used, but not how they are advertised.
        match before.owners.changed_blocks(&self.cluster.owners) {
            Some(blocks) => {
                for ix in 0..self.table.end() {
                    if self.table.is_used(ix)
                        && blocks.iter().any(|block| block.contains(&self.table.prefix(ix)))
                    {
                        self.mark(ix);
                    }
                }
                self.reimport_count = self.dirty.len();
            }
            None => self.mark_for_import(),
        }
    }

    /// Sets the policy of a peer, with or without a session; a session is kept. Call
    /// [`Rib::resume`] afterwards.
    pub fn set_peer_policy(&mut self, id: PeerId, policy: PeerPolicy) {
        let policy = Arc::new(policy);
        self.policies.insert(id, Arc::clone(&policy));
        let sources: Vec<SourceIx> = self.sources.of(id).collect();
        let Some(old) =
            sources.first().and_then(|ix| self.sources.member(*ix)).map(|member| Arc::clone(&member.policy))
        else {
            return;
        };
        if old == policy {
            return;
        }
        for source in sources {
            if let Some(member) = self.sources.member_mut(source) {
                member.policy = Arc::clone(&policy);
            }
        }
        if let Some(ix) = self.sources.find(id) {
            self.change_group(id, ix, &policy);
        }
        if old.import.outside != policy.import.outside {
            // Export of its paths to others without a filter depends on this.
            self.mark_all();
        } else if old.import != policy.import {
            self.mark_for_import();
        }
        if let Some(ix) = self.sources.find(id) {
            self.check_limit(ix);
        }
    }

    fn change_group(&mut self, id: PeerId, ix: SourceIx, policy: &PeerPolicy) {
        let Some(member) = self.sources.member(ix) else { return };
        let (session, old_key) = (member.session, member.key());
        let export = self.exports.acquire(&policy.export);
        let key = GroupKey::of(&session, export);
        if key != old_key {
            let outbox = self.leave_group(id, old_key);
            let group = self.groups.entry(key).or_default();
            let families = session.families.without(session.sends_add_path);
            group.take_over(id, self.table.end(), families, outbox.unwrap_or_default());
        }
        self.exports.release(old_key.export);
        if let Some(member) = self.sources.member_mut(ix) {
            member.export = export;
            member.warned = false;
        }
    }

    /// Removes the policy of a peer that was deconfigured.
    pub fn forget_peer(&mut self, id: PeerId) {
        self.policies.remove(&id);
        self.sources.forget_role(id);
    }

    /// Returns whether [`Rib::next_limit`] will return a peer.
    pub fn has_limits(&self) -> bool {
        !self.limits.is_empty()
    }

    /// Returns a peer that reached its limit; each is returned once.
    pub fn next_limit(&mut self) -> Option<PrefixLimitReport> {
        self.limits.pop_front()
    }

    /// Returns whether the peer of a source has as many prefixes as allowed, so that a new one must
    /// be ignored. The first time is reported as [`PrefixLimitReport`].
    pub(crate) fn is_full(&mut self, source: SourceIx) -> bool {
        let Some(max) = self.sources.member(source).and_then(|member| member.policy.max_prefixes) else {
            return false;
        };
        let held = self.prefix_count(source);
        if held < max.limit {
            return false;
        }
        if let Some(member) = self.sources.member_mut(source)
            && !member.over_limit
        {
            member.over_limit = true;
            let peer = member.id;
            self.limits.push_back(PrefixLimitReport { peer, held, limit: max.limit, exceeded: true });
        }
        true
    }

    /// Returns the number of prefixes of the peer that a source belongs to, including stale ones.
    fn prefix_count(&self, source: SourceIx) -> usize {
        let Some(id) = self.sources.member(source).map(|member| member.id) else { return 0 };
        let live = |member: &Member| member.received.iter().sum::<usize>() - member.left();
        self.sources.of(id).filter_map(|source| self.sources.member(source)).map(live).sum()
    }

    /// Reports a peer that is near its limit, or above a new one.
    pub(crate) fn check_limit(&mut self, source: SourceIx) {
        let held = self.prefix_count(source);
        let Some(member) = self.sources.member_mut(source) else { return };
        let Some(max) = member.policy.max_prefixes else { return };
        let (peer, limit) = (member.id, max.limit);
        if held > limit && !member.over_limit {
            member.over_limit = true;
            self.limits.push_back(PrefixLimitReport { peer, held, limit, exceeded: true });
        } else if held >= max.warn_at && !member.warned {
            member.warned = true;
            self.limits.push_back(PrefixLimitReport { peer, held, limit, exceeded: false });
        }
    }
}
