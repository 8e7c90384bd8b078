//! One client: its address, its session, what it still has to send and what it holds.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddrV4},
    rc::Rc,
    time::{Duration, Instant},
};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{received_prefixes::ReceivedPrefixes, wire};

/// The AS of the daemon and of all clients.
pub const AS_NUMBER: u32 = 64512;
/// Clients in one /24, so that no address ends in 0 or 255.
const IN_SUBNET: usize = 250;
/// The first client's address, less one.
const FIRST: u32 = 0x0a01_0000;

/// Returns the address of client `number`, from 10.1.0.1 on.
///
/// # Panics
/// There are no 10 million addresses.
#[must_use]
pub fn client_address(number: usize) -> Ipv4Addr {
    let offset =
        u32::try_from(number / IN_SUBNET * 256 + number % IN_SUBNET + 1).expect("a few thousand clients");
    Ipv4Addr::from(FIRST + offset)
}

/// The client of an address.
#[must_use]
pub(super) fn client_number(address: Ipv4Addr) -> Option<usize> {
    let offset = u32::from(address).checked_sub(FIRST)? as usize;
    let last = (offset % 256).checked_sub(1).filter(|last| *last < IN_SUBNET)?;
    Some(offset / 256 * IN_SUBNET + last)
}

/// The state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not connected.
    Idle,
    /// The kernel is at it.
    Connecting,
    /// Our OPEN is sent.
    OpenSent,
    /// Theirs has come, our KEEPALIVE is sent.
    OpenConfirm,
    /// Their KEEPALIVE has come.
    Established,
}

/// The result of a read.
pub(super) enum ReadResult {
    /// `length` octets are in the buffer, the earlier rest included. `more`: there may be further
    /// ones.
    Bytes { length: usize, more: bool },
    /// No message yet.
    Nothing,
    /// The daemon closed the connection, or it broke.
    Closed(String),
}

pub(super) struct Client {
    pub address: Ipv4Addr,
    pub state: State,
    pub socket: Option<TcpStream>,
    pub held: ReceivedPrefixes,
    /// Whether its set counts for the goal, and whether it is as wanted.
    pub receives: bool,
    pub complete: bool,
    /// The octets that it sends as soon as it is Established.
    pub first_words: Option<Rc<[u8]>>,
    /// The beginning of a message.
    pub rest: Vec<u8>,
    /// OPEN and KEEPALIVEs.
    control: Vec<u8>,
    /// The octets to be sent; of the first so much is written.
    scripts: VecDeque<Rc<[u8]>>,
    written: usize,
    pub last_sent: Instant,
    pub last_received: Instant,
    /// The longest time without a byte from the daemon.
    pub longest_silence: Duration,
    /// When the present connection was begun.
    pub dialled: Instant,
}

impl Client {
    pub(super) fn new(number: usize, held: ReceivedPrefixes, receives: bool) -> Self {
        let now = Instant::now();
        Self {
            address: client_address(number),
            state: State::Idle,
            socket: None,
            held,
            receives,
            complete: false,
            first_words: None,
            rest: Vec::new(),
            control: Vec::new(),
            scripts: VecDeque::new(),
            written: 0,
            last_sent: now,
            last_received: now,
            longest_silence: Duration::ZERO,
            dialled: now,
        }
    }

    /// Begins to connect, from its own address.
    pub(super) fn dial(
        &mut self,
        daemon: SocketAddrV4,
        receive_buffer: Option<usize>,
    ) -> std::io::Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(&SockAddr::from(SocketAddrV4::new(self.address, 0)))?;
        match socket.connect(&SockAddr::from(daemon)) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        self.hang_up();
        self.socket = Some(TcpStream::from_std(socket.into()));
        self.state = State::Connecting;
        self.dialled = Instant::now();
        Ok(())
    }

    /// Closes the connection without a word, and forgets what it had learned.
    pub(super) fn hang_up(&mut self) {
        self.socket = None;
        self.state = State::Idle;
        self.rest.clear();
        self.control.clear();
        self.scripts.clear();
        self.written = 0;
        self.held.clear();
    }

    /// Sends OPEN.
    pub(super) fn open(&mut self, hold_time: u16) -> std::io::Result<()> {
        self.control = wire::open(AS_NUMBER, hold_time, self.address);
        self.state = State::OpenSent;
        self.write()
    }

    /// Sends KEEPALIVE, unless UPDATEs are on their way, which serve as well.
    pub(super) fn keepalive(&mut self) -> std::io::Result<()> {
        if self.has_sent_all() {
            wire::keepalive(&mut self.control);
        }
        self.write()
    }

    /// Sends a script, after what is still to be sent.
    pub(super) fn send(&mut self, script: Rc<[u8]>) -> std::io::Result<()> {
        if !script.is_empty() {
            self.scripts.push_back(script);
        }
        self.write()
    }

    /// Returns whether everything is sent.
    pub(super) fn has_sent_all(&self) -> bool {
        self.scripts.is_empty() && self.control.is_empty()
    }

    /// Writes until there is nothing left or no room.
    pub(super) fn write(&mut self) -> std::io::Result<()> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        if self.state == State::Connecting {
            return Ok(());
        }
        loop {
            // A script that was begun is at a message's middle: control messages wait.
            let (bytes, of_script) = match self.scripts.front() {
                Some(script) if self.control.is_empty() || self.written > 0 => {
                    (script.get(self.written..).unwrap_or_default(), true)
                }
                _ => (&self.control[..], false),
            };
            if bytes.is_empty() {
                return Ok(());
            }
            match socket.write(bytes) {
                Ok(length) => {
                    self.last_sent = Instant::now();
                    if !of_script {
                        self.control.drain(..length);
                        continue;
                    }
                    self.written += length;
                    if self.scripts.front().is_some_and(|script| self.written >= script.len()) {
                        self.scripts.pop_front();
                        self.written = 0;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The reader reports the reason: a NOTIFICATION may be waiting.
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads once, into a buffer that first takes the rest of last time.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> ReadResult {
        let Some(socket) = &mut self.socket else { return ReadResult::Nothing };
        let had = self.rest.len();
        let (head, room) = buffer.split_at_mut(had);
        match socket.read(room) {
            Ok(0) => ReadResult::Closed("the daemon closed the connection".into()),
            Ok(length) => {
                head.copy_from_slice(&self.rest);
                self.rest.clear();
                // Fewer bytes than there was room for: the socket is empty (epoll(7)).
                ReadResult::Bytes { length: had + length, more: length == room.len() }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => ReadResult::Nothing,
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                ReadResult::Bytes { length: had, more: true }
            }
            Err(error) => ReadResult::Closed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_numbers_of_clients_are_each_others_inverse() {
        assert_eq!(client_address(0), Ipv4Addr::new(10, 1, 0, 1));
        for number in [0, 1, 249, 250, 999, 2999] {
            assert_eq!(client_number(client_address(number)), Some(number));
        }
        assert_eq!(client_number(Ipv4Addr::new(10, 1, 0, 0)), None);
        assert_eq!(client_number(Ipv4Addr::new(10, 1, 0, 251)), None);
        assert_eq!(client_number(Ipv4Addr::new(10, 0, 255, 255)), None);
    }
}
