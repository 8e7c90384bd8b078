//! Real etcd clusters (the package `etcd-server`), on loopback or with a network of their own.

#![allow(missing_docs, clippy::unwrap_used, reason = "moved from tests")]

pub mod daemon;

use std::collections::HashSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Longer than any election or start takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// One etcd process.
struct Member {
    name: String,
    client: String,
    /// The namespace it lives in, if it has one.
    namespace: Option<String>,
    process: Option<Child>,
}

/// Some members that know each other.
pub struct Cluster {
    directory: TempDir,
    members: Vec<Member>,
    peers: Vec<String>,
    extra: Vec<String>,
    network: Option<Network>,
}

/// A free port of loopback that no other member was given.
pub fn port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        if GIVEN.lock().unwrap().get_or_insert_default().insert(port) {
            return port;
        }
    }
}

pub fn ip(arguments: &str) {
    let done = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("the program ip (package iproute2)");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The first three octets of the members' network, of this test program alone.
pub fn net() -> String {
    format!("198.18.{}", std::process::id() % 250)
}

/// A bridge, and a namespace with a wire to it for each member.
struct Network {
    bridge: String,
    namespaces: Vec<String>,
    wires: Vec<String>,
}

impl Network {
    fn new(count: usize) -> Self {
        let id = std::process::id() % 100_000;
        let mut network = Network { bridge: format!("rte{id}"), namespaces: Vec::new(), wires: Vec::new() };
        ip(&format!("link add {} type bridge", network.bridge));
        ip(&format!("addr add {}.254/24 dev {}", net(), network.bridge));
        ip(&format!("link set {} up", network.bridge));
        for number in 1..=count {
            let (namespace, wire) = (format!("rte{id}-{number}"), format!("rtw{id}-{number}"));
            ip(&format!("netns add {namespace}"));
            network.namespaces.push(namespace.clone());
            network.wires.push(wire.clone());
            ip(&format!("link add {wire} type veth peer name eth0 netns {namespace}"));
            ip(&format!("link set {wire} master {} up", network.bridge));
            ip(&format!("-n {namespace} addr add {}.{number}/24 dev eth0", net()));
            ip(&format!("-n {namespace} link set eth0 up"));
            ip(&format!("-n {namespace} link set lo up"));
        }
        network
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Connections that end slowly keep a namespace alive, and with it the wire.
        for wire in &self.wires {
            let _ = Command::new("ip").args(["link", "del", wire]).output();
        }
        for namespace in &self.namespaces {
            let _ = Command::new("ip").args(["netns", "del", namespace]).output();
        }
        let _ = Command::new("ip").args(["link", "del", &self.bridge]).output();
    }
}

impl Cluster {
    /// `count` members on loopback.
    pub fn start(count: usize) -> Self {
        Cluster::with(count, &[], "http")
    }

    /// The same with further arguments, its clients by `scheme`.
    pub fn with(count: usize, extra: &[String], scheme: &str) -> Self {
        let address = |_| format!("127.0.0.1:{}", port());
        let clients = (0..count).map(address).collect();
        let peers = (0..count).map(address).collect();
        Cluster::build(clients, peers, extra, scheme, None)
    }

    /// `count` members, each in a network namespace of its own.
    pub fn in_namespaces(count: usize) -> Self {
        let network = Network::new(count);
        let clients = (1..=count).map(|number| format!("{}.{number}:2379", net())).collect();
        let peers = (1..=count).map(|number| format!("{}.{number}:2380", net())).collect();
        Cluster::build(clients, peers, &[], "http", Some(network))
    }

    fn build(
        clients: Vec<String>,
        peers: Vec<String>,
        extra: &[String],
        scheme: &str,
        network: Option<Network>,
    ) -> Self {
        let namespace = |at: usize| network.as_ref().and_then(|network| network.namespaces.get(at).cloned());
        let members = clients.iter().enumerate().map(|(at, client)| Member {
            name: format!("m{at}"),
            client: format!("{scheme}://{client}"),
            namespace: namespace(at),
            process: None,
        });
        let members = members.collect();
        let peers = peers.iter().map(|peer| format!("http://{peer}")).collect();
        // In memory: a member that waits for a disk is no faster in saying that it is there.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let mut cluster = Cluster { directory, members, peers, extra: extra.to_vec(), network };
        for at in 0..clients.len() {
            cluster.run(at);
        }
        if scheme == "http" {
            cluster.await_healthy();
        }
        cluster
    }

    /// Starts a member that doesn't run.
    pub fn run(&mut self, at: usize) {
        let all: Vec<String> = self
            .members
            .iter()
            .zip(&self.peers)
            .map(|(member, peer)| format!("{}={peer}", member.name))
            .collect();
        let directory = self.directory.path().join(format!("m{at}"));
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join(format!("m{at}.log")));
        let (member, peer) = (&mut self.members[at], &self.peers[at]);
        let mut command = match &member.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, "etcd"]);
                command
            }
            None => Command::new("etcd"),
        };
        command
            .args(["--name", &member.name, "--data-dir", directory.to_str().unwrap()])
            .args(["--listen-client-urls", &member.client, "--advertise-client-urls", &member.client])
            .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
            .args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"])
            .args(["--logger", "zap", "--log-level", "warn"])
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap());
        member.process = Some(command.spawn().expect("the program etcd (package etcd-server)"));
    }

    /// Waits until every member that runs answers for the whole.
    pub fn await_healthy(&self) {
        for (at, member) in self.members.iter().enumerate().filter(|(_, member)| member.process.is_some()) {
            self.etcdctl_until(at, &["endpoint", "health"], |done| done.is_ok(), &member.client);
        }
    }

    fn etcdctl_until(
        &self,
        at: usize,
        arguments: &[&str],
        is_it: impl Fn(&Result<String, String>) -> bool,
        what: &str,
    ) {
        let until = Instant::now() + PATIENCE;
        loop {
            let done = self.try_etcdctl(at, arguments);
            if is_it(&done) {
                return;
            }
            if Instant::now() > until {
                let log =
                    fs::read_to_string(self.directory.path().join(format!("m{at}.log"))).unwrap_or_default();
                panic!("{what}: {done:?}\n{log}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The members' URLs.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client.clone()).collect()
    }

    /// The same, as in YAML.
    pub fn yaml(&self) -> String {
        format!("[{}]", self.endpoints().join(", "))
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A host on the members' network, with that address; the name of its namespace.
    pub fn host(&mut self, number: usize, address: &str) -> String {
        let network = self.network.as_mut().expect("a cluster with a network of its own");
        let (namespace, wire) =
            (format!("{}-h{number}", network.bridge), format!("{}h{number}", network.bridge));
        ip(&format!("netns add {namespace}"));
        network.namespaces.push(namespace.clone());
        network.wires.push(wire.clone());
        ip(&format!("link add {wire} type veth peer name eth0 netns {namespace}"));
        ip(&format!("link set {wire} master {} up", network.bridge));
        ip(&format!("-n {namespace} addr add {address} dev eth0"));
        ip(&format!("-n {namespace} link set eth0 up"));
        ip(&format!("-n {namespace} link set lo up"));
        namespace
    }

    fn signal(&self, at: usize, signal: Signal) {
        if let Some(process) = &self.members[at].process {
            kill(Pid::from_raw(process.id().cast_signed()), signal).unwrap();
        }
    }

    /// Kills a member; its data stays.
    pub fn stop(&mut self, at: usize) {
        if let Some(mut process) = self.members[at].process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops a member where it stands, with its connections open.
    pub fn pause(&self, at: usize) {
        self.signal(at, Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn resume(&self, at: usize) {
        self.signal(at, Signal::SIGCONT);
    }

    /// Cuts a member off from the others; clients still reach it.
    pub fn cut_off(&self, at: usize, is_cut: bool) {
        let namespace = self.members[at].namespace.as_ref().expect("a member with a network of its own");
        for other in (1..=self.members.len()).filter(|number| *number != at + 1) {
            let what = if is_cut { "add" } else { "del" };
            ip(&format!("-n {namespace} route {what} blackhole {}.{other}/32", net()));
        }
    }

    /// Runs etcdctl against one member.
    ///
    /// # Errors
    /// What it says on stderr.
    pub fn try_etcdctl(&self, at: usize, arguments: &[&str]) -> Result<String, String> {
        let done = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.members[at].client, "--command-timeout", "3s"])
            .args(arguments)
            .output()
            .expect("the program etcdctl (package etcd-client)");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
    }

    /// The same, which has to succeed.
    pub fn etcdctl(&self, at: usize, arguments: &[&str]) -> String {
        self.try_etcdctl(at, arguments).unwrap_or_else(|error| panic!("etcdctl {arguments:?}: {error}"))
    }

    /// The revision that a member has.
    pub fn revision(&self, at: usize) -> i64 {
        let said = self.etcdctl(at, &["get", "/nothing", "-w", "json"]);
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        said["header"]["revision"].as_i64().unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for at in 0..self.members.len() {
            self.resume(at);
            self.stop(at);
        }
        // Only now: a process in it would keep a namespace alive.
        drop(self.network.take());
    }
}

/// What a proxy does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// It passes it on.
    All,
    /// It holds it, with connections open.
    Held,
    /// It ends connections, and takes none.
    None,
}

/// A TCP proxy before a member.
pub struct Proxy {
    pub url: String,
    passing: tokio::sync::watch::Sender<Passing>,
    task: tokio::task::JoinHandle<()>,
}

/// Passes octets on in one direction, while that is wanted.
async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut passing: tokio::sync::watch::Receiver<Passing>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut room = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut room).await {
        if passing.wait_for(|passing| *passing != Passing::Held).await.is_err() {
            return;
        }
        if to.write_all(&room[..count]).await.is_err() {
            return;
        }
    }
}

impl Proxy {
    /// Begins to pass on what comes to a port of its own.
    pub async fn start(member: &str) -> Self {
        let target = member.trim_start_matches("http://").to_owned();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let passing = tokio::sync::watch::Sender::new(Passing::All);
        let seen = passing.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok((near, _)) = listener.accept().await else { return };
                if *seen.borrow() == Passing::None {
                    continue;
                }
                let (target, mut state) = (target.clone(), seen.subscribe());
                tokio::spawn(async move {
                    let Ok(far) = tokio::net::TcpStream::connect(target).await else { return };
                    let (near_reads, near_writes) = near.into_split();
                    let (far_reads, far_writes) = far.into_split();
                    tokio::select! {
                        () = pass(near_reads, far_writes, state.clone()) => {}
                        () = pass(far_reads, near_writes, state.clone()) => {}
                        _ = state.wait_for(|passing| *passing == Passing::None) => {}
                    }
                });
            }
        });
        Proxy { url, passing, task }
    }

    /// From now on it does this.
    pub fn set(&self, passing: Passing) {
        self.passing.send_replace(passing);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
