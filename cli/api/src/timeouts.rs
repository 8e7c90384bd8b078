//! Timers of a connection: how long it has waited for its client, and how long a write may block.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// The time after which a connection is closed whose client does not read the answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The time for which a connection has waited for its client; shared with the server, which may
/// close the connection.
#[derive(Clone, Debug)]
pub(super) struct IdleTimer {
    begin: Instant,
    /// Milliseconds after `begin`, plus one; 0 while the connection does not wait.
    since: Arc<AtomicU64>,
    /// True if a request is being handled, so that the client waits.
    answering: Arc<AtomicBool>,
}

impl IdleTimer {
    /// Returns the timer of a new connection, which waits for a request.
    pub(super) fn now() -> Self {
        IdleTimer { begin: Instant::now(), since: Arc::new(AtomicU64::new(1)), answering: Arc::default() }
    }

    /// Returns the time for which the connection has waited; `None` while it does not wait.
    pub(super) fn time(&self) -> Option<Duration> {
        let since = self.since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.begin.elapsed().saturating_sub(Duration::from_millis(since)))
    }

    /// Sets whether a request is being handled.
    pub(super) fn set_answering(&self, answering: bool) {
        self.answering.store(answering, Ordering::Relaxed);
        if answering {
            self.stop();
        }
    }

    fn start(&self) {
        let now = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        let _ = self.since.compare_exchange(0, now + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn stop(&self) {
        self.since.store(0, Ordering::Relaxed);
    }
}

/// A stream that updates an [`IdleTimer`], and fails when the client does not read.
pub(super) struct TimedStream<S> {
    stream: S,
    idle: IdleTimer,
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> TimedStream<S> {
    pub(super) fn new(stream: S, idle: IdleTimer) -> Self {
        TimedStream { stream, idle, until: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.stream).poll_read(cx, into);
        match read.is_pending() {
            // While a request is handled, the stream is only read to notice its end.
            true if !this.idle.answering.load(Ordering::Relaxed) => this.idle.start(),
            true => {}
            false => this.idle.stop(),
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_write(cx, octets) {
            Poll::Ready(written) => {
                this.until = None;
                this.idle.stop();
                Poll::Ready(written)
            }
            Poll::Pending => {
                this.idle.start();
                let until = this.until.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT))); // why: the time limit of a blocked write
                ready!(until.as_mut().poll(cx));
                let reason = "the client takes nothing of its answer";
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_fails_only_when_the_client_reads_nothing_for_too_long() {
        let (mut client, server) = duplex(4);
        let idle = IdleTimer::now();
        let mut stream = TimedStream::new(server, idle.clone());
        let writing = tokio::spawn(async move { stream.write_all(&[7; 8]).await.map(|()| stream) });
        let mut four = [0; 4];
        sleep(WRITE_TIMEOUT / 2).await; // why: on a paused clock; the time is under test
        assert!(idle.time().is_some_and(|time| time >= WRITE_TIMEOUT / 3), "{idle:?}");
        client.read_exact(&mut four).await.unwrap();
        let mut stream = writing.await.unwrap().unwrap();
        assert_eq!(idle.time(), None);
        let error =
            timeout(WRITE_TIMEOUT * 2, stream.write_all(&[7; 8])).await.expect("given up").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_before_a_request_and_not_while_it_is_handled() {
        let (mut client, server) = duplex(64);
        let idle = IdleTimer::now();
        let mut stream = TimedStream::new(server, idle.clone());
        sleep(Duration::from_secs(3)).await; // why: on a paused clock; the time is under test
        assert_eq!(idle.time(), Some(Duration::from_secs(3)), "from the moment it was accepted");
        client.write_all(b"x").await.unwrap();
        stream.read_u8().await.unwrap();
        idle.set_answering(true);
        assert!(timeout(Duration::from_secs(1), stream.read_u8()).await.is_err());
        assert_eq!(idle.time(), None);
        idle.set_answering(false);
        assert!(timeout(Duration::from_secs(2), stream.read_u8()).await.is_err());
        assert_eq!(idle.time(), Some(Duration::from_secs(2)));
    }
}
