//! Streams of numbered packets between every pair of pods, and what became of each.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use nix::{setsockopt_impl, sockopt_impl};

use crate::cluster::{Cluster, POD_MTU};

sockopt_impl!(
    /// Whether packets may be fragmented, as one of `IP_PMTUDISC_*`.
    MtuDiscover,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    libc::c_int
);

/// The port that pods send from and to.
pub const PORT: u16 = 7000;
/// Between two packets of a stream.
const INTERVAL: Duration = Duration::from_millis(1);
/// IPv4 and UDP headers.
const HEADERS: usize = 28;
/// After this long without a packet none is on its way any more.
const QUIET: Duration = Duration::from_millis(500);

/// The result of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Packets sent.
    pub sent: u32,
    /// Packets that the sender's own kernel refused.
    pub refused: u32,
    /// Lost packets, by number.
    pub lost: Vec<u32>,
    /// Packets that came more than once.
    pub duplicated: u32,
    /// Packets that came after a later one.
    pub reordered: u32,
}

/// All streams, by sender and receiver.
#[derive(Clone, Debug, Default)]
pub struct Outcomes(pub BTreeMap<(usize, usize), Outcome>);

impl Outcomes {
    /// Packets sent in all streams.
    pub fn sent(&self) -> u64 {
        self.0.values().map(|outcome| u64::from(outcome.sent)).sum()
    }

    /// Packets lost in all streams.
    pub fn lost(&self) -> u64 {
        self.0.values().map(|outcome| outcome.lost.len() as u64 + u64::from(outcome.refused)).sum()
    }

    /// Checks that no packet was lost, duplicated or reordered.
    ///
    /// # Panics
    /// Something was.
    pub fn assert_whole(&self, what: &str) {
        self.assert_lost(what, 0);
    }

    /// Checks that `lost` packets were lost, and none duplicated or reordered.
    ///
    /// # Panics
    /// Fewer or more were.
    pub fn assert_lost(&self, what: &str, lost: u64) {
        assert!(self.sent() >= 1000, "{what}: only {} packets were sent", self.sent());
        let disturbed = self.0.values().any(|outcome| outcome.duplicated > 0 || outcome.reordered > 0);
        assert!(self.lost() == lost && !disturbed, "{what}, where {lost} may be lost: {self}");
        println!("{what}: {} packets, {} lost, 0 duplicated, 0 reordered", self.sent(), self.lost());
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((from, to), outcome) in &self.0 {
            let first: Vec<u32> = outcome.lost.iter().take(5).copied().collect();
            writeln!(
                f,
                "\n  {} to {}: {} sent, {} refused, {} lost (first {first:?}), {} twice, {} late",
                from + 1,
                to + 1,
                outcome.sent,
                outcome.refused,
                outcome.lost.len(),
                outcome.duplicated,
                outcome.reordered
            )?;
        }
        Ok(())
    }
}

/// Streams that run until they are stopped.
pub struct Streams {
    stop: Arc<AtomicBool>,
    quiet: Arc<AtomicBool>,
    sender: JoinHandle<BTreeMap<(usize, usize), (u32, u32)>>,
    receivers: Vec<JoinHandle<BTreeMap<(usize, usize), Arrivals>>>,
}

#[derive(Default)]
struct Arrivals {
    came: Vec<bool>,
    highest: Option<u32>,
    duplicated: u32,
    reordered: u32,
}

impl Arrivals {
    fn note(&mut self, number: u32) {
        let place = number as usize;
        if self.came.len() <= place {
            self.came.resize(place + 1, false);
        }
        if std::mem::replace(&mut self.came[place], true) {
            self.duplicated += 1;
        } else if self.highest.is_some_and(|highest| highest > number) {
            self.reordered += 1;
        }
        self.highest = self.highest.max(Some(number));
    }
}

