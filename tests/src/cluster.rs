//! A cluster on one bridge: nodes with real daemons, a pod on each, and a network that can drop
//! packets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use testbed::Patience;
use testbed::{Process, Testbed, eventually, eventually_or, product};

/// The namespace of the bridge.
pub(crate) const NETWORK: &str = "net";
/// Every subnet's router is the bridge, at this last octet.
const ROUTER: u8 = 254;
/// The node's address towards its pod.
const POD_GATEWAY6: &str = "fe80::ee";
/// The UDP port on which pods answer.
const ECHO: u16 = 7001;
/// A program starts within this, on a loaded machine.
const START: Duration = Duration::from_secs(60);
/// Longest packet that fits every encapsulation over 1500 octets.
pub const POD_MTU: u16 = 1450;

fn address6(subnet: u8, number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, subnet.into(), 0, 0, 0, number.into())
}

/// A node of the cluster.
#[derive(Clone, Debug)]
pub struct Node {
    /// `node-N`
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The length of its subnet, as its resource has it.
    pub length: u8,
    /// Its IPv6 address, and the length of that subnet as its resource has it.
    pub address6: Ipv6Addr,
    /// See there.
    pub length6: u8,
    /// Its pod's address.
    pub pod: Ipv4Addr,
    /// Its pod's IPv6 address.
    pub pod6: Ipv6Addr,
    /// Further fields of the Node's `spec`, in YAML's flow style, with a leading comma; empty: its
    /// one block.
    pub more: String,
}

/// The cluster's resources.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `ipipMode` of the pool.
    pub ipip_mode: &'static str,
    /// `vxlanMode` of the pool.
    pub vxlan_mode: &'static str,
    /// `spec.routed` of BGPConfiguration, in YAML's flow style.
    pub routed: BTreeMap<&'static str, String>,
    /// `vxlanMode` of a second pool, if nodes and pods have IPv6 too.
    pub ipv6: Option<&'static str>,
    /// `nodeToNodeMeshEnabled`; without the mesh, all peer with node-1, which reflects.
    pub mesh: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        let of = |key, value: &str| (key, value.to_owned());
        Settings {
            ipip_mode: "Always",
            vxlan_mode: "Never",
            routed: BTreeMap::from([
                of("holdTime", "3s"),
                of("fallbackAfter", "2s"),
                of("recoverAfter", "4s"),
            ]),
            ipv6: None,
            mesh: true,
        }
    }
}

impl Settings {
    /// Returns the settings with another value of `spec.routed`.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: &str) -> Settings {
        self.routed.insert(key, value.to_owned());
        self
    }

    /// Returns the settings with other modes of the pool.
    #[must_use]
    pub fn modes(mut self, ipip: &'static str, vxlan: &'static str) -> Settings {
        (self.ipip_mode, self.vxlan_mode) = (ipip, vxlan);
        self
    }
}

/// The running cluster.
pub struct Cluster {
    // Dropped before the bed, which holds their logs.
    daemons: Vec<Option<Process>>,
    /// Its namespaces: `net`, and `nN` and `pN` of each node and its pod.
    pub bed: Testbed,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// `datastore` of routed.yaml, in YAML's flow style, where it is not the directory `resources`.
    pub datastore: Option<String>,
}

impl Cluster {
    /// Creates nodes in `subnets` subnets, by turns; daemons do not run yet.
    ///
    /// # Panics
    /// Something can't be made.
    pub fn new(count: u8, subnets: u8) -> Cluster {
        let nodes = (1..=count)
            .map(|number| Node {
                name: format!("node-{number}"),
                address: Ipv4Addr::new(192, 168, (number - 1) % subnets, number),
                length: 24,
                address6: address6((number - 1) % subnets, number),
                length6: 64,
                pod: Ipv4Addr::new(10, 1, number, 2),
                pod6: Ipv6Addr::new(0xfd10, 1, number.into(), 0, 0, 0, 0, 2),
                more: String::new(),
            })
            .collect();
        let daemons = (0..count).map(|_| None).collect();
        let mut cluster = Cluster { bed: Testbed::empty(), nodes, daemons, datastore: None };
        cluster.build(subnets);
        cluster
    }

