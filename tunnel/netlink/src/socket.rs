//! The request socket: many messages per send, responses matched by sequence number.

use std::{fmt, io};

use netlink_sys::{Socket as RawSocket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{
    numbers::{
        EAFNOSUPPORT, EIO, ENOENT, EOPNOTSUPP, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR,
        NLMSG_DONE, NLMSG_ERROR, NLMSGERR_ATTR_MSG,
    },
    wire::{ReceivedMessage, RequestMessage, attributes, messages, string, u32_at},
};

/// Messages per send. If all of them fail, their errors (about 800 octets of buffer each) still fit
/// into the default receive buffer.
const BATCH: usize = 256;
/// Octets of one receive: the kernel fills at most 32 KiB per datagram of a dump.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// Requested receive buffer; the kernel caps it at `net.core.rmem_max`.
const SOCKET_BUFFER: u32 = 4 * 1024 * 1024;
/// Attempts at a dump that changes interrupt, before its inconsistent result is accepted.
const DUMP_ATTEMPTS: usize = 4;

/// An error that the kernel returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct KernelError {
    /// `errno`.
    pub errno: i32,
    /// Text of the extended acknowledgement; empty without one.
    pub message: String,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errno = io::Error::from_raw_os_error(self.errno);
        if self.message.is_empty() { write!(f, "{errno}") } else { write!(f, "{errno}: {}", self.message) }
    }
}

impl From<io::Error> for KernelError {
    fn from(error: io::Error) -> Self {
        // Every error of a socket call has an errno; EIO stands in for a missing one.
        Self { errno: error.raw_os_error().unwrap_or(EIO), message: String::new() }
    }
}

/// An rtnetlink socket for requests. The kernel responds within the system call that sends the
/// request, so no method waits.
#[derive(Debug)]
pub struct RequestSocket {
    socket: RawSocket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
    /// True if the response to the last request was read to its end.
    settled: bool,
}

