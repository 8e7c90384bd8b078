//! Policy for import and export: filters, the defaults without filters (RFC 8212), prefix limits,
//! and settings for all peers. Pure data and functions, evaluated by [`crate::Rib`].

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
pub(crate) use edit::apply_operations;
pub use edit::{shut_down, with_communities};
pub use rule::{
    Action, Filter, FilterRule, Operation, Operator, PeerKind, PrefixMatch, Subject, local_pref_of,
    priority_of,
};

/// Rules of several filters in order of evaluation, by direction and family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Chain {
    ipv4: Vec<FilterRule>,
    ipv6: Vec<FilterRule>,
}

/// Outcome of a chain for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterOutcome<'a> {
    /// No rule matches.
    NoMatch,
    /// The first matching rule rejects the route.
    Rejected,
    /// The first matching rule accepts the route; with the rule and its place in the chain.
    Accepted(&'a FilterRule, u32),
}

impl Chain {
    /// Creates the chain of the import rules of `filters`, in their order.
    pub fn import<'a>(filters: impl IntoIterator<Item = &'a Filter> + Clone) -> Chain {
        Chain {
            ipv4: filters.clone().into_iter().flat_map(|filter| filter.import_v4.iter().cloned()).collect(),
            ipv6: filters.into_iter().flat_map(|filter| filter.import_v6.iter().cloned()).collect(),
        }
    }

    /// Creates the chain of the export rules of `filters`, in their order.
    pub fn export<'a>(filters: impl IntoIterator<Item = &'a Filter> + Clone) -> Chain {
        Chain {
            ipv4: filters.clone().into_iter().flat_map(|filter| filter.export_v4.iter().cloned()).collect(),
            ipv6: filters.into_iter().flat_map(|filter| filter.export_v6.iter().cloned()).collect(),
        }
    }

    /// Returns a chain that rejects all routes, for peers whose filters are unknown.
    pub fn closed() -> Chain {
        let nothing = FilterRule { action: Action::Reject, ..FilterRule::default() };
        Chain { ipv4: vec![nothing.clone()], ipv6: vec![nothing] }
    }

    /// Returns whether the chain has no rules.
    pub fn is_empty(&self) -> bool {
        self.ipv4.is_empty() && self.ipv6.is_empty()
    }

    fn rules(&self, family: Family) -> &[FilterRule] {
        match family {
            Family::Ipv4Unicast => &self.ipv4,
            Family::Ipv6Unicast => &self.ipv6,
        }
    }

    /// Returns the rule at a place of [`FilterOutcome::Accepted`].
    pub(crate) fn rule(&self, family: Family, place: u32) -> Option<&FilterRule> {
        self.rules(family).get(place as usize)
    }

    /// Returns the outcome of the first matching rule.
    pub fn evaluate(&self, subject: &Subject<'_>) -> FilterOutcome<'_> {
        let rules = self.rules(Family::of(&subject.prefix));
        match (0..).zip(rules).find(|(_, rule)| rule.matches(subject)) {
            None => FilterOutcome::NoMatch,
            Some((_, FilterRule { action: Action::Reject, .. })) => FilterOutcome::Rejected,
            Some((place, rule)) => FilterOutcome::Accepted(rule, place),
        }
    }
}

/// Choice of the advertised next hop (Calico's `nextHopMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NextHopMode {
    /// Our address towards external peers, the path's next hop towards internal ones (RFC 4271
    /// §5.1.3).
    #[default]
    Auto,
    /// Our address.
    Own,
    /// The path's next hop.
    Keep,
}

/// Import policy of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportPolicy {
    /// Rules of the filters; `None`: no filter.
    pub chain: Option<Arc<Chain>>,
    /// The peer is outside the cluster: without a filter no routes are imported (RFC 8212).
    pub outside: bool,
    /// Number of times that our AS may be in AS_PATH (`numAllowedLocalASNumbers`).
    pub allowed_local_as: u32,
    /// AS that replaces ours towards this peer, which must not be in AS_PATH either (RFC 7705).
    pub local_as: Option<Asn>,
    /// Our role towards the peer, and the peer's AS (RFC 9234).
    pub role: Option<(Role, Asn)>,
}

