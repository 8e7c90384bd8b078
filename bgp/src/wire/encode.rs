//! Encoding of messages into a buffer that is reused: nothing is allocated once it has grown.

use std::net::IpAddr;

use ipnet::IpNet;

use super::as_path::{AsPath, AsWidth};
use super::attribute::{RawAttributes, code, flag, push};
use super::frame::{MAX_LEN, MessageKind};
use super::nlri::NlriItem;
use crate::types::{Asn, Family};

/// Appends a message of `kind`; `body` writes its body.
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

/// Parameters for encoding UPDATEs for a session, or for a group of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpdateFormat {
    /// Width of AS numbers.
    pub as_width: AsWidth,
    /// Length of the longest message, in octets.
    pub max_len: usize,
    /// IPv4 prefixes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
}

impl Default for UpdateFormat {
    fn default() -> UpdateFormat {
        UpdateFormat { as_width: AsWidth::Four, max_len: MAX_LEN, extended_next_hop: false }
    }
}

/// Error for routes that cannot be sent to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The attributes of one message leave no room for a single prefix.
    #[error("attributes of {len} octets leave no room for a prefix in a message of {max}")]
    TooLong {
        /// Length of the attributes and the message around them, in octets.
        len: usize,
        /// Length of the longest message, in octets.
        max: usize,
    },
    /// The next hop and the prefixes are of different families, and the peer does not support that.
    #[error("the peer does not support a next hop of this family for these prefixes")]
    NextHop,
}

/// Appends UPDATEs that announce `prefixes`, with as many prefixes in a message as fit. All
/// prefixes have the family of `next_hop`, or are IPv4 (RFC 8950). `attributes` are canonical (see
/// [`Attributes::write_canonical`](super::attribute::Attributes::write_canonical)). Returns the
/// number of messages.
///
/// # Errors
/// [`EncodeError`]; `out` is unchanged.
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
        // The prefixes follow the attributes, or are the end of the last one.
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

/// Appends UPDATEs that withdraw `prefixes`, all of `family`, with as many prefixes in a message as
/// fit. Returns the number of messages.
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

/// Prefixes to write, with one element of lookahead: the prefix that did not fit the last message.
struct PrefixQueue<I: Iterator> {
    next: Option<I::Item>,
    rest: I,
}

impl<I: Iterator<Item: NlriItem>> PrefixQueue<I> {
    fn new(prefixes: impl IntoIterator<IntoIter = I, Item = I::Item>) -> PrefixQueue<I> {
        let mut rest = prefixes.into_iter();
        PrefixQueue { next: rest.next(), rest }
    }

    /// Appends prefixes while they fit below `limit`; returns their number.
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

/// Sets the two-octet length of the attribute that starts at `at` and ends with the buffer.
fn close_mp(out: &mut [u8], at: usize) {
    let len = out.len().saturating_sub(at.saturating_add(4));
    put_len(out, at.saturating_add(2), len);
}

fn put_len(out: &mut [u8], at: usize, len: usize) {
    put_u16(out, at, u16::try_from(len).unwrap_or(u16::MAX));
}

/// Writes canonical attributes in the session's format, with NEXT_HOP in its place (RFC 4271 §5: in
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
    // RFC 6793 §4.2.2. At the end instead of in order: these are sent to old speakers only.
    let transitive = flag::OPTIONAL | flag::TRANSITIVE;
    for (code, value) in [(code::AS4_PATH, as4_path), (code::AS4_AGGREGATOR, as4_aggregator)] {
        if let Some(value) = value {
            push(out, transitive, code, |out| out.extend_from_slice(value));
        }
    }
}
