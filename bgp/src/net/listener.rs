//! The listener: passes connections from configured addresses to their peer's task, and closes
//! others.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use super::auth::{Hops, Md5Key, Protection, protect_listener, set_hops, set_key};
use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Backlog of the listening sockets: a whole cluster may connect at once.
const BACKLOG: i32 = 4096;
/// Capacity of the queue of changes, which come one at a time from the configuration.
const CHANGES: usize = 16;
/// Connections accepted before the task yields: less than a millisecond.
const BURST: u32 = 32;
/// Accepted connections that may wait for a peer's task; a peer needs no more.
pub(super) const INCOMING_CAPACITY: usize = 2;

/// Error for an address that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {source}")]
pub struct ListenerError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Listening port: the same socket twice.
#[derive(Debug)]
struct Port {
    /// Socket in the reactor, for waiting.
    waiting: Option<TcpListener>,
    /// A duplicate of the socket outside the reactor, for accepting without waiting.
    direct: StdListener,
}

enum ListenerChange {
    Add(IpAddr, Protection, mpsc::Sender<TcpStream>),
    Remove(IpAddr),
    Ranges(Vec<IpNet>, mpsc::Sender<DynamicConnection>),
    Open,
}

/// Connection from an address without a configured peer, within an accepted range.
#[derive(Debug)]
pub struct DynamicConnection {
    /// Address of the peer.
    pub address: IpAddr,
    /// TCP connection.
    pub stream: TcpStream,
}

/// Handle of the listener's task, which stops when this is dropped.
#[derive(Debug)]
pub struct Listener {
    changes: mpsc::Sender<ListenerChange>,
    refused: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Binds `addresses`. Connections are refused until [`Listener::open`].
    ///
    /// # Errors
    /// An address cannot be bound.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Listener, ListenerError> {
        let mut ports = Vec::new();
        for address in addresses {
            let port = bind(*address).map_err(|source| ListenerError { address: *address, source })?;
            ports.push(port);
        }
        let (changes, receiver) = mpsc::channel(CHANGES);
        let refused = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(run(ports, receiver, Arc::clone(&refused)));
        Ok(Listener { changes, refused, task })
    }

    /// Passes connections from `address` to a peer's task, with this protection.
    pub(super) async fn add(
        &self,
        address: IpAddr,
        protection: Protection,
        incoming: mpsc::Sender<TcpStream>,
    ) {
        let _ = self.changes.send(ListenerChange::Add(address, protection, incoming)).await;
    }

    /// Starts to accept connections. Call this after the peers and their keys are configured: a
    /// handshake before that would not be verified.
    pub async fn open(&self) {
        let _ = self.changes.send(ListenerChange::Open).await;
    }

    /// Closes future connections from `address`.
    pub async fn remove(&self, address: IpAddr) {
        let _ = self.changes.send(ListenerChange::Remove(address)).await;
    }

    /// Passes connections from within `ranges` that have no configured peer to `dynamic`, while it
    /// has capacity; otherwise they are closed.
    pub async fn accept_ranges(&self, ranges: Vec<IpNet>, dynamic: mpsc::Sender<DynamicConnection>) {
        let _ = self.changes.send(ListenerChange::Ranges(ranges, dynamic)).await;
    }

    /// Returns the number of connections closed because their address has no configured peer.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn bind(address: SocketAddr) -> io::Result<Port> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    protect_listener(&socket, address.is_ipv4())?;
    let direct: StdListener = socket.into();
    Ok(Port { waiting: None, direct })
}

