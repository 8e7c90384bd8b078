//! Probe packets: 24 octets, and 16 more if the cluster has a key.
//!
//! | octets | content |
//! |---|---|
//! | 0-3 | `RTPB` |
//! | 4 | version, 1 |
//! | 5 | 1 request, 2 answer |
//! | 6 | tunnel path: 1 IP-in-IP, 2 VXLAN, 3 plain |
//! | 7 | zero |
//! | 8-15 | unpredictable number of the requester, which the answer repeats |
//! | 16-23 | clock of the sender: microseconds since 1970-01-01T00:00:00Z, for information only |
//! | 24-39 | the first 16 octets of HMAC-SHA256 (RFC 2104) over source address, destination address and octets 0-23 |

use std::net::Ipv4Addr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::TunnelPath;

/// Length of a probe without authentication, in octets.
pub const PLAIN_LEN: usize = 24;
/// Length of a probe with authentication, in octets.
pub const SIGNED_LEN: usize = 40;

const MAGIC: [u8; 4] = *b"RTPB";
const VERSION: u8 = 1;

/// The key of the cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct ProbeKey(Vec<u8>);

/// A key of an invalid length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key has {} to {} octets (got {octets})", ProbeKey::LEAST, ProbeKey::MOST)]
pub struct ProbeKeyError {
    /// Length in octets, without white space around the key.
    pub octets: usize,
}

impl ProbeKey {
    /// Minimum length in octets.
    pub const LEAST: usize = 8;
    /// Maximum length in octets.
    pub const MOST: usize = 1024;

    /// Parses the content of a key file, without white space around the key.
    ///
    /// # Errors
    /// [`ProbeKeyError`] for fewer than [`Self::LEAST`] or more than [`Self::MOST`] octets.
    pub fn new(octets: &[u8]) -> Result<ProbeKey, ProbeKeyError> {
        let octets = octets.trim_ascii();
        if (Self::LEAST..=Self::MOST).contains(&octets.len()) {
            return Ok(ProbeKey(octets.to_vec()));
        }
        Err(ProbeKeyError { octets: octets.len() })
    }

    fn code(&self, from: Ipv4Addr, to: Ipv4Addr, head: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(&from.octets());
        mac.update(&to.octets());
        mac.update(head);
        Some(mac)
    }
}

impl std::fmt::Debug for ProbeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(...)")
    }
}

/// The kind of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketKind {
    /// Request.
    Request,
    /// Answer.
    Answer,
}

/// A probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Request or answer.
    pub kind: PacketKind,
    /// Tunnel path.
    pub path: TunnelPath,
    /// Number by which the requester recognizes the answer.
    pub nonce: u64,
    /// Clock of the sender, in microseconds since 1970-01-01T00:00:00Z.
    pub clock: u64,
}

/// The reason to reject octets as a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Invalid length.
    #[error("{0} octets instead of 24, or 40 with a key")]
    Length(usize),
    /// Probe of another program or version.
    #[error("not a probe of version 1")]
    Stranger,
    /// Unknown kind or path.
    #[error("unknown kind or path")]
    Field,
    /// Missing or wrong authentication: the nodes' keys differ.
    #[error("not authentic: the nodes' probe keys differ")]
    Unauthentic,
}

