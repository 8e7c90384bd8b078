//! Import checks: eligibility of received paths (RFC 4271 §9.1.2, RFC 4456 §8), filters and
//! ownership.

use std::sync::Arc;

use bgp::wire::attribute::is_host;
use bgp::{Asn, Family};
use ipnet::IpNet;

use crate::attrs::AttrSet;
use crate::config::RibConfig;
use crate::decide::PathReason;
use crate::ownership::OwnershipMode;
use crate::path::PeerSession;
use crate::policy::{
    self, ClusterPolicy, Community, FilterOutcome, FilterRule, ImportPolicy, Operation, PeerKind, Subject,
};
use crate::roles;
use crate::table::Scope;

/// Returns the reason why a path from a peer is not eligible, independent of filters; `None` if it
/// is eligible.
pub(crate) fn reject(
    config: &RibConfig,
    import: &ImportPolicy,
    attrs: &AttrSet,
    internal: bool,
) -> Option<PathReason> {
    if is_looped(config.local_as, import, attrs) {
        return Some(PathReason::AsLoop);
    }
    if attrs.originator_id == Some(config.router_id) {
        return Some(PathReason::OriginatorLoop);
    }
    if internal
        && let Some(cluster_id) = config.cluster_id
        && attrs.cluster_list().any(|id| id == cluster_id)
    {
        return Some(PathReason::ClusterLoop);
    }
    let exit = attrs.egress.filter(|_| internal).unwrap_or(attrs.next_hop);
    if config.local_addresses.contains(&attrs.next_hop) || config.local_addresses.contains(&exit) {
        return Some(PathReason::NextHopSelf);
    }
    if !is_host(attrs.next_hop) {
        return Some(PathReason::NextHopNotHost);
    }
    None
}

/// Returns whether our AS, or the AS that replaces ours towards the peer, is in AS_PATH more often
/// than allowed.
fn is_looped(local_as: Asn, import: &ImportPolicy, attrs: &AttrSet) -> bool {
    let path = attrs.as_path();
    let times = |wanted: Asn| {
        let found = path.asns().filter(|asn| *asn == wanted).take(import.allowed_local_as as usize + 1);
        u32::try_from(found.count()).unwrap_or(u32::MAX)
    };
    let too_often = |asn| times(asn) > import.allowed_local_as;
    too_often(local_as) || import.local_as.is_some_and(too_often)
}

/// Outcome of import policy for a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImportOutcome {
    /// Reason for excluding the route from the decision process.
    pub(crate) rejected: Option<PathReason>,
    /// Place of the rule that accepted the route, if the rule has operations.
    pub(crate) rule: Option<u32>,
    /// The node table assigns the prefix to another node.
    pub(crate) disputed: bool,
}

/// Import check for routes of one peer that share an attribute set.
pub(crate) struct ImportCheck<'a> {
    cluster: &'a ClusterPolicy,
    import: &'a ImportPolicy,
    session: PeerSession,
    /// Attributes as received.
    attrs: &'a AttrSet,
    /// The routes are long-lived stale (RFC 9494).
    llgr_stale: bool,
    /// Outcome for all prefixes; `None`: it depends on the prefix.
    common: Option<ImportOutcome>,
    sender: Option<u32>,
}