async fn run(mut ports: Vec<Port>, mut changes: mpsc::Receiver<ListenerChange>, refused: Arc<AtomicU64>) {
    let mut peers: HashMap<IpAddr, AllowedPeer> = HashMap::new();
    let mut accept_ranges: Option<(Vec<IpNet>, mpsc::Sender<DynamicConnection>)> = None;
    let (mut open, mut burst) = (false, 0);
    loop {
        tokio::select! {
            // Changes first: a peer that was just configured must not be rejected.
            biased;
            change = changes.recv() => match change {
                Some(ListenerChange::Add(address, protection, incoming)) => {
                    if let Some(hops) = set_peer_key(&ports, &protection, address) {
                        peers.insert(address, AllowedPeer { hops, incoming });
                    }
                }
                Some(ListenerChange::Remove(address)) => {
                    peers.remove(&address);
                    set_peer_key(&ports, &Protection::default(), address);
                }
                Some(ListenerChange::Ranges(ranges, dynamic)) => accept_ranges = Some((ranges, dynamic)),
                Some(ListenerChange::Open) => open = listen(&mut ports),
                None => return,
            },
            accepted = accept(&ports), if open => match accepted {
                Ok((stream, from)) => {
                    let address = from.ip().to_canonical();
                    // A peer may be dropped without being removed here.
                    let peer = peers.get(&address).filter(|allowed| !allowed.incoming.is_closed());
                    let in_range = |(ranges, _): &(Vec<IpNet>, _)| {
                        ranges.iter().any(|range| range.contains(&address))
                    };
                    let accept_ranges = accept_ranges.as_ref().filter(|accept_ranges| in_range(accept_ranges));
                    let taken = match (peer, accept_ranges) {
                        (Some(allowed), _) => {
                            register(stream).is_some_and(|stream| allowed.take(stream, address))
                        }
                        (None, Some((_, dynamic))) => register(stream).is_some_and(|stream| {
                            dynamic.try_send(DynamicConnection { address, stream }).is_ok()
                        }),
                        (None, None) => {
                            reset_on_close(&stream);
                            false
                        }
                    };
                    burst = (burst + 1) % BURST;
                    if burst == 0 {
                        // A flood must not block the sessions on this thread.
                        tokio::task::yield_now().await;
                    }
                    if !taken {
                        refused.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(%from, "connection closed: no peer is configured for this address");
                    }
                }
                Err(error) => {
                    // Out of descriptors or memory: an immediate retry would spin.
                    tracing::warn!(%error, "accept");
                    tokio::time::sleep(Duration::from_millis(100)).await; // why: back-off, not synchronisation
                }
            },
        }
    }
}

/// Registers an accepted connection with the reactor.
fn register(stream: StdStream) -> Option<TcpStream> {
    stream.set_nonblocking(true).ok()?;
    TcpStream::from_std(stream).ok()
}

/// Starts listening on all sockets; returns whether that succeeded. The reactor must not see a
/// socket earlier: it would report a hang-up again and again.
fn listen(ports: &mut [Port]) -> bool {
    let open = |port: &mut Port| {
        socket2::SockRef::from(&port.direct).listen(BACKLOG)?;
        if port.waiting.is_none() {
            port.waiting = Some(TcpListener::from_std(port.direct.try_clone()?)?);
        }
        io::Result::Ok(())
    };
    ports.iter_mut().all(|port| match open(port) {
        Ok(()) => true,
        Err(error) => {
            let address = port.direct.local_addr().ok();
            tracing::error!(?address, %error, "can't listen: is another BGP speaker running? Outgoing sessions still work");
            false
        }
    })
}

/// Makes the kernel reset a connection on close, so that a flood leaves no sockets in TIME_WAIT.
fn reset_on_close(stream: &StdStream) {
    if let Err(error) = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "SO_LINGER");
    }
}

/// Peer that may connect from an address.
struct AllowedPeer {
    hops: Hops,
    incoming: mpsc::Sender<TcpStream>,
}

impl AllowedPeer {
    /// Passes a connection to the peer's task; returns whether that succeeded. The TTL check can be
    /// set only on an accepted connection, so earlier packets were not subject to it.
    fn take(&self, stream: TcpStream, address: IpAddr) -> bool {
        if let Err(error) = set_hops(&stream, address, self.hops) {
            tracing::error!(%address, %error, "connection refused: its TTL can't be set");
            return false;
        }
        self.incoming.try_send(stream).is_ok()
    }
}

/// Sets the key for an address on the sockets of its family. Returns the distance limit if
/// connections are possible: a peer whose key is missing must not connect.
fn set_peer_key(ports: &[Port], protection: &Protection, address: IpAddr) -> Option<Hops> {
    let password = match &protection.key {
        Md5Key::None => None,
        Md5Key::Password(password) => Some(password),
        Md5Key::Unknown(_) => return None,
    };
    let of_family =
        |port: &&Port| port.direct.local_addr().is_ok_and(|local| local.is_ipv4() == address.is_ipv4());
    for port in ports.iter().filter(of_family) {
        if let Err(error) = set_key(&port.direct, address, password) {
            // Without a key there was nothing to set.
            if password.is_some() {
                tracing::error!(%address, %error, "connections of the peer are not accepted: the TCP-MD5 key can't be set");
                return None;
            }
        }
    }
    Some(protection.hops)
}

/// Waits for the next connection. During a flood connections are accepted without registering them
/// in the reactor, since most of them are closed at once.
async fn accept(ports: &[Port]) -> io::Result<(StdStream, SocketAddr)> {
    std::future::poll_fn(|context| {
        for port in ports {
            match port.direct.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                accepted => return Poll::Ready(accepted),
            }
            let Some(waiting) = &port.waiting else { continue };
            if let Poll::Ready(accepted) = waiting.poll_accept(context) {
                let whole = accepted.and_then(|(stream, from)| Ok((stream.into_std()?, from)));
                return Poll::Ready(whole);
            }
        }
        Poll::Pending
    })
    .await
}
