//! Network namespaces in addition to a test's own: a pod, and the outside.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::mpsc::{SyncSender, sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::{getpid, gettid},
};

use crate::harness::ip;

type NamespaceJob = Box<dyn FnOnce() + Send>;

/// A network namespace with one interface, `eth0`, whose peer is in the test's own.
pub(crate) struct SideNamespace {
    jobs: Option<SyncSender<NamespaceJob>>,
    thread: Option<JoinHandle<()>>,
    path: String,
}

impl SideNamespace {
    fn open() -> Self {
        let (jobs, work) = sync_channel::<NamespaceJob>(1);
        let (ready, path) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: run the tests as root");
            std::fs::write("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1").expect("addr_gen_mode");
            ip("link set lo up");
            ready
                .send(format!("/proc/{}/task/{}/ns/net", getpid(), gettid()))
                .expect("whoever opens it waits");
            work.into_iter().for_each(|job| job());
        });
        let path = path.recv().expect("the room's thread lives");
        Self { jobs: Some(jobs), thread: Some(thread), path }
    }

    /// Creates a pod with these addresses, routed by `host`, an interface of the test's own
    /// namespace.
    pub(crate) fn pod(host: &str, addresses: &[&str]) -> Self {
        let room = Self::open();
        ip(&format!("link add {host} type veth peer name eth0 netns {}", room.path));
        ip(&format!("link set {host} up"));
        ip(&format!("address add 169.254.1.1/32 dev {host}"));
        ip(&format!("address add fe80::1/64 dev {host} nodad"));
        for address in addresses {
            ip(&format!("route add {address} dev {host}"));
        }
        let addresses: Vec<String> = addresses.iter().map(|&a| a.to_owned()).collect();
        room.run(move || {
            ip("link set eth0 up");
            ip("address add fe80::2/64 dev eth0 nodad");
            for address in addresses {
                ip(&format!("address add {address} dev eth0 nodad"));
            }
            ip("route add default via 169.254.1.1 dev eth0 onlink");
            ip("-6 route add default via fe80::1 dev eth0");
        });
        room
    }

    /// Creates a namespace with the peer of the test's `eth0`, with these addresses.
    pub(crate) fn outside(addresses: &[&str]) -> Self {
        let room = Self::open();
        ip(&format!("link set eth0-peer netns {}", room.path));
        let addresses: Vec<String> = addresses.iter().map(|&a| a.to_owned()).collect();
        room.run(move || {
            ip("link set eth0-peer up");
            for address in addresses {
                ip(&format!("address add {address} dev eth0-peer nodad"));
            }
        });
        room
    }

    /// Runs a closure in the namespace. Sockets that it opens stay there.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, result) = sync_channel(1);
        let job: NamespaceJob = Box::new(move || answer.send(work()).expect("whoever asks waits"));
        self.jobs.as_ref().expect("open").send(job).expect("the room's thread lives");
        result.recv().expect("the room's work panicked")
    }

    /// Opens a UDP socket in the namespace.
    pub(crate) fn udp(&self, address: &str) -> UdpSocket {
        let address: SocketAddr = address.parse().expect("an address and a port");
        self.run(move || UdpSocket::bind(address).expect("a socket"))
    }
}

impl Drop for SideNamespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was reported to the caller.
            let _ = thread.join();
        }
    }
}

/// Receives the next datagram with its source, within two seconds.
pub(crate) fn received(socket: &UdpSocket) -> Option<(String, IpAddr)> {
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    next(socket)
}

/// Receives a datagram that has arrived already.
pub(crate) fn waiting(socket: &UdpSocket) -> Option<(String, IpAddr)> {
    socket.set_nonblocking(true).expect("non-blocking");
    let found = next(socket);
    socket.set_nonblocking(false).expect("blocking");
    found
}

fn next(socket: &UdpSocket) -> Option<(String, IpAddr)> {
    let mut buffer = [0; 2048];
    match socket.recv_from(&mut buffer) {
        Ok((length, from)) => Some((String::from_utf8_lossy(&buffer[..length]).into_owned(), from.ip())),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => None,
        Err(error) => panic!("{error}"),
    }
}