impl<'a> ImportCheck<'a> {
    /// Creates a check for received attributes; `llgr_stale`: the routes are long-lived stale (RFC
    /// 9494).
    pub(crate) fn new(
        config: &RibConfig,
        cluster: &'a ClusterPolicy,
        import: &'a ImportPolicy,
        session: PeerSession,
        attrs: &'a AttrSet,
        llgr_stale: bool,
    ) -> ImportCheck<'a> {
        let mut rejected = reject(config, import, attrs, session.internal);
        if let Some((role, peer_as)) = import.role
            && roles::is_leaked(role, peer_as, attrs.only_to_customer)
        {
            rejected.get_or_insert(PathReason::RouteLeak);
        }
        if llgr_stale && attrs.well_known.no_llgr {
            rejected.get_or_insert(PathReason::NotLong);
        }
        if rejected.is_none() && import.chain.is_none() {
            if import.outside {
                rejected = Some(PathReason::NoImportPolicy);
            } else if attrs.well_known.blackhole && !session.internal {
                rejected = Some(PathReason::Blackhole);
            }
        }
        let sender = if import.outside { None } else { cluster.owners.sender(attrs) };
        let looks = rejected.is_none() && (import.chain.is_some() || sender.is_some());
        let common = (!looks).then_some(ImportOutcome { rejected, ..ImportOutcome::default() });
        ImportCheck { cluster, import, session, attrs, llgr_stale, common, sender }
    }

    /// Returns the outcome for all prefixes, if it does not depend on the prefix.
    pub(crate) fn common(&self) -> Option<ImportOutcome> {
        self.common
    }

    /// Returns the outcome for one prefix.
    pub(crate) fn evaluate(&self, prefix: &IpNet) -> ImportOutcome {
        if let Some(common) = self.common {
            return common;
        }
        let mut outcome = ImportOutcome::default();
        if let Some(chain) = &self.import.chain {
            let peer = if self.session.internal { PeerKind::Internal } else { PeerKind::External };
            let subject = Subject {
                prefix: *prefix,
                attrs: self.attrs,
                kind: self.session.kind(),
                peer,
                interface: self.cluster.link_of(self.attrs.next_hop),
            };
            let result = chain.evaluate(&subject);
            let named = |rule: &FilterRule| rule.community == Some(Community::BLACKHOLE);
            match result {
                FilterOutcome::Rejected => outcome.rejected = Some(PathReason::Filtered),
                // RFC 7999 §3.3: BLACKHOLE must be agreed upon with the peer.
                _ if self.attrs.well_known.blackhole
                    && !self.session.internal
                    && !matches!(result, FilterOutcome::Accepted(rule, _) if named(rule)) =>
                {
                    outcome.rejected = Some(PathReason::Blackhole);
                }
                FilterOutcome::Accepted(rule, place) if !rule.operations.is_empty() => {
                    outcome.rule = Some(place)
                }
                FilterOutcome::Accepted(..) | FilterOutcome::NoMatch => {}
            }
        }
        if outcome.rejected.is_none()
            && let Some(sender) = self.sender
            && self.cluster.owners.disputes(sender, prefix)
        {
            match self.cluster.owners.mode {
                OwnershipMode::Strict => outcome.rejected = Some(PathReason::NotOwner),
                OwnershipMode::Warn => outcome.disputed = true,
                OwnershipMode::Off => {}
            }
        }
        outcome
    }

    /// Returns whether the used attributes differ from the received ones.
    pub(crate) fn changes(&self, outcome: ImportOutcome) -> bool {
        outcome.rule.is_some()
            || outcome.rejected.is_none()
                && (self.is_shut_down() || self.llgr_stale || self.only_to_customer().is_some())
    }

    /// Returns whether LOCAL_PREF is set to 0 because of GRACEFUL_SHUTDOWN from an external peer
    /// (RFC 8326 §4.1).
    fn is_shut_down(&self) -> bool {
        self.attrs.well_known.graceful_shutdown && !self.session.internal
    }

    /// Returns the AS with which ONLY_TO_CUSTOMER is added (RFC 9234 §5).
    fn only_to_customer(&self) -> Option<Asn> {
        let (role, peer_as) = self.import.role?;
        (roles::marks_received(role) && self.attrs.only_to_customer.is_none()).then_some(peer_as)
    }

    /// Returns the attributes after import policy; `received` are the attributes of this check.
    pub(crate) fn derive(&self, outcome: ImportOutcome, family: Family, received: &Arc<AttrSet>) -> AttrSet {
        let chain = self.import.chain.as_deref();
        let rule = outcome.rule.and_then(|place| chain?.rule(family, place));
        let mut operations: Vec<Operation> = rule.map_or_else(Vec::new, |rule| rule.operations.clone());
        if self.is_shut_down() {
            operations.push(Operation::SetPriority(NO_PREFERENCE));
        }
        operations.extend(self.only_to_customer().map(Operation::OnlyToCustomer));
        if self.llgr_stale {
            operations.push(Operation::AddCommunity(Community::LLGR_STALE));
        }
        AttrSet::derived(&policy::apply_operations(received.canonical(), &operations), received)
    }
}

/// Priority of LOCAL_PREF 0.
const NO_PREFERENCE: u32 = i32::MAX as u32;

/// Returns the scope of a path with these attributes.
pub(crate) fn scope_of(attrs: &AttrSet) -> Scope {
    Scope::of(attrs.well_known)
}
