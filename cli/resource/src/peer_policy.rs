//! Policy fields of a BGPPeer: filters, next hop, limits, ADD-PATH, role and ranges.

use std::time::Duration;

use bgp::wire::capability::Role;
use ipnet::IpNet;
use routing::policy::NextHopMode;

use super::reader::{Fields, Report};
use super::scalar;
use super::tree::Value;

/// The roles of RFC 9234.
const ROLES: &[(&str, Role)] = &[
    ("provider", Role::Provider),
    ("customer", Role::Customer),
    ("peer", Role::Peer),
    ("rs", Role::RouteServer),
    ("rs-client", Role::RouteServerClient),
];

/// The default of `peerLimit`.
const DEFAULT_PEER_LIMIT: u32 = 1000;
/// The largest `peerLimit`.
const MOST_PEERS: i128 = 100_000;

/// The policy for routes exchanged with a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerPolicyFields {
    /// `spec.filters`: names of BGPFilters, evaluated in this order.
    pub filters: Vec<String>,
    /// `spec.nextHopMode`, or the equivalent of `keepOriginalNextHop`.
    pub next_hop_mode: NextHopMode,
    /// `spec.localASNumber`.
    pub local_as_number: Option<u32>,
    /// `spec.numAllowedLocalASNumbers`: 0 to 10.
    pub allowed_local_as: u32,
    /// `spec.routed.maxPrefixes`.
    pub max_prefixes: Option<MaxPrefixes>,
    /// `spec.routed.addPath`; `None` inherits the cluster's setting.
    pub add_path: Option<AddPathMode>,
    /// `spec.routed.role`: our role towards the peer, which is in another AS (RFC 9234).
    pub role: Option<Role>,
    /// `spec.routed.peerRange` and `peerLimit`.
    pub range: Option<PeerRange>,
}

/// A range of addresses from which peers are accepted without a resource for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRange {
    /// The addresses.
    pub net: IpNet,
    /// The largest number of peers at one time.
    pub limit: u32,
}

/// The exchange of several paths to a prefix with a peer (ADD-PATH, RFC 7911).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddPathMode {
    /// Neither received nor sent.
    Disabled,
    /// Received.
    Receive,
    /// Sent.
    Send,
    /// Received and sent.
    Both,
}

/// The names of [`AddPathMode`] in resources.
pub(crate) const ADD_PATH: &[(&str, AddPathMode)] = &[
    ("disabled", AddPathMode::Disabled),
    ("receive", AddPathMode::Receive),
    ("send", AddPathMode::Send),
    ("both", AddPathMode::Both),
];

/// A limit on the number of prefixes of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPrefixes {
    /// The largest number of prefixes. One more ends the session.
    pub limit: u32,
    /// Percentage of `limit` at which a warning is logged (`warnAt`, 80): 1 to 100.
    pub warn_at: u32,
    /// The time for which the session then stays down (`restartAfter`, 5 minutes); `None`: until the
    /// configuration changes.
    pub restart_after: Option<Duration>,
}

impl MaxPrefixes {
    /// Returns the limit as the RIB's policy type.
    pub fn as_policy(self) -> routing::policy::PrefixLimit {
        let warn_at = u64::from(self.limit) * u64::from(self.warn_at) / 100;
        let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        routing::policy::PrefixLimit { limit: whole(self.limit.into()), warn_at: whole(warn_at).max(1) }
    }
}

/// Reads Calico's fields.
pub(super) fn read(spec: &mut Fields<'_>, report: &mut Report) -> PeerPolicyFields {
    let mut policy = PeerPolicyFields {
        filters: spec.list("filters", report, scalar::name),
        local_as_number: spec.optional("localASNumber", report, scalar::as_number),
        allowed_local_as: spec
            .optional("numAllowedLocalASNumbers", report, scalar::number(0, 10))
            .unwrap_or(0),
        ..PeerPolicyFields::default()
    };
    let modes = &[("Auto", NextHopMode::Auto), ("Self", NextHopMode::Own), ("Keep", NextHopMode::Keep)];
    let mode = spec.optional("nextHopMode", report, scalar::one_of(modes));
    let keep = spec.optional("keepOriginalNextHop", report, scalar::boolean);
    if mode.is_some() && keep == Some(true) {
        let line = spec.line("keepOriginalNextHop");
        report.mistake(line, "spec.keepOriginalNextHop", "excludes nextHopMode: keep nextHopMode");
    }
    policy.next_hop_mode =
        mode.unwrap_or(if keep == Some(true) { NextHopMode::Keep } else { NextHopMode::Auto });
    policy
}

/// Reads the fields of `spec.routed`.
pub(super) fn read_routed(routed: &mut Fields<'_>, policy: &mut PeerPolicyFields, report: &mut Report) {
    policy.max_prefixes = max_prefixes(routed, report);
    policy.add_path = routed.optional("addPath", report, scalar::one_of(ADD_PATH));
    policy.role = routed.optional("role", report, scalar::one_of(ROLES));
    let net = routed.optional("peerRange", report, scalar::prefix);
    let limit = routed.optional("peerLimit", report, scalar::number(1, MOST_PEERS));
    if limit.is_some() && !report.lines.contains_key(&routed.path("peerRange")) {
        let path = routed.path("peerLimit");
        report.mistake(routed.line("peerLimit"), &path, "must be left out where there is no peerRange");
    }
    policy.range = net.map(|net| PeerRange { net, limit: limit.unwrap_or(DEFAULT_PEER_LIMIT) });
}

/// Reads `maxPrefixes` of `spec.routed`.
pub(super) fn max_prefixes(routed: &mut Fields<'_>, report: &mut Report) -> Option<MaxPrefixes> {
    let mut fields = routed.fields("maxPrefixes", report)?;
    let limit = fields.required("limit", report, scalar::number(1, i128::from(u32::MAX)));
    let warn_at = fields.optional("warnAt", report, scalar::number(1, 100)).unwrap_or(80);
    let restart_after = fields.optional("restartAfter", report, |value| match value {
        Value::Text(text) if text == "never" => Ok(None),
        _ => match scalar::duration(value) {
            Ok(time) if time >= Duration::from_secs(1) => Ok(Some(time)),
            _ => Err("must be never, or a duration from 1s to 24h".into()),
        },
    });
    fields.finish(report);
    let restart_after = restart_after.unwrap_or(Some(Duration::from_secs(300)));
    Some(MaxPrefixes { limit: limit?, warn_at, restart_after })
}
