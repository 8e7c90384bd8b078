//! The attackers: each does one harmful thing until it is stopped, from an address of its own in
//! node `b`.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bgp::wire::capability::Capabilities;
use bgp::wire::encode::{self, UpdateFormat};
use bgp::wire::frame::{self, MAX_EXTENDED_LEN, MessageKind};
use bgp::wire::open::Open;
use bgp::{Asn, Families, RouterId};
use ipnet::{IpNet, Ipv4Net};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use routing::AttrSet;

use super::{ASN, ROUTED};

/// The time that an attacker waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Told to all attackers.
#[derive(Default)]
pub(super) struct Stop(AtomicBool);

impl Stop {
    pub(super) fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Opens a connection from an address; the caller is in node `b`'s namespace.
pub(super) fn call(from: Ipv4Addr) -> Option<TcpStream> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).ok()?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(from, 0))).ok()?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(ROUTED, 179))).ok()?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

fn open(from: Ipv4Addr) -> Vec<u8> {
    let capabilities = Capabilities {
        multiprotocol: Some(Families::IPV4),
        four_octet_as: Some(Asn(ASN)),
        ..Capabilities::default()
    };
    let mut out = Vec::new();
    Open { asn: Asn(ASN), hold_time: 90, router_id: RouterId(from), capabilities }.encode(&mut out);
    out
}

/// A session that is Established.
pub(super) fn establish(from: Ipv4Addr) -> Option<TcpStream> {
    let mut stream = call(from)?;
    let mut out = open(from);
    encode::keepalive(&mut out);
    stream.write_all(&out).ok()?;
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        while let Some(message) = frame::next(&received, MAX_EXTENDED_LEN).ok()? {
            if message.kind == MessageKind::Keepalive {
                return Some(stream);
            }
            let len = message.len();
            received.drain(..len);
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => received.extend(&buffer[..count]),
            _ => return None,
        }
    }
}

/// Blocks of /32, from a number on.
pub(super) fn announcements(from: Ipv4Addr, first: u32, count: u32) -> Vec<u8> {
    let attributes = AttrSet::originated(from.into());
    let prefix = |number| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_bits(0x1400_0000 + number), 32));
    let prefixes = (first..first + count).map(prefix);
    let mut out = Vec::new();
    encode::announce(&mut out, UpdateFormat::default(), attributes.canonical(), from.into(), prefixes)
        .expect("it fits");
    out
}

/// Connections that a stranger leaves open behind the latest, so that the handshakes are finished.
const LEFT_OPEN: usize = 256;

/// Strangers that call `per_second` times a second and don't wait for an answer; gives how often they did, and how
/// long it took.
pub(super) fn strangers(stop: &Stop, from: &[Ipv4Addr], per_second: u32) -> (u64, Duration) {
    let begin = Instant::now();
    let mut made = 0_u64;
    let mut open = VecDeque::with_capacity(LEFT_OPEN + 1);
    while !stop.is_set() {
        let due = (begin.elapsed().as_secs_f64() * f64::from(per_second)) as u64;
        if made >= due {
            // why: the rate is what is tried; a millisecond is ten attempts.
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let address = from[(made % from.len() as u64) as usize];
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).expect("a socket");
        bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, 0))).expect("to bind");
        let called = connect(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(ROUTED, 179)));
        assert!(matches!(called, Ok(()) | Err(Errno::EINPROGRESS)), "{called:?}");
        open.push_back(socket);
        if open.len() > LEFT_OPEN {
            open.pop_front();
        }
        made += 1;
    }
    (made, begin.elapsed())
}

/// Sends its OPEN an octet a second, and calls again when it is cut off; gives the longest that took.
pub(super) fn slow_loris(stop: &Stop, from: Ipv4Addr) {
    while !stop.is_set() {
        let Some(mut stream) = call(from) else { continue };
        for octet in open(from) {
            if stop.is_set() || stream.write_all(&[octet]).is_err() {
                break;
            }
            // why: its slowness is the attack.
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

/// Holds connections open that say a header and then nothing, and more of them all the time.
pub(super) fn half_open(stop: &Stop, from: &[Ipv4Addr]) -> usize {
    let mut held = Vec::new();
    while !stop.is_set() {
        for address in from {
            if let Some(mut stream) = call(*address) {
                let _ = stream.write_all(&[&[0xff; 16][..], &[0, 29, 1]].concat());
                held.push(stream);
            }
        }
        if held.len() > 2000 {
            held.drain(..1000);
        }
        // why: a pace, so that it is this attack and not the strangers' one.
        std::thread::sleep(Duration::from_millis(20));
    }
    held.len()
}

/// Announces a million prefixes again and again; gives how often it was cut off, and with what.
pub(super) fn too_many(stop: &Stop, from: Ipv4Addr) -> (u32, Vec<(u8, u8)>) {
    let (mut sessions, mut codes) = (0, Vec::new());
    while !stop.is_set() {
        let Some(mut stream) = establish(from) else {
            // why: a refusal has no event that ends it.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        sessions += 1;
        for first in (0..1_000_000).step_by(10_000) {
            if stop.is_set() || stream.write_all(&announcements(from, first, 10_000)).is_err() {
                break;
            }
        }
        codes.extend(notification(&mut stream));
    }
    (sessions, codes)
}

/// The NOTIFICATION that is still there to be read.
fn notification(stream: &mut TcpStream) -> Option<(u8, u8)> {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while let Some(message) = frame::next(&received, MAX_EXTENDED_LEN).ok()? {
            if message.kind == MessageKind::Notification {
                return Some((*message.body.first()?, *message.body.get(1)?));
            }
            let len = message.len();
            received.drain(..len);
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => received.extend(&buffer[..count]),
            _ => return None,
        }
    }
}

/// Comes up and goes down ten times a second; gives how often it was up.
pub(super) fn flap(stop: &Stop, from: Ipv4Addr) -> u32 {
    let mut times = 0;
    while !stop.is_set() {
        let next = Instant::now() + Duration::from_millis(100);
        if let Some(mut stream) = establish(from) {
            let _ = stream.write_all(&announcements(from, 0x0080_0000, 10));
            times += 1;
        }
        // why: the rate is what is tried.
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    times
}

/// Keeps a session up and never reads; gives how often it had to come back.
pub(super) fn deaf(stop: &Stop, from: Ipv4Addr) -> u32 {
    let mut times = 0;
    let mut keepalive = Vec::new();
    encode::keepalive(&mut keepalive);
    while !stop.is_set() {
        let Some(mut stream) = establish(from) else { continue };
        times += 1;
        while !stop.is_set() {
            match stream.write(&keepalive) {
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
            // why: it keeps its own hold time.
            std::thread::sleep(Duration::from_millis(500));
        }
    }
    times
}
