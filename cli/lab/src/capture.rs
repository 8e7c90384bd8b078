//! Capture of the packets on the lab's bridge, with a packet socket.

use std::{
    collections::BTreeMap,
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
        sockopt::RcvBufForce,
    },
};

use super::layout::WireFormat;

/// The captured octets of a packet, up to the innermost addresses: Ethernet, IPv4 with options,
/// UDP, VXLAN, Ethernet, IPv4.
const SNAPSHOT: usize = 256;
/// The receive buffer in octets: some thousand packets between two reads.
const BUFFER: usize = 8 * 1024 * 1024;
/// `PACKET_OUTGOING`: a copy of a packet, on its way out of another port.
const OUTGOING: u8 = 4;

const ETHERTYPE_IPV4: u16 = 0x0800;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_IPIP: u8 = 4;
const PROTOCOL_UDP: u8 = 17;
const VXLAN_PORT: u16 = tunnel::desired::VXLAN_PORT;

/// The number of packets between pods, by sender, receiver and encapsulation.
pub(super) type Counts = BTreeMap<(Ipv4Addr, Ipv4Addr, WireFormat), u64>;

/// A capture of every packet that enters the bridge through one of its ports.
pub(super) struct Capture {
    socket: OwnedFd,
    ports: Vec<u32>,
    counts: Counts,
}

impl Capture {
    /// Opens a capture in the calling thread's namespace. `ports` are the interface indexes of
    /// the bridge's ports.
    ///
    /// # Errors
    /// The errors of `socket`.
    pub(super) fn open(ports: Vec<u32>) -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
        setsockopt(&socket, RcvBufForce, &BUFFER)?;
        Ok(Self { socket, ports, counts: Counts::new() })
    }

    /// Counts the packets that have arrived so far.
    ///
    /// # Errors
    /// The errors of `recvfrom`.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        let mut buffer = [0; SNAPSHOT];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, Some(from))) => {
                    let entering = u32::try_from(from.ifindex()).is_ok_and(|i| self.ports.contains(&i));
                    if from.pkttype() != OUTGOING
                        && entering
                        && let Some(seen) = buffer.get(..length.min(SNAPSHOT)).and_then(classify)
                    {
                        *self.counts.entry(seen).or_default() += 1;
                    }
                }
                Ok((_, None)) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Returns the counts.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// Returns the pod addresses of an ICMP packet's innermost header, and the encapsulation. `None`
/// for other packets.
fn classify(frame: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr, WireFormat)> {
    let outer = ipv4_of(frame)?;
    let (inner, wire) = match outer.protocol {
        PROTOCOL_IPIP => (Ipv4::parse(outer.payload)?, WireFormat::Ipip),
        PROTOCOL_UDP => {
            let port = outer.payload.get(2..4)?;
            if u16::from_be_bytes([port[0], port[1]]) != VXLAN_PORT {
                return None;
            }
            // 8 octets of UDP and 8 of VXLAN.
            (ipv4_of(outer.payload.get(16..)?)?, WireFormat::Vxlan)
        }
        _ => (outer, WireFormat::Plain),
    };
    (inner.protocol == PROTOCOL_ICMP).then_some((inner.source, inner.destination, wire))
}

fn ipv4_of(frame: &[u8]) -> Option<Ipv4<'_>> {
    let ethertype = frame.get(12..14)?;
    if u16::from_be_bytes([ethertype[0], ethertype[1]]) != ETHERTYPE_IPV4 {
        return None;
    }
    Ipv4::parse(frame.get(14..)?)
}

struct Ipv4<'a> {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let first = *bytes.first()?;
        if first >> 4 != 4 {
            return None;
        }
        let address = |at: usize| Some(Ipv4Addr::from(*bytes.get(at..)?.first_chunk::<4>()?));
        Some(Self {
            source: address(12)?,
            destination: address(16)?,
            protocol: *bytes.get(9)?,
            payload: bytes.get(usize::from(first & 0x0f) * 4..)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ipv4(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        bytes.extend(source);
        bytes.extend(destination);
        bytes.extend(payload);
        bytes
    }

    fn ethernet(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 12];
        bytes.extend([8, 0]);
        bytes.extend(payload);
        bytes
    }

    const NODES: ([u8; 4], [u8; 4]) = ([192, 168, 0, 1], [192, 168, 0, 2]);
    const PODS: ([u8; 4], [u8; 4]) = ([10, 1, 1, 2], [10, 1, 2, 2]);

    #[test]
    fn each_encapsulation_is_recognised_by_its_own_headers() {
        let echo = ipv4(PODS.0, PODS.1, PROTOCOL_ICMP, &[8, 0]);
        let ipip = ipv4(NODES.0, NODES.1, PROTOCOL_IPIP, &echo);
        let mut udp = vec![0xc0, 0, 0x12, 0xb5, 0, 0, 0, 0, 8, 0, 0, 0, 0, 16, 0, 0];
        udp.extend(ethernet(&echo));
        let vxlan = ipv4(NODES.0, NODES.1, PROTOCOL_UDP, &udp);
        let pods = (Ipv4Addr::from(PODS.0), Ipv4Addr::from(PODS.1));
        for (packet, wire) in
            [(&echo, WireFormat::Plain), (&ipip, WireFormat::Ipip), (&vxlan, WireFormat::Vxlan)]
        {
            assert_eq!(classify(&ethernet(packet)), Some((pods.0, pods.1, wire)));
        }
        let other = ipv4(NODES.0, NODES.1, 6, &[0; 20]);
        assert_eq!(classify(&ethernet(&other)), None);
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..120), ip in any::<bool>()) {
            if ip && bytes.len() > 24 {
                bytes[12..15].copy_from_slice(&[8, 0, 0x45]);
                bytes[23] = [4, 17][usize::from(bytes[23] & 1)];
            }
            let _ = classify(&bytes);
        }
    }
}
