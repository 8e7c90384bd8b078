//! ICMP echo (RFC 792) from inside a pod.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt,
            socket, sockopt::ReceiveTimeout,
        },
        time::{TimeVal, TimeValLike},
    },
};

/// Requests sent to each pod.
pub(super) const REQUESTS: u16 = 2;
/// The timeout for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
/// The payload, for packets of the usual size.
const PAYLOAD: [u8; 48] = [0x61; 48];

/// The results of the pings of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PingResults {
    /// Requests sent.
    pub sent: u16,
    /// Answers received.
    pub received: u16,
    /// The fastest answer's round-trip time.
    pub round_trip: Option<Duration>,
}

/// Sends [`REQUESTS`] echo requests, each after the answer to the one before, from the calling
/// thread's namespace.
///
/// # Errors
/// The socket can't be opened. Unreachable addresses are a result, not an error.
pub(super) fn ping(destination: Ipv4Addr, identifier: u16) -> io::Result<PingResults> {
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)?;
    let address = SockaddrIn::from(std::net::SocketAddrV4::new(destination, 0));
    let mut result = PingResults { sent: 0, received: 0, round_trip: None };
    for sequence in 0..REQUESTS {
        let start = Instant::now();
        result.sent += 1;
        let request = request(identifier, sequence);
        match sendto(socket.as_raw_fd(), &request, &address, MsgFlags::empty()) {
            Ok(_) => {}
            Err(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EINVAL | Errno::EACCES) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let mut buffer = [0; 256];
        loop {
            let left = PATIENCE.saturating_sub(start.elapsed());
            if left.is_zero() {
                break;
            }
            let micros = i64::try_from(left.as_micros()).unwrap_or(i64::MAX);
            setsockopt(&socket, ReceiveTimeout, &TimeVal::microseconds(micros.max(1)))?;
            match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    let reply = buffer.get(..length).unwrap_or_default();
                    if answers(reply, destination, identifier, sequence) {
                        let taken = start.elapsed();
                        result.received += 1;
                        result.round_trip = Some(result.round_trip.map_or(taken, |best| best.min(taken)));
                        break;
                    }
                }
                Err(Errno::EAGAIN) => break,
                // An earlier packet's ICMP error, or a signal.
                Err(Errno::EINTR | Errno::EHOSTUNREACH | Errno::ENETUNREACH) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    Ok(result)
}

fn request(identifier: u16, sequence: u16) -> Vec<u8> {
    let mut packet = vec![ECHO_REQUEST, 0, 0, 0];
    packet.extend(identifier.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(PAYLOAD);
    let sum = checksum(&packet).to_be_bytes();
    if let Some(field) = packet.get_mut(2..4) {
        field.copy_from_slice(&sum);
    }
    packet
}

/// Returns whether an IPv4 packet is the answer to our request.
fn answers(packet: &[u8], from: Ipv4Addr, identifier: u16, sequence: u16) -> bool {
    let Some(first) = packet.first() else { return false };
    let source = packet.get(12..16);
    let icmp = packet.get(usize::from(first & 0x0f) * 4..).unwrap_or_default();
    let expected = [identifier.to_be_bytes(), sequence.to_be_bytes()].concat();
    source == Some(&from.octets()[..])
        && icmp.first() == Some(&ECHO_REPLY)
        && icmp.get(4..8) == Some(&expected[..])
        && checksum(icmp) == 0
        && icmp.get(8..) == Some(&PAYLOAD[..])
}

/// Returns the Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let sum = bytes.chunks(2).fold(0u32, |sum, pair| {
        let high = u32::from(pair.first().copied().unwrap_or(0));
        let low = u32::from(pair.get(1).copied().unwrap_or(0));
        sum + (high << 8 | low)
    });
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded & 0xffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(identifier: u16, sequence: u16) -> Vec<u8> {
        let mut icmp = request(identifier, sequence);
        icmp[0] = ECHO_REPLY;
        icmp[2..4].copy_from_slice(&[0, 0]);
        let sum = checksum(&icmp).to_be_bytes();
        icmp[2..4].copy_from_slice(&sum);
        let mut packet = vec![0x45; 20];
        packet[12..16].copy_from_slice(&[10, 1, 2, 2]);
        packet.extend(icmp);
        packet
    }

    #[test]
    fn only_the_answer_to_this_request_counts() {
        let from = Ipv4Addr::new(10, 1, 2, 2);
        assert!(answers(&reply(7, 1), from, 7, 1));
        assert!(!answers(&reply(7, 0), from, 7, 1));
        assert!(!answers(&reply(8, 1), from, 7, 1));
        assert!(!answers(&reply(7, 1), Ipv4Addr::new(10, 1, 3, 2), 7, 1));
        let mut broken = reply(7, 1);
        broken[40] ^= 1;
        assert!(!answers(&broken, from, 7, 1));
        assert!(!answers(&[], from, 7, 1));
    }

    #[test]
    fn the_checksum_is_rfc_1071s() {
        // The example of RFC 1071 §3: the sum is ddf2, its complement 220d.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0x220d);
    }
}
