//! Export of paths to peers: eligibility and attributes (RFC 4271 §9.1.3, RFC 4456).

use std::net::IpAddr;

use bgp::wire::attribute::{code, flag};
use bgp::{Asn, Family, RouterId};

use crate::attrs::{AttrSet, DEFAULT_LOCAL_PREF};
use crate::config::RibConfig;
use crate::path::SourceKind;
use crate::policy::{self, ExportPolicy, NextHopMode, Operation};
use crate::rewrite::{AttributeEdit, prepend, rewrite};
use crate::roles;
use crate::table::Scope;

/// Kind of peers that receive the same routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Audience {
    /// Peers in our AS that are not our clients.
    Internal,
    /// Clients in our AS (RFC 4456).
    Client,
    /// Peers in another AS.
    External,
}

/// Returns whether paths of `kind` are advertised to `audience`.
///
/// Paths from an internal peer are not advertised to other internal peers (RFC 4271 §9.2), except
/// for reflection: from clients to all, from others to clients (RFC 4456 §6). Static paths are
/// never advertised, since every node has the table. `long_lived`: the audience supports long-lived
/// graceful restart (RFC 9494).
pub(crate) fn allows(
    config: &RibConfig,
    export: &ExportPolicy,
    kind: SourceKind,
    scope: Scope,
    audience: Audience,
    long_lived: bool,
    family: Family,
) -> bool {
    let external = audience == Audience::External;
    match scope {
        Scope::Everywhere => {}
        Scope::Internal if !external => {}
        Scope::LlgrStale if !external && long_lived => {}
        Scope::Internal | Scope::LlgrStale | Scope::Nobody => return false,
    }
    // Without a local address there is no next hop to advertise.
    if gives_own_next_hop(export, external) && config.next_hop_self(family).is_none() {
        return false;
    }
    match (kind, audience) {
        (SourceKind::Static, _) => false,
        (_, Audience::External) => true,
        (SourceKind::Ibgp, Audience::Internal) => false,
        (SourceKind::Client | SourceKind::Ibgp, _) => config.cluster_id.is_some(),
        (SourceKind::Local | SourceKind::Ebgp, _) => true,
    }
}

fn gives_own_next_hop(export: &ExportPolicy, external: bool) -> bool {
    match export.next_hop {
        NextHopMode::Auto => external,
        NextHopMode::Own => true,
        NextHopMode::Keep => false,
    }
}

/// Buffers for writing attributes; their memory is reused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    canonical: Vec<u8>,
    value: Vec<u8>,
    edited: Vec<u8>,
}

/// Returns the canonical attributes and the next hop for advertising a path that [`allows`]
/// accepts. `from` is the BGP identifier of its peer, and `operations` are those of the rule that
/// accepted it.
#[allow(clippy::too_many_arguments)]
pub(crate) fn transform<'a>(
    config: &RibConfig,
    export: &ExportPolicy,
    operations: &[Operation],
    attrs: &'a AttrSet,
    kind: SourceKind,
    from: RouterId,
    audience: Audience,
    family: Family,
    scratch: &'a mut Scratch,
) -> (&'a [u8], IpAddr) {
    let Scratch { canonical, value, edited } = scratch;
    canonical.clear();
    let mut next_hop = attrs.next_hop;
    if gives_own_next_hop(export, audience == Audience::External) {
        next_hop = config.next_hop_self(family).unwrap_or(next_hop);
    }
    let mut original = attrs.canonical();
    let marked = export.role.is_some_and(roles::marks_sent) && attrs.only_to_customer.is_none();
    if !operations.is_empty() || marked {
        *edited = policy::apply_operations(original, operations);
        if marked {
            let asn = export.local_as.unwrap_or(config.local_as);
            *edited = policy::apply_operations(edited, &[Operation::OnlyToCustomer(asn)]);
        }
        original = edited;
    }
    match (audience, kind) {
        (Audience::External, _) => {
            let local_as = export.local_as.unwrap_or(config.local_as);
            write_external(original, local_as, metric(operations), canonical, value);
        }
        // RFC 4271 §5.1.3: the next hop of an external path is not changed towards internal peers.
        (_, SourceKind::Ebgp) => write_internal(original, canonical, value),
        (_, SourceKind::Ibgp | SourceKind::Client) => {
            let cluster_id = config.cluster_id.unwrap_or(config.router_id.0);
            write_reflected(original, cluster_id.octets(), from, canonical, value);
        }
        (_, SourceKind::Local | SourceKind::Static) => return (original, next_hop),
    }
    (canonical, next_hop)
}

