//! The socket and the timers of probing.

use std::{
    hash::{BuildHasher, RandomState},
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsRawFd,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendto, setsockopt, sockopt::Ipv4PacketInfo,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use super::{
    PathState, TunnelPath,
    packet::{Packet, PacketError, PacketKind, SIGNED_LEN},
    prober::{PathMeasurement, ProbeClocks, ProbeTarget, Prober, ProberOutput},
};
use timing::sleep_until;

use crate::{
    desired::Device,
    node::{Config, ProbeConfig},
    observed::ObservedState,
};

/// Datagrams processed before other work gets its turn.
const BURST: usize = 64;
/// Class selector 6: a late probe counts as lost.
const CS6: u32 = 48 << 2;

/// A change of the state of a tunnel path.
pub(crate) type PathUpdate = (Ipv4Addr, TunnelPath, PathState);

/// The prober with its socket.
pub(crate) struct Probes {
    prober: Prober,
    socket: Option<UdpSocket>,
    /// Address of the socket.
    local: SocketAddrV4,
    /// Mark of packets that the socket sends now.
    marked: Option<u32>,
    /// True for paths with a table of their own; probes of the others use the routes.
    tables: [bool; 3],
    probing: ProbeConfig,
    ipip: Option<u32>,
    vxlan: Option<u32>,
    buffer: Vec<u8>,
    problem: Option<String>,
    /// Source of the last probe that was not authentic.
    unauthentic: Option<Ipv4Addr>,
    wrong: u64,
}

/// Returns an unpredictable number.
fn random() -> u64 {
    static KEYS: OnceLock<RandomState> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    KEYS.get_or_init(RandomState::new).hash_one(COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Probes {
    pub(crate) fn new() -> Self {
        Self {
            prober: Prober::new(random),
            socket: None,
            local: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
            marked: None,
            tables: [false; 3],
            probing: ProbeConfig::default(),
            ipip: None,
            vxlan: None,
            buffer: Vec::with_capacity(SIGNED_LEN),
            problem: None,
            unauthentic: None,
            wrong: 0,
        }
    }

    /// Sets the nodes to probe, and the configuration of probing.
    pub(crate) fn set_targets(&mut self, config: &Config, observed: &ObservedState, targets: &[ProbeTarget]) {
        self.ipip = observed.link(Device::Ipip).map(|link| link.index);
        self.vxlan = observed.link(Device::Vxlan).map(|link| link.index);
        self.probing = config.probing.clone();
        self.tables = TunnelPath::ALL.map(|path| config.probes(path));
        match config.local.tunnel_address.filter(|_| config.probes_any()) {
            None => {
                self.socket = None;
                self.problem = None;
                self.prober.set_targets(&[], config.probing.recover_after, Instant::now());
            }
            Some(address) => {
                let local = SocketAddrV4::new(address, config.probing.port);
                if self.socket.is_none() || self.local != local {
                    self.open(local);
                }
                self.prober.set_targets(targets, config.probing.recover_after, Instant::now());
            }
        }
    }

    fn open(&mut self, local: SocketAddrV4) {
        self.local = local;
        self.marked = None;
        // Close the old one first: with another address the port may be the same.
        self.socket = None;
        match socket(local) {
            Ok(socket) => (self.socket, self.problem) = (Some(socket), None),
            Err(error) => {
                let problem = format!(
                    "probes cannot be sent from UDP {local} ({error}): is the port in use? set probePort, or end the \
                     other program. Nodes count as reachable by IP-in-IP until then"
                );
                tracing::warn!("{problem}");
                self.problem = Some(problem);
            }
        }
    }

    /// Returns the measurements of the paths to a node.
    pub(crate) fn measurements(&self, address: Ipv4Addr) -> Option<[PathMeasurement; 3]> {
        self.prober.measurements_of(address)
    }

    /// Returns the number of probes sent, and of those without an answer.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.prober.counts()
    }

    /// Returns the problem that needs intervention, if there is one.
    pub(crate) fn problem(&self) -> Option<String> {
        let unauthentic = || {
            self.unauthentic.map(|from| {
                format!(
                    "{} probe(s) were not authentic, the last from {from}: give every node the same probeKeyFile",
                    self.wrong
                )
            })
        };
        self.problem.clone().or_else(unauthentic)
    }

    /// Sends and receives until the state of a path changes. Safe to cancel.
    pub(crate) async fn changes(&mut self) -> Vec<PathUpdate> {
        loop {
            // Without a socket nothing can be sent, so nothing can be lost.
            let Some(socket) = &self.socket else { return std::future::pending().await };
            tokio::select! {
                // The read that follows reports an error.
                _ = socket.readable() => {}
                () = sleep_until(self.prober.deadline()) => {}
            }
            let changes = self.turn();
            if !changes.is_empty() {
                return changes;
            }
        }
    }

    fn turn(&mut self) -> Vec<PathUpdate> {
        for _ in 0..BURST {
            if !self.receive() {
                break;
            }
        }
        self.prober.turn(Instant::now());
        let mut changes = Vec::new();
        while let Some(output) = self.prober.poll() {
            match output {
                ProberOutput::Send { to, path, nonce } => {
                    if let Err(error) =
                        self.send(Packet { kind: PacketKind::Request, path, nonce, clock: clock() }, to)
                    {
                        tracing::debug!(%to, way = %path, %error, "probe not sent");
                        self.prober.record_send_error(to, path, nonce, Instant::now());
                    }
                }
                ProberOutput::Changed { address, path, state } => changes.push((address, path, state)),
            }
        }
        changes
    }

    fn send(&mut self, packet: Packet, to: Ipv4Addr) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Err(io::ErrorKind::NotConnected.into()) };
        let mark = if self.tables[packet.path.index()] { packet.path.table() } else { 0 };
        if self.marked != Some(mark) {
            SockRef::from(socket).set_mark(mark)?;
            self.marked = Some(mark);
        }
        packet.encode(self.probing.key.as_ref(), *self.local.ip(), to, &mut self.buffer);
        let to = SockaddrIn::from(SocketAddrV4::new(to, self.probing.port));
        sendto(socket.as_raw_fd(), &self.buffer, &to, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    /// Receives one datagram. Returns false if there is none.
    fn receive(&mut self) -> bool {
        let Some(socket) = &self.socket else { return false };
        let mut buffer = [0; 64];
        let (length, from, index) =
            match socket.try_io(Interest::READABLE, || receive_datagram(socket, &mut buffer)) {
                Ok(Some(taken)) => taken,
                Ok(None) => return true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // ICMP "unreachable" has no more information than silence.
                Err(_) => return true,
            };
        let octets = buffer.get(..length).unwrap_or_default();
        let packet = match Packet::decode(octets, self.probing.key.as_ref(), from, *self.local.ip()) {
            Ok(packet) => packet,
            Err(error) => {
                tracing::debug!(%from, %error, "datagram discarded");
                if error == PacketError::Unauthentic && self.prober.knows(from) {
                    self.unauthentic = Some(from);
                    self.wrong += 1;
                }
                return true;
            }
        };
        // A probe that came by another path proves nothing about this one.
        let by = match packet.path {
            TunnelPath::Ipip => self.ipip == Some(index),
            TunnelPath::Vxlan => self.vxlan == Some(index),
            TunnelPath::Direct => self.ipip != Some(index) && self.vxlan != Some(index),
        };
        // Without a table of its own an answer follows the routes; its nonce alone proves that the request
        // arrived.
        let by = by || packet.kind == PacketKind::Answer && !self.tables[packet.path.index()];
        if !by || !self.prober.knows(from) {
            tracing::debug!(%from, index, way = %packet.path, "probe by another path or from an unknown node discarded");
            return true;
        }
        match packet.kind {
            PacketKind::Answer => {
                let clocks = ProbeClocks { theirs: packet.clock, ours: clock() };
                self.prober.record_answer(from, packet.path, packet.nonce, clocks, Instant::now());
            }
            PacketKind::Request => {
                if let Err(error) =
                    self.send(Packet { kind: PacketKind::Answer, clock: clock(), ..packet }, from)
                {
                    tracing::debug!(%from, %error, "probe not answered");
                }
            }
        }
        true
    }
}

/// Returns this node's clock, in microseconds since 1970-01-01T00:00:00Z.
fn clock() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(0)
}

fn socket(local: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // The address may be added after the socket is opened, and comes and goes with its device.
    socket.set_freebind_v4(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tos_v4(CS6)?;
    setsockopt(&socket, Ipv4PacketInfo, &true)?;
    socket.bind(&local.into())?;
    UdpSocket::from_std(socket.into())
}

/// Receives length, sender, and the index of the incoming interface; `None` for an incomplete
/// datagram.
fn receive_datagram(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(usize, Ipv4Addr, u32)>> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut space = nix::cmsg_space!(nix::libc::in_pktinfo);
    let message =
        recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
    let index = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => u32::try_from(info.ipi_ifindex).ok(),
        _ => None,
    });
    Ok(message.address.zip(index).map(|(from, index)| (message.bytes, from.ip(), index)))
}
