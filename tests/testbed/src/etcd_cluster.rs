//! Clusters of etcd processes (the package `etcd-server`), on loopback or with a network of their
//! own.

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

use crate::etcd::{EtcdMember, PROGRAM};

/// The timeout for an election or a start on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// One etcd process.
struct RunningMember {
    name: String,
    client: String,
    /// The network namespace of the process; `None`: the test's own.
    namespace: Option<String>,
    process: Option<Child>,
}

/// A cluster of etcd members. Killed when dropped.
pub struct EtcdCluster {
    directory: TempDir,
    members: Vec<RunningMember>,
    peers: Vec<String>,
    extra: Vec<String>,
    network: Option<Network>,
}

/// Returns a free port of loopback that no other member has.
///
/// # Panics
/// There is no free port.
pub fn port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0))
            .expect("a working test bed")
            .local_addr()
            .expect("a working test bed")
            .port();
        if GIVEN.lock().expect("a working test bed").get_or_insert_default().insert(port) {
            return port;
        }
    }
}

/// Runs `ip`.
///
/// # Panics
/// The command fails.
pub fn ip(arguments: &str) {
    let done = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("the program ip (package iproute2)");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Returns the first three octets of the members' network, which differ between test programs.
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

impl EtcdCluster {
    /// Starts `count` members on loopback.
    ///
    /// # Panics
    /// They don't become healthy.
    pub fn start(count: usize) -> Self {
        EtcdCluster::with(count, &[], "http")
    }

    /// Starts `count` members on loopback with further arguments; clients use `scheme`.
    ///
    /// # Panics
    /// They don't become healthy.
    pub fn with(count: usize, extra: &[String], scheme: &str) -> Self {
        let address = |_| format!("127.0.0.1:{}", port());
        let clients = (0..count).map(address).collect();
        let peers = (0..count).map(address).collect();
        EtcdCluster::build(clients, peers, extra, scheme, None)
    }

    /// Starts `count` members, each in a network namespace of its own.
    ///
    /// # Panics
    /// They don't become healthy.
    pub fn in_namespaces(count: usize) -> Self {
        let network = Network::new(count);
        let clients = (1..=count).map(|number| format!("{}.{number}:2379", net())).collect();
        let peers = (1..=count).map(|number| format!("{}.{number}:2380", net())).collect();
        EtcdCluster::build(clients, peers, &[], "http", Some(network))
    }

    fn build(
        clients: Vec<String>,
        peers: Vec<String>,
        extra: &[String],
        scheme: &str,
        network: Option<Network>,
    ) -> Self {
        let namespace = |at: usize| network.as_ref().and_then(|network| network.namespaces.get(at).cloned());
        let members = clients.iter().enumerate().map(|(at, client)| RunningMember {
            name: format!("m{at}"),
            client: format!("{scheme}://{client}"),
            namespace: namespace(at),
            process: None,
        });
        let members = members.collect();
        let peers = peers.iter().map(|peer| format!("http://{peer}")).collect();
        // In memory: a member on disk would take longer to become healthy.
        let directory =
            tempfile::tempdir_in("/dev/shm").or_else(|_| TempDir::new()).expect("a working test bed");
        let mut cluster = EtcdCluster { directory, members, peers, extra: extra.to_vec(), network };
        for at in 0..clients.len() {
            cluster.run(at);
        }
        if scheme == "http" {
            cluster.await_healthy();
        }
        cluster
    }

    /// Starts a member that doesn't run.
    ///
    /// # Panics
    /// The program is missing.
    pub fn run(&mut self, at: usize) {
        let cluster = self.members.iter().zip(&self.peers);
        let cluster = cluster.map(|(member, peer)| (member.name.clone(), peer.clone())).collect();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join(format!("m{at}.log")));
        let member = &mut self.members[at];
        let settings = EtcdMember {
            name: member.name.clone(),
            client: member.client.clone(),
            peer: self.peers[at].clone(),
            cluster,
            data: self.directory.path().join(format!("m{at}")),
            more: self.extra.clone(),
        };
        let mut command = match &member.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, PROGRAM]).args(settings.arguments());
                command
            }
            None => settings.command(),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("a working test bed"));
        member.process = Some(command.spawn().expect("the program etcd (package etcd-server)"));
    }

    /// Waits until every running member answers a linearizable read.
    ///
    /// # Panics
    /// A member does not answer.
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

    /// Returns the members' URLs.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client.clone()).collect()
    }

    /// Returns the members' URLs as a YAML list.
    pub fn yaml(&self) -> String {
        format!("[{}]", self.endpoints().join(", "))
    }

    /// Returns the directory of the members' data and logs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Adds a host to the members' network; returns the name of its namespace.
    ///
    /// # Panics
    /// The cluster is on loopback, or `ip` fails.
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
            kill(Pid::from_raw(process.id().cast_signed()), signal).expect("a working test bed");
        }
    }

    /// Kills a member. Its data stays.
    pub fn stop(&mut self, at: usize) {
        if let Some(mut process) = self.members[at].process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops a member (SIGSTOP), with its connections open.
    ///
    /// # Panics
    /// The member has ended.
    pub fn pause(&self, at: usize) {
        self.signal(at, Signal::SIGSTOP);
    }

    /// Continues a stopped member (SIGCONT).
    ///
    /// # Panics
    /// The member has ended.
    pub fn resume(&self, at: usize) {
        self.signal(at, Signal::SIGCONT);
    }

    /// Isolates a member from the others, or reconnects it. Clients still reach it.
    ///
    /// # Panics
    /// The cluster is on loopback.
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
    /// The text on stderr.
    ///
    /// # Panics
    /// The program is missing.
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

    /// Runs etcdctl against one member, which must succeed, and returns stdout.
    ///
    /// # Panics
    /// The command fails.
    pub fn etcdctl(&self, at: usize, arguments: &[&str]) -> String {
        self.try_etcdctl(at, arguments).unwrap_or_else(|error| panic!("etcdctl {arguments:?}: {error}"))
    }

    /// Returns the revision of a member.
    ///
    /// # Panics
    /// The member does not answer.
    pub fn revision(&self, at: usize) -> i64 {
        let said = self.etcdctl(at, &["get", "/nothing", "-w", "json"]);
        let said: serde_json::Value = serde_json::from_str(&said).expect("a working test bed");
        said["header"]["revision"].as_i64().expect("a working test bed")
    }
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        for at in 0..self.members.len() {
            self.resume(at);
            self.stop(at);
        }
        // After the members: a process would keep its namespace alive.
        drop(self.network.take());
    }
}
