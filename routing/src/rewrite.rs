//! Rewriting canonical attributes.

use bgp::Asn;
use bgp::wire::as_path::SegmentKind;
use bgp::wire::attribute::{RawAttributes, push};

/// Writes edited canonical attributes to `out`. `edit` is called for each attribute, and for each
/// code in `wanted` (sorted) that is missing.
pub(crate) fn rewrite(
    canonical: &[u8],
    wanted: &[u8],
    out: &mut Vec<u8>,
    value: &mut Vec<u8>,
    mut edit: impl FnMut(u8, Option<&[u8]>, &mut Vec<u8>) -> AttributeEdit,
) {
    let mut put = |code: u8, flags: u8, original: Option<&[u8]>| {
        value.clear();
        match (edit(code, original, value), original) {
            (AttributeEdit::Keep, Some(original)) => {
                push(out, flags, code, |out| out.extend_from_slice(original))
            }
            (AttributeEdit::Keep, None) | (AttributeEdit::Drop, _) => {}
            (AttributeEdit::Set(flags), _) => push(out, flags, code, |out| out.extend_from_slice(value)),
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
}

/// Edit of an attribute.
pub(crate) enum AttributeEdit {
    /// Keep the original, if there is one.
    Keep,
    /// Remove the attribute.
    Drop,
    /// Replace the value by the written one, with these flags.
    Set(u8),
}

/// Prepends an AS number to a path: in the first segment if that is a sequence with space left (RFC
/// 4271 §5.1.2).
pub(crate) fn prepend(path: &[u8], asn: Asn, out: &mut Vec<u8>) {
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
