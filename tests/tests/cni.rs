//! The network configuration that `routed` writes, carried out by the plugins as Debian packages them: pods of two nodes
//! reach each other with the largest packets they may send.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::{Process, Testbed, eventually, product, run};

/// Debian's directory of the plugins.
const PLUGINS: &str = "/usr/lib/cni";
/// The directory of `host-local`'s leases.
const LEASES: &str = "/var/lib/cni/networks";
/// Time from the start to the first answer on a busy machine.
const START: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);
/// The bed's Ethernet less VXLAN's 50 octets.
const MTU: usize = 1450;

/// Two nodes on VXLAN, and what is left of their pods.
struct Lab {
    // Dropped before the bed.
    _daemons: [Process; 2],
    bed: Testbed,
}

impl Lab {
    fn new() -> Lab {
        let bed = Testbed::with_two_nodes();
        resources(&bed, "a", "plugin: ptp");
        resources(&bed, "b", "plugin: bridge");
        let daemons = ["a", "b"].map(|node| {
            std::fs::create_dir(bed.path(&format!("net.d-{node}"))).expect("a directory");
            let config = bed.write(
                &format!("routed-{node}.yaml"),
                &format!(
                    "node: node-{node}\nsocket: {}\nstateDir: {}\nstatus: off\ndatastore: {{ file: {} }}\n",
                    bed.path(&format!("{node}.sock")).display(),
                    bed.path(&format!("state-{node}")).display(),
                    bed.path(&format!("resources-{node}")).display()
                ),
            );
            let routed = product("routed");
            let words = ["--config", config.to_str().expect("UTF-8")];
            bed.start(node, routed.to_str().expect("UTF-8"), &words)
        });
        Lab { _daemons: daemons, bed }
    }

    fn conflist(&self, node: &str) -> PathBuf {
        self.bed.path(&format!("net.d-{node}/10-{}.conflist", network(&self.bed, node)))
    }

    /// Makes a pod as a container runtime does, and gives its addresses, IPv4 first.
    fn add(&self, node: &str, pod: &str) -> [IpAddr; 2] {
        run("ip", &["netns", "add", &self.bed.namespace(pod)]);
        let result = self.call("ADD", node, pod);
        let address = |index: usize| {
            let text = result["ips"][index]["address"].as_str().expect("an address with a length");
            text.split('/').next().and_then(|text| text.parse().ok()).expect("an address")
        };
        [address(0), address(1)]
    }

    /// Calls every plugin of the list, each with the result of the one before it.
    fn call(&self, command: &str, node: &str, pod: &str) -> Value {
        let text = std::fs::read_to_string(self.conflist(node)).expect("the network configuration");
        let list: Value = serde_json::from_str(&text).expect("JSON");
        let mut result = Value::Null;
        for plugin in list["plugins"].as_array().expect("plugins") {
            let mut input = plugin.clone();
            input["cniVersion"] = list["cniVersion"].clone();
            input["name"] = list["name"].clone();
            if !result.is_null() {
                input["prevResult"] = result.clone();
            }
            result = self.plugin(command, node, pod, &input);
        }
        result
    }

    fn plugin(&self, command: &str, node: &str, pod: &str, input: &Value) -> Value {
        let program = Path::new(PLUGINS).join(input["type"].as_str().expect("a type"));
        assert!(program.is_file(), "no {}: install containernetworking-plugins", program.display());
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.bed.namespace(node)])
            .arg(program)
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", self.bed.namespace(pod))
            .env("CNI_NETNS", format!("/run/netns/{}", self.bed.namespace(pod)))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", PLUGINS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ip to run");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.to_string().as_bytes()).expect("written");
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        let said = [output.stdout.clone(), output.stderr].concat();
        assert!(output.status.success(), "{command} {pod}: {}", String::from_utf8_lossy(&said));
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Sends the largest packet there may be from one pod to another and back, without fragments: what fits into the
    /// interface's MTU leaves with DF set.
    fn echo(&self, from: (&str, IpAddr), to: (&str, IpAddr)) {
        let open = |(pod, address): (&str, IpAddr)| {
            let socket = self.bed.inside(pod, move || UdpSocket::bind((address, 4000)).expect("a socket"));
            socket.set_read_timeout(Some(SOON)).expect("a timeout");
            socket
        };
        let (near, far) = (open(from), open(to));
        let headers = if to.1.is_ipv4() { 28 } else { 48 };
        let sent = vec![7; MTU - headers];
        near.send_to(&sent, SocketAddr::new(to.1, 4000)).expect("sent");
        let mut buffer = [0; 2048];
        let what = format!("{} to {}", from.1, to.1);
        let (length, source) = far.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((length, source.ip()), (sent.len(), from.1), "{what}: the source is the pod's own");
        far.send_to(&buffer[..length], source).expect("sent");
        let (length, _) = near.recv_from(&mut buffer).unwrap_or_else(|error| panic!("back, {what}: {error}"));
        assert_eq!(length, sent.len(), "back, {what}");
    }

    fn leases(&self, node: &str) -> Vec<String> {
        let directory = Path::new(LEASES).join(network(&self.bed, node));
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name.parse::<IpAddr>().is_ok());
        names.sort();
        names
    }

    fn status(&self, node: &str) -> Option<Value> {
        let output = Command::new(product("routectl"))
            .args(["show", "status", "-o", "json"])
            .env("ROUTED_SOCKET", self.bed.path(&format!("{node}.sock")))
            .output()
            .expect("routectl to run");
        serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for pod in ["pod-a1", "pod-a2", "pod-b1", "pod-b2"] {
            let namespace = self.bed.namespace(pod);
            if Path::new("/run/netns").join(&namespace).exists() {
                let _ = Command::new("ip").args(["netns", "delete", &namespace]).status();
            }
        }
        for node in ["a", "b"] {
            let _ = std::fs::remove_dir_all(Path::new(LEASES).join(network(&self.bed, node)));
        }
    }
}

