//! Filter rules: match conditions and operations.

use bgp::Asn;
use ipnet::IpNet;

use crate::attrs::AttrSet;
use crate::community::Community;
use crate::path::SourceKind;

/// Action of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Action {
    /// Accept the route.
    #[default]
    Accept,
    /// Reject the route.
    Reject,
}

/// Comparison of a route's prefix with that of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The prefixes are equal.
    Equal,
    /// The opposite of [`Operator::Equal`].
    NotEqual,
    /// The route's prefix is equal to the rule's or contained in it.
    In,
    /// The opposite of [`Operator::In`].
    NotIn,
}

/// Match condition on the prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PrefixMatch {
    /// Prefix of the rule.
    pub net: IpNet,
    /// Comparison.
    pub operator: Operator,
    /// Shortest matching prefix length.
    pub min: u8,
    /// Longest matching prefix length.
    pub max: u8,
}

impl PrefixMatch {
    /// Returns whether `prefix` matches. [`Operator::NotEqual`] and [`Operator::NotIn`] negate the
    /// whole condition, including the lengths.
    pub fn matches(&self, prefix: &IpNet) -> bool {
        let length = (self.min..=self.max).contains(&prefix.prefix_len());
        match self.operator {
            Operator::Equal => *prefix == self.net && length,
            Operator::NotEqual => *prefix != self.net || !length,
            Operator::In => self.net.contains(prefix) && length,
            Operator::NotIn => !self.net.contains(prefix) || !length,
        }
    }

    /// Returns whether no prefix can match.
    pub fn is_empty(&self) -> bool {
        let own = self.net.prefix_len();
        match self.operator {
            Operator::Equal => !(self.min..=self.max).contains(&own),
            Operator::In => self.min > self.max || self.max < own,
            // All prefixes of the family, of every length, would be excluded.
            Operator::NotIn => own == 0 && self.min == 0 && self.max == self.net.max_prefix_len(),
            Operator::NotEqual => false,
        }
    }
}

/// Kind of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerKind {
    /// The peer is in another AS.
    External,
    /// The peer is in our AS.
    Internal,
}

/// Operation of an accepting rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Add a community.
    AddCommunity(Community),
    /// Prepend these numbers to AS_PATH, in this order.
    PrependAsPath(Vec<Asn>),
    /// Set the priority, of which the lower value is preferred; see [`priority_of`].
    SetPriority(u32),
    /// Add ONLY_TO_CUSTOMER (RFC 9234) with this AS, unless it is present. Results from roles,
    /// never from filters.
    OnlyToCustomer(Asn),
}

/// Priority of LOCAL_PREF 0.
pub(super) const LAST_PRIORITY: u32 = i32::MAX as u32;

/// Returns the priority for a LOCAL_PREF: 2147483647 minus its value.
pub fn priority_of(local_pref: u32) -> Option<u32> {
    (i32::MAX as u32).checked_sub(local_pref).filter(|priority| *priority > 0)
}

/// Returns the LOCAL_PREF for a priority of 1 to 2147483646.
pub fn local_pref_of(priority: u32) -> u32 {
    (i32::MAX as u32).saturating_sub(priority)
}

/// Route as the subject of rules.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Prefix.
    pub prefix: IpNet,
    /// Attributes.
    pub attrs: &'a AttrSet,
    /// Kind of the source.
    pub kind: SourceKind,
    /// Kind of the peer that the route is received from or would be advertised to.
    pub peer: PeerKind,
    /// Outgoing link, if it is known.
    pub interface: Option<&'a str>,
}

/// Filter rule, which matches if all its conditions match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterRule {
    /// Condition on the prefix.
    pub prefix: Option<PrefixMatch>,
    /// The route is from a BGP peer (`source: RemotePeers`).
    pub from_peers: bool,
    /// Pattern for the outgoing link; `*` matches any characters.
    pub interface: Option<String>,
    /// Kind of the peer that the route is received from or would be advertised to.
    pub peer: Option<PeerKind>,
    /// Community that the route must have.
    pub community: Option<Community>,
    /// Numbers that AS_PATH must start with.
    pub as_path_prefix: Vec<Asn>,
    /// Priority that the route must have; see [`priority_of`].
    pub priority: Option<u32>,
    /// Action for a matching route.
    pub action: Action,
    /// Operations on an accepted route, in this order.
    pub operations: Vec<Operation>,
}

impl FilterRule {
    /// Returns whether the rule matches a route.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        self.prefix.as_ref().is_none_or(|prefix| prefix.matches(&subject.prefix))
            && self.peer.is_none_or(|peer| peer == subject.peer)
            && (!self.from_peers || !matches!(subject.kind, SourceKind::Local | SourceKind::Static))
            && self
                .interface
                .as_ref()
                .is_none_or(|pattern| subject.interface.is_some_and(|name| matches_pattern(name, pattern)))
            && self.community.is_none_or(|community| subject.attrs.has_community(community))
            && self.priority.is_none_or(|priority| priority_of(subject.attrs.local_pref) == Some(priority))
            && starts_with(subject.attrs, &self.as_path_prefix)
    }
}

fn starts_with(attrs: &AttrSet, wanted: &[Asn]) -> bool {
    wanted.is_empty() || {
        let path = attrs.as_path();
        let mut asns = path.asns();
        wanted.iter().all(|asn| asns.next() == Some(*asn))
    }
}

/// Returns whether a name matches a pattern in which `*` stands for zero or more characters.
fn matches_pattern(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Filter: rules for each direction and family, of which the first match decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Export rules for IPv4.
    pub export_v4: Vec<FilterRule>,
    /// Import rules for IPv4.
    pub import_v4: Vec<FilterRule>,
    /// Export rules for IPv6.
    pub export_v6: Vec<FilterRule>,
    /// Import rules for IPv6.
    pub import_v6: Vec<FilterRule>,
}
