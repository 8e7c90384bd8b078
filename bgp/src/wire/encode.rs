//! Writing messages into a buffer that is used again: nothing is allocated once it has grown.

use std::net::IpAddr;

use ipnet::IpNet;

use super::as_path::{AsPath, AsWidth};
use super::attribute::{RawAttributes, code, flag, push};
use super::frame::{MAX_LEN, MessageKind};
use super::nlri::NlriItem;
use crate::types::{Asn, Family};

/// Appends a message of `kind` whose body `body` writes.
pub(super) fn message(out: &mut Vec<u8>, kind: MessageKind, body: impl FnOnce(&mut Vec<u8>)) {
    let start = begin(out, kind);
    body(out);
    finish(out, start);
}

fn begin(out: &mut Vec<u8>, kind: MessageKind) -> usize {
    let start = out.len();
    out.extend([0xff; 16]);
    out.extend([0, 0, kind.code()]);
    start
}

fn finish(out: &mut [u8], start: usize) {
    let len = u16::try_from(out.len().saturating_sub(start)).unwrap_or(u16::MAX);
    put_u16(out, start.saturating_add(16), len);
}

fn put_u16(out: &mut [u8], at: usize, value: u16) {
    if let Some(field) = out.get_mut(at..at.saturating_add(2)) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// Appends a KEEPALIVE.
pub fn keepalive(out: &mut Vec<u8>) {
    message(out, MessageKind::Keepalive, |_| {});
}

/// How UPDATEs are written for a session, or for a group of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpdateFormat {
    /// Width of AS numbers.
    pub as_width: AsWidth,
    /// The longest message in octets.
    pub max_len: usize,
    /// Whether IPv4 prefixes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
}

impl Default for UpdateFormat {
    fn default() -> UpdateFormat {
        UpdateFormat { as_width: AsWidth::Four, max_len: MAX_LEN, extended_next_hop: false }
    }
}

/// Routes can't be told to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The attributes of one message do not leave room for a single prefix.
    #[error("the attributes take {len} octets, which leaves no room for a prefix in a message of {max}")]
    TooLong {
        /// Octets of the attributes and the message around them.
        len: usize,
        /// The longest message.
        max: usize,
    },
    /// The next hop is of another family than the prefixes, and the peer does not know how to read that.
    #[error("the next hop is of a family that the peer can't take for these prefixes")]
    NextHop,
}

/// Appends UPDATEs that announce `prefixes`, as many to a message as fit; all are of one family, which is
/// that of `next_hop`, or IPv4 (RFC 8950), and share `attributes`, which are canonical (see
/// [`Attributes::write_canonical`](super::attribute::Attributes::write_canonical)). Returns the
/// number of messages.
///
/// # Errors
/// [`EncodeError`], with `out` as it was.
pub fn announce(
    out: &mut Vec<u8>,
    form: UpdateFormat,
    attributes: &[u8],
    next_hop: IpAddr,
    prefixes: impl IntoIterator<Item = impl NlriItem>,
) -> Result<usize, EncodeError> {
    let start = out.len();
    let mut prefixes = PrefixQueue::new(prefixes);
    let ipv4 = matches!(prefixes.next.as_ref().map(NlriItem::prefix), Some(IpNet::V4(_)));
    if ipv4 != next_hop.is_ipv4() && prefixes.next.is_some() && !(ipv4 && form.extended_next_hop) {
        return Err(EncodeError::NextHop);
    }
    let mut messages = 0_usize;
    while prefixes.next.is_some() {
        let message_start = begin(out, MessageKind::Update);
        out.extend([0, 0, 0, 0]);
        let attributes_at = out.len();
        // Where the prefixes go: after the attributes, or inside the last one.
        let mp_start = match next_hop {
            IpAddr::V4(address) => {
                write_attributes(out, form.as_width, attributes, Some(address.octets()));
                None
            }
            IpAddr::V6(address) => {
                write_attributes(out, form.as_width, attributes, None);
                let at = out.len();
                let afi = if ipv4 { 1 } else { 2 };
                out.extend([
                    flag::OPTIONAL | flag::EXTENDED_LENGTH,
                    code::MP_REACH_NLRI,
                    0,
                    0,
                    0,
                    afi,
                    1,
                    16,
                ]);
                out.extend(address.octets());
                out.push(0);
                Some(at)
            }
        };
        let attributes_end = out.len();
        let limit = message_start.saturating_add(form.max_len);
        let wrote = prefixes.fill(out, limit);
        if wrote == 0 {
            let len = out.len().saturating_sub(message_start);
            out.truncate(start);
            return Err(EncodeError::TooLong { len, max: form.max_len });
        }
        let end = match mp_start {
            Some(at) => {
                close_mp(out, at);
                out.len()
            }
            None => attributes_end,
        };
        put_len(out, attributes_at.saturating_sub(2), end.saturating_sub(attributes_at));
        finish(out, message_start);
        messages = messages.saturating_add(1);
    }
    Ok(messages)
}

