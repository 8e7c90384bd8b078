//! BFD over UDP, single-hop (RFC 5881) and multihop (RFC 5883): one thread, and one socket per
//! family and port for all sessions.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use timing::sleep_until;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};

use crate::bfd::{
    BfdOutput, BfdSession, BfdSessionConfig, BfdState, ControlPacket, Diagnostic, DiscardReason,
};

/// Destination port of single-hop control packets (RFC 5881 §4).
const SINGLE_HOP: u16 = 3784;
/// Destination port of multihop control packets (RFC 5883 §5).
const MULTIHOP: u16 = 4784;
/// Source ports of control packets (RFC 5881 §4).
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49152..=65535;
/// TTL of single-hop packets, which the receiver checks (RFC 5881 §5, RFC 5082).
const TTL: u32 = 255;
/// Traffic class (class selector 6): late packets appear as a failure.
const CS6: u32 = 48 << 2;
/// Capacity of the queue of new sessions, which are configured one at a time.
const COMMANDS: usize = 16;
/// Packets received from a socket before timers are processed.
const BURST: usize = 64;

/// Remote system of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BfdPeer {
    /// Address of the remote system.
    pub remote: IpAddr,
    /// Local address; `None`: the kernel's choice.
    pub local: Option<IpAddr>,
    /// The remote system is more than one hop away.
    pub multihop: bool,
    /// Session configuration.
    pub config: BfdSessionConfig,
}

/// Status of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BfdReport {
    /// State.
    pub state: BfdState,
    /// Time of the last change of state.
    pub since: SystemTime,
    /// Reason why the session last left Up.
    pub diagnostic: Diagnostic,
    /// The remote system holds its session down administratively.
    pub remote_admin_down: bool,
    /// Detection time.
    pub detection_time: Duration,
}

/// Error at the start of BFD.
#[derive(Debug, thiserror::Error)]
#[error("BFD can't use UDP port {port}: {source}: does another BFD daemon run here?")]
pub struct BfdError {
    port: u16,
    #[source]
    source: io::Error,
}

/// Reason for discarding a datagram.
#[derive(Debug, thiserror::Error)]
enum DatagramError {
    #[error("the TTL of a single-hop packet is 255 (got {0:?})")]
    Ttl(Option<i32>),
    #[error(transparent)]
    Packet(#[from] DiscardReason),
    #[error("the source address is unknown")]
    NoSource,
    #[error("no session is configured with this address")]
    UnknownPeer,
    #[error("no session has this discriminator")]
    UnknownSession,
    #[error("the packet is not from the peer of its session")]
    OtherPeer,
}

/// Handle of the BFD thread; its sessions end when it is dropped.
#[derive(Debug)]
pub struct Bfd {
    commands: mpsc::Sender<AddSession>,
}

#[derive(Debug)]
struct AddSession {
    peer: BfdPeer,
    report: watch::Sender<BfdReport>,
}

impl Bfd {
    /// Opens the sockets and starts the thread.
    ///
    /// # Errors
    /// A port is not available.
    pub fn spawn() -> Result<Bfd, BfdError> {
        let sockets = Sockets::open()?;
        let (commands, receiver) = mpsc::channel(COMMANDS);
        // A thread of its own: detection within 150 ms cannot wait while the RIB processes a table.
        let thread = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(run(sockets, receiver)),
                Err(error) => tracing::error!(%error, "BFD does not run"),
            }
        };
        let failed = |source| BfdError { port: SINGLE_HOP, source };
        std::thread::Builder::new().name("bfd".to_owned()).spawn(thread).map_err(failed)?;
        Ok(Bfd { commands })
    }

    /// Starts a session, which ends when the returned receiver is dropped. An existing session with
    /// the same peer continues with the new configuration, and reports to the new receiver.
    pub async fn session(&self, peer: BfdPeer) -> watch::Receiver<BfdReport> {
        let (report, receiver) = watch::channel(BfdReport {
            state: BfdState::Down,
            since: SystemTime::now(),
            diagnostic: Diagnostic::NONE,
            remote_admin_down: false,
            detection_time: Duration::ZERO,
        });
        let _ = self.commands.send(AddSession { peer, report }).await;
        receiver
    }
}

