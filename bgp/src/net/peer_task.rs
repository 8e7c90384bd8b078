//! Task of one peer: its sockets and timers, and the state machine between them.

use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use timing::sleep_until;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::event_sources::{DialFuture, dial, dial_result, index, ready};
use super::listener::INCOMING_CAPACITY;
use super::peer::{
    PEER_COMMANDS, PeerAddress, PeerCommand, PeerHandle, PeerStatus, RestartWatch, SessionError, StopKind,
};
use super::sink::{OUTBOUND_CHUNKS, RouteSink};
use super::socket::{PeerSocket, ReadBuffer};
use super::traffic::{self, Traffic};
use super::update_errors::UpdateErrors;
use crate::session::{
    Admission, Peer, PeerConfig, PeerInput, PeerOutput, ReceivedUpdate, SessionState, Side,
};
use crate::wire::error::ErrorCode;
use crate::wire::frame::{self, MessageKind};
use crate::wire::notification::Notification;
use crate::wire::open::Open;

/// Chunks taken from the RIB's channel before the socket must have written some.
const QUEUE_AHEAD: usize = 16;
/// Maximum number of closed connections that still write their NOTIFICATION; more are dropped at
/// once.
const LINGERING: usize = 8;

/// Starts the task of a peer, which dials it. For incoming connections see [`PeerHandle::listen`].
pub fn spawn_peer<S: RouteSink>(
    config: PeerConfig,
    address: PeerAddress,
    seed: u64,
    restarted: RestartWatch,
    sink: S,
) -> PeerHandle {
    let (incoming, accepted) = mpsc::channel(INCOMING_CAPACITY);
    let (stop, stopped) = oneshot::channel();
    let (commands, command_queue) = mpsc::channel(PEER_COMMANDS);
    let traffic = Arc::new(Traffic::default());
    let (status_sender, status) = watch::channel(PeerStatus {
        state: SessionState::Idle,
        since: SystemTime::now(),
        negotiated: None,
        last_error: None,
        established: 0,
        update_errors: UpdateErrors::default(),
        retained_until: None,
        opens: None,
        traffic: Arc::clone(&traffic),
    });
    let (_, outbound) = mpsc::channel(1);
    let task = PeerTask {
        peer: Peer::new(config, seed),
        address: address.clone(),
        sockets: [None, None],
        dial: None,
        outbound,
        lingering: JoinSet::new(),
        status: status_sender,
        published: SessionState::Idle,
        retained_until: None,
        drain_unreported: false,
        restarted,
        traffic,
        sink,
    };
    let task = tokio::spawn(task.run(accepted, stopped, command_queue));
    PeerHandle { address, incoming, stop: Some(stop), commands, status, task }
}

struct PeerTask<S> {
    peer: Peer,
    address: PeerAddress,
    sockets: [Option<PeerSocket>; 2],
    dial: Option<DialFuture>,
    outbound: mpsc::Receiver<Bytes>,
    lingering: JoinSet<()>,
    status: watch::Sender<PeerStatus>,
    /// State published in `status`.
    published: SessionState,
    /// End of the retention of stale routes, as published in `status`.
    retained_until: Option<Instant>,
    /// Chunks were taken from `outbound`, and the sink was not yet notified that all are written.
    drain_unreported: bool,
    restarted: RestartWatch,
    traffic: Arc<Traffic>,
    sink: S,
}

