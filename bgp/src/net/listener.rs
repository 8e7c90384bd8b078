//! The listener: connections from configured addresses go to their peer's task, others are closed.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Connections that may wait to be accepted: a whole cluster may call at once.
const BACKLOG: i32 = 4096;
/// Changes of the peers that may wait: they come one at a time from whoever configures us.
const CHANGES: usize = 16;
/// Accepted connections that may wait for a peer's task; a peer has no use for more.
pub(super) const WAITING_CALLS: usize = 2;

/// A port can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {source}")]
pub struct ListenerError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

enum Change {
    Add(IpAddr, mpsc::Sender<TcpStream>),
    Remove(IpAddr),
    Ranges(Vec<IpNet>, mpsc::Sender<Stranger>),
    Open,
}

/// A connection from an address that no peer is configured for, in a range where that is welcome.
#[derive(Debug)]
pub struct Stranger {
    /// The address.
    pub address: IpAddr,
    /// The connection.
    pub stream: TcpStream,
}

/// Accepts connections; stops when dropped.
#[derive(Debug)]
pub struct Listener {
    changes: mpsc::Sender<Change>,
    refused: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Listens on `addresses`; who calls waits until [`Listener::open`].
    ///
    /// # Errors
    /// An address that can't be bound.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Listener, ListenerError> {
        let mut sockets = Vec::new();
        for address in addresses {
            let socket = bind(*address).map_err(|source| ListenerError { address: *address, source })?;
            sockets.push(socket);
        }
        let (changes, receiver) = mpsc::channel(CHANGES);
        let refused = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(run(sockets, receiver, Arc::clone(&refused)));
        Ok(Listener { changes, refused, task })
    }

    /// Sends connections from `address` to a peer's task.
    pub(super) async fn add(&self, address: IpAddr, calls: mpsc::Sender<TcpStream>) {
        let _ = self.changes.send(Change::Add(address, calls)).await;
    }

    /// Accepts connections from now on: the peers are known.
    pub async fn open(&self) {
        let _ = self.changes.send(Change::Open).await;
    }

    /// Closes further connections from `address`.
    pub async fn remove(&self, address: IpAddr) {
        let _ = self.changes.send(Change::Remove(address)).await;
    }

    /// Sends connections from within `ranges`, whose address is no configured peer's, to `strangers` while there
    /// is room; from the others they are closed.
    pub async fn welcome(&self, ranges: Vec<IpNet>, strangers: mpsc::Sender<Stranger>) {
        let _ = self.changes.send(Change::Ranges(ranges, strangers)).await;
    }

    /// Connections closed since the start because nobody is configured at their address.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn run(sockets: Vec<TcpListener>, mut changes: mpsc::Receiver<Change>, refused: Arc<AtomicU64>) {
    let mut peers: HashMap<IpAddr, mpsc::Sender<TcpStream>> = HashMap::new();
    let mut welcome: Option<(Vec<IpNet>, mpsc::Sender<Stranger>)> = None;
    let mut open = false;
    loop {
        tokio::select! {
            // Changes first: who has just been configured must not be turned away.
            biased;
            change = changes.recv() => match change {
                Some(Change::Add(address, calls)) => _ = peers.insert(address, calls),
                Some(Change::Remove(address)) => _ = peers.remove(&address),
                Some(Change::Ranges(ranges, strangers)) => welcome = Some((ranges, strangers)),
                Some(Change::Open) => open = true,
                None => return,
            },
            accepted = accept(&sockets), if open => match accepted {
                Ok((stream, from)) => {
                    let address = from.ip().to_canonical();
                    // Of a peer that was dropped nobody said that it is gone.
                    let peer = peers.get(&address).filter(|calls| !calls.is_closed());
                    let in_range = |(ranges, _): &(Vec<IpNet>, _)| {
                        ranges.iter().any(|range| range.contains(&address))
                    };
                    let welcome = welcome.as_ref().filter(|welcome| in_range(welcome));
                    if peer.is_none() && welcome.is_none() {
                        reset_on_close(&stream);
                    }
                    let taken = match (peer, welcome) {
                        (Some(calls), _) => calls.try_send(stream).is_ok(),
                        (None, Some((_, strangers))) => {
                            strangers.try_send(Stranger { address, stream }).is_ok()
                        }
                        (None, None) => false,
                    };
                    if !taken {
                        refused.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(%from, "connection refused: no such peer");
                    }
                }
                Err(error) => {
                    // Out of descriptors or memory: accepting again at once would spin.
                    tracing::warn!(%error, "accept");
                    tokio::time::sleep(Duration::from_millis(100)).await; // why: back-off, not synchronisation
                }
            },
        }
    }
}

/// A stranger's connection leaves nothing behind in the kernel, however many there are in a second.
fn reset_on_close(stream: &TcpStream) {
    if let Err(error) = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "SO_LINGER");
    }
}

async fn accept(sockets: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    std::future::poll_fn(|context| {
        for socket in sockets {
            if let std::task::Poll::Ready(accepted) = socket.poll_accept(context) {
                return std::task::Poll::Ready(accepted);
            }
        }
        std::task::Poll::Pending
    })
    .await
}
