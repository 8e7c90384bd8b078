//! What goes in from a peer and out to it beside the rules of BGP itself: filters, the defaults where there is
//! no filter (RFC 8212), how many prefixes a peer may have, and what is common to all peers. Pure data
//! and functions; [`crate::Rib`] asks them.

mod edit;
mod rule;

use std::net::IpAddr;
use std::sync::Arc;

use bgp::wire::capability::Role;
use bgp::{Asn, Family, PeerId};
use ipnet::IpNet;

use crate::encapsulation::TunnelEncapsulation;
use crate::ownership::Owners;

pub use crate::community::{Community, InvalidCommunity};
pub(crate) use edit::edited;
pub use edit::{shut_down, with_communities};
pub use rule::{
    Action, Filter, FilterRule, Operation, Operator, PeerKind, PrefixMatch, Subject, local_pref_of,
    priority_of,
};

/// The rules of several filters in the order in which they are consulted, by direction and family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Chain {
    ipv4: Vec<FilterRule>,
    ipv6: Vec<FilterRule>,
}

/// What a chain says of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterOutcome<'a> {
    /// No rule matches.
    NoMatch,
    /// The first rule that matches rejects it.
    Rejected,
    /// The first rule that matches accepts it; this is the rule and its place in the chain.
    Accepted(&'a FilterRule, u32),
}

impl Chain {
    /// The import rules of `filters`, in their order.
    pub fn import<'a>(filters: impl IntoIterator<Item = &'a Filter> + Clone) -> Chain {
        Chain {
            ipv4: filters.clone().into_iter().flat_map(|filter| filter.import_v4.iter().cloned()).collect(),
            ipv6: filters.into_iter().flat_map(|filter| filter.import_v6.iter().cloned()).collect(),
        }
    }

    /// The export rules of `filters`, in their order.
    pub fn export<'a>(filters: impl IntoIterator<Item = &'a Filter> + Clone) -> Chain {
        Chain {
            ipv4: filters.clone().into_iter().flat_map(|filter| filter.export_v4.iter().cloned()).collect(),
            ipv6: filters.into_iter().flat_map(|filter| filter.export_v6.iter().cloned()).collect(),
        }
    }

    /// Lets nothing through: what a peer has whose filters are not known.
    pub fn closed() -> Chain {
        let nothing = FilterRule { action: Action::Reject, ..FilterRule::default() };
        Chain { ipv4: vec![nothing.clone()], ipv6: vec![nothing] }
    }

    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.ipv4.is_empty() && self.ipv6.is_empty()
    }

    fn rules(&self, family: Family) -> &[FilterRule] {
        match family {
            Family::Ipv4Unicast => &self.ipv4,
            Family::Ipv6Unicast => &self.ipv6,
        }
    }

    /// The rule at a place that [`FilterOutcome::Accepted`] named.
    pub(crate) fn rule(&self, family: Family, place: u32) -> Option<&FilterRule> {
        self.rules(family).get(place as usize)
    }

    /// The first rule that matches decides.
    pub fn evaluate(&self, subject: &Subject<'_>) -> FilterOutcome<'_> {
        let rules = self.rules(Family::of(&subject.prefix));
        match (0..).zip(rules).find(|(_, rule)| rule.matches(subject)) {
            None => FilterOutcome::NoMatch,
            Some((_, FilterRule { action: Action::Reject, .. })) => FilterOutcome::Rejected,
            Some((place, rule)) => FilterOutcome::Accepted(rule, place),
        }
    }
}

/// Whose address is told as the next hop (Calico's `nextHopMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NextHopMode {
    /// Ours to external peers, the path's own to internal ones (RFC 4271 §5.1.3).
    #[default]
    Auto,
    /// Ours.
    Own,
    /// The path's own.
    Keep,
}

/// What is asked of a route that comes from a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportPolicy {
    /// The filters' rules; `None`: no filter.
    pub chain: Option<Arc<Chain>>,
    /// The peer is not of the cluster: without a filter nothing comes in (RFC 8212).
    pub outside: bool,
    /// How often our AS may be in AS_PATH (`numAllowedLocalASNumbers`).
    pub allowed_local_as: u32,
    /// Our other AS towards this peer, which must not be in AS_PATH either (RFC 7705).
    pub local_as: Option<Asn>,
    /// Our role towards the peer, and its AS (RFC 9234).
    pub role: Option<(Role, Asn)>,
}

