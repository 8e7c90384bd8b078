//! Registration of nodes in a real etcd, each node in a network namespace of its own.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use testbed::daemon::{StandaloneDaemon, etcd, node};
use testbed::etcd_cluster::{EtcdCluster, ip, net};

fn stored(cluster: &EtcdCluster, name: &str) -> String {
    cluster.etcdctl(0, &["get", &format!("/routed/resources/v3/nodes/{name}"), "--print-value-only"])
}

#[test]
fn nodes_register_and_move_and_keep_names_and_addresses_unique() {
    let mut cluster = EtcdCluster::in_namespaces(1);
    let start = |cluster: &mut EtcdCluster, number: usize, name: &str, more: &str| {
        let namespace = cluster.host(number, &format!("{}.{}/24", net(), 100 + number));
        let mut daemon = StandaloneDaemon::inside(&namespace, name, &etcd(cluster), more);
        daemon.start();
        (daemon, namespace)
    };
    let (a, in_a) = start(&mut cluster, 1, "a", "");
    let (b, _) = start(&mut cluster, 2, "b", &format!("autodetect: {{ ipv4: cidr={}.0/24 }}\n", net()));
    for one in [&a, &b] {
        one.until("a session", |status| status["peers_established"] == 1 && status["ready"] == true);
    }
    let (third, _) = start(&mut cluster, 3, "a", "autodetect: { ipv4: interface=eth.* }\n");
    third.until("the name of another", |status| {
        let reasons = status["not_ready"].to_string();
        reasons.contains(&format!("is the name of another host, which registered with {}.101", net()))
    });
    assert_eq!(third.status()["peers_total"], 0);
    // A user has applied a node with the fourth node's address.
    cluster.etcdctl(
        0,
        &["put", "/routed/resources/v3/nodes/written", &node("written", &format!("{}.104/24", net()))],
    );
    b.until("the written one", |status| status["peers_total"] == 2);
    let namespace = cluster.host(4, &format!("{}.104/24", net()));
    let mut fourth = StandaloneDaemon::inside(
        &namespace,
        "d",
        &etcd(&cluster),
        &format!("autodetect: {{ ipv4: can-reach={}.1 }}\n", net()),
    );
    fourth.start();
    fourth.until("the address of another", |status| {
        let reasons = status["not_ready"].to_string();
        reasons.contains(&format!("was not registered: its address {}.104 is node", net()))
    });
    assert_eq!(stored(&cluster, "d"), "");
    b.ok(&["delete", "node", "written"]);
    fourth.until("registered", |status| status["peers_established"] == 2);
    // The address changes; other fields are unchanged.
    let file = a.path("labelled.yaml");
    let labelled = a
        .ok(&["get", "node", "a", "-o", "yaml"])
        .replace("metadata:\n", "metadata:\n  labels: { rack: one }\n");
    std::fs::write(&file, labelled).unwrap();
    a.ok(&["replace", "-f", file.to_str().unwrap()]);
    ip(&format!("-n {in_a} addr del {}.101/24 dev eth0", net()));
    ip(&format!("-n {in_a} addr add {}.111/24 dev eth0", net()));
    let took = b.until("moved", |_| stored(&cluster, "a").contains(&format!("{}.111/24", net())));
    println!("moved within {took:?}");
    assert!(stored(&cluster, "a").contains("rack: one"), "{}", stored(&cluster, "a"));
    // A deleted node that is still running registers again. The other host of that name would be as
    // quick.
    drop(third);
    b.ok(&["delete", "node", "a"]);
    a.until("back", |_| stored(&cluster, "a").contains(&format!("{}.111/24", net())));
    // A resource that a user applied is unchanged.
    a.ok(&["delete", "node", "d"]);
    fourth.until("back", |_| stored(&cluster, "d").contains(&format!("{}.104/24", net())));
}

#[test]
fn with_a_file_store_no_node_registers() {
    let resources = tempfile::TempDir::new().unwrap();
    let mut daemon = StandaloneDaemon::new(&format!("{{ file: {} }}", resources.path().display()));
    daemon.start();
    daemon.until("no node", |status| status["not_ready"].to_string().contains("there is no Node resource"));
    assert_eq!(std::fs::read_dir(resources.path()).unwrap().count(), 0);
}
