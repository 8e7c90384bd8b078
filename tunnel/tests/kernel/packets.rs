//! Packets of a spoofer, built by hand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tunnel::node::Mac;

/// Builds an IPv4 (or IPv6) packet with a UDP datagram inside.
pub(crate) fn datagram(from: &str, to: &str, port: u16, payload: &str) -> Vec<u8> {
    let (from, to): (IpAddr, IpAddr) = (from.parse().expect("address"), to.parse().expect("address"));
    let length = |octets: usize| u16::try_from(octets).expect("short").to_be_bytes();
    let mut udp = Vec::new();
    udp.extend(40000u16.to_be_bytes());
    udp.extend(port.to_be_bytes());
    udp.extend(length(8 + payload.len()));
    udp.extend([0, 0]);
    udp.extend(payload.as_bytes());
    let mut packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ipv4(from, to, udp.len()),
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            // IPv6 requires a checksum (RFC 8200 §8.1).
            let mut pseudo = [from.octets(), to.octets()].concat();
            pseudo.extend([0, 0]);
            pseudo.extend(length(udp.len()));
            pseudo.extend([0, 0, 0, 17]);
            pseudo.extend(&udp);
            udp[6..8].copy_from_slice(&checksum(&pseudo).to_be_bytes());
            ipv6(from, to, udp.len())
        }
        _ => panic!("two families"),
    };
    packet.extend(udp);
    packet
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, payload: usize) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend(u16::try_from(20 + payload).expect("short").to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    header.extend(from.octets());
    header.extend(to.octets());
    let sum = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    header
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, payload: usize) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(u16::try_from(payload).expect("short").to_be_bytes());
    header.extend([17, 64]);
    header.extend(from.octets());
    header.extend(to.octets());
    header
}

/// Computes the checksum of RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let mut sum: u32 =
        octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

/// Builds the contents of a UDP datagram to port 4789: header (RFC 7348 §5), Ethernet frame,
/// packet.
pub(crate) fn vxlan(vni: u32, to: Mac, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![8, 0, 0, 0];
    frame.extend((vni << 8).to_be_bytes());
    frame.extend(to);
    frame.extend([2, 0, 0, 0, 0, 9]);
    frame.extend(if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] });
    frame.extend(packet);
    frame
}