/// Export policy of a peer. Peers with equal policies may share an update group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExportPolicy {
    /// Rules of the filters; `None`: no filter.
    pub chain: Option<Arc<Chain>>,
    /// The peer is outside the cluster: without a filter it receives the cluster's own blocks only
    /// (RFC 8212).
    pub outside: bool,
    /// Choice of the next hop.
    pub next_hop: NextHopMode,
    /// AS that replaces ours towards this peer (`localASNumber`, RFC 7705 §3.3 "Replace Old AS").
    pub local_as: Option<Asn>,
    /// Our role towards the peer (RFC 9234).
    pub role: Option<Role>,
}

impl ExportPolicy {
    /// Returns whether the outcome may differ between prefixes that share a path.
    pub(crate) fn depends_on_prefix(&self) -> bool {
        self.chain.is_some() || self.outside || self.role.is_some()
    }
}

/// Maximum number of prefixes of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixLimit {
    /// Maximum; one more prefix ends the session.
    pub limit: usize,
    /// Number of prefixes from which on a warning is reported, once.
    pub warn_at: usize,
}

/// Report of a peer that is near or above its prefix limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixLimitReport {
    /// The peer.
    pub peer: PeerId,
    /// Current number of prefixes.
    pub held: usize,
    /// Maximum number of prefixes.
    pub limit: usize,
    /// The peer has sent one prefix more, which was ignored; its session is to end.
    pub exceeded: bool,
}

/// Policy of one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerPolicy {
    /// Import policy.
    pub import: ImportPolicy,
    /// Export policy.
    pub export: Arc<ExportPolicy>,
    /// Prefix limit.
    pub max_prefixes: Option<PrefixLimit>,
}

/// Communities of local blocks (Calico's `prefixAdvertisements`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Prefix that contains the local blocks.
    pub cidr: IpNet,
    /// Communities to add.
    pub communities: Vec<Community>,
}

/// Policy for all peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterPolicy {
    /// Pools of the cluster, sorted and disjoint: peers outside without a filter receive blocks in
    /// these.
    pub pools: Vec<IpNet>,
    /// Communities of local blocks.
    pub advertisements: Vec<Advertisement>,
    /// Subnets and names of this node's links, for rules that match an interface.
    pub links: Vec<(IpNet, String)>,
    /// Encapsulation of packets to local blocks, to be advertised (RFC 9012).
    pub encapsulation: Option<TunnelEncapsulation>,
    /// Owners of blocks.
    pub owners: Owners,
    /// The node is being drained: local blocks get GRACEFUL_SHUTDOWN and LOCAL_PREF 0 (RFC 8326
    /// §4).
    pub draining: bool,
}

impl ClusterPolicy {
    /// Returns whether the policies are equal except for the owners of blocks.
    pub(crate) fn is_same_but_for_owners(&self, other: &ClusterPolicy) -> bool {
        let ClusterPolicy { pools, advertisements, links, encapsulation, owners: _, draining } = self;
        *pools == other.pools
            && *advertisements == other.advertisements
            && *links == other.links
            && *encapsulation == other.encapsulation
            && *draining == other.draining
    }

    /// Returns whether a prefix is in a pool.
    pub fn is_in_pool(&self, prefix: &IpNet) -> bool {
        // Only the last pool that starts at or before the prefix can contain it.
        let after = self.pools.partition_point(|pool| pool <= prefix);
        after.checked_sub(1).and_then(|at| self.pools.get(at)).is_some_and(|pool| pool.contains(prefix))
    }

    /// Returns the link with the longest subnet that contains a next hop.
    pub fn link_of(&self, next_hop: IpAddr) -> Option<&str> {
        let holding = self.links.iter().filter(|(subnet, _)| subnet.contains(&next_hop));
        holding.max_by_key(|(subnet, _)| subnet.prefix_len()).map(|(_, name)| name.as_str())
    }

    /// Returns the communities of a local block, each once.
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
