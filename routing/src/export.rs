//! Which paths go to which peers, and with which attributes (RFC 4271 §9.1.3, RFC 4456).

use std::sync::Arc;

use bgp::wire::as_path::SegmentKind;
use bgp::wire::attribute::{RawAttributes, code, flag, push};
use bgp::{Asn, Family, RouterId};

use crate::attrs::{AttrSet, DEFAULT_LOCAL_PREF};
use crate::config::RibConfig;
use crate::path::SourceKind;

/// What peers have in common that get the same routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Audience {
    /// In our AS, not our client.
    Internal,
    /// In our AS, our client.
    Client,
    /// In another AS.
    External,
}

/// Whether paths of `kind` go to `audience`.
///
/// What an internal peer sent goes to no other internal peer (RFC 4271 §9.2), but for reflection:
/// from clients to all, from others to clients (RFC 4456 §6). The static table is everybody's own.
pub fn allows(kind: SourceKind, audience: Audience) -> bool {
    match (kind, audience) {
        (SourceKind::Static, _) => false,
        (SourceKind::Ibgp, Audience::Internal) => false,
        (SourceKind::Local | SourceKind::Ebgp | SourceKind::Client | SourceKind::Ibgp, _) => true,
    }
}

/// The attributes with which a path is sent; `None`: it can't be (no next hop of our own to give).
pub fn transform(
    config: &RibConfig,
    attrs: &Arc<AttrSet>,
    kind: SourceKind,
    from: Option<RouterId>,
    audience: Audience,
    family: Family,
) -> Option<Arc<AttrSet>> {
    match (audience, kind) {
        (Audience::External, _) => {
            let next_hop = config.next_hop_self(family)?;
            Some(Arc::new(AttrSet::from_canonical(
                &to_external(attrs.canonical(), config.local_as),
                next_hop,
            )))
        }
        (_, SourceKind::Ebgp) => {
            // RFC 4271 §5.1.3: the next hop of an external path stays inside the AS.
            let canonical = with_local_pref(attrs.canonical());
            Some(Arc::new(AttrSet::from_canonical(&canonical, attrs.next_hop)))
        }
        (_, SourceKind::Ibgp | SourceKind::Client) => {
            let (Some(cluster_id), Some(from)) = (config.cluster_id, from) else { return None };
            let canonical = reflected(attrs, cluster_id.octets(), from);
            Some(Arc::new(AttrSet::from_canonical(&canonical, attrs.next_hop)))
        }
        (_, SourceKind::Local | SourceKind::Static) => Some(Arc::clone(attrs)),
    }
}

/// Rebuilds canonical attributes: `edit` says for each what stands in its place (`None`: itself) and
/// for each of `wanted`, in the order of codes, what is put where the original has none.
fn rewrite(
    canonical: &[u8],
    wanted: &[u8],
    mut edit: impl FnMut(u8, Option<&[u8]>, &mut Vec<u8>) -> Edit,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(canonical.len() + 16);
    let mut value = Vec::new();
    let mut put = |code: u8, flags: u8, original: Option<&[u8]>| {
        value.clear();
        match (edit(code, original, &mut value), original) {
            (Edit::Keep, Some(original)) => {
                push(&mut out, flags, code, |out| out.extend_from_slice(original))
            }
            (Edit::Keep, None) | (Edit::Drop, _) => {}
            (Edit::Set(flags), _) => push(&mut out, flags, code, |out| out.extend_from_slice(&value)),
        }
    };
    let mut missing = wanted.iter().copied().peekable();
    for raw in RawAttributes::new(canonical) {
        while let Some(code) = missing.next_if(|code| *code < raw.code) {
            put(code, 0, None);
        }
        missing.next_if_eq(&raw.code);
        put(raw.code, raw.flags, Some(raw.value));
    }
    missing.for_each(|code| put(code, 0, None));
    out
}

enum Edit {
    Keep,
    Drop,
    /// What was written stands there, with these flags.
    Set(u8),
}

/// RFC 4456 §8: ORIGINATOR_ID unless there is one, our cluster before the others.
fn reflected(attrs: &AttrSet, cluster_id: [u8; 4], from: RouterId) -> Vec<u8> {
    rewrite(
        attrs.canonical(),
        &[code::LOCAL_PREF, code::ORIGINATOR_ID, code::CLUSTER_LIST],
        |code, original, out| match (code, original) {
            (code::LOCAL_PREF, None) => {
                out.extend(DEFAULT_LOCAL_PREF.to_be_bytes());
                Edit::Set(flag::WELL_KNOWN)
            }
            (code::ORIGINATOR_ID, None) => {
                out.extend(from.0.octets());
                Edit::Set(flag::OPTIONAL)
            }
            (code::CLUSTER_LIST, list) => {
                out.extend(cluster_id);
                out.extend_from_slice(list.unwrap_or_default());
                Edit::Set(flag::OPTIONAL)
            }
            _ => Edit::Keep,
        },
    )
}

fn with_local_pref(canonical: &[u8]) -> Vec<u8> {
    rewrite(canonical, &[code::LOCAL_PREF], |code, original, out| {
        if code == code::LOCAL_PREF && original.is_none() {
            out.extend(DEFAULT_LOCAL_PREF.to_be_bytes());
            return Edit::Set(flag::WELL_KNOWN);
        }
        Edit::Keep
    })
}

/// Our AS before the path; what is for our AS alone, and a MED from elsewhere, left out (RFC 4271 §5.1).
fn to_external(canonical: &[u8], local_as: Asn) -> Vec<u8> {
    rewrite(canonical, &[code::AS_PATH], |code, original, out| match code {
        code::AS_PATH => {
            prepend(original.unwrap_or_default(), local_as, out);
            Edit::Set(flag::WELL_KNOWN)
        }
        code::LOCAL_PREF | code::ORIGINATOR_ID | code::CLUSTER_LIST | code::MULTI_EXIT_DISC => Edit::Drop,
        _ => Edit::Keep,
    })
}

/// RFC 4271 §5.1.2: into the first segment where that is a sequence with room.
fn prepend(path: &[u8], asn: Asn, out: &mut Vec<u8>) {
    let sequence = SegmentKind::Sequence.code();
    match path {
        [kind, count, rest @ ..] if *kind == sequence && *count < u8::MAX => {
            out.extend([sequence, count + 1]);
            out.extend(asn.0.to_be_bytes());
            out.extend_from_slice(rest);
        }
        _ => {
            out.extend([sequence, 1]);
            out.extend(asn.0.to_be_bytes());
            out.extend_from_slice(path);
        }
    }
}
