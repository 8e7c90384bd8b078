//! Each finding of `routectl doctor`, provoked.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testbed::{eventually, eventually_or, product, with_ipip};
use tests::cluster::{Cluster, Settings};

use crate::fixture::{UP, apply, routectl, unapply, up};

const SOON: Duration = Duration::from_secs(15);

/// Returns the findings of `routectl doctor` on a node, and whether its exit status reports errors.
fn doctor(cluster: &Cluster, index: usize) -> Option<Value> {
    let output = routectl(cluster, index, &["doctor", "-o", "json"]);
    let view: Value = serde_json::from_slice(&output.stdout).ok()?;
    let errors = view["findings"].as_array()?.iter().any(|finding| finding["level"] == "error");
    assert_eq!(output.status.success(), !errors, "{view:#}");
    Some(view)
}

/// The findings of a code.
fn of<'a>(view: &'a Value, code: &str) -> Vec<&'a Value> {
    let findings = view["findings"].as_array().expect("a list");
    findings.iter().filter(|finding| finding["code"] == code).collect()
}

/// Waits until a node finds `code`, with words in its text or evidence, and with a remedy.
fn finds(cluster: &Cluster, index: usize, code: &str, words: &str) -> Value {
    let has = |finding: &Value, part: &str| finding[part].as_str().unwrap_or_default().contains(words);
    finds_one(cluster, index, code, words, |finding| {
        ["text", "evidence", "remedy"].iter().any(|part| has(finding, part))
    })
}

