//! A running peer as others see it: where it is, how it is, and what can be asked of its task.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::auth::{Protection, set_hops};
use super::bfd::BfdReport;
use super::listener::Listener;
use super::traffic::Traffic;
use super::update_errors::UpdateErrors;
use crate::bfd;
use crate::session::{Negotiated, PeerConfig, SessionState};
use crate::types::Families;
use crate::wire::error::ErrorCode;
use crate::wire::open::Open;

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its address and port.
    pub remote: SocketAddr,
    /// Our address towards it.
    pub local: Option<IpAddr>,
    /// What protects its connections.
    pub protection: Protection,
}

/// How a session is.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its state.
    pub state: SessionState,
    /// Since when.
    pub since: SystemTime,
    /// What was settled, while Established.
    pub negotiated: Option<Negotiated>,
    /// Why the last connection ended or the last call failed, and when.
    pub last_error: Option<SessionError>,
    /// How often the session was Established.
    pub established: u64,
    /// UPDATEs with an error (RFC 7606).
    pub update_errors: UpdateErrors,
    /// Until when routes of an earlier session are kept as stale, while they are.
    pub retained_until: Option<Instant>,
    /// The OPENs of the last connection on which one came: ours and the peer's.
    pub opens: Option<(Open, Open)>,
    /// How much was exchanged since the peer was configured.
    pub traffic: Arc<Traffic>,
}

/// Something that happened to a session, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionError {
    /// When.
    pub at: SystemTime,
    /// What.
    pub text: String,
}

/// A running peer. When dropped without [`PeerHandle::stop`], the task ends its sessions likewise.
#[derive(Debug)]
pub struct PeerHandle {
    pub(super) address: PeerAddress,
    pub(super) calls: mpsc::Sender<TcpStream>,
    pub(super) stop: Option<oneshot::Sender<StopKind>>,
    pub(super) commands: mpsc::Sender<PeerCommand>,
    pub(super) status: watch::Receiver<PeerStatus>,
    pub(super) task: JoinHandle<()>,
}

impl PeerHandle {
    /// How the session is now.
    pub fn status(&self) -> PeerStatus {
        self.status.borrow().clone()
    }

    /// Told of every change of the status.
    pub fn watch(&self) -> watch::Receiver<PeerStatus> {
        self.status.clone()
    }

    /// Takes the connections that `listener` accepts from the peer's address.
    pub async fn listen(&self, listener: &Listener) {
        let PeerAddress { remote, protection, .. } = &self.address;
        listener.add(remote.ip(), protection.clone(), self.calls.clone()).await;
    }

    /// Takes a connection that the peer has made, if there is room for one.
    pub fn take(&self, stream: TcpStream) {
        let PeerAddress { remote, protection, .. } = &self.address;
        if let Err(error) = set_hops(&stream, remote.ip(), protection.hops) {
            tracing::error!(peer = %remote, %error, "connection refused: its TTL can't be set");
            return;
        }
        // The peer calls again if nobody answers it.
        let _ = self.calls.try_send(stream);
    }

    /// Ends the session with a Cease of this subcode (RFC 4486) and neither calls nor answers until
    /// `restart_after` is over, or, without it, until [`PeerHandle::resume`].
    pub async fn cease(&self, code: ErrorCode, restart_after: Option<Duration>) {
        let _ = self.commands.send(PeerCommand::Stop(code, restart_after)).await;
    }

    /// Ends the session without waiting for the hold time when BFD says that the way to the peer is gone
    /// (RFC 5882 §4.3), with the Cease of RFC 9384; then begins anew. A session may be Established
    /// before BFD is Up.
    pub fn watch_bfd(&self, mut reports: watch::Receiver<BfdReport>) -> BfdWatch {
        let commands = self.commands.clone();
        BfdWatch(tokio::spawn(async move {
            let mut up = reports.borrow_and_update().state == bfd::BfdState::Up;
            while reports.changed().await.is_ok() {
                let BfdReport { state, remote_admin_down, .. } = *reports.borrow_and_update();
                let lost = up && matches!(state, bfd::BfdState::Down | bfd::BfdState::AdminDown);
                up = state == bfd::BfdState::Up;
                // What the other side ends on purpose is no failure (RFC 5882 §3.2); BGP will hear of it.
                if lost && !remote_admin_down && commands.send(PeerCommand::BfdDown).await.is_err() {
                    return;
                }
            }
        }))
    }

    /// Takes another configuration: the session is opened anew with it, and both sides keep their routes
    /// over that where they can. Call [`PeerHandle::listen`] next.
    pub async fn reconfigure(&mut self, config: PeerConfig, address: PeerAddress) {
        self.address = address.clone();
        let _ = self.commands.send(PeerCommand::Reconfigure(Box::new(config), Box::new(address))).await;
    }

    /// Ends a pause.
    pub async fn resume(&self) {
        let _ = self.commands.send(PeerCommand::Resume).await;
    }

    /// Ends the session with a Cease of this subcode (RFC 4486) and waits until it is sent; the peer
    /// is not to keep our routes.
    pub async fn stop(self, code: ErrorCode) {
        self.end(StopKind::Stop(code)).await;
    }

    /// Ends the session because this node restarts: a peer that can keeps our routes meanwhile (RFC
    /// 4724, RFC 8538).
    pub async fn restart(self) {
        self.end(StopKind::Restart).await;
    }

    async fn end(mut self, ending: StopKind) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(ending);
        }
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a peer's task ended badly");
        }
    }
}

/// See [`PeerHandle::watch_bfd`], which ends with it.
#[derive(Debug)]
pub struct BfdWatch(JoinHandle<()>);

impl Drop for BfdWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How a peer's task is to end.
#[derive(Clone, Copy, Debug)]
pub(super) enum StopKind {
    Stop(ErrorCode),
    Restart,
}

/// Whether this node has just restarted, and for which families it still forwards as before; see
/// [`Peer::set_restarted`](crate::session::Peer::set_restarted).
pub type RestartWatch = watch::Receiver<Option<Families>>;
/// Pauses that may wait: they come one at a time from whoever configures us.
pub(super) const PEER_COMMANDS: usize = 4;

/// Whether there is to be a session at all.
pub(super) enum PeerCommand {
    /// There is not, from now on; with the code of the Cease and how long.
    Stop(ErrorCode, Option<Duration>),
    /// There is.
    Resume,
    /// There is, but BFD gave the peer up.
    BfdDown,
    /// There is, another one.
    Reconfigure(Box<PeerConfig>, Box<PeerAddress>),
}
