//! The `routed` and `routectl` binaries with a real etcd.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use testbed::daemon::{HEAD, StandaloneDaemon, etcd, node, routectl};
use testbed::etcd_cluster::{EtcdCluster, port};

/// Returns a configuration with a BGP port of its own, because the tests' daemons run at the same
/// time.
fn configuration() -> String {
    format!("{HEAD}kind: BGPConfiguration\nmetadata: {{name: default}}\nspec: {{listenPort: {}}}\n", port())
}

#[test]
fn a_start_without_etcd_uses_and_reports_the_last_valid_snapshot() {
    let mut cluster = EtcdCluster::start(3);
    let mut daemon = StandaloneDaemon::new(&etcd(&cluster));
    daemon.start();
    daemon.until_connected(true);
    daemon.apply(
        &[configuration(), node("node-a", "127.0.0.1/32"), node("node-b", "127.0.0.2/32")].join("---\n"),
    );
    daemon.until("two nodes", |status| status["peers_total"] == 1);
    let revision = daemon.status()["revision"].as_str().unwrap().to_owned();
    let snapshot = daemon.path("state/snapshot.json");
    daemon.until("a snapshot", |_| fs::read_to_string(&snapshot).is_ok_and(|text| text.contains("node-b")));
    for at in 0..3 {
        cluster.stop(at);
    }
    daemon.until_connected(false);
    assert_eq!(daemon.status()["peers_total"], 1, "what was known runs on");
    daemon.stop();
    daemon.start();
    daemon.until("the snapshot", |status| status["store"]["from_snapshot"] == true);
    let status = daemon.until("two nodes", |status| status["peers_total"] == 1);
    println!("from the snapshot after {status:?}");
    let text = daemon.ok(&["show", "status"]);
    assert!(text.contains("out of reach since") && text.contains("the snapshot on disk runs"), "{text}");
    let socket = daemon.path("routed.sock");
    let curl = Command::new("curl")
        .args(["-s", "--unix-socket", socket.to_str().unwrap(), "http://routed/metrics"])
        .output()
        .unwrap();
    let metrics = String::from_utf8(curl.stdout).unwrap();
    assert!(
        metrics.contains("routed_store_connected 0") && metrics.contains("routed_store_from_snapshot 1"),
        "{metrics}"
    );
    let (code, _, error) = daemon.routectl(&["get", "nodes"]);
    assert!(code == 1 && error.contains("the datastore was not read"), "{error}");
    for at in 0..3 {
        cluster.run(at);
    }
    cluster.await_healthy();
    let took = daemon.until_connected(true);
    println!("in step {took:?} after the return");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let status = daemon.status();
    assert_eq!(
        (&status["peers_total"], status["revision"].as_str().unwrap()),
        (&1.into(), revision.as_str())
    );
    assert_eq!(status["store"]["from_snapshot"], false);
}

#[test]
fn without_store_and_snapshot_the_daemon_waits_for_the_store() {
    let mut cluster = EtcdCluster::start(1);
    cluster.stop(0);
    let mut daemon = StandaloneDaemon::new(&etcd(&cluster));
    daemon.start();
    daemon.until("not ready", |status| {
        status["not_ready"].to_string().contains("the datastore has not answered yet")
    });
    cluster.run(0);
    daemon.until_connected(true);
    daemon.apply(&[configuration(), node("node-a", "127.0.0.1/32")].join("---\n"));
    daemon.until("ready", |status| status["ready"] == true);
}

#[test]
fn readyz_reports_an_invalid_resource_while_the_others_are_used() {
    let cluster = EtcdCluster::start(1);
    let mut daemon = StandaloneDaemon::new(&etcd(&cluster));
    daemon.start();
    daemon.until_connected(true);
    daemon.apply(
        &[configuration(), node("node-a", "127.0.0.1/32"), node("node-b", "127.0.0.2/32")].join("---\n"),
    );
    daemon.until("ready", |status| status["ready"] == true);
    cluster.etcdctl(0, &["put", "/routed/resources/v3/nodes/c", &node("c", "nowhere")]);
    daemon.until("refused", |status| status["store"]["refused"] == 1);
    let status = daemon.status();
    let reasons = status["not_ready"].to_string();
    assert!(reasons.contains("etcd:/routed/resources/v3/nodes/c:4: spec.bgp.ipv4Address"), "{reasons}");
    assert_eq!(status["peers_total"], 1);
    daemon.ok(&["delete", "node", "c"]);
    daemon.until("ready again", |status| status["ready"] == true);
}