impl<S: RouteSink> PeerTask<S> {
    async fn run(
        mut self,
        mut incoming: mpsc::Receiver<TcpStream>,
        mut stopped: oneshot::Receiver<StopKind>,
        mut commands: mpsc::Receiver<PeerCommand>,
    ) {
        let mut restart: Option<Instant> = None;
        self.handle(PeerInput::Start).await;
        // Deadlines usually move away with every message: the timer is reset for earlier ones only.
        let mut alarm_at: Option<Instant> = None;
        let mut alarm = std::pin::pin!(tokio::time::sleep_until(Instant::now().into()));
        loop {
            let deadline = self.peer.deadline().into_iter().chain(self.send_hold_deadline()).min();
            if let Some(deadline) = deadline
                && alarm_at.is_none_or(|alarm_at| deadline < alarm_at)
            {
                alarm.as_mut().reset(deadline.into());
                alarm_at = Some(deadline);
            }
            let pending = self.sink.pending();
            let established = Side::ALL
                .into_iter()
                .find(|side| self.peer.connection_state(*side) == Some(SessionState::Established));
            let has_capacity = established
                .and_then(|side| self.sockets[index(side)].as_ref())
                .is_some_and(|socket| socket.queued() < QUEUE_AHEAD);
            tokio::select! {
                ending = &mut stopped => {
                    let input = match ending {
                        Ok(StopKind::Stop(code)) => PeerInput::Stop(code),
                        Ok(StopKind::Restart) => PeerInput::Restart,
                        Err(_) => PeerInput::Stop(ErrorCode::PEER_DECONFIGURED),
                    };
                    self.handle(input).await;
                    // The RIB must receive the end of the session before the task ends.
                    self.sink.flush().await;
                    while self.lingering.join_next().await.is_some() {}
                    return;
                }
                Some(command) = commands.recv() => match command {
                    PeerCommand::Stop(code, restart_after) => {
                        self.handle(PeerInput::Stop(code)).await;
                        restart = restart_after.map(|after| Instant::now() + after);
                    }
                    PeerCommand::Resume => {
                        restart = None;
                        self.handle(PeerInput::Start).await;
                    }
                    PeerCommand::BfdDown => self.handle(PeerInput::BfdDown).await,
                    PeerCommand::Reconfigure(config, address) => {
                        self.address = *address;
                        self.peer.reconfigure(*config, Instant::now());
                        self.perform_outputs().await;
                    }
                },
                () = sleep_until(restart) => {
                    restart = None;
                    self.handle(PeerInput::Start).await;
                }
                () = self.sink.flush(), if pending => {}
                Some(chunk) = self.outbound.recv(), if has_capacity => {
                    if let Some(side) = established {
                        self.send(side, chunk);
                        for _ in 1..QUEUE_AHEAD {
                            let Ok(chunk) = self.outbound.try_recv() else { break };
                            self.send(side, chunk);
                        }
                        self.drain_unreported = true;
                        self.write(side).await;
                    }
                }
                side = ready(&self.sockets, !pending) => {
                    self.write(side).await;
                    if !self.sink.pending() {
                        self.read(side).await;
                    }
                }
                result = dial_result(&mut self.dial) => {
                    self.dial = None;
                    match result {
                        Ok(stream) => {
                            self.sockets[index(Side::Outgoing)] = Some(PeerSocket::new(stream));
                            self.handle(PeerInput::Connected(Side::Outgoing)).await;
                        }
                        Err(error) => {
                            self.record_error(format!("connect to {}: {error}", self.address.remote));
                            self.handle(PeerInput::ConnectFailed).await;
                        }
                    }
                }
                Some(stream) = incoming.recv() => self.accept(stream).await,
                () = alarm.as_mut(), if alarm_at.is_some() => {
                    alarm_at = None;
                    let now = Instant::now();
                    if self.peer.deadline().is_some_and(|deadline| deadline <= now) {
                        self.handle(PeerInput::Timer).await;
                    }
                    if self.send_hold_deadline().is_some_and(|deadline| deadline <= now)
                        && let Some(side) = established
                    {
                        self.handle(PeerInput::SendHoldTimerExpired(side)).await;
                    }
                }
                Some(_) = self.lingering.join_next(), if !self.lingering.is_empty() => {}
            }
        }
    }

    /// Returns the time at which the send hold timer expires (RFC 9687), while the socket is not
    /// writable.
    fn send_hold_deadline(&self) -> Option<Instant> {
        let hold = self.peer.negotiated()?.send_hold(self.peer.config().send_hold_time)?;
        let blocked = self.sockets.iter().flatten().filter_map(PeerSocket::blocked_since).min()?;
        blocked.checked_add(hold)
    }

