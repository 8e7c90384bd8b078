//! TCP connection of a session: the rest of an incomplete message, and a queue of chunks to write.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Size of a buffer: one read, after the longest incomplete message.
const BUFFER: usize = READ + crate::wire::frame::MAX_EXTENDED_LEN;
/// Octets per read: about a thousand prefixes, which are still in the processor's cache when the
/// RIB processes them.
const READ: usize = 32 * 1024;
/// Limit of unsent octets in the kernel (TCP_NOTSENT_LOWAT).
const UNSENT: u32 = 128 * 1024;
/// Chunks per write call.
const WRITE_SLICES: usize = 32;
/// Time limit for a closed connection to write its NOTIFICATION and to receive the peer's FIN.
const LINGER: Duration = Duration::from_secs(2);

thread_local! {
    /// Last used buffer of this thread. Thousands of sessions need only as many buffers as there
    /// are concurrent reads.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Buffer of received octets; its memory is reused.
pub(super) struct ReadBuffer {
    octets: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReadBuffer {
    pub(super) fn new() -> ReadBuffer {
        let mut octets = SPARE.take();
        octets.resize(BUFFER, 0);
        ReadBuffer { octets, start: 0, end: 0 }
    }

    /// Returns the octets that were not consumed yet.
    pub(super) fn unread(&self) -> &[u8] {
        &self.octets[self.start..self.end]
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        SPARE.set(std::mem::take(&mut self.octets));
    }
}

pub(super) struct PeerSocket {
    stream: TcpStream,
    /// Octets of an incomplete message.
    rest: Vec<u8>,
    queue: VecDeque<Bytes>,
    /// The first chunk of the queue is partly written.
    partly_written: bool,
    /// Time since which the socket has not been writable, while that is so.
    blocked_since: Option<Instant>,
}

impl PeerSocket {
    pub(super) fn new(stream: TcpStream) -> PeerSocket {
        // Small messages must not wait for the peer's acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        // New messages cannot overtake unsent octets in the kernel.
        if let Err(error) = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT) {
            tracing::debug!(%error, "TCP_NOTSENT_LOWAT");
        }
        PeerSocket {
            stream,
            rest: Vec::new(),
            queue: VecDeque::new(),
            partly_written: false,
            blocked_since: None,
        }
    }

    /// Returns the time since which nothing could be written, while the queue is not empty.
    pub(super) fn blocked_since(&self) -> Option<Instant> {
        self.blocked_since
    }

    /// Returns the number of queued chunks.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn send(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.queue.push_back(chunk);
        }
    }

    /// Waits until the socket is ready for the next operation.
    pub(super) async fn ready(&self, read: bool) -> io::Result<tokio::io::Ready> {
        match (read, self.queue.is_empty()) {
            (true, true) => self.stream.ready(Interest::READABLE).await,
            (true, false) => self.stream.ready(Interest::READABLE | Interest::WRITABLE).await,
            (false, false) => self.stream.ready(Interest::WRITABLE).await,
            (false, true) => std::future::pending().await,
        }
    }

    /// Writes as much of the queue as the kernel accepts.
    pub(super) fn write(&mut self) -> io::Result<()> {
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
            let count = self.queue.len().min(WRITE_SLICES);
            for (slice, chunk) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(chunk);
            }
            let mut wrote = match self.stream.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(wrote) => wrote,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.blocked_since.get_or_insert_with(Instant::now);
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            self.blocked_since = None;
            while let Some(chunk) = self.queue.front_mut() {
                if wrote < chunk.len() {
                    chunk.advance(wrote);
                    self.partly_written |= wrote > 0;
                    break;
                }
                wrote -= chunk.len();
                self.partly_written = false;
                self.queue.pop_front();
            }
        }
        Ok(())
    }

    /// Reads available octets up to a limit; returns 0 if the peer has closed the connection.
    pub(super) fn read(&mut self, buffer: &mut ReadBuffer) -> io::Result<usize> {
        let kept = self.rest.len();
        // Tokio skips the next system call after a read that did not fill the buffer.
        let mut space = ReadBuf::new(&mut buffer.octets[kept..kept + READ]);
        let mut nobody = Context::from_waker(Waker::noop());
        let count = match Pin::new(&mut self.stream).poll_read(&mut nobody, &mut space) {
            Poll::Ready(done) => done.map(|()| space.filled().len())?,
            Poll::Pending => return Err(ErrorKind::WouldBlock.into()),
        };
        buffer.octets[..kept].copy_from_slice(&self.rest);
        (buffer.start, buffer.end) = (0, kept + count);
        self.rest.clear();
        Ok(count)
    }

    /// Keeps the unconsumed octets for the next [`PeerSocket::read`].
    pub(super) fn keep(&mut self, buffer: &ReadBuffer) {
        self.rest.extend_from_slice(buffer.unread());
        // Most reads end with a whole message; a thousand sessions must not keep memory for a rest.
        self.rest.shrink_to_fit();
    }

    /// Writes the queue, then closes such that the peer can still read it: closing a socket with
    /// unread input would send a reset, and the peer might lose the NOTIFICATION.
    pub(super) async fn linger(mut self) {
        let close = async {
            for chunk in &self.queue {
                self.stream.write_all(chunk).await?;
            }
            self.stream.shutdown().await?;
            let mut sink = [0; 4096];
            while self.stream.read(&mut sink).await? > 0 {}
            io::Result::Ok(())
        };
        if let Err(error) = tokio::time::timeout(LINGER, close).await.unwrap_or(Ok(())) {
            tracing::debug!(%error, "closing");
        }
    }

    /// Removes the chunks whose transmission has not begun; routes are useless to a session that
    /// ends.
    pub(super) fn drop_queued(&mut self) {
        self.queue.truncate(usize::from(self.partly_written));
    }
}