impl Packet {
    /// Encodes the probe. `from` and `to` are the tunnel addresses of the two nodes.
    pub fn encode(&self, key: Option<&ProbeKey>, from: Ipv4Addr, to: Ipv4Addr, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&MAGIC);
        let kind = match self.kind {
            PacketKind::Request => 1,
            PacketKind::Answer => 2,
        };
        let path = match self.path {
            TunnelPath::Ipip => 1,
            TunnelPath::Vxlan => 2,
            TunnelPath::Direct => 3,
        };
        out.extend_from_slice(&[VERSION, kind, path, 0]);
        out.extend_from_slice(&self.nonce.to_be_bytes());
        out.extend_from_slice(&self.clock.to_be_bytes());
        if let Some(mac) = key.and_then(|key| key.code(from, to, out)) {
            let code = mac.finalize().into_bytes();
            out.extend(code.iter().take(SIGNED_LEN - PLAIN_LEN));
        }
    }

    /// Decodes a probe that was sent from `from` to `to`.
    ///
    /// # Errors
    /// [`PacketError`].
    pub fn decode(
        octets: &[u8],
        key: Option<&ProbeKey>,
        from: Ipv4Addr,
        to: Ipv4Addr,
    ) -> Result<Packet, PacketError> {
        let (Some(head), true) =
            (octets.first_chunk::<PLAIN_LEN>(), matches!(octets.len(), PLAIN_LEN | SIGNED_LEN))
        else {
            return Err(PacketError::Length(octets.len()));
        };
        let [m0, m1, m2, m3, version, kind, path, zero, n0, n1, n2, n3, n4, n5, n6, n7, clock @ ..] = *head;
        let nonce = [n0, n1, n2, n3, n4, n5, n6, n7];
        if [m0, m1, m2, m3] != MAGIC || version != VERSION || zero != 0 {
            return Err(PacketError::Stranger);
        }
        let code = octets.get(PLAIN_LEN..).unwrap_or_default();
        let authentic = match key {
            None => code.is_empty(),
            Some(key) => {
                let mac = key.code(from, to, head);
                !code.is_empty() && mac.is_some_and(|mac| mac.verify_truncated_left(code).is_ok())
            }
        };
        if !authentic {
            return Err(PacketError::Unauthentic);
        }
        let kind = match kind {
            1 => PacketKind::Request,
            2 => PacketKind::Answer,
            _ => return Err(PacketError::Field),
        };
        let path = match path {
            1 => TunnelPath::Ipip,
            2 => TunnelPath::Vxlan,
            3 => TunnelPath::Direct,
            _ => return Err(PacketError::Field),
        };
        Ok(Packet { kind, path, nonce: u64::from_be_bytes(nonce), clock: u64::from_be_bytes(clock) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 0);
    const B: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 0);

    fn key(text: &str) -> ProbeKey {
        ProbeKey::new(text.as_bytes()).expect("a key")
    }

    #[test]
    fn a_probe_is_decoded_only_with_the_same_key() {
        let packet = Packet {
            kind: PacketKind::Request,
            path: TunnelPath::Vxlan,
            nonce: 0x0123_4567_89ab_cdef,
            clock: 0xfedc_ba98,
        };
        let (one, other) = (key("correct horse"), key("battery staple"));
        let mut octets = Vec::new();
        packet.encode(None, A, B, &mut octets);
        assert_eq!(octets.len(), PLAIN_LEN);
        assert_eq!(Packet::decode(&octets, None, A, B), Ok(packet));
        assert_eq!(Packet::decode(&octets, Some(&one), A, B), Err(PacketError::Unauthentic));
        packet.encode(Some(&one), A, B, &mut octets);
        assert_eq!(octets.len(), SIGNED_LEN);
        assert_eq!(Packet::decode(&octets, Some(&one), A, B), Ok(packet));
        for (key, from, to) in [(Some(&other), A, B), (None, A, B), (Some(&one), B, A)] {
            assert_eq!(Packet::decode(&octets, key, from, to), Err(PacketError::Unauthentic));
        }
    }

    #[test]
    fn the_authentication_code_equals_that_of_openssl() {
        // printf '\x0a\x01\x01\x00\x0a\x01\x02\x00RTPB\x01\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x08' |
        //   openssl dgst -sha256 -hmac 'correct horse'
        let mut octets = Vec::new();
        let packet = Packet { kind: PacketKind::Answer, path: TunnelPath::Ipip, nonce: 7, clock: 8 };
        packet.encode(Some(&key(" correct horse\n")), A, B, &mut octets);
        let code: String = octets[PLAIN_LEN..].iter().map(|o| format!("{o:02x}")).collect();
        assert_eq!(code, "a3be868b134d5f8938263311ca7ea312");
    }

    #[test]
    fn keys_that_are_too_short_or_too_long_are_refused_with_the_rule() {
        let error = ProbeKey::new(b" short \n").expect_err("too short");
        assert_eq!(error.to_string(), "a key has 8 to 1024 octets (got 5)");
        assert!(ProbeKey::new(&[b'k'; 1025]).is_err());
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..64)) {
            let key = key("correct horse");
            for key in [None, Some(&key)] {
                if let Ok(packet) = Packet::decode(&octets, key, A, B) {
                    let mut again = Vec::new();
                    packet.encode(key, A, B, &mut again);
                    prop_assert_eq!(&again, &octets);
                }
            }
        }
    }
}
