//! The few BGP messages that clients send (RFC 4271).

use std::{net::Ipv4Addr, rc::Rc};

use super::universe::Prefix;

/// The largest message without the extended message capability.
pub(super) const MAX_MESSAGE: usize = 4096;
/// Marker, length and type.
pub(super) const HEADER: usize = 19;

/// A message's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Message {
    /// OPEN
    Open = 1,
    /// UPDATE
    Update = 2,
    /// NOTIFICATION
    Notification = 3,
    /// KEEPALIVE
    Keepalive = 4,
    /// ROUTE-REFRESH (RFC 2918)
    RouteRefresh = 5,
}

fn message(kind: Message, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length = HEADER + parts.iter().map(|part| part.len()).sum::<usize>();
    out.extend([0xff; 16]);
    out.extend(u16::try_from(length).expect("a message that fits").to_be_bytes());
    out.push(kind as u8);
    for part in parts {
        out.extend(*part);
    }
}

/// OPEN with IPv4 unicast, route refresh and four-octet AS numbers (RFC 4760, 2918, 6793).
pub(super) fn open(as_number: u32, hold_time: u16, id: Ipv4Addr) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 2, 0, 65, 4];
    capabilities.extend(as_number.to_be_bytes());
    let length = u8::try_from(capabilities.len()).expect("few capabilities");
    let short = u16::try_from(as_number).unwrap_or(23456);
    let mut out = Vec::new();
    message(
        Message::Open,
        &[
            &[4],
            &short.to_be_bytes(),
            &hold_time.to_be_bytes(),
            &id.octets(),
            &[length + 2, 2, length],
            &capabilities,
        ],
        &mut out,
    );
    out
}

/// Returns OPEN and KEEPALIVE, all that a peer sends to become Established.
#[must_use]
pub fn handshake(as_number: u32, hold_time: u16, id: Ipv4Addr) -> Vec<u8> {
    let mut out = open(as_number, hold_time, id);
    keepalive(&mut out);
    out
}

/// KEEPALIVE
pub(super) fn keepalive(out: &mut Vec<u8>) {
    message(Message::Keepalive, &[], out);
}

/// An UPDATE without anything, which is IPv4 unicast's End-of-RIB (RFC 4724 §2).
pub(super) fn end_of_rib(out: &mut Vec<u8>) {
    message(Message::Update, &[&[0; 4]], out);
}

fn push_prefix((address, length): Prefix, out: &mut Vec<u8>) {
    out.push(length);
    out.extend(&address.to_be_bytes()[..usize::from(length).div_ceil(8)]);
}

/// UPDATEs that announce prefixes with these attributes, as few as possible.
pub(super) fn announce(attributes: &[u8], prefixes: impl IntoIterator<Item = Prefix>, out: &mut Vec<u8>) {
    let length = u16::try_from(attributes.len()).expect("attributes that fit").to_be_bytes();
    let room = MAX_MESSAGE - HEADER - 4 - attributes.len();
    packed(prefixes, room, |nlri| message(Message::Update, &[&[0; 2], &length, attributes, nlri], out));
}

/// UPDATEs that withdraw prefixes, as few as possible.
pub(super) fn withdraw(prefixes: impl IntoIterator<Item = Prefix>, out: &mut Vec<u8>) {
    packed(prefixes, MAX_MESSAGE - HEADER - 4, |nlri| {
        let length = u16::try_from(nlri.len()).expect("packed to fit").to_be_bytes();
        message(Message::Update, &[&length, nlri, &[0; 2]], out);
    });
}

fn packed(prefixes: impl IntoIterator<Item = Prefix>, room: usize, mut full: impl FnMut(&[u8])) {
    /// The longest prefix: its length and four octets.
    const LONGEST: usize = 5;
    let mut nlri = Vec::with_capacity(room);
    for prefix in prefixes {
        if nlri.len() + LONGEST > room {
            full(&nlri);
            nlri.clear();
        }
        push_prefix(prefix, &mut nlri);
    }
    if !nlri.is_empty() {
        full(&nlri);
    }
}

/// A script cut into at most `count` pieces of about the same size, between messages.
#[must_use]
pub fn pieces(script: &[u8], count: usize) -> Vec<Rc<[u8]>> {
    let size = script.len().div_ceil(count.max(1)).max(1);
    let mut pieces = Vec::new();
    let (mut begin, mut end) = (0, 0);
    while let Some(header) = script.get(end..end + HEADER) {
        end += usize::from(u16::from_be_bytes([header[16], header[17]])).max(HEADER);
        if end - begin >= size || end >= script.len() {
            pieces.push(script.get(begin..end).unwrap_or_default().into());
            begin = end;
        }
    }
    pieces
}

/// The path attributes of one path, as iBGP carries them.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes {
    /// ORIGIN: 0 IGP, 1 EGP, 2 INCOMPLETE.
    pub origin: u8,
    /// AS_PATH, one sequence; empty for a path of our own AS.
    pub as_path: Vec<u32>,
    /// MULTI_EXIT_DISC
    pub med: Option<u32>,
    /// LOCAL_PREF
    pub local_pref: u32,
    /// COMMUNITIES (RFC 1997)
    pub communities: Vec<u32>,
}

impl Attributes {
    /// In the order of their types, with this NEXT_HOP.
    pub(super) fn encode(&self, next_hop: Ipv4Addr) -> Vec<u8> {
        let mut out = vec![0x40, 1, 1, self.origin];
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        let mut attribute = |flags: u8, kind: u8, parts: &[&[u8]]| {
            let length: usize = parts.iter().map(|part| part.len()).sum();
            out.extend([flags, kind, u8::try_from(length).expect("a short attribute")]);
            parts.iter().for_each(|part| out.extend(*part));
        };
        if self.as_path.is_empty() {
            attribute(0x40, 2, &[]);
        } else {
            let hops = u8::try_from(self.as_path.len()).expect("a short path");
            attribute(0x40, 2, &[&[2, hops], &words(&self.as_path)]);
        }
        attribute(0x40, 3, &[&next_hop.octets()]);
        if let Some(med) = self.med {
            attribute(0x80, 4, &[&med.to_be_bytes()]);
        }
        attribute(0x40, 5, &[&self.local_pref.to_be_bytes()]);
        if !self.communities.is_empty() {
            attribute(0xc0, 8, &[&words(&self.communities)]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_messages_and_together_the_script() {
        let mut script = Vec::new();
        withdraw((0..5000).map(|number| (number << 8, 24)), &mut script);
        let messages = script.len().div_ceil(MAX_MESSAGE);
        let pieces = pieces(&script, 3);
        assert!(messages > 3 && pieces.len() <= 3, "{messages} {}", pieces.len());
        assert!(pieces.iter().all(|piece| piece.starts_with(&[0xff; 16])));
        assert_eq!(pieces.concat(), script);
        assert_eq!(super::pieces(&script, 1).len(), 1);
    }
}