impl Streams {
    /// Begins a stream between every ordered pair of pods: 1,000 packets a second, every tenth as large as the pods' MTU,
    /// none to be fragmented.
    ///
    /// # Panics
    /// A socket can't be opened.
    pub fn start(cluster: &Cluster) -> Streams {
        let count = cluster.nodes.len();
        let socket = |index: usize| {
            let socket = cluster
                .bed
                .inside(&cluster.pod(index), || UdpSocket::bind(("0.0.0.0", PORT)).expect("a socket"));
            socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
            // A full buffer of this program must not count as a loss of the network.
            setsockopt(&socket, RcvBufForce, &(16 << 20)).expect("a receive buffer: run the tests as root");
            // Packets that do not fit are refused instead of fragmented.
            setsockopt(&socket, MtuDiscover, &libc::IP_PMTUDISC_DO).expect("path MTU discovery");
            socket
        };
        let sockets: Vec<UdpSocket> = (0..count).map(socket).collect();
        let (stop, quiet) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let receivers = sockets
            .iter()
            .enumerate()
            .map(|(to, socket)| {
                let (socket, quiet) = (socket.try_clone().expect("a socket"), Arc::clone(&quiet));
                std::thread::spawn(move || receive(&socket, to, &quiet))
            })
            .collect();
        let addresses = cluster.nodes.iter().map(|node| SocketAddr::from((node.pod, PORT))).collect();
        let (pairs, stopped) = (cluster.pairs(), Arc::clone(&stop));
        let sender = std::thread::spawn(move || send(&sockets, addresses, &pairs, &stopped));
        Streams { stop, quiet, sender, receivers }
    }

    /// Lets them run.
    pub fn run_for(&self, time: Duration) {
        // why: packets at a rate take their time.
        std::thread::sleep(time);
    }

    /// Ends the streams and counts.
    ///
    /// # Panics
    /// A thread of theirs did.
    pub fn stop(self) -> Outcomes {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("the sender");
        self.quiet.store(true, Ordering::Relaxed);
        let mut outcomes: BTreeMap<(usize, usize), Outcome> = sent
            .into_iter()
            .map(|(pair, (sent, refused))| (pair, Outcome { sent, refused, ..Outcome::default() }))
            .collect();
        for receiver in self.receivers {
            for (pair, seen) in receiver.join().expect("a receiver") {
                let Some(outcome) = outcomes.get_mut(&pair) else { continue };
                (outcome.duplicated, outcome.reordered) = (seen.duplicated, seen.reordered);
                let came = |number: &u32| seen.came.get(*number as usize).copied().unwrap_or(false);
                outcome.lost = (0..outcome.sent).filter(|number| !came(number)).collect();
            }
        }
        Outcomes(outcomes)
    }
}

fn receive(socket: &UdpSocket, to: usize, quiet: &AtomicBool) -> BTreeMap<(usize, usize), Arrivals> {
    let mut all: BTreeMap<(usize, usize), Arrivals> = BTreeMap::new();
    let mut buffer = [0; 2048];
    let mut last = Instant::now();
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) if length >= 8 => {
                let word =
                    |at: usize| u32::from_be_bytes(buffer[at..at + 4].try_into().expect("four octets"));
                all.entry((word(0) as usize, to)).or_default().note(word(4));
                last = Instant::now();
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if quiet.load(Ordering::Relaxed) && last.elapsed() >= QUIET {
                    return all;
                }
            }
            // An ICMP error of an earlier packet: the count of packets shows the loss.
            Err(_) => {}
        }
    }
}

fn send(
    sockets: &[UdpSocket],
    addresses: Vec<SocketAddr>,
    pairs: &[(usize, usize)],
    stop: &AtomicBool,
) -> BTreeMap<(usize, usize), (u32, u32)> {
    let mut sent: BTreeMap<(usize, usize), (u32, u32)> = BTreeMap::new();
    let mut packet = [0; POD_MTU as usize - HEADERS];
    let start = Instant::now();
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        for &(from, to) in pairs {
            let (number, refused) = sent.entry((from, to)).or_default();
            packet[0..4].copy_from_slice(&(from as u32).to_be_bytes());
            packet[4..8].copy_from_slice(&number.to_be_bytes());
            let length = if number.is_multiple_of(10) { packet.len() } else { 100 };
            // The error may be an ICMP error of an earlier packet; it is reported once, then
            // sending works.
            let mut outcome = sockets[from].send_to(&packet[..length], addresses[to]);
            if outcome.is_err() {
                outcome = sockets[from].send_to(&packet[..length], addresses[to]);
            }
            match outcome {
                Ok(_) => *number += 1,
                Err(_) => *refused += 1,
            }
        }
        round += 1;
        // why: the rate of the stream.
        std::thread::sleep((start + INTERVAL * round).saturating_duration_since(Instant::now()));
    }
    sent
}
