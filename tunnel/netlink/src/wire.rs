//! Encoding of netlink messages: a writer of attributes, and parsers that never trust a length.
//!
//! Parsers skip the attributes they do not know, so additions of a newer kernel cannot make an
//! observation fail.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::numbers::{AF_INET, AF_INET6, NLA_TYPE_MASK, NLM_F_ACK, NLM_F_REQUEST};

/// Length of `struct nlmsghdr` in octets.
const HEADER_LEN: usize = 16;

/// A request under construction.
#[derive(Debug, Clone)]
pub struct RequestMessage {
    bytes: Vec<u8>,
}

impl RequestMessage {
    /// Begins a request of type `kind`; `header` is the family's fixed structure (`ifinfomsg`,
    /// `rtmsg` ...).
    pub fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(header);
        Self { bytes }.padded()
    }

    fn padded(mut self) -> Self {
        self.pad();
        self
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    /// Appends an attribute. Values are at most some hundred octets, far below what the 16-bit
    /// length allows.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.padded()
    }

    /// Appends a `u32` in host order.
    pub fn u32(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Appends an address.
    pub fn address(self, kind: u16, value: IpAddr) -> Self {
        match value {
            IpAddr::V4(a) => self.attribute(kind, &a.octets()),
            IpAddr::V6(a) => self.attribute(kind, &a.octets()),
        }
    }

    /// Adds flags to the header.
    pub fn add_flags(&mut self, flags: u16) {
        if let Some(field) = self.bytes.get_mut(6..8) {
            let old = u16::from_ne_bytes([field[0], field[1]]);
            field.copy_from_slice(&(old | flags).to_ne_bytes());
        }
    }

    /// Writes length and sequence number and returns the octets.
    pub fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        if let Some(field) = self.bytes.get_mut(0..4) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        if let Some(field) = self.bytes.get_mut(8..12) {
            field.copy_from_slice(&sequence.to_ne_bytes());
        }
        self.bytes
    }
}

/// Requests encoded one after the other into a reusable buffer.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Offset of the last message.
    start: usize,
    first: u32,
    count: u32,
}

impl Batch {
    /// Clears the batch; the first message gets this sequence number.
    pub fn clear(&mut self, first: u32) {
        self.bytes.clear();
        (self.start, self.first, self.count) = (0, first, 0);
    }

    /// Begins a request of type `kind`; `header` is the family's fixed structure, a multiple of
    /// four octets.
    pub fn begin<const N: usize>(&mut self, kind: u16, flags: u16, header: [u8; N]) {
        const { assert!(N.is_multiple_of(4)) };
        self.start = self.bytes.len();
        let mut head = [0; HEADER_LEN];
        head[4..6].copy_from_slice(&kind.to_ne_bytes());
        head[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        head[8..12].copy_from_slice(&self.first.wrapping_add(self.count).to_ne_bytes());
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(&header);
        self.count += 1;
    }

    /// Appends an attribute to the current message; its value is a multiple of four octets.
    pub fn attribute<const N: usize>(&mut self, kind: u16, value: [u8; N]) {
        const { assert!(N.is_multiple_of(4) && N < 1024) };
        #[allow(clippy::cast_possible_truncation)] // Asserted above.
        let length = (N + 4) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&value);
    }

    /// Appends an address.
    pub fn address(&mut self, kind: u16, value: IpAddr) {
        match value {
            IpAddr::V4(a) => self.attribute(kind, a.octets()),
            IpAddr::V6(a) => self.attribute(kind, a.octets()),
        }
    }

    /// Ends the current message.
    pub fn end(&mut self) {
        let length = u32::try_from(self.bytes.len() - self.start).unwrap_or(u32::MAX);
        if let Some(field) = self.bytes.get_mut(self.start..self.start + 4) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// Requests an acknowledgement of the last message, which implies that all before it are
    /// processed. Errors are reported without a request.
    pub fn acknowledge(&mut self) {
        if let Some(field) = self.bytes.get_mut(self.start + 6..self.start + 8) {
            let flags = u16::from_ne_bytes([field[0], field[1]]) | NLM_F_ACK;
            field.copy_from_slice(&flags.to_ne_bytes());
        }
    }

    /// Returns the octets to send.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the sequence number of the first message.
    pub fn first(&self) -> u32 {
        self.first
    }

    /// Returns the number of messages.
    pub fn count(&self) -> u32 {
        self.count
    }
}

/// A received message.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedMessage<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub sequence: u32,
    /// `nlmsg_pid`: the port of the socket that caused the message.
    pub port: u32,
    /// Contents after the header.
    pub payload: &'a [u8],
}

/// Returns the messages of one datagram; stops at the first truncated one.
pub fn messages(mut datagram: &[u8]) -> impl Iterator<Item = ReceivedMessage<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(datagram, 0)?).ok()?;
        let payload = datagram.get(HEADER_LEN..length)?;
        let received = ReceivedMessage {
            kind: u16_at(datagram, 4)?,
            flags: u16_at(datagram, 6)?,
            sequence: u32_at(datagram, 8)?,
            port: u32_at(datagram, 12)?,
            payload,
        };
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(received)
    })
}

/// Returns the attributes in `bytes`; stops at the first truncated one.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Returns the `u16` in host order at `offset`.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let field = bytes.get(offset..)?.first_chunk::<2>()?;
    Some(u16::from_ne_bytes(*field))
}

/// Returns the `u32` in host order at `offset`.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..)?.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*field))
}

/// Parses an attribute's value as an address, by its length.
pub fn address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(value).ok().map(|octets| Ipv6Addr::from(octets).into())
}

/// Parses a zero-terminated string.
pub fn string(value: &[u8]) -> String {
    let text = value.split(|b| *b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// Returns the number of an address's family.
pub fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::numbers::NLM_F_CREATE, *};

    #[test]
    fn an_encoded_message_is_parsed_back() {
        let bytes = RequestMessage::new(24, NLM_F_CREATE, &[2, 26, 0, 0])
            .u32(6, 512)
            .attribute(18, &[9, 0, 1, 0, b'i', b'p', b'i', b'p', 0, 0, 0, 0, 5, 0, 2, 0, 7])
            .finish(77);
        let received: Vec<_> = messages(&bytes).collect();
        assert_eq!(received.len(), 1);
        assert_eq!((received[0].kind, received[0].sequence), (24, 77));
        assert_eq!(received[0].flags, NLM_F_CREATE | NLM_F_REQUEST);
        let outer: Vec<_> = attributes(&received[0].payload[4..]).collect();
        assert_eq!(outer[0], (6, &512u32.to_ne_bytes()[..]));
        let inner: Vec<_> = attributes(outer[1].1).collect();
        assert_eq!((outer[1].0, string(inner[0].1).as_str(), inner[1].1), (18, "ipip", &[7][..]));
    }

    #[test]
    fn a_length_of_zero_ends_the_iteration() {
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[0; 64]).count(), 0);
    }

    proptest! {
        #[test]
        fn parsers_neither_panic_nor_loop_on_any_octets(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / 16);
            prop_assert!(attributes(&bytes).count() <= bytes.len() / 4);
        }
    }
}