impl RequestSocket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// Those of `socket` and `bind`.
    pub fn open() -> io::Result<Self> {
        let mut socket = RawSocket::new(NETLINK_ROUTE)?;
        let port = socket.bind_auto()?.port_number();
        socket.set_rx_buf_sz(SOCKET_BUFFER)?;
        // Without these (before Linux 4.20) errors carry no text and dumps are filtered by us alone.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self { socket, port, sequence: 0, buffer: Vec::with_capacity(RECEIVE_BUFFER), settled: true })
    }

    /// Returns the socket's port, the `nlmsg_pid` of events caused through it.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Sends messages that change state and returns one result per message.
    pub fn execute(&mut self, requests: Vec<RequestMessage>) -> Vec<Result<(), KernelError>> {
        let mut results = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let batch: Vec<_> = requests.by_ref().take(BATCH).collect();
            self.execute_batch(batch, &mut results);
        }
        results
    }

    fn execute_batch(&mut self, mut batch: Vec<RequestMessage>, results: &mut Vec<Result<(), KernelError>>) {
        let count = batch.len();
        // Errors are reported without a request; one acknowledgement implies that all before it are processed.
        if let Some(last) = batch.last_mut() {
            last.add_flags(NLM_F_ACK);
        }
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(count * 128);
        for message in batch {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend_from_slice(&message.finish(self.sequence));
        }
        let last = self.sequence;
        let mut outcomes: Vec<Result<(), KernelError>> = vec![Ok(()); count];
        let outcome = self.send(&bytes).and_then(|()| {
            self.receive_until(|received| {
                if received.kind == NLMSG_ERROR {
                    let index = received.sequence.wrapping_sub(first);
                    let slot = usize::try_from(index).ok().and_then(|i| outcomes.get_mut(i));
                    if let (Some(slot), Some(error)) = (slot, error(received)) {
                        *slot = Err(error);
                    }
                }
                received.kind == NLMSG_ERROR && received.sequence == last
            })
        });
        if let Err(error) = outcome {
            // It is unknown which of them took effect: those without an error get this one.
            for outcome in outcomes.iter_mut().filter(|a| a.is_ok()) {
                *outcome = Err(error.clone());
            }
        }
        results.append(&mut outcomes);
    }

    /// Sends encoded messages with consecutive sequence numbers from `first` on, the last one
    /// requesting an acknowledgement. Errors are appended to `errors` by position, in order.
    pub fn execute_encoded(
        &mut self,
        bytes: &[u8],
        first: u32,
        count: usize,
        errors: &mut Vec<(usize, KernelError)>,
    ) {
        let last = first.wrapping_add(u32::try_from(count).unwrap_or(u32::MAX)).wrapping_sub(1);
        let before = errors.len();
        let outcome = self.send(bytes).and_then(|()| {
            self.receive_until(|received| {
                if received.kind != NLMSG_ERROR {
                    return false;
                }
                let index = usize::try_from(received.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                if let (true, Some(error)) = (index < count, error(received)) {
                    errors.push((index, error));
                }
                received.sequence == last
            })
        });
        if let Err(error) = outcome {
            // It is unknown which of them took effect: those without an error get this one.
            let reported: Vec<_> = errors.drain(before..).collect();
            let mut reported = reported.into_iter().peekable();
            errors.extend(
                (0..count)
                    .map(|i| reported.next_if(|(at, _)| *at == i).unwrap_or_else(|| (i, error.clone()))),
            );
        }
    }

    /// Dumps a table and returns the values that `parse` yields. A dump that a change interrupted
    /// is repeated.
    ///
    /// # Errors
    /// The kernel's, for example `EOPNOTSUPP` where it has no such table.
    pub fn dump<T>(
        &mut self,
        request: &RequestMessage,
        mut parse: impl FnMut(&ReceivedMessage<'_>) -> Option<T>,
    ) -> Result<Vec<T>, KernelError> {
        let mut table = Vec::new();
        for _ in 0..DUMP_ATTEMPTS {
            table.clear();
            if self.dump_once(request, |received| table.extend(parse(received)))? {
                break;
            }
        }
        Ok(table)
    }

    /// Dumps a table and passes each message to `each` as it arrives, so that a message may be
    /// passed again if a change interrupted the dump.
    ///
    /// # Errors
    /// The kernel's, for example `EOPNOTSUPP` where it has no such table.
    pub fn dump_each(
        &mut self,
        request: &RequestMessage,
        mut each: impl FnMut(&ReceivedMessage<'_>),
    ) -> Result<(), KernelError> {
        for _ in 0..DUMP_ATTEMPTS {
            if self.dump_once(request, &mut each)? {
                break;
            }
        }
        Ok(())
    }

    /// Dumps a table once. Returns whether the result is consistent.
    fn dump_once(
        &mut self,
        request: &RequestMessage,
        mut each: impl FnMut(&ReceivedMessage<'_>),
    ) -> Result<bool, KernelError> {
        let mut request = request.clone();
        request.add_flags(NLM_F_DUMP);
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.send(&request.finish(sequence))?;
        let mut failure = None;
        let mut interrupted = false;
        self.receive_until(|received| {
            if received.sequence != sequence {
                return false;
            }
            interrupted |= received.flags & NLM_F_DUMP_INTR != 0;
            match received.kind {
                NLMSG_DONE | NLMSG_ERROR => {
                    failure = error(received);
                    true
                }
                _ => {
                    each(received);
                    false
                }
            }
        })?;
        failure.map_or(Ok(!interrupted), Err)
    }

    /// Queries one object.
    ///
    /// # Errors
    /// The kernel's, for example `ENETUNREACH` for a route.
    pub fn query(
        &mut self,
        mut request: RequestMessage,
        mut each: impl FnMut(&ReceivedMessage<'_>),
    ) -> Result<(), KernelError> {
        request.add_flags(NLM_F_ACK);
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.send(&request.finish(sequence))?;
        let mut failure = None;
        self.receive_until(|received| {
            if received.sequence != sequence {
                return false;
            }
            if received.kind == NLMSG_ERROR {
                failure = error(received);
                return true;
            }
            each(received);
            false
        })?;
        failure.map_or(Ok(()), Err)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), KernelError> {
        // Responses that a request which failed midway left behind.
        while !self.settled && self.receive().is_ok() {}
        self.settled = false;
        self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0)?;
        Ok(())
    }

    fn receive(&mut self) -> Result<(), KernelError> {
        loop {
            self.buffer.clear();
            let (_, from) = self.socket.recv_from(&mut self.buffer, libc::MSG_DONTWAIT)?;
            if from.port_number() == 0 {
                return Ok(());
            }
        }
    }

    fn receive_until(
        &mut self,
        mut done: impl FnMut(&ReceivedMessage<'_>) -> bool,
    ) -> Result<(), KernelError> {
        loop {
            // EAGAIN here means that the response was lost, since the kernel responds within the send.
            self.receive()?;
            for received in messages(&self.buffer) {
                if done(&received) {
                    self.settled = true;
                    return Ok(());
                }
            }
        }
    }
}

/// Returns the default value where the kernel lacks what was requested: IPv6, policy routing, or
/// a table that never had an entry.
pub(crate) fn empty_if_unsupported<T: Default>(outcome: Result<T, KernelError>) -> Result<T, KernelError> {
    match outcome {
        Err(error) if matches!(error.errno, ENOENT | EOPNOTSUPP | EAFNOSUPPORT) => Ok(T::default()),
        other => other,
    }
}

/// Parses the error of an `NLMSG_ERROR` or `NLMSG_DONE`; `None` for an acknowledgement.
fn error(received: &ReceivedMessage<'_>) -> Option<KernelError> {
    let code = u32_at(received.payload, 0)?.cast_signed();
    if code == 0 {
        return None;
    }
    // nlmsgerr: code and the request's header (without its payload: NLM_F_CAPPED), then attributes.
    let start = if received.kind == NLMSG_ERROR { 20 } else { 4 };
    let message = if received.flags & NLM_F_ACK_TLVS != 0 {
        extended_ack(received.payload.get(start..).unwrap_or_default())
    } else {
        String::new()
    };
    Some(KernelError { errno: code.saturating_neg(), message })
}

/// Returns the text of an extended acknowledgement; empty without one.
pub(crate) fn extended_ack(bytes: &[u8]) -> String {
    attributes(bytes)
        .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
        .map(|(_, value)| string(value))
        .unwrap_or_default()
}
