//! Handle of a running peer: its address, its status and its commands.

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
use crate::session::{PeerConfig, SessionParameters, SessionState};
use crate::types::Families;
use crate::wire::error::ErrorCode;
use crate::wire::open::Open;

/// Address and protection of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Address and port of the peer.
    pub remote: SocketAddr,
    /// Local address.
    pub local: Option<IpAddr>,
    /// Protection of the connections.
    pub protection: Protection,
}

/// Status of a session.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// State.
    pub state: SessionState,
    /// Time of the last change of state.
    pub since: SystemTime,
    /// Session parameters, while Established.
    pub negotiated: Option<SessionParameters>,
    /// Reason why the last connection ended or the last attempt failed.
    pub last_error: Option<SessionError>,
    /// Number of times that the session was Established.
    pub established: u64,
    /// UPDATEs with an error (RFC 7606).
    pub update_errors: UpdateErrors,
    /// Time until which routes of an earlier session are kept as stale, if there are any.
    pub retained_until: Option<Instant>,
    /// OPENs of the last connection on which the peer sent one: ours and the peer's.
    pub opens: Option<(Open, Open)>,
    /// Traffic counters since the peer was configured.
    pub traffic: Arc<Traffic>,
}

/// Error of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionError {
    /// Time of the error.
    pub at: SystemTime,
    /// Description.
    pub text: String,
}

/// Handle of a peer's task. If it is dropped without [`PeerHandle::stop`], the task ends its
/// sessions likewise.
#[derive(Debug)]
pub struct PeerHandle {
    pub(super) address: PeerAddress,
    pub(super) incoming: mpsc::Sender<TcpStream>,
    pub(super) stop: Option<oneshot::Sender<StopKind>>,
    pub(super) commands: mpsc::Sender<PeerCommand>,
    pub(super) status: watch::Receiver<PeerStatus>,
    pub(super) task: JoinHandle<()>,
}

impl PeerHandle {
    /// Returns the current status.
    pub fn status(&self) -> PeerStatus {
        self.status.borrow().clone()
    }

    /// Returns a receiver for changes of the status.
    pub fn watch(&self) -> watch::Receiver<PeerStatus> {
        self.status.clone()
    }

    /// Accepts the connections that `listener` receives from the peer's address.
    pub async fn listen(&self, listener: &Listener) {
        let PeerAddress { remote, protection, .. } = &self.address;
        listener.add(remote.ip(), protection.clone(), self.incoming.clone()).await;
    }

    /// Accepts an incoming connection, if the task has capacity.
    pub fn take(&self, stream: TcpStream) {
        let PeerAddress { remote, protection, .. } = &self.address;
        if let Err(error) = set_hops(&stream, remote.ip(), protection.hops) {
            tracing::error!(peer = %remote, %error, "connection refused: its TTL can't be set");
            return;
        }
        // The peer will connect again.
        let _ = self.incoming.try_send(stream);
    }

    /// Ends the session with a Cease of this subcode (RFC 4486), and neither dials nor accepts
    /// connections for `restart_after` or, without it, until [`PeerHandle::resume`].
    pub async fn cease(&self, code: ErrorCode, restart_after: Option<Duration>) {
        let _ = self.commands.send(PeerCommand::Stop(code, restart_after)).await;
    }

    /// Ends the session when BFD reports the path to the peer as down (RFC 5882 §4.3), with the
    /// Cease of RFC 9384, and then restarts it. The session may be Established before BFD is Up.
    pub fn watch_bfd(&self, mut reports: watch::Receiver<BfdReport>) -> BfdWatch {
        let commands = self.commands.clone();
        BfdWatch(tokio::spawn(async move {
            let mut up = reports.borrow_and_update().state == bfd::BfdState::Up;
            while reports.changed().await.is_ok() {
                let BfdReport { state, remote_admin_down, .. } = *reports.borrow_and_update();
                let lost = up && matches!(state, bfd::BfdState::Down | bfd::BfdState::AdminDown);
                up = state == bfd::BfdState::Up;
                // An administrative down is no failure (RFC 5882 §3.2); the peer ends the BGP
                // session itself if necessary.
                if lost && !remote_admin_down && commands.send(PeerCommand::BfdDown).await.is_err() {
                    return;
                }
            }
        }))
    }

    /// Replaces the configuration: the session is reopened with it, and both sides keep their
    /// routes meanwhile if they can. Call [`PeerHandle::listen`] afterwards.
    pub async fn reconfigure(&mut self, config: PeerConfig, address: PeerAddress) {
        self.address = address.clone();
        let _ = self.commands.send(PeerCommand::Reconfigure(Box::new(config), Box::new(address))).await;
    }

    /// Restarts a session that was ended by [`PeerHandle::cease`].
    pub async fn resume(&self) {
        let _ = self.commands.send(PeerCommand::Resume).await;
    }

    /// Ends the session with a Cease of this subcode (RFC 4486) and waits until it is sent. The
    /// peer does not keep our routes.
    pub async fn stop(self, code: ErrorCode) {
        self.end(StopKind::Stop(code)).await;
    }

    /// Ends the session because this node restarts. The peer keeps our routes if it can (RFC 4724,
    /// RFC 8538).
    pub async fn restart(self) {
        self.end(StopKind::Restart).await;
    }

    async fn end(mut self, ending: StopKind) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(ending);
        }
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the task of a peer failed");
        }
    }
}

/// Guard of [`PeerHandle::watch_bfd`], which ends when this is dropped.
#[derive(Debug)]
pub struct BfdWatch(JoinHandle<()>);

impl Drop for BfdWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Way in which a peer's task ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum StopKind {
    Stop(ErrorCode),
    Restart,
}

/// Families whose forwarding state was preserved, while this node is restarting; see
/// [`Peer::set_restarted`](crate::session::Peer::set_restarted).
pub type RestartWatch = watch::Receiver<Option<Families>>;
/// Capacity of the queue of commands, which come one at a time from the configuration.
pub(super) const PEER_COMMANDS: usize = 4;

/// Command for a peer's task.
pub(super) enum PeerCommand {
    /// End the session with this code; with a duration, restart it afterwards.
    Stop(ErrorCode, Option<Duration>),
    /// Start the session.
    Resume,
    /// End the session because BFD reports the peer down, and restart it.
    BfdDown,
    /// Reopen the session with another configuration.
    Reconfigure(Box<PeerConfig>, Box<PeerAddress>),
}