    fn build(&mut self, subnets: u8) {
        let bed = &mut self.bed;
        bed.add(NETWORK);
        // Snooping would delay the first packets of a port.
        bed.ip(NETWORK, "link add lab type bridge forward_delay 0 mcast_snooping 0");
        bed.ip(NETWORK, "link set lab up");
        for subnet in 0..subnets {
            bed.ip(NETWORK, &format!("address add 192.168.{subnet}.{ROUTER}/24 dev lab"));
            bed.ip(NETWORK, &format!("address add {}/64 dev lab nodad", address6(subnet, ROUTER)));
        }
        for setting in [
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            "net.ipv4.conf.all.send_redirects=0",
            "net.ipv4.conf.lab.send_redirects=0",
        ] {
            bed.exec(NETWORK, &["sysctl", "-qw", setting]);
        }
        for (number, node) in (1..).zip(&self.nodes) {
            let (inside, pod) = (format!("n{number}"), format!("p{number}"));
            bed.add(&inside);
            bed.add(&pod);
            let names = (bed.namespace(&inside), bed.namespace(&pod));
            bed.ip(NETWORK, &format!("link add to{number} type veth peer name eth0 netns {}", names.0));
            bed.ip(NETWORK, &format!("link set to{number} master lab up"));
            bed.ip(&inside, &format!("link add cali0 type veth peer name eth0 netns {}", names.1));
            for setting in ["all.rp_filter=0", "eth0.rp_filter=0", "cali0.rp_filter=0", "cali0.proxy_arp=1"] {
                bed.exec(&inside, &["sysctl", "-qw", &format!("net.ipv4.conf.{setting}")]);
            }
            bed.exec(&inside, &["sysctl", "-qw", "net.ipv4.neigh.cali0.proxy_delay=0"]);
            let router = Ipv4Addr::new(192, 168, node.address.octets()[2], ROUTER);
            for words in [
                format!("address add {}/24 dev eth0", node.address),
                format!("address add {}/64 dev eth0 nodad", node.address6),
                format!("address add {POD_GATEWAY6}/64 dev cali0 nodad"),
                "link set eth0 up".into(),
                format!("link set cali0 mtu {POD_MTU} up"),
                format!("route add default via {router}"),
                format!("route add {} dev cali0", node.pod),
                format!("-6 route add default via {}", address6(node.address.octets()[2], ROUTER)),
                format!("-6 route add {} dev cali0", node.pod6),
            ] {
                bed.ip(&inside, &words);
            }
            for words in [
                format!("address add {}/32 dev eth0", node.pod),
                format!("address add {}/128 dev eth0 nodad", node.pod6),
                format!("link set eth0 mtu {POD_MTU} up"),
                "route add 169.254.1.1 dev eth0".into(),
                "route add default via 169.254.1.1 dev eth0".into(),
                format!("-6 route add default via {POD_GATEWAY6} dev eth0"),
            ] {
                bed.ip(&pod, &words);
            }
        }
    }

    /// The name of a node's namespace, by index.
    pub fn inside(&self, index: usize) -> String {
        format!("n{}", index + 1)
    }

    /// The name of its pod's.
    pub fn pod(&self, index: usize) -> String {
        format!("p{}", index + 1)
    }

    /// Writes the resources, whole at once, as an editor or a secret's mount would.
    ///
    /// # Panics
    /// They can't be written.
    pub fn configure(&self, settings: &Settings) {
        let routed: Vec<String> =
            settings.routed.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let mut text = format!(
            "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{ name: pods }}\n\
             spec: {{ cidr: 10.1.0.0/16, ipipMode: {}, vxlanMode: {} }}\n---\n\
             apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {{ name: default }}\n\
             spec: {{ nodeToNodeMeshEnabled: {}, asNumber: 64512, routed: {{ {} }} }}\n",
            settings.ipip_mode,
            settings.vxlan_mode,
            settings.mesh,
            routed.join(", "),
        );
        if let Some(mode) = settings.ipv6 {
            let _ = write!(
                text,
                "---\napiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{ name: pods6 }}\n\
                 spec: {{ cidr: fd10::/16, vxlanMode: {mode} }}\n"
            );
        }
        if !settings.mesh {
            text.push_str(
                "---\napiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: { name: reflector }\n\
                 spec: { nodeSelector: all(), peerSelector: reflects == 'yes' }\n",
            );
        }
        for (number, node) in (1..).zip(&self.nodes) {
            let reflects = !settings.mesh && number == 1;
            let labels = if reflects { ", labels: { reflects: 'yes' }" } else { "" };
            let cluster = if reflects { ", routeReflectorClusterID: 10.0.0.1" } else { "" };
            let (address6, block6) = match settings.ipv6 {
                Some(_) => (
                    format!(", ipv6Address: '{}/{}'", node.address6, node.length6),
                    format!(", 'fd10:1:{number}::/122'"),
                ),
                None => (String::new(), String::new()),
            };
            let more = match node.more.as_str() {
                "" => format!(", podCIDRs: [10.1.{number}.0/26{block6}]"),
                more => more.to_owned(),
            };
            let _ = write!(
                text,
                "---\napiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{ name: {}{labels} }}\n\
                 spec: {{ bgp: {{ ipv4Address: {}/{}{address6}{cluster} }}{more} }}\n",
                node.name, node.address, node.length,
            );
        }
        self.bed.write("resources/.new", &text);
        fs::rename(self.bed.path("resources/.new"), self.bed.path("resources/all.yaml")).expect("to rename");
    }

