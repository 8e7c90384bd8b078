//! The tests' own neighbor at 10.0.0.3: it announces routes and keeps what it receives.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use bgp::wire::attribute::{Context, RawAttributes, code, flag, push};
use bgp::wire::capability::Capabilities;
use bgp::wire::encode::{self, UpdateFormat};
use bgp::wire::frame::{self, MAX_EXTENDED_LEN, MessageKind};
use bgp::wire::open::Open;
use bgp::wire::update::UpdateView;
use bgp::{Asn, Families, RouterId};
use ipnet::IpNet;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use routing::AttrSet;
use testbed::Testbed;

use super::shown_route::ShownRoute;
use super::{ASN, CLIENT};

/// Time for which a read waits for more.
const READ: Duration = Duration::from_millis(20);
/// Longer than any lab takes, so that none has to keep the session alive.
const HOLD_TIME: u16 = 600;

/// A session of the client's.
pub(super) struct Client {
    from: Ipv4Addr,
    stream: TcpStream,
    received: Vec<u8>,
    told: BTreeMap<IpNet, ShownRoute>,
    pub(super) opened: bool,
    closed: bool,
}

impl Client {
    /// Connects to `to`; `None` if nothing listens there.
    pub(super) fn call(bed: &Testbed, to: Ipv4Addr) -> Option<Client> {
        Client::call_from(bed, CLIENT, to)
    }

    /// Connects from another address of its node.
    pub(super) fn call_from(bed: &Testbed, from: Ipv4Addr, to: Ipv4Addr) -> Option<Client> {
        let stream = bed.inside("c", || {
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).expect("a socket");
            bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(from, 0))).expect("to bind");
            connect(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(to, 179))).ok()?;
            Some(TcpStream::from(socket))
        })?;
        stream.set_read_timeout(Some(READ)).expect("a bounded wait");
        let told = BTreeMap::new();
        let mut client = Client { from, stream, received: Vec::new(), told, opened: false, closed: false };
        let mut out = Vec::new();
        let capabilities = Capabilities {
            multiprotocol: Some(Families::BOTH),
            route_refresh: true,
            extended_message: true,
            four_octet_as: Some(Asn(ASN)),
            ..Capabilities::default()
        };
        let open = Open { asn: Asn(ASN), hold_time: HOLD_TIME, router_id: RouterId(from), capabilities };
        open.encode(&mut out);
        encode::keepalive(&mut out);
        client.stream.write_all(&out).ok()?;
        Some(client)
    }

    /// Reads what is there.
    pub(super) fn read(&mut self) {
        let mut buffer = [0; 65536];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.closed = true,
                Ok(count) => {
                    self.received.extend(&buffer[..count]);
                    continue;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => self.closed = true,
            }
            break;
        }
        while let Some(frame) = frame::next(&self.received, MAX_EXTENDED_LEN).expect("a message") {
            match frame.kind {
                MessageKind::Keepalive => self.opened = true,
                MessageKind::Update => update(&mut self.told, frame.body),
                _ => {}
            }
            let len = frame.len();
            self.received.drain(..len);
        }
    }

    /// The session is up.
    pub(super) fn is_up(&mut self) -> Option<()> {
        self.read();
        (self.opened && !self.closed).then_some(())
    }

    /// Returns the received route of a prefix.
    pub(super) fn seen(&mut self, prefix: &str) -> Option<ShownRoute> {
        self.read();
        self.told.get(&prefix.parse().expect("a prefix")).cloned()
    }

    /// Announces a prefix with so many large communities `64512:7:N`.
    pub(super) fn announce(&mut self, prefix: &str, large: u32) {
        let prefix: IpNet = prefix.parse().expect("a prefix");
        let next_hop = match prefix {
            IpNet::V4(_) => IpAddr::V4(self.from),
            IpNet::V6(_) => "fd00::3".parse().expect("an address"),
        };
        let mut attributes = AttrSet::originated(next_hop).canonical().to_vec();
        if large > 0 {
            push(&mut attributes, flag::OPTIONAL | flag::TRANSITIVE, code::LARGE_COMMUNITIES, |out| {
                for number in 0..large {
                    [ASN, 7, number].iter().for_each(|part| out.extend(part.to_be_bytes()));
                }
            });
        }
        let form = UpdateFormat { max_len: MAX_EXTENDED_LEN, ..UpdateFormat::default() };
        let mut out = Vec::new();
        encode::announce(&mut out, form, &attributes, next_hop, [prefix]).expect("it fits");
        self.stream.write_all(&out).expect("to send");
    }
}

fn update(told: &mut BTreeMap<IpNet, ShownRoute>, body: &[u8]) {
    let update = UpdateView::parse(body).expect("an UPDATE").read(&Context::INTERNAL).expect("routes");
    assert_eq!(update.fault, None);
    update.withdrawals().flatten().for_each(|prefix| _ = told.remove(&prefix));
    for (next_hop, list) in update.announcements() {
        let attrs = AttrSet::from_update(&update.attributes, next_hop, &mut Vec::new());
        let large = RawAttributes::new(attrs.canonical()).find(|raw| raw.code == code::LARGE_COMMUNITIES);
        let large = large.map_or(&[][..], |raw| raw.value).chunks(12).map(|one| {
            let parts: Vec<String> = one
                .chunks(4)
                .map(|part| u32::from_be_bytes(part.try_into().expect("four octets")).to_string())
                .collect();
            parts.join(":")
        });
        let seen = ShownRoute {
            next_hop: next_hop.to_string(),
            as_path: attrs.as_path().asns().map(|asn| asn.0).collect(),
            large: large.collect(),
            originator: attrs.originator_id.map(|id| id.to_string()),
            clusters: attrs.cluster_list().map(|id| id.to_string()).collect(),
        };
        list.iter().for_each(|prefix| _ = told.insert(prefix, seen.clone()));
    }
}