/// The network's name: the plugins keep addresses by it on this one machine.
fn network(bed: &Testbed, node: &str) -> String {
    bed.namespace(node)
}

/// Returns the resources of node `owner`, with its network configuration.
fn resources(bed: &Testbed, owner: &str, cni: &str) {
    let mut text = String::new();
    for (name, number) in [("a", 1), ("b", 2)] {
        text.push_str(&format!(
            "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{ name: node-{name} }}\nspec: {{ bgp: {{ ipv4Address: \
             10.0.0.{number}/24 }}, podCIDRs: [10.1.{number}.0/26, 'fd10::{number}:0/122'] }}\n---\n"
        ));
    }
    for (name, cidr) in [("pods", "10.1.0.0/16"), ("pods6", "'fd10::/64'")] {
        text.push_str(&format!(
            "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{ name: {name} }}\nspec: {{ cidr: {cidr}, vxlanMode: \
             Always }}\n---\n"
        ));
    }
    let cni = if cni.is_empty() {
        String::new()
    } else {
        let directory = bed.path(&format!("net.d-{owner}"));
        format!(", cni: {{ {cni}, name: {}, directory: {} }}", network(bed, owner), directory.display())
    };
    text.push_str(&format!(
        "apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {{ name: default }}\nspec: {{ routed: {{ \
         fallbackAfter: 1s{cni} }} }}\n"
    ));
    bed.write(&format!("resources-{owner}/cluster.yaml"), &text);
}

#[test]
fn pods_of_the_packaged_plugins_reach_each_other_and_release_their_addresses() {
    let lab = Lab::new();
    for node in ["a", "b"] {
        eventually("the network configuration", START, || lab.conflist(node).is_file().then_some(()));
        eventually("the routes", START, || {
            let routes = lab.bed.routes(node, "179");
            routes.iter().any(|route| route["type"] != "blackhole").then_some(())
        });
        assert_eq!(
            std::fs::read_to_string(lab.bed.path(&format!("state-{node}/mtu"))).expect("the MTU"),
            format!("{MTU}\n")
        );
    }
    let pods = [("a", "pod-a1"), ("a", "pod-a2"), ("b", "pod-b1"), ("b", "pod-b2")]
        .map(|(node, pod)| (pod, lab.add(node, pod)));
    let expected =
        ["10.1.1.2", "10.1.1.3", "10.1.2.2", "10.1.2.3"].map(|text| text.parse().expect("an address"));
    assert_eq!(pods.map(|(_, [v4, _])| v4), expected as [IpAddr; 4]);
    for (pod, _) in pods {
        let link: Value = serde_json::from_str(&lab.bed.ip(pod, "-j link show eth0")).expect("JSON");
        assert_eq!(link[0]["mtu"], MTU, "{pod}");
    }
    for (from, sources) in pods {
        for (to, targets) in pods.into_iter().filter(|(to, _)| *to != from) {
            for family in [0, 1] {
                lab.echo((from, sources[family]), (to, targets[family]));
            }
        }
    }
    assert_eq!(lab.leases("a"), ["10.1.1.2", "10.1.1.3", "fd10::1:2", "fd10::1:3"]);
    for (node, pod) in [("a", "pod-a1"), ("b", "pod-b1"), ("b", "pod-b2")] {
        lab.call("DEL", node, pod);
    }
    assert_eq!(lab.leases("a"), ["10.1.1.3", "fd10::1:3"]);
    assert_eq!(lab.leases("b"), Vec::<String>::new());
    let left = lab.bed.ip("a", "route show 10.1.1.2");
    assert_eq!(left, "", "the pod's route is gone");
}

#[test]
fn the_configuration_follows_the_mtu_and_the_resources() {
    let lab = Lab::new();
    let read = |node: &str| -> Option<Value> {
        serde_json::from_str(&std::fs::read_to_string(lab.conflist(node)).ok()?).ok()
    };
    eventually("the network configuration", START, || read("a"));
    lab.bed.ip("a", "link set eth0 mtu 1400");
    eventually("a smaller MTU", SOON, || (read("a")?["plugins"][0]["mtu"] == 1350).then_some(()));
    let status = eventually("the status", SOON, || lab.status("a"));
    assert_eq!(status["cni"], json!({ "pod_mtu": 1350, "file": lab.conflist("a"), "problems": [] }));

    // A removed directory is reported and the rest continues; once it exists again it is used.
    std::fs::remove_dir_all(lab.bed.path("net.d-a")).expect("removed");
    resources(&lab.bed, "a", "plugin: bridge");
    let warning = format!("{} can't be written: No such file or directory", lab.conflist("a").display());
    eventually(&warning, SOON, || {
        let status = lab.status("a")?;
        let warnings = status["warnings"].as_array()?;
        warnings.iter().any(|line| line.as_str().is_some_and(|line| line.starts_with(&warning))).then_some(())
    });
    std::fs::create_dir(lab.bed.path("net.d-a")).expect("a directory");
    eventually("a bridge", SOON, || (read("a")?["plugins"][0]["type"] == "bridge").then_some(()));
    assert_eq!(lab._daemons[0].output().matches(&warning).count(), 1, "said once");

    resources(&lab.bed, "a", "");
    eventually("no configuration", SOON, || (!lab.conflist("a").exists()).then_some(()));
    assert_eq!(std::fs::read_to_string(lab.bed.path("state-a/mtu")).expect("the MTU"), "1350\n");
}