    /// Starts a node's daemon.
    ///
    /// # Panics
    /// It can't be started.
    pub fn start(&mut self, index: usize) {
        let node = &self.nodes[index];
        let files = || format!("{{ file: {} }}", self.bed.path("resources").display());
        let datastore = self.datastore.clone().unwrap_or_else(files);
        let config = self.bed.write(
            &format!("{}.yaml", node.name),
            &format!(
                "node: {}\nsocket: {}\nstateDir: {}\nstatus: \"off\"\ndatastore: {datastore}\nlog: info\n",
                node.name,
                self.socket(index).display(),
                self.bed.path(&format!("state-{}", node.name)).display(),
            ),
        );
        let routed = product("routed");
        let arguments = ["--config", config.to_str().expect("a path in UTF-8")];
        let inside = self.inside(index);
        self.daemons[index] = Some(self.bed.start(&inside, routed.to_str().expect("UTF-8"), &arguments));
    }

    /// Starts every node's daemon.
    pub fn start_all(&mut self) {
        (0..self.nodes.len()).for_each(|index| self.start(index));
    }

    /// A node's daemon.
    ///
    /// # Panics
    /// It does not run.
    pub fn daemon(&mut self, index: usize) -> &mut Process {
        self.daemons[index].as_mut().expect("a running daemon")
    }

    /// Takes a node's daemon out: it ends with what is returned.
    pub fn take(&mut self, index: usize) -> Option<Process> {
        self.daemons[index].take()
    }

    /// A node's control socket.
    pub fn socket(&self, index: usize) -> PathBuf {
        self.bed.path(&format!("{}.sock", self.nodes[index].name))
    }

    /// Returns the output of `routectl show WHAT -o json` on a node; `None` without an answer.
    pub fn show(&self, index: usize, what: &str) -> Option<Value> {
        let output = std::process::Command::new(product("routectl"))
            .arg("--socket")
            .arg(self.socket(index))
            .args(["show", what, "-o", "json"])
            .output()
            .expect("routectl to run");
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    /// Returns how a node reaches another: a line of `show tunnels`.
    pub fn tunnel(&self, from: usize, to: usize) -> Option<Value> {
        let all = self.show(from, "tunnels")?;
        all.as_array()?.iter().find(|tunnel| tunnel["node"] == self.nodes[to].name.as_str()).cloned()
    }

    /// Waits until a node reaches another by `exit`; how much patience that needed.
    ///
    /// # Panics
    /// It does not within `patience`.
    pub fn wait_for(&self, from: usize, to: usize, exit: &str, patience: Duration) -> Duration {
        let (most, mut patience) = (patience, Patience::of(patience));
        let mut last = Value::Null;
        loop {
            if let Some(tunnel) = self.tunnel(from, to) {
                if tunnel["in_use"] == exit {
                    return patience.needed();
                }
                last = tunnel;
            }
            assert!(
                !patience.is_over(),
                "{} does not reach {} by {exit} within {most:?}: {last}",
                self.nodes[from].name,
                self.nodes[to].name
            );
            patience.pause(Duration::from_millis(20));
        }
    }

    /// Waits until every node reaches every other by `exit`.
    pub fn wait_for_all(&self, exit: &str, patience: Duration) {
        let mut left = patience;
        for (from, to) in self.pairs() {
            left = left.saturating_sub(self.wait_for(from, to, exit, left));
        }
    }

    /// Waits until every node's daemon answers: what is timed from then on is not the start of programs.
    ///
    /// # Panics
    /// One does not.
    pub fn answer_all(&self) {
        for index in 0..self.nodes.len() {
            eventually(&format!("{} to answer", self.nodes[index].name), START, || {
                self.show(index, "status")
            });
        }
    }

    /// Ordered pairs of nodes.
    pub fn pairs(&self) -> Vec<(usize, usize)> {
        let count = self.nodes.len();
        (0..count).flat_map(|a| (0..count).filter(move |b| *b != a).map(move |b| (a, b))).collect()
    }

    /// Drops on the bridge what matches one of `rules` (nftables, bridge family) until [`Cluster::pass`].
    ///
    /// # Panics
    /// `nft` refuses.
    pub fn drop_packets(&self, name: &str, rules: &[&str]) {
        let mut text =
            format!("table bridge {name} {{\nchain wire {{\ntype filter hook prerouting priority 0;\n");
        for rule in rules {
            let _ = writeln!(text, "{rule} counter drop");
        }
        text.push_str("}\n}\n");
        let path = self.bed.write(&format!("{name}.nft"), &text);
        self.bed.exec(NETWORK, &["nft", "-f", path.to_str().expect("UTF-8")]);
    }

    /// Returns how many packets each rule has dropped.
    ///
    /// # Panics
    /// `nft` refuses, or writes no JSON.
    pub fn dropped(&self, name: &str) -> Vec<u64> {
        let listing = self.bed.exec(NETWORK, &["nft", "-j", "list", "table", "bridge", name]);
        let listing: Value = serde_json::from_str(&listing).expect("JSON");
        let counter = |item: &Value| {
            let expressions = item["rule"]["expr"].as_array()?;
            expressions.iter().find_map(|expression| expression["counter"]["packets"].as_u64())
        };
        listing["nftables"].as_array().expect("a list").iter().filter_map(counter).collect()
    }

    /// Lets them pass again; how many each rule had dropped.
    ///
    /// # Panics
    /// `nft` refuses, or nothing was dropped at all: then nothing was tried.
    pub fn pass(&self, name: &str) -> Vec<u64> {
        let dropped = self.dropped(name);
        self.bed.exec(NETWORK, &["nft", "delete", "table", "bridge", name]);
        assert!(dropped.iter().sum::<u64>() > 0, "{name} dropped nothing");
        dropped
    }

    /// Returns whether a packet from one pod to another is answered within a second.
    ///
    /// # Panics
    /// A socket can't be opened.
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        self.reaches_at(from, to, self.nodes[to].pod.into())
    }