/// Waits until a node finds `code` such that `fits`, described by `which`, with a remedy.
fn finds_one(
    cluster: &Cluster,
    index: usize,
    code: &str,
    which: &str,
    fits: impl Fn(&Value) -> bool,
) -> Value {
    let found = eventually_or(&format!("{code} with {which:?}"), SOON, || {
        let view = doctor(cluster, index).ok_or("no answer")?;
        let found = of(&view, code).into_iter().find(|finding| fits(finding)).cloned();
        found.ok_or_else(|| format!("{view:#}"))
    });
    assert!(found["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{found}");
    found
}

/// Waits until a node finds nothing.
fn is_well(cluster: &Cluster, index: usize) {
    eventually_or("nothing to be wrong", SOON, || {
        let view = doctor(cluster, index).ok_or("no answer")?;
        let nothing = serde_json::json!([]);
        if view["findings"] == nothing && view["not_seen"] == nothing {
            Ok(())
        } else {
            Err(format!("{view:#}"))
        }
    });
}

fn settings() -> Settings {
    Settings::default().modes("Never", "Always")
}

/// A daemon of its own in node 1's namespace; its control socket is that of a node that the cluster does not run.
fn another(cluster: &Cluster, name: &str, lines: &str) -> (testbed::Process, std::path::PathBuf) {
    let bed = &cluster.bed;
    let socket = bed.path(&format!("{name}.sock"));
    let config = bed.write(
        &format!("{name}.yaml"),
        &format!(
            "node: {name}\nsocket: {}\nstateDir: {}\nstatus: \"off\"\n{lines}",
            socket.display(),
            bed.path(&format!("state-{name}")).display()
        ),
    );
    let routed = product("routed");
    let words = ["--config", config.to_str().expect("UTF-8")];
    (bed.start("n1", routed.to_str().expect("UTF-8"), &words), socket)
}

/// Waits until a daemon behind a socket finds all of `codes`.
fn socket_finds(socket: &std::path::Path, codes: &[&str]) {
    eventually(&format!("{codes:?}"), SOON, || {
        let mut command = Command::new(product("routectl"));
        let output =
            command.arg("--socket").arg(socket).args(["doctor", "-o", "json"]).output().expect("routectl");
        let view: Value = serde_json::from_slice(&output.stdout).ok()?;
        codes.iter().all(|code| !of(&view, code).is_empty()).then_some(())
    });
}

#[test]
fn changes_of_other_programs_to_the_kernel_are_found() {
    let cluster = up(&settings(), 3, "vxlan");
    let bed = &cluster.bed;
    is_well(&cluster, 0);

    let rules = bed.write(
        "guard.nft",
        "table inet guard {\nchain input {\ntype filter hook input priority 10; policy accept;\n\
         ip saddr 192.168.0.9 tcp dport 179 counter drop\nudp dport 4000-5000 counter drop\n}\n}\n",
    );
    bed.exec("n1", &["nft", "-f", rules.to_str().expect("UTF-8")]);
    let vxlan = finds(&cluster, 0, "firewall", "UDP port 4789");
    assert_eq!(
        (&vxlan["level"], vxlan["evidence"].as_str().is_some_and(|e| e.contains("inet guard input"))),
        (&"error".into(), true)
    );
    assert_eq!(finds(&cluster, 0, "firewall", "TCP port 179")["level"], "warning");
    bed.exec("n1", &["nft", "delete", "table", "inet", "guard"]);

    bed.ip("n1", "route add 10.1.2.0/27 via 192.168.0.254");
    let route = finds(&cluster, 0, "foreign_route", "10.1.2.0/27");
    let mend = route["remedy"].as_str().expect("a command").split(',').next().expect("a command").to_owned();
    bed.exec("n1", &mend.split_whitespace().collect::<Vec<_>>());
    bed.ip("n1", "rule add pref 100 lookup 77");
    finds(&cluster, 0, "foreign_rule", "table 77");
    bed.ip("n1", "rule delete pref 100");
    is_well(&cluster, 0);

    bed.ip("n1", "link set cali0 mtu 1500");
    finds(&cluster, 0, "mtu", "cali0");
    bed.ip("n1", "link set cali0 mtu 1450");
    is_well(&cluster, 0);

    cluster.drop_packets("fabric", &["udp dport 4789"]);
    assert_eq!(finds(&cluster, 0, "tunnel", "UDP port 4789")["level"], "error");
    cluster.pass("fabric");
    is_well(&cluster, 0);
}

#[test]
fn mistakes_in_the_resources_are_found() {
    let mut cluster = up(&settings(), 3, "vxlan");
    let node = |name: &str, address: &str, more: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{ name: {name} }}\nspec: {{ bgp: {{ ipv4Address: \
             {address} }}{more} }}\n"
        )
    };
    apply(&cluster, &node("node-9", "192.168.0.9/24", ", ipv4VXLANTunnelAddr: 10.1.2.0"));
    finds(&cluster, 0, "duplicate_tunnel_address", "node-2");
    apply(&cluster, &node("node-9", "192.168.0.900/24", ""));
    finds(&cluster, 0, "resources", "more.yaml");
    let peer = "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: { name: tor }\n\
                spec: { node: node-3, peerIP: 192.168.0.254, asNumber: 64512, filters: [nobody-wrote-it] }\n";
    apply(&cluster, peer);
    finds(&cluster, 0, "warning", "nobody-wrote-it");
    unapply(&cluster);
    is_well(&cluster, 0);

    // Subnets decide what is wrapped once the pool is cross-subnet, and a strict filter what arrives unwrapped.
    cluster.bed.exec("n1", &["sysctl", "-qw", "net.ipv4.conf.eth0.rp_filter=1"]);
    cluster.nodes[1].length = 31;
    cluster.nodes[2].length = 32;
    cluster.configure(&settings().modes("Never", "CrossSubnet"));
    finds(&cluster, 0, "node_subnet", "node-3");
    finds(&cluster, 0, "subnet_asymmetry", "node-2");
    finds(&cluster, 0, "rp_filter", "eth0");
    cluster.bed.exec("n1", &["sysctl", "-qw", "net.ipv4.conf.eth0.rp_filter=0"]);
    cluster.nodes[1].length = 24;
    cluster.nodes[2].length = 24;
    cluster.configure(&settings().modes("Never", "CrossSubnet"));
    is_well(&cluster, 0);

    // A node that is not started.
    drop(cluster.take(2));
    let session = finds(&cluster, 0, "session", "node-3");
    assert_eq!(session["level"], "error");
}

