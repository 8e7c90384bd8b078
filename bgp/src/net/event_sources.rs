//! Event sources of a peer's task.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::net::{TcpSocket, TcpStream};

use super::auth::protect_connect;
use super::peer::PeerAddress;
use super::socket::PeerSocket;
use crate::session::Side;

/// Connection attempt in progress.
pub(super) type DialFuture = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Returns the index of a side in the array of sockets.
pub(super) const fn index(side: Side) -> usize {
    match side {
        Side::Outgoing => 0,
        Side::Incoming => 1,
    }
}

/// Waits until a socket is writable or, with `read`, readable; returns its side.
pub(super) async fn ready(sockets: &[Option<PeerSocket>; 2], read: bool) -> Side {
    let one = |side: Side| {
        let socket = sockets[index(side)].as_ref();
        async move {
            // The following read or write returns the error, if there is one.
            let _ = timing::optional(socket.map(|socket| socket.ready(read))).await;
            side
        }
    };
    tokio::select! {
        side = one(Side::Outgoing) => side,
        side = one(Side::Incoming) => side,
    }
}

/// Waits for the result of a connection attempt; forever if there is none.
pub(super) async fn dial_result(dial: &mut Option<DialFuture>) -> io::Result<TcpStream> {
    timing::optional(dial.as_mut()).await
}

/// Opens a TCP connection to a peer.
pub(super) async fn dial(address: PeerAddress) -> io::Result<TcpStream> {
    let socket = if address.remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    protect_connect(&socket, address.remote.ip(), &address.protection)?;
    if let Some(local) = address.local {
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(local, 0))?;
    }
    socket.connect(address.remote).await
}