#[test]
fn replace_reports_a_conflict_and_apply_overwrites() {
    let cluster = EtcdCluster::start(1);
    let mut daemon = StandaloneDaemon::new(&etcd(&cluster));
    daemon.start();
    daemon.until_connected(true);
    daemon.apply(&node("node-a", "127.0.0.1/32"));
    let read = daemon.ok(&["get", "node", "node-a", "-o", "yaml"]);
    assert!(read.contains("resourceVersion:"), "{read}");
    let file = daemon.path("read.yaml");
    let file = file.to_str().unwrap();
    fs::write(file, read.replace("127.0.0.1/32", "127.0.0.3/32")).unwrap();
    assert_eq!(daemon.ok(&["replace", "-f", file]), "Successfully replaced 1 'Node' resource(s)\n");
    // A second replacement has an outdated version.
    let (status, _, error) = daemon.routectl(&["replace", "-f", file]);
    assert_eq!(status, 1);
    assert!(error.contains("Node \"node-a\" has changed: its resourceVersion is"), "{error}");
    daemon.ok(&["apply", "-f", file]);
    let stored = cluster.etcdctl(0, &["get", "/routed/resources/v3/nodes/node-a", "--print-value-only"]);
    assert!(!stored.contains("resourceVersion"), "{stored}");
    fs::write(file, node("nobody", "127.0.0.4/32")).unwrap();
    let (status, _, error) = daemon.routectl(&["replace", "-f", file]);
    assert!(status == 1 && error.contains("no Node \"nobody\""), "{error}");
}

#[test]
fn a_directory_is_copied_to_etcd_and_back_by_export_and_apply() {
    let cluster = EtcdCluster::start(3);
    let directory = TempDir::new().unwrap();
    let pool = format!("{HEAD}kind: IPPool\nmetadata: {{name: p}}\nspec: {{cidr: 10.0.0.0/16}}\n");
    let v1 = "apiVersion: v1\nkind: ipPool\nmetadata: {cidr: 10.9.0.0/16}\nspec: {nat-outgoing: true}\n";
    let block = format!(
        "{HEAD}kind: BlockAffinity\nmetadata: {{name: b}}\nspec: {{node: n, cidr: 10.0.1.0/26, state: confirmed}}\n"
    );
    fs::write(
        directory.path().join("all.yaml"),
        [pool, v1.into(), block, node("n", "127.0.0.9/32")].join("---\n"),
    )
    .unwrap();
    let nobody = Path::new("/nonexistent");
    let from = format!("file:{}", directory.path().display());
    let to = format!("etcd:{}", cluster.endpoints().join(","));
    let migrate = ["datastore", "migrate", "--from", &from, "--to", &to];
    let (status, said, error) = routectl(&migrate, nobody);
    assert_eq!(status, 0, "{error}");
    assert!(said.starts_with("Copied 4 resource(s)"), "{said}");
    let (status, _, error) = routectl(&migrate, nobody);
    assert!(status == 1 && error.contains("is not empty"), "{error}");
    let (_, exported, _) = routectl(&["datastore", "export", "--from", &to], nobody);
    let (_, original, _) = routectl(&["datastore", "export", "--from", &from], nobody);
    assert_eq!(exported, original);
    assert!(!exported.contains("resourceVersion"), "{exported}");
    let resources = TempDir::new().unwrap();
    let mut daemon = StandaloneDaemon::new(&format!("{{ file: {} }}", resources.path().display()));
    daemon.start();
    daemon.until("there", |status| status["node"] == "node-a");
    assert_eq!(daemon.apply(&exported), "Successfully applied 4 resource(s)\n");
    assert_eq!(daemon.ok(&["datastore", "export"]).matches("---").count(), 3);
}

/// Makes a CA and certificates with openssl.
fn certificates(directory: &Path) {
    let openssl = |arguments: &str| {
        let done = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output();
        let done = done.expect("the program openssl (package openssl)");
        assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
    };
    fs::write(directory.join("san"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 2",
    );
    for name in ["member", "node"] {
        openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile san"
        ));
    }
}

#[test]
fn etcd_is_reached_with_tls_certificates_and_with_passwords() {
    let keys = TempDir::new().unwrap();
    certificates(keys.path());
    let path = |name: &str| keys.path().join(name).display().to_string();
    let tls = ["--cert-file", "member.pem", "--key-file", "member.key", "--trusted-ca-file", "ca.pem"]
        .chunks(2)
        .flat_map(|pair| [pair[0].to_owned(), path(pair[1])])
        .chain(["--client-cert-auth".to_owned()])
        .collect::<Vec<_>>();
    let cluster = EtcdCluster::with(1, &tls, "https");
    let (ca, cert, key) = (path("ca.pem"), path("node.pem"), path("node.key"));
    let settings = |more: &str| {
        format!("{{ etcd: {{ endpoints: {}, ca: {ca}, cert: {cert}, key: {key}{more} }} }}", cluster.yaml())
    };
    let mut daemon = StandaloneDaemon::new(&settings(""));
    daemon.start();
    daemon.until_connected(true);
    daemon.apply(&node("node-a", "127.0.0.1/32"));
    // Only a user of etcd has access.
    let secured = |arguments: &[&str]| {
        let all = [&["--cacert", &ca, "--cert", &cert, "--key", &key], arguments].concat();
        cluster.etcdctl(0, &all)
    };
    secured(&["user", "add", "root:top"]);
    secured(&["user", "grant-role", "root", "root"]);
    secured(&["auth", "enable"]);
    let password = path("password");
    fs::write(&password, "wrong\n").unwrap();
    let mut known = StandaloneDaemon::new(&settings(&format!(", username: root, passwordFile: {password}")));
    known.start();
    known.until("refused", |status| status["store"]["problem"].to_string().contains("etcd refuses"));
    fs::write(&password, "top\n").unwrap();
    known.until_connected(true);
    known.until("its node", |status| status["router_id"] == "127.0.0.1");
}
