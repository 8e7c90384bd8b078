//! The floor: a program that takes sessions and copies every UPDATE to all other sessions, without a look.
//! A speaker that did nothing but move bytes would need that much.

use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddrV4,
};

use anyhow::{Context, Result};
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    bed::DAEMON,
    load::{AS_NUMBER, HOLD_TIME, PORT, handshake},
};

const LISTENER: Token = Token(usize::MAX);
const EVENTS: usize = 1024;
/// Read from one session before the others have their turn.
const BUFFER: usize = 256 * 1024;

/// Connections that may wait to be accepted: all that a load makes at once.
const BACKLOG: i32 = 4096;

struct Session {
    socket: TcpStream,
    rest: Vec<u8>,
    /// The position up to which the log was sent.
    at: usize,
    alive: bool,
}

/// Part of the log and who sent it.
struct Part {
    owner: usize,
    end: usize,
}

/// Serves until it is killed. Everything that was ever sent is kept, which is no more than the load.
///
/// # Errors
/// When it can't listen.
pub fn serve() -> Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = listen().context("can't listen")?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(EVENTS);
    let mut buffer = vec![0; BUFFER];
    let mut sessions: Vec<Session> = Vec::new();
    let (mut log, mut parts): (Vec<u8>, Vec<Part>) = (Vec::new(), Vec::new());
    loop {
        if let Err(error) = poll.poll(&mut events, None)
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        let had = log.len();
        let mut writable = Vec::new();
        for event in &events {
            if event.token() == LISTENER {
                accept(&poll, &listener, &mut sessions)?;
                continue;
            }
            let owner = event.token().0;
            let Some(session) = sessions.get_mut(owner).filter(|session| session.alive) else { continue };
            if event.is_readable() {
                session.read(&mut buffer, &mut log);
            }
            if parts.last().map_or(0, |part| part.end) < log.len() {
                match parts.last_mut().filter(|part| part.owner == owner) {
                    Some(part) => part.end = log.len(),
                    None => parts.push(Part { owner, end: log.len() }),
                }
            }
            if event.is_writable() {
                writable.push(owner);
            }
        }
        if log.len() > had {
            for (number, session) in sessions.iter_mut().enumerate() {
                session.copy(number, &log, &parts);
            }
        } else {
            for number in writable {
                if let Some(session) = sessions.get_mut(number) {
                    session.copy(number, &log, &parts);
                }
            }
        }
    }
}

fn listen() -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddrV4::new(DAEMON, PORT).into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn accept(poll: &Poll, listener: &TcpListener, sessions: &mut Vec<Session>) -> Result<()> {
    loop {
        match listener.accept() {
            Ok((mut socket, _)) => {
                let _ = socket.set_nodelay(true);
                let token = Token(sessions.len());
                poll.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
                sessions.push(Session { socket, rest: Vec::new(), at: 0, alive: true });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

impl Session {
    /// Reads all there is: UPDATEs go to the log, an OPEN is answered at once.
    fn read(&mut self, buffer: &mut [u8], log: &mut Vec<u8>) {
        loop {
            match self.socket.read(buffer) {
                Ok(0) => self.alive = false,
                Ok(length) => {
                    self.rest.extend_from_slice(buffer.get(..length).unwrap_or_default());
                    self.messages(log);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.alive = false,
            }
            return;
        }
    }

    fn messages(&mut self, log: &mut Vec<u8>) {
        /// The length of an UPDATE without anything, End-of-RIB.
        const EMPTY: usize = 23;
        const OPEN: u8 = 1;
        const UPDATE: u8 = 2;
        let mut done = 0;
        while let Some(header) = self.rest.get(done..done + 19) {
            let length = usize::from(u16::from_be_bytes([header[16], header[17]])).max(19);
            let kind = header[18];
            let Some(message) = self.rest.get(done..done + length) else { break };
            if kind == UPDATE && length > EMPTY {
                log.extend_from_slice(message);
            }
            if kind == OPEN {
                // The socket's buffer is empty yet.
                self.alive &= self.socket.write_all(&handshake(AS_NUMBER, HOLD_TIME, DAEMON)).is_ok();
            }
            done += length;
        }
        self.rest.drain(..done);
    }

    /// Sends what others have sent, as far as there is room.
    fn copy(&mut self, number: usize, log: &[u8], parts: &[Part]) {
        let mut next = parts.partition_point(|part| part.end <= self.at);
        while let Some(part) = parts.get(next).filter(|_| self.alive) {
            if part.owner == number {
                self.at = part.end;
                next += 1;
                continue;
            }
            // Up to its own next part all in one piece.
            let others = parts.get(next..).unwrap_or_default();
            let count = others.iter().position(|part| part.owner == number).unwrap_or(others.len());
            let end = others.get(count.saturating_sub(1)).map_or(part.end, |part| part.end);
            match self.socket.write(log.get(self.at..end).unwrap_or_default()) {
                Ok(length) => self.at += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.alive = false,
            }
            next = parts.partition_point(|part| part.end <= self.at);
        }
    }
}