/// Returns the MED for an external peer: LOCAL_PREF is not advertised outside the AS, so the
/// priority that a rule sets becomes MULTI_EXIT_DISC, of which the lower value is preferred too.
fn metric(operations: &[Operation]) -> Option<u32> {
    operations.iter().rev().find_map(|operation| match operation {
        Operation::SetPriority(priority) => Some(*priority),
        Operation::AddCommunity(_) | Operation::PrependAsPath(_) | Operation::OnlyToCustomer(_) => None,
    })
}

/// Writes the attributes of a reflected path: ORIGINATOR_ID, unless there is one, and our cluster
/// in front of CLUSTER_LIST (RFC 4456 §8).
fn write_reflected(
    canonical: &[u8],
    cluster_id: [u8; 4],
    from: RouterId,
    out: &mut Vec<u8>,
    value: &mut Vec<u8>,
) {
    rewrite(
        canonical,
        &[code::LOCAL_PREF, code::ORIGINATOR_ID, code::CLUSTER_LIST],
        out,
        value,
        |code, original, out| match (code, original) {
            (code::LOCAL_PREF, None) => {
                out.extend(DEFAULT_LOCAL_PREF.to_be_bytes());
                AttributeEdit::Set(flag::WELL_KNOWN)
            }
            (code::ORIGINATOR_ID, None) => {
                out.extend(from.0.octets());
                AttributeEdit::Set(flag::OPTIONAL)
            }
            (code::CLUSTER_LIST, list) => {
                out.extend(cluster_id);
                out.extend_from_slice(list.unwrap_or_default());
                AttributeEdit::Set(flag::OPTIONAL)
            }
            _ => AttributeEdit::Keep,
        },
    );
}

fn write_internal(canonical: &[u8], out: &mut Vec<u8>, value: &mut Vec<u8>) {
    rewrite(canonical, &[code::LOCAL_PREF], out, value, |code, original, out| {
        if code == code::LOCAL_PREF && original.is_none() {
            out.extend(DEFAULT_LOCAL_PREF.to_be_bytes());
            return AttributeEdit::Set(flag::WELL_KNOWN);
        }
        AttributeEdit::Keep
    });
}

/// Writes the attributes for an external peer: our AS in front of AS_PATH, without attributes that
/// are for the local AS only, and without a received MED (RFC 4271 §5.1).
fn write_external(canonical: &[u8], local_as: Asn, med: Option<u32>, out: &mut Vec<u8>, value: &mut Vec<u8>) {
    rewrite(canonical, &[code::AS_PATH, code::MULTI_EXIT_DISC], out, value, |code, original, out| {
        match (code, med) {
            (code::AS_PATH, _) => {
                prepend(original.unwrap_or_default(), local_as, out);
                AttributeEdit::Set(flag::WELL_KNOWN)
            }
            (code::MULTI_EXIT_DISC, Some(med)) => {
                out.extend(med.to_be_bytes());
                AttributeEdit::Set(flag::OPTIONAL)
            }
            (code::LOCAL_PREF | code::ORIGINATOR_ID | code::CLUSTER_LIST | code::MULTI_EXIT_DISC, _) => {
                AttributeEdit::Drop
            }
            // RFC 9012 §11: tunnels end inside the AS.
            (code::TUNNEL_ENCAPSULATION, _) => AttributeEdit::Drop,
            _ => AttributeEdit::Keep,
        }
    });
}