/// Appends UPDATEs that withdraw `prefixes`, all of `family`, as many to a message as fit; returns
/// the number of messages.
pub fn withdraw(
    out: &mut Vec<u8>,
    form: UpdateFormat,
    family: Family,
    prefixes: impl IntoIterator<Item = impl NlriItem>,
) -> usize {
    let mut prefixes = PrefixQueue::new(prefixes);
    let mut messages = 0_usize;
    while prefixes.next.is_some() {
        let start = begin(out, MessageKind::Update);
        let limit = start.saturating_add(form.max_len);
        match family {
            Family::Ipv4Unicast => {
                out.extend([0, 0]);
                let at = out.len();
                prefixes.fill(out, limit.saturating_sub(2));
                let len = out.len().saturating_sub(at);
                put_len(out, at.saturating_sub(2), len);
                out.extend([0, 0]);
            }
            Family::Ipv6Unicast => {
                out.extend([0, 0, 0, 0]);
                let at = out.len();
                out.extend([flag::OPTIONAL | flag::EXTENDED_LENGTH, code::MP_UNREACH_NLRI, 0, 0, 0, 2, 1]);
                prefixes.fill(out, limit);
                close_mp(out, at);
                let len = out.len().saturating_sub(at);
                put_len(out, at.saturating_sub(2), len);
            }
        }
        finish(out, start);
        messages = messages.saturating_add(1);
    }
    messages
}

/// Appends the End-of-RIB marker of `family` (RFC 4724 §2).
pub fn end_of_rib(out: &mut Vec<u8>, family: Family) {
    message(out, MessageKind::Update, |out| match family {
        Family::Ipv4Unicast => out.extend([0, 0, 0, 0]),
        Family::Ipv6Unicast => {
            out.extend([0, 0, 0, 6, flag::OPTIONAL, code::MP_UNREACH_NLRI, 3, 0, 2, 1]);
        }
    });
}

/// Prefixes to be written, and the one that did not fit the last message.
struct PrefixQueue<I: Iterator> {
    next: Option<I::Item>,
    rest: I,
}

impl<I: Iterator<Item: NlriItem>> PrefixQueue<I> {
    fn new(prefixes: impl IntoIterator<IntoIter = I, Item = I::Item>) -> PrefixQueue<I> {
        let mut rest = prefixes.into_iter();
        PrefixQueue { next: rest.next(), rest }
    }

    /// Appends prefixes while they fit below `limit`; returns how many.
    fn fill(&mut self, out: &mut Vec<u8>, limit: usize) -> usize {
        let mut wrote = 0_usize;
        while let Some(prefix) = &self.next
            && out.len().saturating_add(prefix.encoded_len()) <= limit
        {
            prefix.push(out);
            wrote = wrote.saturating_add(1);
            self.next = self.rest.next();
        }
        wrote
    }
}

/// Sets the length of the attribute with a two-octet length that began at `at` and ends the buffer.
fn close_mp(out: &mut [u8], at: usize) {
    let len = out.len().saturating_sub(at.saturating_add(4));
    put_len(out, at.saturating_add(2), len);
}

fn put_len(out: &mut [u8], at: usize, len: usize) {
    put_u16(out, at, u16::try_from(len).unwrap_or(u16::MAX));
}

/// Writes canonical attributes in the session's form, with NEXT_HOP in its place (RFC 4271 §5: in
/// the order of type codes).
fn write_attributes(out: &mut Vec<u8>, width: AsWidth, canonical: &[u8], next_hop: Option<[u8; 4]>) {
    let mut next_hop = next_hop;
    let mut put_next_hop = |out: &mut Vec<u8>| {
        if let Some(address) = next_hop.take() {
            out.extend([flag::WELL_KNOWN, code::NEXT_HOP, 4]);
            out.extend(address);
        }
    };
    let mut as4_path = None;
    let mut as4_aggregator = None;
    for raw in RawAttributes::new(canonical) {
        if raw.code > code::NEXT_HOP {
            put_next_hop(out);
        }
        match (width, raw.code) {
            (AsWidth::Two, code::AS_PATH) => {
                let path = AsPath::check(raw.value, AsWidth::Four).unwrap_or(AsPath::EMPTY);
                let mut lossy = false;
                push(out, raw.flags, raw.code, |out| lossy = path.write_two(out));
                as4_path = lossy.then_some(raw.value);
            }
            (AsWidth::Two, code::AGGREGATOR) => {
                let Some((asn, id)) = raw.value.split_first_chunk::<4>() else { continue };
                let asn = Asn(u32::from_be_bytes(*asn));
                push(out, raw.flags, raw.code, |out| {
                    out.extend(asn.two_octets().to_be_bytes());
                    out.extend_from_slice(id);
                });
                as4_aggregator = u16::try_from(asn.0).is_err().then_some(raw.value);
            }
            _ => push(out, raw.flags, raw.code, |out| out.extend_from_slice(raw.value)),
        }
    }
    put_next_hop(out);
    // RFC 6793 §4.2.2. At the end rather than in order: these exist only towards old speakers.
    let transitive = flag::OPTIONAL | flag::TRANSITIVE;
    for (code, value) in [(code::AS4_PATH, as4_path), (code::AS4_AGGREGATOR, as4_aggregator)] {
        if let Some(value) = value {
            push(out, transitive, code, |out| out.extend_from_slice(value));
        }
    }
}
