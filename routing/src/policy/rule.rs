//! One rule of a filter: what it matches and what it does.

use std::fmt;
use std::str::FromStr;

use bgp::Asn;
use bgp::wire::attribute::code;
use ipnet::IpNet;

use crate::attrs::AttrSet;
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

/// A community, of four octets (RFC 1997) or of twelve (RFC 8092).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Community {
    /// `a:b`.
    Standard(u32),
    /// `a:b:c`.
    Large([u32; 3]),
}

impl Community {
    /// RFC 1997.
    pub const NO_EXPORT: Community = Community::Standard(0xffff_ff01);
    /// RFC 1997.
    pub const NO_ADVERTISE: Community = Community::Standard(0xffff_ff02);
    /// RFC 1997.
    pub const NO_EXPORT_SUBCONFED: Community = Community::Standard(0xffff_ff03);
    /// RFC 8326.
    pub const GRACEFUL_SHUTDOWN: Community = Community::Standard(0xffff_0000);
    /// LLGR_STALE (RFC 9494 §4.6).
    pub const LLGR_STALE: Community = Community::Standard(0xffff_0006);
    /// NO_LLGR (RFC 9494 §4.7).
    pub const NO_LLGR: Community = Community::Standard(0xffff_0007);
    /// RFC 7999.
    pub const BLACKHOLE: Community = Community::Standard(0xffff_029a);

    /// Whether `attrs` carry it.
    pub fn is_in(self, attrs: &AttrSet) -> bool {
        match self {
            Community::Standard(number) => {
                let (all, _) = attrs.value(code::COMMUNITIES).unwrap_or_default().as_chunks::<4>();
                all.contains(&number.to_be_bytes())
            }
            Community::Large(_) => {
                let (all, _) = attrs.value(code::LARGE_COMMUNITIES).unwrap_or_default().as_chunks::<12>();
                let mut wanted = Vec::with_capacity(12);
                self.push(&mut wanted);
                all.iter().any(|one| one[..] == wanted[..])
            }
        }
    }

    /// Appends its octets.
    pub(super) fn push(self, out: &mut Vec<u8>) {
        match self {
            Community::Standard(number) => out.extend(number.to_be_bytes()),
            Community::Large(parts) => parts.iter().for_each(|part| out.extend(part.to_be_bytes())),
        }
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Community::Standard(number) => write!(f, "{}:{}", number >> 16, number & 0xffff),
            Community::Large([a, b, c]) => write!(f, "{a}:{b}:{c}"),
        }
    }
}

/// The text is neither `a:b` with numbers up to 65535 nor `a:b:c` with numbers up to 4294967295.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCommunity;

impl fmt::Display for NoCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be a community: a:b with numbers to 65535, or a:b:c with numbers to 4294967295")
    }
}

impl std::error::Error for NoCommunity {}

impl FromStr for Community {
    type Err = NoCommunity;

    fn from_str(text: &str) -> Result<Community, NoCommunity> {
        // `parse` would take a sign, and leading zeros are not what Calico takes.
        fn number<T: FromStr>(text: &str) -> Option<T> {
            let plain =
                text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
            plain.then(|| text.parse().ok()).flatten()
        }
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            [a, b] => number::<u16>(a)
                .zip(number::<u16>(b))
                .map(|(a, b)| Community::Standard(u32::from(a) << 16 | u32::from(b))),
            [a, b, c] => match (number(a), number(b), number(c)) {
                (Some(a), Some(b), Some(c)) => Some(Community::Large([a, b, c])),
                _ => None,
            },
            _ => None,
        }
        .ok_or(NoCommunity)
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
pub struct Rule {
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

impl Rule {
    /// Whether the rule is about this route.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        self.prefix.as_ref().is_none_or(|prefix| prefix.matches(&subject.prefix))
            && self.peer.is_none_or(|peer| peer == subject.peer)
            && (!self.from_peers || !matches!(subject.kind, SourceKind::Local | SourceKind::Static))
            && self
                .interface
                .as_ref()
                .is_none_or(|pattern| subject.interface.is_some_and(|name| is_like(name, pattern)))
            && self.community.is_none_or(|community| community.is_in(subject.attrs))
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
    pub export_v4: Vec<Rule>,
    /// For IPv4 routes that come from a peer.
    pub import_v4: Vec<Rule>,
    /// For IPv6 routes that a peer would be told.
    pub export_v6: Vec<Rule>,
    /// For IPv6 routes that come from a peer.
    pub import_v6: Vec<Rule>,
}