/// What decides which routes a peer gets and with what: peers with equal ones can share an update group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExportPolicy {
    /// The filters' rules; `None`: no filter.
    pub chain: Option<Arc<Chain>>,
    /// The peer is not of the cluster: without a filter it gets the cluster's own blocks (RFC 8212).
    pub outside: bool,
    /// Whose next hop is told.
    pub next_hop: NextHopMode,
    /// The AS that stands for ours towards this peer (`localASNumber`, RFC 7705 §3.3 "Replace Old AS").
    pub local_as: Option<Asn>,
    /// Our role towards the peer (RFC 9234).
    pub role: Option<Role>,
}

impl ExportPolicy {
    /// Whether prefixes that share a path may differ in what becomes of them.
    pub(crate) fn depends_on_prefix(&self) -> bool {
        self.chain.is_some() || self.outside || self.role.is_some()
    }
}

/// How many prefixes a peer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixLimit {
    /// So many are kept; one more ends the session.
    pub limit: usize,
    /// From so many on it is said once.
    pub warn_at: usize,
}

/// A peer has sent nearly, or more than, as many prefixes as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitReached {
    /// The peer.
    pub peer: PeerId,
    /// How many prefixes of it are held.
    pub held: usize,
    /// How many it may have.
    pub limit: usize,
    /// It has sent one more than that, which was not taken: its session is to end.
    pub exceeded: bool,
}

/// All that holds for one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerPolicy {
    /// For what comes from it.
    pub import: ImportPolicy,
    /// For what it is told.
    pub export: Arc<ExportPolicy>,
    /// How much it may send.
    pub max_prefixes: Option<PrefixLimit>,
}

/// Communities that own blocks carry (Calico's `prefixAdvertisements`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Own blocks that lie in it.
    pub cidr: IpNet,
    /// What they carry.
    pub communities: Vec<Community>,
}

/// What holds for all peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterPolicy {
    /// Where the cluster's own blocks lie, sorted and apart: what goes to peers outside without a filter.
    pub pools: Vec<IpNet>,
    /// Communities of own blocks.
    pub advertisements: Vec<Advertisement>,
    /// The subnets of this node's links and the links' names, for rules that name an interface.
    pub links: Vec<(IpNet, String)>,
    /// How packets to own blocks come in, which other nodes are told (RFC 9012).
    pub encapsulation: Option<TunnelEncapsulation>,
    /// Which node owns which block.
    pub owners: Owners,
    /// Own blocks are going away: they carry GRACEFUL_SHUTDOWN and LOCAL_PREF 0 (RFC 8326 §4).
    pub draining: bool,
}

impl ClusterPolicy {
    /// Whether only who owns which block differs.
    pub(crate) fn is_same_but_for_owners(&self, other: &ClusterPolicy) -> bool {
        let ClusterPolicy { pools, advertisements, links, encapsulation, owners: _, draining } = self;
        *pools == other.pools
            && *advertisements == other.advertisements
            && *links == other.links
            && *encapsulation == other.encapsulation
            && *draining == other.draining
    }

    /// Whether a prefix lies in a pool.
    pub fn is_in_pool(&self, prefix: &IpNet) -> bool {
        // Only the last that begins at or before the prefix can hold it.
        let after = self.pools.partition_point(|pool| pool <= prefix);
        after.checked_sub(1).and_then(|at| self.pools.get(at)).is_some_and(|pool| pool.contains(prefix))
    }

    /// The link on which a next hop is, the one with the longest subnet.
    pub fn link_of(&self, next_hop: IpAddr) -> Option<&str> {
        let holding = self.links.iter().filter(|(subnet, _)| subnet.contains(&next_hop));
        holding.max_by_key(|(subnet, _)| subnet.prefix_len()).map(|(_, name)| name.as_str())
    }

    /// What an own block carries, each once.
    pub fn communities_of(&self, prefix: &IpNet) -> Vec<Community> {
        let mut all: Vec<Community> = Vec::new();
        for advertisement in self.advertisements.iter().filter(|one| one.cidr.contains(prefix)) {
            for community in &advertisement.communities {
                if !all.contains(community) {
                    all.push(*community);
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests;
