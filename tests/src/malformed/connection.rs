//! One TCP connection to the device under test, with a thread that reads it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Instant;

use bgp::wire::frame::{self, MAX_EXTENDED_LEN, MessageKind};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};

use super::case::DUT;

/// An event of a connection to the device.
#[derive(Debug)]
pub(super) enum Event {
    /// A message: its kind and its body.
    Message(MessageKind, Vec<u8>),
    /// The connection ended.
    Closed,
    /// Octets that are not a message.
    Garbage(String),
}

/// The writing end; closed when dropped.
pub(super) struct Connection {
    stream: TcpStream,
    /// Tells this connection's events from those of earlier ones.
    pub(super) number: u64,
    /// When something was last sent.
    pub(super) sent: Instant,
}

impl Connection {
    /// Calls the device from `address`; events go to `events` with the connection's number.
    pub(super) fn open(
        address: Ipv4Addr,
        number: u64,
        events: Sender<(u64, Event)>,
    ) -> io::Result<Connection> {
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, 0)))?;
        connect(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(DUT, 179)))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        let reading = stream.try_clone()?;
        thread::spawn(move || read(reading, number, &events));
        Ok(Connection { stream, number, sent: Instant::now() })
    }

    /// Sends octets, in pieces if `chunk` is set. A device that has closed the connection causes an
    /// event.
    pub(super) fn send(&mut self, octets: &[u8], chunk: Option<usize>) {
        self.sent = Instant::now();
        for piece in octets.chunks(chunk.unwrap_or(octets.len()).max(1)) {
            if self.stream.write_all(piece).is_err() {
                return;
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn read(mut stream: TcpStream, number: u64, events: &Sender<(u64, Event)>) {
    let mut received = Vec::new();
    let mut buffer = [0; 16384];
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) | Err(_) => {
                let _ = events.send((number, Event::Closed));
                return;
            }
            Ok(count) => count,
        };
        received.extend_from_slice(&buffer[..count]);
        let mut taken = 0;
        loop {
            match frame::next(&received[taken..], MAX_EXTENDED_LEN) {
                Ok(None) => break,
                Ok(Some(message)) => {
                    taken += message.len();
                    let event = Event::Message(message.kind, message.body.to_vec());
                    if events.send((number, event)).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    let _ = events.send((number, Event::Garbage(error.to_string())));
                    return;
                }
            }
        }
        received.drain(..taken);
    }
}