    /// Returns whether an IPv6 packet from one pod to another is answered within a second.
    ///
    /// # Panics
    /// A socket can't be opened.
    pub fn reaches6(&self, from: usize, to: usize) -> bool {
        self.reaches_at(from, to, self.nodes[to].pod6.into())
    }

    fn reaches_at(&self, from: usize, to: usize, pod: IpAddr) -> bool {
        let any = if pod.is_ipv4() { "0.0.0.0" } else { "::" };
        let socket = |index: usize, port: u16| {
            let bind = move || UdpSocket::bind((any, port)).expect("a socket");
            let socket = self.bed.inside(&self.pod(index), bind);
            socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
            socket
        };
        let (near, far) = (socket(from, 0), socket(to, ECHO));
        let mut octets = [0; 16];
        let asked = near.send_to(b"ping", (pod, ECHO)).is_ok();
        let Ok((_, back)) = far.recv_from(&mut octets) else { return false };
        asked && far.send_to(b"pong", back).is_ok() && near.recv_from(&mut octets).is_ok()
    }

    /// Waits until pods of every pair answer each other.
    ///
    /// # Panics
    /// One does not.
    pub fn reach_all(&self) {
        for (from, to) in self.pairs() {
            let what = format!("an answer to {} from {}", self.nodes[from].pod, self.nodes[to].pod);
            eventually_or(&what, Duration::from_secs(10), || {
                if self.reaches(from, to) { Ok(()) } else { Err(self.ways_between(from, to)) }
            });
        }
    }

    /// Returns the kernel state on the way from one pod to another, for a failed assertion.
    fn ways_between(&self, from: usize, to: usize) -> String {
        let mut text = String::new();
        for (place, target) in [
            (self.pod(from), self.nodes[to].pod),
            (self.inside(from), self.nodes[to].pod),
            (self.inside(to), self.nodes[to].pod),
            (self.pod(to), self.nodes[from].pod),
            (self.inside(to), self.nodes[from].pod),
            (self.inside(from), self.nodes[from].pod),
        ] {
            let target = target.to_string();
            for words in [["route", "get", &target].as_slice(), &["-s", "neighbour"]] {
                let namespace = self.bed.namespace(&place);
                let output = std::process::Command::new("ip").args(["-n", &namespace]).args(words).output();
                let said = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
                let _ = write!(text, "\n{place}: ip {}\n{}", words.join(" "), String::from_utf8_lossy(&said));
            }
        }
        text
    }

    /// Teaches the network's router where pods are, so that unwrapped packets pass between subnets too.
    ///
    /// # Panics
    /// `ip` fails.
    pub fn route_pods(&self) {
        for node in &self.nodes {
            self.bed.ip(NETWORK, &format!("route add {}/32 via {}", node.pod, node.address));
            self.bed.ip(NETWORK, &format!("-6 route add {}/128 via {}", node.pod6, node.address6));
        }
    }

    /// Returns the value of a sysctl on a node.
    ///
    /// # Panics
    /// It can't be read.
    pub fn sysctl(&self, index: usize, setting: &str) -> String {
        self.bed.exec(&self.inside(index), &["sysctl", "-n", setting]).trim().to_owned()
    }
}
