//! The fields of a BGPPeer that say what is exchanged with it rather than how.

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

/// Neighbours of a range, where `peerLimit` is not given.
const DEFAULT_PEER_LIMIT: u32 = 1000;
/// The most neighbours of a range.
const MOST_PEERS: i128 = 100_000;

/// What is exchanged with a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerPolicyFields {
    /// `spec.filters`: names of BGPFilters, consulted in this order.
    pub filters: Vec<String>,
    /// `spec.nextHopMode`, or what `keepOriginalNextHop` stands for.
    pub next_hop_mode: NextHopMode,
    /// `spec.localASNumber`.
    pub local_as_number: Option<u32>,
    /// `spec.numAllowedLocalASNumbers`: 0 to 10.
    pub allowed_local_as: u32,
    /// `spec.routed.maxPrefixes`.
    pub max_prefixes: Option<MaxPrefixes>,
    /// `spec.routed.addPath`; `None`: as the cluster has it.
    pub add_path: Option<AddPathMode>,
    /// `spec.routed.role`: what we are to the peer, which is in another AS.
    pub role: Option<Role>,
    /// `spec.routed.peerRange` and `peerLimit`.
    pub range: Option<PeerRange>,
}

/// Neighbours that need no resource each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRange {
    /// Where their addresses lie.
    pub net: IpNet,
    /// How many there can be at a time.
    pub limit: u32,
}

/// True if several paths to a prefix are exchanged with a peer (RFC 7911).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddPathMode {
    /// They are neither taken nor sent.
    Disabled,
    /// They are taken.
    Receive,
    /// They are sent.
    Send,
    /// Both.
    Both,
}

/// Their names.
pub(crate) const ADD_PATH: &[(&str, AddPathMode)] = &[
    ("disabled", AddPathMode::Disabled),
    ("receive", AddPathMode::Receive),
    ("send", AddPathMode::Send),
    ("both", AddPathMode::Both),
];

/// How many prefixes a peer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPrefixes {
    /// One more than this ends the session.
    pub limit: u32,
    /// Per cent of `limit` at which a warning is given (`warnAt`, 80): 1 to 100.
    pub warn_at: u32,
    /// How long the session then stays down (`restartAfter`, 5 minutes); `None`: until the configuration changes.
    pub restart_after: Option<Duration>,
}

impl MaxPrefixes {
    /// As the RIB has it.
    pub fn as_policy(self) -> routing::policy::PrefixLimit {
        let warn_at = u64::from(self.limit) * u64::from(self.warn_at) / 100;
        let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        routing::policy::PrefixLimit { limit: whole(self.limit.into()), warn_at: whole(warn_at).max(1) }
    }
}

/// Reads the fields that are Calico's.
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

/// Reads those of `spec.routed`.
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
