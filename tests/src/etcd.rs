//! Three etcd members on a cluster's bridge (the package `etcd-server`), and the blocks that its nodes claim there.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cluster::{Cluster, NETWORK};
use testbed::etcd::{EtcdMember, PROGRAM};
use testbed::{Process, eventually, product};

const MEMBERS: usize = 3;
/// Longer than an election takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// The members, each in a namespace of its own; killed with their owner.
pub struct Etcd {
    members: Vec<Option<Process>>,
}

fn namespace(at: usize) -> String {
    format!("e{}", at + 1)
}

fn address(at: usize) -> String {
    format!("192.168.0.{}", 241 + at)
}

fn client(at: usize) -> String {
    format!("http://{}:2379", address(at))
}

impl Etcd {
    /// Starts the members and makes them the cluster's datastore.
    ///
    /// # Panics
    /// They don't come up.
    pub fn start(cluster: &mut Cluster) -> Etcd {
        for at in 0..MEMBERS {
            let (inside, wire) = (namespace(at), format!("toe{}", at + 1));
            cluster.bed.add(&inside);
            let name = cluster.bed.namespace(&inside);
            cluster.bed.ip(NETWORK, &format!("link add {wire} type veth peer name eth0 netns {name}"));
            cluster.bed.ip(NETWORK, &format!("link set {wire} master lab up"));
            cluster.bed.ip(&inside, &format!("address add {}/24 dev eth0", address(at)));
            cluster.bed.ip(&inside, "link set eth0 up");
        }
        let mut etcd = Etcd { members: (0..MEMBERS).map(|_| None).collect() };
        (0..MEMBERS).for_each(|at| etcd.run(cluster, at));
        etcd.await_answers(cluster);
        let urls: Vec<String> = (0..MEMBERS).map(client).collect();
        cluster.datastore = Some(format!("{{ etcd: {{ endpoints: [{}] }} }}", urls.join(", ")));
        etcd
    }

    /// Starts a member that does not run.
    ///
    /// # Panics
    /// The program is missing.
    pub fn run(&mut self, cluster: &Cluster, at: usize) {
        let (name, peer) = (|at: usize| format!("m{at}"), |at: usize| format!("http://{}:2380", address(at)));
        let settings = EtcdMember {
            name: name(at),
            client: client(at),
            peer: peer(at),
            cluster: (0..MEMBERS).map(|at| (name(at), peer(at))).collect(),
            data: cluster.bed.path(&format!("etcd-{at}")),
            more: Vec::new(),
        };
        let arguments = settings.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.members[at] = Some(cluster.bed.start(&namespace(at), PROGRAM, &arguments));
    }

    /// Waits until every member answers a read that a majority stands behind.
    ///
    /// # Panics
    /// One does not.
    pub fn await_answers(&self, cluster: &Cluster) {
        let healthy = |at| self.ctl(cluster, at, &["endpoint", "health"]).status.success().then_some(());
        (0..MEMBERS).for_each(|at| eventually("a healthy member", PATIENCE, || healthy(at)));
    }

    /// Kills a member; its data stays.
    pub fn kill(&mut self, at: usize) {
        self.members[at] = None;
    }

    /// Sends all members a signal.
    ///
    /// # Panics
    /// One has ended.
    pub fn signal_all(&self, signal: Signal) {
        self.members.iter().flatten().for_each(|member| member.signal(signal));
    }

    /// Returns the leader.
    ///
    /// # Panics
    /// None does.
    pub fn leader(&self, cluster: &Cluster) -> usize {
        eventually("a leader", PATIENCE, || (0..MEMBERS).find(|at| self.leads(cluster, *at)))
    }

    fn leads(&self, cluster: &Cluster, at: usize) -> bool {
        let said = self.ctl(cluster, at, &["endpoint", "status", "-w", "json"]);
        let said: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
        let status = &said[0]["Status"];
        status["leader"].is_u64() && status["leader"] == status["header"]["member_id"]
    }

    /// Returns the member, other than `leader`, that most nodes use.
    ///
    /// # Panics
    /// A daemon does not answer.
    pub fn most_asked(&self, cluster: &Cluster, leader: usize, nodes: usize) -> usize {
        let asks = |at: usize| {
            let speaks = |node: &usize| {
                cluster.show(*node, "status").expect("an answer")["store"]["endpoint"] == client(at)
            };
            (0..nodes).filter(speaks).count()
        };
        (0..MEMBERS).filter(|at| *at != leader).max_by_key(|at| asks(*at)).expect("three members")
    }

    /// Cuts a member off from the others until [`Cluster::pass`] of `minority`; nodes still reach it.
    ///
    /// # Panics
    /// `nft` refuses.
    pub fn cut_off(&self, cluster: &Cluster, at: usize) {
        let address = address(at);
        let rules: Vec<String> = ["saddr", "daddr"]
            .iter()
            .flat_map(|end| ["sport", "dport"].map(|port| format!("ip {end} {address} tcp {port} 2380")))
            .collect();
        cluster.drop_packets("minority", &rules.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn ctl(&self, cluster: &Cluster, at: usize, arguments: &[&str]) -> Output {
        Command::new("ip")
            .args(["netns", "exec", &cluster.bed.namespace(NETWORK), "etcdctl"])
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &client(at), "--command-timeout", "3s"])
            .args(arguments)
            .output()
            .expect("ip to run")
    }
}

/// Runs `routectl` on a node.
///
/// # Panics
/// It can't be run.
pub fn routectl(cluster: &Cluster, index: usize, arguments: &[&str]) -> Output {
    Command::new(product("routectl"))
        .arg("--socket")
        .arg(cluster.socket(index))
        .args(arguments)
        .output()
        .expect("routectl to run")
}

/// Applies resources on a node.
///
/// # Panics
/// It says no.
pub fn apply(cluster: &Cluster, index: usize, resources: &str) {
    let file = cluster.bed.write("given.yaml", resources);
    let done = routectl(cluster, index, &["apply", "-f", text(&file)]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Waits until a node has claimed a block and gives its pod the third address there; the block.
///
/// # Panics
/// It claims none.
pub fn await_block(cluster: &mut Cluster, index: usize) -> String {
    let block = eventually("a block", PATIENCE, || {
        let nodes = cluster.show(index, "nodes")?;
        let own = nodes.as_array()?.iter().find(|node| node["local"] == true)?;
        Some(own["blocks"][0].as_str()?.to_owned())
    });
    let network = block.split('/').next().expect("an address").parse::<Ipv4Addr>().expect("an address");
    let (before, pod) = (cluster.nodes[index].pod, Ipv4Addr::from_bits(network.to_bits() + 2));
    cluster.nodes[index].pod = pod;
    let (inside, outside) = (cluster.pod(index), cluster.inside(index));
    cluster.bed.ip(&inside, &format!("address add {pod}/32 dev eth0"));
    cluster.bed.ip(&inside, &format!("address delete {before}/32 dev eth0"));
    cluster.bed.ip(&outside, &format!("route add {pod} dev cali0"));
    cluster.bed.ip(&outside, &format!("route delete {before} dev cali0"));
    // These routes were removed with the old address.
    cluster.bed.ip(&inside, "route replace 169.254.1.1 dev eth0");
    cluster.bed.ip(&inside, "route replace default via 169.254.1.1 dev eth0");
    block
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
