//! rtnetlink messages: a writer of attributes, and readers that never trust a length.
//!
//! Only the handful of attributes that this crate uses is known here; all others are skipped, so a
//! newer kernel's additions cannot make an observation fail. Numbers are those of
//! `linux/netlink.h` and `linux/rtnetlink.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `NLMSG_ERROR`
pub const NLMSG_ERROR: u16 = 2;
/// `NLMSG_DONE`
pub const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST`
pub const NLM_F_REQUEST: u16 = 0x1;
/// `NLM_F_ACK`
pub const NLM_F_ACK: u16 = 0x4;
/// `NLM_F_DUMP_INTR`
pub const NLM_F_DUMP_INTR: u16 = 0x10;
/// `NLM_F_REPLACE`
pub const NLM_F_REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`
pub const NLM_F_EXCL: u16 = 0x200;
/// `NLM_F_CREATE`
pub const NLM_F_CREATE: u16 = 0x400;
/// `NLM_F_DUMP`
pub const NLM_F_DUMP: u16 = 0x300;
/// `NLM_F_ACK_TLVS`
pub const NLM_F_ACK_TLVS: u16 = 0x200;

/// `AF_UNSPEC`
pub const AF_UNSPEC: u8 = 0;
/// `AF_INET`
pub const AF_INET: u8 = 2;
/// `AF_BRIDGE`
pub const AF_BRIDGE: u8 = 7;
/// `AF_INET6`
pub const AF_INET6: u8 = 10;

const HEADER_LEN: usize = 16;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// A message being written.
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A request of type `kind`; `header` is the family's fixed structure (`ifinfomsg`, `rtmsg` ...).
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

    /// Appends an attribute. Values are at most some hundred octets, far below the 16-bit length.
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

/// Messages written one after the other into a buffer that is used again and again.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where the last message begins.
    start: usize,
    first: u32,
    count: u32,
}

impl Batch {
    /// Empties it; the first message will have this sequence number.
    pub fn clear(&mut self, first: u32) {
        self.bytes.clear();
        (self.start, self.first, self.count) = (0, first, 0);
    }

    /// Begins a request of type `kind`; `header` is the family's fixed structure, a multiple of four octets.
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

    /// Appends an attribute to the message that was begun; its value is a multiple of four octets.
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

    /// Ends the message that was begun.
    pub fn end(&mut self) {
        let length = u32::try_from(self.bytes.len() - self.start).unwrap_or(u32::MAX);
        if let Some(field) = self.bytes.get_mut(self.start..self.start + 4) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// Has the last message acknowledged: it tells that all before it are dealt with. Errors arrive unasked for.
    pub fn acknowledge(&mut self) {
        if let Some(field) = self.bytes.get_mut(self.start + 6..self.start + 8) {
            let flags = u16::from_ne_bytes([field[0], field[1]]) | NLM_F_ACK;
            field.copy_from_slice(&flags.to_ne_bytes());
        }
    }

    /// The octets to be sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The first message's sequence number.
    pub fn first(&self) -> u32 {
        self.first
    }

    /// How many messages there are.
    pub fn count(&self) -> u32 {
        self.count
    }
}

/// A received message.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// `nlmsg_type`
    pub kind: u16,
    /// `nlmsg_flags`
    pub flags: u16,
    /// `nlmsg_seq`
    pub sequence: u32,
    /// `nlmsg_pid`: the socket on whose behalf it was sent.
    pub port: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// The messages of one datagram; stops at the first that is cut short.
pub fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(datagram, 0)?).ok()?;
        let payload = datagram.get(HEADER_LEN..length)?;
        let received = Received {
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

/// The attributes in `bytes`; stops at the first that is cut short.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The `u16` in host order at `offset`.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let field = bytes.get(offset..)?.first_chunk::<2>()?;
    Some(u16::from_ne_bytes(*field))
}

/// The `u32` in host order at `offset`.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..)?.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*field))
}

/// An attribute's value as an address, by its length.
pub fn address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(value).ok().map(|octets| Ipv6Addr::from(octets).into())
}

/// A zero-terminated string.
pub fn string(value: &[u8]) -> String {
    let text = value.split(|b| *b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// The address family's number.
pub fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = Message::new(24, NLM_F_CREATE, &[2, 26, 0, 0])
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
        fn no_octets_make_the_readers_panic_or_run_on(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / 16);
            prop_assert!(attributes(&bytes).count() <= bytes.len() / 4);
        }
    }
}