    async fn accept(&mut self, stream: TcpStream) {
        let mut socket = PeerSocket::new(stream);
        match self.peer.admission() {
            Admission::Accept => {}
            Admission::AcceptSecond => {
                self.peer.swap_sides();
                self.sockets.swap(0, 1);
            }
            Admission::Reject(code) => {
                let mut message = Vec::new();
                Notification::new(code).encode(&mut message);
                socket.send(message.into());
                return self.close(socket);
            }
        }
        if let Some(old) = self.sockets[index(Side::Incoming)].replace(socket) {
            self.close(old);
        }
        self.handle(PeerInput::Connected(Side::Incoming)).await;
    }

    /// Hands an event to the state machine and performs the resulting actions.
    async fn handle(&mut self, input: PeerInput) {
        if matches!(input, PeerInput::Connected(_)) {
            let restarted = *self.restarted.borrow();
            self.peer.set_restarted(restarted);
        }
        self.peer.handle(input, Instant::now());
        self.perform_outputs().await;
    }

    async fn perform_outputs(&mut self) {
        let mut sent = [false; 2];
        while let Some(output) = self.peer.poll_output() {
            match output {
                PeerOutput::Connect => {
                    self.dial = Some(Box::pin(dial(self.address.clone())));
                }
                PeerOutput::AbortConnect => {
                    if self.dial.take().is_some() && self.peer.state() == SessionState::Active {
                        self.record_error(format!("connect to {}: no answer", self.address.remote));
                    }
                }
                PeerOutput::Send(side, message) => {
                    self.send(side, message.into());
                    sent[index(side)] = true;
                }
                PeerOutput::Close(side) => {
                    if let Some(mut socket) = self.sockets[index(side)].take() {
                        // Send the NOTIFICATION even if the connection will not linger.
                        if let Err(error) = socket.write() {
                            tracing::debug!(peer = %self.address.remote, %error, "write");
                        }
                        self.close(socket);
                    }
                }
                PeerOutput::Established(_, negotiated) => {
                    let (sender, receiver) = mpsc::channel(OUTBOUND_CHUNKS);
                    self.outbound = receiver;
                    self.status.send_modify(|status| status.established += 1);
                    self.sink.established(negotiated, sender).await;
                }
                PeerOutput::Ended { established, reason, retain } => {
                    self.record_error(reason.to_string());
                    if established {
                        if !retain.families.is_empty() {
                            tracing::info!(peer = %self.address.remote, "routes of the peer are kept: it may be restarting");
                        }
                        self.outbound.close();
                        self.sink.down(retain).await;
                    }
                }
                PeerOutput::Refresh(family) => self.sink.refresh(family),
                PeerOutput::RefreshBegins(family) => self.sink.refresh_begins(family),
                PeerOutput::Stale(stale) => self.sink.stale(stale),
            }
        }
        // All messages of one turn go into one segment.
        for (socket, _) in self.sockets.iter_mut().zip(sent).filter(|(_, sent)| *sent) {
            if let Some(socket) = socket
                && let Err(error) = socket.write()
            {
                tracing::debug!(peer = %self.address.remote, %error, "write");
            }
        }
        self.publish();
    }

    fn send(&mut self, side: Side, chunk: Bytes) {
        if let Some(socket) = &mut self.sockets[index(side)] {
            // Queued routes are useless to a session that ends.
            if frame::next(&chunk, frame::MAX_LEN)
                .is_ok_and(|frame| frame.is_some_and(|frame| frame.kind == MessageKind::Notification))
            {
                socket.drop_queued();
            }
            self.traffic.sent.note_all(&chunk);
            socket.send(chunk);
        }
    }

    fn close(&mut self, socket: PeerSocket) {
        if self.lingering.len() < LINGERING {
            self.lingering.spawn(socket.linger());
        }
    }

    async fn write(&mut self, side: Side) {
        let Some(socket) = &mut self.sockets[index(side)] else { return };
        if let Err(error) = socket.write() {
            tracing::debug!(peer = %self.address.remote, %error, "write");
            return self.connection_lost(side).await;
        }
        if self.drain_unreported && socket.queued() == 0 && self.outbound.is_empty() {
            self.drain_unreported = false;
            self.sink.drained();
        }
    }

    async fn connection_lost(&mut self, side: Side) {
        self.sockets[index(side)] = None;
        self.handle(PeerInput::Closed(side)).await;
    }