/// Sockets of all available families: single-hop, multihop, and for sending.
struct Sockets {
    receiving: Vec<(std::net::UdpSocket, bool)>,
    sending: Vec<std::net::UdpSocket>,
}

impl Sockets {
    fn open() -> Result<Sockets, BfdError> {
        let mut sockets = Sockets { receiving: Vec::new(), sending: Vec::new() };
        sockets.open_family(IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
        // IPv6 may be disabled in this kernel; IPv4 alone is sufficient then.
        if let Err(error) = sockets.open_family(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) {
            tracing::debug!(%error, "no BFD over IPv6");
        }
        Ok(sockets)
    }

    fn open_family(&mut self, any: IpAddr) -> Result<(), BfdError> {
        for port in [SINGLE_HOP, MULTIHOP] {
            let socket = open(any, port).map_err(|source| BfdError { port, source })?;
            self.receiving.push((socket, port == MULTIHOP));
        }
        let mut last = None;
        for port in SOURCE_PORTS {
            match open(any, port) {
                Ok(socket) => {
                    self.sending.push(socket);
                    return Ok(());
                }
                Err(source) => last = Some(BfdError { port, source }),
            }
        }
        last.map_or(Ok(()), Err)
    }
}

fn open(any: IpAddr, port: u16) -> io::Result<std::net::UdpSocket> {
    let address = SocketAddr::new(any, port);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if any.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
        socket.set_ttl_v4(TTL)?;
        socket.set_tos_v4(CS6)?;
    } else {
        socket.set_only_v6(true)?;
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        socket.set_unicast_hops_v6(TTL)?;
        socket.set_tclass_v6(CS6)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

struct BfdEntry {
    peer: BfdPeer,
    session: BfdSession,
    report: watch::Sender<BfdReport>,
    /// Time of the earliest entry in the heap.
    armed: Option<Instant>,
}

struct BfdDriver {
    receiving: Vec<(UdpSocket, bool)>,
    sending: Vec<UdpSocket>,
    sessions: HashMap<u32, BfdEntry>,
    by_peer: HashMap<(IpAddr, bool), u32>,
    alarms: BinaryHeap<Reverse<(Instant, u32)>>,
    random: RandomState,
    discriminators: u32,
}

async fn run(sockets: Sockets, mut commands: mpsc::Receiver<AddSession>) {
    let taken = |socket| UdpSocket::from_std(socket).inspect_err(|error| tracing::error!(%error, "BFD"));
    let mut driver = BfdDriver {
        receiving: sockets
            .receiving
            .into_iter()
            .filter_map(|(socket, multihop)| Some((taken(socket).ok()?, multihop)))
            .collect(),
        sending: sockets.sending.into_iter().filter_map(|socket| taken(socket).ok()).collect(),
        sessions: HashMap::new(),
        by_peer: HashMap::new(),
        alarms: BinaryHeap::new(),
        random: RandomState::new(),
        discriminators: 0,
    };
    loop {
        let deadline = driver.alarms.peek().map(|Reverse((at, _))| *at);
        tokio::select! {
            command = commands.recv() => match command {
                Some(add) => driver.begin(add),
                None => return driver.end(),
            },
            place = readable(&driver.receiving) => driver.receive(place),
            () = sleep_until(deadline) => driver.due(&mut commands, Instant::now()),
        }
    }
}

async fn readable(sockets: &[(UdpSocket, bool)]) -> usize {
    std::future::poll_fn(|context| {
        for (place, (socket, _)) in sockets.iter().enumerate() {
            // The following read returns the error, if there is one.
            if socket.poll_recv_ready(context).is_ready() {
                return std::task::Poll::Ready(place);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

impl BfdDriver {
    fn begin(&mut self, AddSession { peer, report }: AddSession) {
        let now = Instant::now();
        // A change of the configuration must not appear as a failure to the peer.
        let known = self.by_peer.get(&(peer.remote, peer.multihop)).copied();
        if let Some(id) = known
            && let Some(entry) = self.sessions.get_mut(&id)
        {
            report.send_replace(*entry.report.borrow());
            (entry.peer, entry.report) = (peer, report);
            entry.session.set_config(peer.config, now);
            return self.perform_outputs(id, now);
        }
        let discr = loop {
            self.discriminators = self.discriminators.wrapping_add(1);
            // Unpredictable, and different from the one before a restart.
            let number = self.random.hash_one(self.discriminators) as u32;
            if let Some(number) = NonZeroU32::new(number)
                && !self.sessions.contains_key(&number.get())
            {
                break number;
            }
        };
        let session = BfdSession::new(peer.config, discr, u64::from(discr.get()), now);
        self.by_peer.insert((peer.remote, peer.multihop), discr.get());
        self.sessions.insert(discr.get(), BfdEntry { peer, session, report, armed: None });
        self.perform_outputs(discr.get(), now);
    }

    /// Takes all sessions down administratively, which is no failure for the peers.
    fn end(&mut self) {
        let ids: Vec<u32> = self.sessions.keys().copied().collect();
        for id in ids {
            self.stop(id);
        }
    }

    fn stop(&mut self, id: u32) {
        if let Some(entry) = self.sessions.get_mut(&id) {
            entry.session.stop(Instant::now());
        }
        self.perform_outputs(id, Instant::now());
        let Some(entry) = self.sessions.remove(&id) else { return };
        let key = (entry.peer.remote, entry.peer.multihop);
        if self.by_peer.get(&key) == Some(&id) {
            self.by_peer.remove(&key);
        }
    }

    /// Processes expired timers and ends the sessions whose receiver was dropped.
    fn due(&mut self, commands: &mut mpsc::Receiver<AddSession>, now: Instant) {
        let unobserved = self.alarm(now);
        // A reconfiguration requests the new receiver before it drops the old one. Its command may
        // still be queued, and the session must not end in between.
        while let Ok(add) = commands.try_recv() {
            self.begin(add);
        }
        for id in unobserved {
            if self.sessions.get(&id).is_some_and(|entry| entry.report.is_closed()) {
                self.stop(id);
            }
        }
    }

    /// Processes expired timers. Returns the sessions whose receiver was dropped.
    fn alarm(&mut self, now: Instant) -> Vec<u32> {
        let mut unobserved = Vec::new();
        while let Some(Reverse((at, id))) = self.alarms.peek().copied()
            && at <= now
        {
            self.alarms.pop();
            let Some(entry) = self.sessions.get_mut(&id) else { continue };
            if entry.armed != Some(at) {
                continue;
            }
            entry.armed = None;
            if entry.report.is_closed() {
                unobserved.push(id);
            }
            if entry.session.deadline().is_some_and(|deadline| deadline <= now) {
                entry.session.timer(now);
            }
            self.perform_outputs(id, now);
        }
        unobserved
    }

    fn receive(&mut self, place: usize) {
        for _ in 0..BURST {
            let Some((socket, multihop)) = self.receiving.get(place) else { return };
            let multihop = *multihop;
            let mut buffer = [0; 64];
            let (len, from, ttl) = match socket.try_io(Interest::READABLE, || take(socket, &mut buffer)) {
                Ok(taken) => taken,
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        tracing::debug!(%error, "BFD");
                    }
                    return;
                }
            };
            let datagram = buffer.get(..len).unwrap_or_default();
            if let Err(why) = self.packet(datagram, from, ttl, multihop) {
                tracing::debug!(?from, %why, "BFD packet discarded");
            }
        }
    }

    fn packet(
        &mut self,
        datagram: &[u8],
        from: Option<IpAddr>,
        ttl: Option<i32>,
        multihop: bool,
    ) -> Result<(), DatagramError> {
        if !multihop && ttl != Some(255) {
            return Err(DatagramError::Ttl(ttl));
        }
        let packet = ControlPacket::parse(datagram)?;
        let from = from.ok_or(DatagramError::NoSource)?;
        let id = match packet.your_discriminator {
            0 => self.by_peer.get(&(from, multihop)).copied().ok_or(DatagramError::UnknownPeer)?,
            id => id,
        };
        let entry = self.sessions.get_mut(&id).ok_or(DatagramError::UnknownSession)?;
        // A guessed discriminator, or another path than the configured one.
        if (entry.peer.remote, entry.peer.multihop) != (from, multihop) {
            return Err(DatagramError::OtherPeer);
        }
        let now = Instant::now();
        entry.session.receive(&packet, now);
        self.perform_outputs(id, now);
        Ok(())
    }

    /// Performs the outputs of a session and schedules its next timer.
    fn perform_outputs(&mut self, id: u32, now: Instant) {
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        let remote = entry.peer.remote;
        while let Some(output) = entry.session.poll_output() {
            match output {
                BfdOutput::Send(packet) => {
                    let sender = self.sending.get(usize::from(remote.is_ipv6()));
                    let sent = sender.map(|socket| send(socket, &entry.peer, &packet.encode()));
                    if let Some(Err(error)) = sent {
                        // No route or no link. The peer detects it by the missing packets.
                        tracing::debug!(peer = %remote, %error, "BFD");
                    }
                }
                BfdOutput::Changed(state) => {
                    let (diagnostic, detection_time) =
                        (entry.session.diagnostic(), entry.session.detection_time());
                    if state == BfdState::Up || entry.report.borrow().state == BfdState::Up {
                        tracing::info!(peer = %remote, %state, %diagnostic, "BFD");
                    }
                    entry.report.send_replace(BfdReport {
                        state,
                        since: SystemTime::now(),
                        diagnostic,
                        remote_admin_down: entry.session.remote_state() == BfdState::AdminDown,
                        detection_time,
                    });
                }
            }
        }
        let detection_time = entry.session.detection_time();
        entry.report.send_if_modified(|report| {
            std::mem::replace(&mut report.detection_time, detection_time) != detection_time
        });
        // A session without a deadline is checked too, since its receiver may be dropped.
        let deadline = entry.session.deadline().unwrap_or(now + Duration::from_secs(1));
        if entry.armed.is_none_or(|armed| deadline < armed) {
            entry.armed = Some(deadline);
            self.alarms.push(Reverse((deadline, id)));
        }
    }
}

/// Receives a datagram; returns its length, source and TTL.
fn take(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Option<IpAddr>, Option<i32>)> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut space = nix::cmsg_space!(i32, i32);
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let from = message.address.as_ref().and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    });
    let ttl = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => Some(ttl),
        _ => None,
    });
    Ok((message.bytes, from, ttl))
}

fn send(socket: &UdpSocket, peer: &BfdPeer, octets: &[u8]) -> io::Result<()> {
    let port = if peer.multihop { MULTIHOP } else { SINGLE_HOP };
    let to = SockaddrStorage::from(SocketAddr::new(peer.remote, port));
    let slices = [IoSlice::new(octets)];
    let fd = socket.as_raw_fd();
    let flags = MsgFlags::MSG_DONTWAIT;
    // Address 0 leaves the choice to the kernel.
    match peer.remote {
        IpAddr::V4(_) => {
            let local = if let Some(IpAddr::V4(local)) = peer.local { local } else { Ipv4Addr::UNSPECIFIED };
            let source = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(local.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            sendmsg(fd, &slices, &[ControlMessage::Ipv4PacketInfo(&source)], flags, Some(&to))?;
        }
        IpAddr::V6(_) => {
            let local = if let Some(IpAddr::V6(local)) = peer.local { local } else { Ipv6Addr::UNSPECIFIED };
            let source =
                libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: local.octets() }, ipi6_ifindex: 0 };
            sendmsg(fd, &slices, &[ControlMessage::Ipv6PacketInfo(&source)], flags, Some(&to))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