#[test]
fn obstacles_of_the_daemon_are_found() {
    let mut cluster = Cluster::new(2, 1);
    cluster.configure(&settings());
    // Another program has the port.
    let taken = cluster.bed.inside("n1", || TcpListener::bind("0.0.0.0:179").expect("the port"));
    cluster.bed.exec("n1", &["sysctl", "-qw", "net.ipv4.ip_forward=0"]);
    cluster.start(0);
    finds(&cluster, 0, "not_listening", "ss -ltnp");
    drop(taken);
    drop(cluster.take(0));

    // The daemon must not write sysctls, and another program has a route of the same metric.
    cluster.bed.exec("n1", &["sysctl", "-qw", "net.ipv4.ip_forward=0"]);
    cluster.bed.ip("n1", "route add 10.1.2.0/26 via 192.168.0.254 metric 512");
    let config = cluster.bed.path("node-1.yaml");
    let line = format!(
        "mount -o bind,ro /proc/sys /proc/sys && exec {} --config {}",
        product("routed").display(),
        config.display()
    );
    let careful = cluster.bed.start("n1", "sh", &["-c", &line]);
    cluster.start(1);
    finds(&cluster, 0, "sysctl", "ip_forward");
    finds(&cluster, 0, "kernel", "10.1.2.0/26");
    drop(careful);
    cluster.bed.ip("n1", "route delete 10.1.2.0/26 via 192.168.0.254 metric 512");

    let resources = format!("datastore: {{ file: {} }}\n", cluster.bed.path("resources").display());
    let (nobody, socket) = another(&cluster, "nobody", &resources);
    socket_finds(&socket, &["not_ready"]);
    drop(nobody);
    let (_storeless, socket) =
        another(&cluster, "storeless", "datastore: { etcd: { endpoints: ['http://127.0.0.1:1'] } }\n");
    socket_finds(&socket, &["store", "not_ready"]);
}

#[test]
fn a_kernel_without_ip_in_ip_is_found_and_nothing_else_is_blamed() {
    let mut cluster = Cluster::new(1, 1);
    cluster.configure(&Settings::default());
    cluster.start(0);
    let has_ipip = std::fs::exists("/sys/module/ipip").is_ok_and(|it_has| it_has);
    if has_ipip {
        eventually("an answer", SOON, || {
            doctor(&cluster, 0).map(|view| assert_eq!(of(&view, "module").len(), 0))
        });
    } else {
        finds(&cluster, 0, "module", "modprobe ipip");
    }
}

#[test]
fn tunnels_that_are_blocked_and_clocks_that_differ_are_found() {
    with_ipip("doctor::tunnels_that_are_blocked_and_clocks_that_differ_are_found", || {
        let cluster = up(&Settings::default(), 2, "ipip");
        let view = doctor(&cluster, 0).expect("an answer");
        let findings = view["findings"].as_array().expect("a list");
        // User-Mode Linux has no nftables of family inet, and that is all.
        let others =
            findings.iter().filter(|finding| !finding["text"].as_str().unwrap_or("").contains("nftables"));
        assert_eq!(others.count(), 0, "{view:#}");
        cluster.drop_packets("ipip", &["ip protocol 4"]);
        // It is an error until VXLAN has answered often enough to be used.
        finds_one(&cluster, 0, "tunnel", "IP protocol 4 as a warning", |finding| {
            finding["level"] == "warning" && finding.to_string().contains("IP protocol 4")
        });
        cluster.pass("ipip");
        cluster.drop_packets("both", &["ip protocol 4", "udp dport 4789"]);
        finds_one(&cluster, 0, "tunnel", "no answer at all", |finding| finding["level"] == "error");
        cluster.pass("both");

        let mut cluster = Cluster::new(2, 1);
        cluster.configure(&Settings::default());
        cluster.start(0);
        cluster.start(1);
        cluster.wait_for_all("ipip", UP);
        drop(cluster.take(1));
        let config = cluster.bed.path("node-2.yaml");
        let routed = product("routed");
        let words = [
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "faketime",
            "-f",
            "+90s",
            routed.to_str().expect("UTF-8"),
            "--config",
        ];
        let words: Vec<&str> = words.into_iter().chain(config.to_str()).collect();
        let _ahead = cluster.bed.start("n2", "env", &words);
        let clock = finds(&cluster, 0, "clock", "node-2");
        assert!(
            clock["text"].as_str().is_some_and(|text| text.contains("90.") || text.contains("89.9")),
            "{clock}"
        );
    });
}