    async fn read(&mut self, side: Side) {
        let Some(socket) = &mut self.sockets[index(side)] else { return };
        let mut buffer = ReadBuffer::new();
        match socket.read(&mut buffer) {
            Ok(0) => return self.connection_lost(side).await,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                tracing::debug!(peer = %self.address.remote, %error, "read");
                return self.connection_lost(side).await;
            }
        }
        // Messages are processed in place; only actions of the state machine leave this loop.
        let (now, moment) = (Instant::now(), traffic::moment());
        loop {
            let taken = match frame::next(buffer.unread(), self.peer.max_len(side)) {
                Ok(None) => break,
                Ok(Some(message)) => {
                    self.traffic.received.note(message.kind, message.len(), moment);
                    if message.kind == MessageKind::Open {
                        self.record_open(message.body);
                    }
                    if let Some(update) = self.peer.receive(side, message, now) {
                        read_update(&mut self.peer, &mut self.sink, &self.status, side, update, now);
                    }
                    message.len()
                }
                Err(error) => {
                    self.peer.handle(PeerInput::Malformed(side, error), now);
                    0
                }
            };
            buffer.consume(taken);
            self.perform_outputs().await;
            if taken == 0 || self.sockets[index(side)].is_none() {
                return;
            }
        }
        if let Some(socket) = &mut self.sockets[index(side)] {
            socket.keep(&buffer);
        }
    }

    /// Publishes both OPENs in the status.
    fn record_open(&self, body: &[u8]) {
        let ours = self.peer.config().open(*self.restarted.borrow());
        if let Ok(theirs) = Open::parse(body) {
            self.status.send_modify(|status| status.opens = Some((ours, theirs)));
        }
    }

    fn record_error(&self, text: String) {
        tracing::debug!(peer = %self.address.remote, "{text}");
        self.status.send_modify(|status| {
            status.last_error = Some(SessionError { at: SystemTime::now(), text });
        });
    }

    fn publish(&mut self) {
        let state = self.peer.state();
        let retained_until = self.peer.retained_until();
        if state == self.published && retained_until == self.retained_until {
            return;
        }
        (self.published, self.retained_until) = (state, retained_until);
        self.status.send_if_modified(|status| {
            status.retained_until = retained_until;
            if status.state == state {
                return true;
            }
            // The reason of an earlier failure does not explain why the session is Established now.
            let error = status.last_error.as_ref().map(|line| line.text.as_str());
            let error = error.filter(|_| state != SessionState::Established);
            if state == SessionState::Established || status.state == SessionState::Established {
                tracing::info!(peer = %self.address.remote, from = %status.state, to = %state, reason = error, "session");
            } else {
                tracing::debug!(peer = %self.address.remote, from = %status.state, to = %state, "session");
            }
            status.state = state;
            status.since = SystemTime::now();
            status.negotiated = self.peer.negotiated().copied();
            true
        });
    }
}

/// Reads an UPDATE, passes its routes to the sink and reports its errors.
fn read_update<S: RouteSink>(
    peer: &mut Peer,
    sink: &mut S,
    status: &watch::Sender<PeerStatus>,
    side: Side,
    update: ReceivedUpdate<'_>,
    now: Instant,
) {
    match update.read() {
        Ok(update) => {
            if let Some(fault) = update.fault {
                let mut new = false;
                status.send_modify(|status| new = status.update_errors.note(&update, SystemTime::now()));
                // Once per kind of error: a peer may send thousands of them.
                if new {
                    let peer_id = peer.negotiated().map(|terms| tracing::field::display(terms.peer_id));
                    tracing::warn!(
                        peer = peer_id,
                        attribute = fault.attribute,
                        verdict = fault.verdict.name(),
                        "UPDATE with an error: {}",
                        fault.rule
                    );
                }
            }
            match update.end_of_rib() {
                Some(family) => {
                    sink.end_of_rib(family);
                    peer.handle(PeerInput::EndOfRib(family), now);
                }
                None => sink.update(&update),
            }
        }
        Err(error) => {
            status.send_modify(|status| status.update_errors.note_reset(&error, SystemTime::now()));
            peer.handle(PeerInput::Malformed(side, error), now);
        }
    }
}
