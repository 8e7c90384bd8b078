//! A configured peer that sends garbage: it gets the right NOTIFICATION or a timeout, and the other
//! session is not affected.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use bgp::wire::capability::Capabilities;
use bgp::wire::encode;
use bgp::wire::frame::{self, MAX_EXTENDED_LEN, MessageKind};
use bgp::wire::notification::Notification;
use bgp::wire::open::Open;
use bgp::{Asn, RouterId};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use testbed::{Testbed, eventually};
use tests::interop::{ASN, PoolEncapsulation, Routed};

/// Longer than any answer takes, and than the hold time of 3 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// The hostile peer's address; the well-behaved session's is 10.0.0.2.
const HOSTILE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
/// An address that no peer is configured for.
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 4);

/// One connection to routed and what came over it.
struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    fn from(bed: &Testbed, address: Ipv4Addr) -> Self {
        let stream = bed.inside("b", || {
            let kind = SockType::Stream;
            let socket = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
            bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, 0))).expect("to bind");
            let routed = SockaddrIn::new(10, 0, 0, 1, 179);
            connect(socket.as_raw_fd(), &routed).expect("to connect");
            TcpStream::from(socket)
        });
        stream.set_read_timeout(Some(PATIENCE)).expect("a bounded wait");
        Connection { stream, received: Vec::new() }
    }

    /// The next message, as its kind and body; `None` once routed has closed.
    fn next(&mut self) -> Option<(MessageKind, Vec<u8>)> {
        loop {
            if let Some(frame) = frame::next(&self.received, MAX_EXTENDED_LEN).expect("a message of routed's")
            {
                let message = (frame.kind, frame.body.to_vec());
                let len = frame.len();
                self.received.drain(..len);
                return Some(message);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.received.extend(&buffer[..count]),
                // A reset is an end too: what we sent may not all have been read.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("routed neither answers nor closes: {error}"),
            }
        }
    }

    fn send(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).expect("to send");
    }

    /// Exchanges OPEN and KEEPALIVE, up to Established.
    fn establish(&mut self) {
        assert_eq!(self.next().expect("an OPEN").0, MessageKind::Open);
        let open = Open {
            asn: Asn(ASN),
            hold_time: 3,
            router_id: RouterId(HOSTILE),
            capabilities: Capabilities { four_octet_as: Some(Asn(ASN)), ..Capabilities::default() },
        };
        let mut out = Vec::new();
        open.encode(&mut out);
        encode::keepalive(&mut out);
        self.send(&out);
        assert_eq!(self.next().expect("a KEEPALIVE").0, MessageKind::Keepalive);
    }

    /// Returns the NOTIFICATION that routed sends before it closes.
    fn notification(&mut self) -> (u8, u8, Vec<u8>) {
        loop {
            match self.next() {
                Some((MessageKind::Notification, body)) => {
                    let Notification { code, data } = Notification::parse(&body);
                    assert_eq!(self.next(), None, "the connection is closed after it");
                    return (code.code, code.subcode, data);
                }
                Some(_) => {}
                None => panic!("closed without a NOTIFICATION"),
            }
        }
    }
}

/// A header with this length and type, and nothing else.
fn header(length: u16, kind: u8) -> Vec<u8> {
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind]].concat()
}

/// routed with a mesh session to BIRD that is Established, and the hostile peer configured.
struct Scene {
    bed: Testbed,
}

impl Scene {
    fn new() -> Self {
        let bed = Testbed::with_two_nodes();
        for address in [HOSTILE, STRANGER] {
            bed.ip("b", &format!("address add {address}/24 dev eth0"));
        }
        bed.write(
            "resources/hostile.yaml",
            &format!(
                "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {{ name: hostile }}\n\
                 spec: {{ peerIP: {HOSTILE}, asNumber: {ASN} }}\n"
            ),
        );
        Scene { bed }
    }

    fn run(&self, hostility: impl Fn(&Testbed)) {
        let config = self.bed.write(
            "bird.conf",
            &format!(
                "router id 10.0.0.2;\nprotocol device {{}}\nprotocol bgp mesh {{\n  local 10.0.0.2 as {ASN};\n  \
                 neighbor 10.0.0.1 as {ASN};\n  connect delay time 1;\n  ipv4 {{ import all; export none; }};\n}}\n"
            ),
        );
        let path = |name: &str| self.bed.path(name).to_str().expect("UTF-8").to_owned();
        let arguments =
            ["-f", "-c", config.to_str().expect("UTF-8"), "-s", &path("bird.ctl"), "-P", &path("bird.pid")];
        let _bird = self.bed.start("b", "bird", &arguments);
        let routed = Routed::start(&self.bed, PoolEncapsulation::Vxlan, 3);
        let session = |name: &str| {
            let peers = routed.show("peers")?;
            peers.as_array()?.iter().find(|peer| peer["name"] == name).cloned()
        };
        let before = eventually("the session beside it", Duration::from_secs(60), || {
            session("node-b").filter(|peer| peer["state"] == "Established")
        });
        hostility(&self.bed);
        let after = session("node-b").expect("the session beside it");
        assert_eq!(
            (&after["state"], &after["since"]),
            (&before["state"], &before["since"]),
            "it never noticed"
        );
        let hostile = session("hostile").expect("the hostile peer");
        assert_ne!(hostile["state"], "Established", "{hostile}");
    }
}

#[test]
fn garbage_a_wrong_marker_and_wrong_lengths_get_their_notification() {
    Scene::new().run(|bed| {
        let established = |octets: &[u8]| {
            let mut connection = Connection::from(bed, HOSTILE);
            connection.establish();
            connection.send(octets);
            connection.notification()
        };
        assert_eq!(established(b"GET / HTTP/1.1\r\nHost: routed\r\n\r\n"), (1, 1, vec![]), "garbage");
        let mut marker = header(19, 4);
        marker[15] = 0xfe;
        assert_eq!(established(&marker), (1, 1, vec![]), "a wrong marker");
        assert_eq!(established(&header(18, 4)), (1, 2, vec![0, 18]), "a length of 18");
        // An UPDATE may be that long: we say that we take extended messages (RFC 8654).
        assert_eq!(established(&header(65535, 4)), (1, 2, vec![0xff, 0xff]), "a KEEPALIVE of 65535");
        assert_eq!(established(&header(19, 9)), (1, 3, vec![9]), "an unknown type");

        let mut early = Connection::from(bed, HOSTILE);
        early.send(&[0; 64]);
        assert_eq!(early.notification(), (1, 1, vec![]), "garbage in place of an OPEN");
    });
}

#[test]
fn half_a_message_and_silence_end_when_the_hold_time_is_over() {
    Scene::new().run(|bed| {
        let mut connection = Connection::from(bed, HOSTILE);
        connection.establish();
        connection.send(&header(23, 2)[..10]);
        assert_eq!(connection.notification(), (4, 0, vec![]));
    });
}

#[test]
fn an_unconfigured_peer_gets_no_answer() {
    Scene::new().run(|bed| {
        let mut connection = Connection::from(bed, STRANGER);
        assert_eq!(connection.next(), None);
    });
}
