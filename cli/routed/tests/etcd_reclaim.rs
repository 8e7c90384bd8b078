//! Blocks of deleted nodes are released by the other nodes.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::time::{Duration, Instant};

use testbed::daemon::{HEAD, StandaloneDaemon, etcd};
use testbed::etcd_cluster::{EtcdCluster, net};

#[test]
fn blocks_of_a_deleted_node_are_released_unless_it_returns() {
    let mut cluster = EtcdCluster::in_namespaces(1);
    let more = "ipam: { blocks: 2, freeAddresses: 0, reclaimAfter: 2s }\n";
    let start = |cluster: &mut EtcdCluster, number: usize, name: &str| {
        let namespace = cluster.host(number, &format!("{}.{}/24", net(), 100 + number));
        let mut daemon = StandaloneDaemon::inside(&namespace, name, &etcd(cluster), more);
        daemon.start();
        daemon.until_connected(true);
        daemon
    };
    let a = start(&mut cluster, 1, "a");
    a.apply(&format!(
        "{HEAD}kind: IPPool\nmetadata: {{name: p}}\nspec: {{cidr: 10.65.0.0/24, blockSize: 28}}\n"
    ));
    let mut b = start(&mut cluster, 2, "b");
    let mut c = start(&mut cluster, 3, "c");
    a.until("all blocks", |status| status["routes"] == 6);
    let blocks = |of: &str| a.ok(&["get", "blockaffinities"]).matches(&format!(" {of} ")).count();
    assert_eq!((blocks("b"), blocks("c")), (2, 2));
    b.stop();
    c.stop();
    a.ok(&["delete", "node", "b"]);
    a.ok(&["delete", "node", "c"]);
    c.start();
    c.until_connected(true);
    let begin = Instant::now();
    while blocks("b") > 0 {
        assert!(begin.elapsed() < Duration::from_secs(30), "b's blocks are still held");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(begin.elapsed() > Duration::from_secs(1), "no grace at all");
    assert_eq!((blocks("a"), blocks("c")), (2, 2));
    assert_eq!(a.ok(&["ipam", "check"]), "4 block(s), 0 problem(s)\n");
}
