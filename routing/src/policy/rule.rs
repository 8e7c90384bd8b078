//! One rule of a filter: what it matches and what it does.

use bgp::Asn;
use ipnet::IpNet;

use crate::attrs::AttrSet;
use crate::community::Community;
use crate::path::SourceKind;

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Action {
    /// The route passes.
    #[default]
    Accept,
    /// It doesn't.
    Reject,
}

/// How a rule's prefix is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The route's prefix is it.
    Equal,
    /// The opposite of [`Operator::Equal`].
    NotEqual,
    /// The route's prefix is it, or lies in it.
    In,
    /// The opposite of [`Operator::In`].
    NotIn,
}

/// A prefix, how it is compared, and which lengths count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PrefixMatch {
    /// The prefix.
    pub net: IpNet,
    /// How.
    pub operator: Operator,
    /// The shortest length that counts.
    pub min: u8,
    /// The longest length that counts.
    pub max: u8,
}

impl PrefixMatch {
    /// Whether `prefix` is what the rule means; [`Operator::NotEqual`] and [`Operator::NotIn`] turn the whole
    /// answer round, the lengths with it.
    pub fn matches(&self, prefix: &IpNet) -> bool {
        let length = (self.min..=self.max).contains(&prefix.prefix_len());
        match self.operator {
            Operator::Equal => *prefix == self.net && length,
            Operator::NotEqual => *prefix != self.net || !length,
            Operator::In => self.net.contains(prefix) && length,
            Operator::NotIn => !self.net.contains(prefix) || !length,
        }
    }

    /// Whether no prefix can be what the rule means.
    pub fn is_empty(&self) -> bool {
        let own = self.net.prefix_len();
        match self.operator {
            Operator::Equal => !(self.min..=self.max).contains(&own),
            Operator::In => self.min > self.max || self.max < own,
            // Everything of the family, lengths and all, would have to be excluded.
            Operator::NotIn => own == 0 && self.min == 0 && self.max == self.net.max_prefix_len(),
            Operator::NotEqual => false,
        }
    }
}

/// Whether a peer is in our AS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerKind {
    /// In another AS.
    External,
    /// In ours.
    Internal,
}

/// What an accepting rule does to the route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// The route carries it from now on.
    AddCommunity(Community),
    /// AS_PATH begins with these from now on, in this order.
    PrependAsPath(Vec<Asn>),
    /// The route has this priority from now on: the lower the better. See [`priority_of`].
    SetPriority(u32),
    /// The route has ONLY_TO_CUSTOMER (RFC 9234) with this AS unless it has it already. Follows from roles; no
    /// filter says it.
    OnlyToCustomer(Asn),
}

/// The priority of LOCAL_PREF 0.
pub(super) const LAST_PRIORITY: u32 = i32::MAX as u32;

/// The priority of a route with this LOCAL_PREF, which runs the other way: 2147483647 less it.
pub fn priority_of(local_pref: u32) -> Option<u32> {
    (i32::MAX as u32).checked_sub(local_pref).filter(|priority| *priority > 0)
}

/// The LOCAL_PREF of a route with this priority, 1 to 2147483646.
pub fn local_pref_of(priority: u32) -> u32 {
    (i32::MAX as u32).saturating_sub(priority)
}

/// A route as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its prefix.
    pub prefix: IpNet,
    /// Its attributes.
    pub attrs: &'a AttrSet,
    /// Where it comes from.
    pub kind: SourceKind,
    /// Whether the peer that it comes from, or that it would be told to, is in our AS.
    pub peer: PeerKind,
    /// The link through which it leaves, if that is known.
    pub interface: Option<&'a str>,
}

/// One rule: it matches what all its conditions match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterRule {
    /// Of the prefix.
    pub prefix: Option<PrefixMatch>,
    /// Only routes that came from a BGP peer (`source: RemotePeers`).
    pub from_peers: bool,
    /// The link through which it leaves; `*` stands for any characters.
    pub interface: Option<String>,
    /// Which kind of peer it comes from, or would be told to.
    pub peer: Option<PeerKind>,
    /// What it carries.
    pub community: Option<Community>,
    /// What AS_PATH begins with.
    pub as_path_prefix: Vec<Asn>,
    /// Its priority, see [`priority_of`].
    pub priority: Option<u32>,
    /// What becomes of it.
    pub action: Action,
    /// What is done to it, in this order; only where it is accepted.
    pub operations: Vec<Operation>,
}

impl FilterRule {
    /// Whether the rule is about this route.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        self.prefix.as_ref().is_none_or(|prefix| prefix.matches(&subject.prefix))
            && self.peer.is_none_or(|peer| peer == subject.peer)
            && (!self.from_peers || !matches!(subject.kind, SourceKind::Local | SourceKind::Static))
            && self
                .interface
                .as_ref()
                .is_none_or(|pattern| subject.interface.is_some_and(|name| is_like(name, pattern)))
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

/// Whether a name is like a pattern in which `*` stands for any characters, none too.
fn is_like(name: &str, pattern: &str) -> bool {
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

/// A filter: rules for each direction and family; the first that matches decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// For IPv4 routes that a peer would be told.
    pub export_v4: Vec<FilterRule>,
    /// For IPv4 routes that come from a peer.
    pub import_v4: Vec<FilterRule>,
    /// For IPv6 routes that a peer would be told.
    pub export_v6: Vec<FilterRule>,
    /// For IPv6 routes that come from a peer.
    pub import_v6: Vec<FilterRule>,
}
