//! A shared store that fails in every way, and nodes that come and go: no route has an event that is not meant.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testbed::eventually;
use tests::cluster::Cluster;
use tests::etcd::{Etcd, apply, await_block, routectl};
use tests::route_monitor::Monitor;

const UP: Duration = Duration::from_secs(40);
/// Nodes that are there from the start.
const NODES: usize = 5;
/// Time for which all members are away.
const AWAY: Duration = Duration::from_secs(60);
/// Time in which all nodes must be in step with a store that is back.
const IN_STEP: Duration = Duration::from_secs(5);

const HEAD: &str = "apiVersion: projectcalico.org/v3";

/// Waits until all these nodes run the store's revision.
fn in_step(cluster: &Cluster, nodes: &[usize], patience: Duration) -> Duration {
    let start = Instant::now();
    eventually("all nodes in step", patience, || {
        let statuses: Option<Vec<_>> = nodes.iter().map(|node| cluster.show(*node, "status")).collect();
        let statuses = statuses?;
        let connected = statuses.iter().all(|status| status["store"]["connected"] == true);
        let same = statuses.iter().all(|status| status["revision"] == statuses[0]["revision"]);
        (connected && same).then_some(())
    });
    start.elapsed()
}

/// Changes something that concerns no route, and waits until all have it.
fn change(cluster: &Cluster, name: &str, patience: Duration) {
    let revision = |node| cluster.show(node, "status").expect("an answer")["revision"].clone();
    let before = revision(1);
    let filter = format!("{HEAD}\nkind: BGPFilter\nmetadata: {{ name: {name} }}\nspec: {{}}\n");
    let file = cluster.bed.write("change.yaml", &filter);
    let file = file.to_str().expect("UTF-8");
    eventually("a change that is taken", patience, || {
        routectl(cluster, 0, &["apply", "-f", file]).status.success().then_some(())
    });
    eventually("a change that comes", patience, || (revision(1) != before).then_some(()));
    in_step(cluster, &[0, 1, 2, 3, 4], patience);
}

/// Checks that there was no event since the last mark.
fn assert_silent(cluster: &Cluster, monitors: &[Monitor], what: &str) {
    for (index, monitor) in monitors.iter().enumerate() {
        let told = monitor.mark(cluster, &cluster.inside(index));
        assert!(told.is_empty(), "{what}: node-{}: {told:#?}", index + 1);
    }
}

/// Checks that all these nodes had events about the routes to one block, and no others.
fn assert_told_of(cluster: &Cluster, monitors: &[Monitor], block: &str, what: &str) {
    let network = block.split('/').next().expect("an address");
    for (index, monitor) in monitors.iter().enumerate() {
        let told = monitor.mark(cluster, &cluster.inside(index));
        assert!(told.iter().any(|line| line.contains(block)), "{what}: node-{}: {told:#?}", index + 1);
        // A next-hop object leads to the node's own address on the VXLAN, the first of its block.
        let others: Vec<_> = told.iter().filter(|line| !line.contains(network)).collect();
        assert!(others.is_empty(), "{what}: node-{}: {others:#?}", index + 1);
    }
}

#[test]
fn no_route_has_an_event_while_members_are_killed_cut_off_or_all_away_and_nodes_come_and_go() {
    let mut cluster = Cluster::new(6, 1);
    let mut etcd = Etcd::start(&mut cluster);
    cluster.start(0);
    eventually("an answer of the store", UP, || {
        (cluster.show(0, "status")?["store"]["connected"] == true).then_some(())
    });
    let resources = format!(
        "{HEAD}\nkind: IPPool\nmetadata: {{ name: pods }}\nspec: {{ cidr: 10.1.0.0/16, vxlanMode: Always }}\n---\n\
         {HEAD}\nkind: BGPConfiguration\nmetadata: {{ name: default }}\n\
         spec: {{ asNumber: 64512, routed: {{ fallbackAfter: 2s }} }}\n"
    );
    apply(&cluster, 0, &resources);
    (1..NODES).for_each(|index| cluster.start(index));
    let blocks: Vec<String> = (0..NODES).map(|index| await_block(&mut cluster, index)).collect();
    let ping_all = |cluster: &Cluster, nodes: &[usize]| {
        for (from, to) in cluster.pairs().iter().filter(|(a, b)| nodes.contains(a) && nodes.contains(b)) {
            let what = format!("an answer to node-{} from node-{}", to + 1, from + 1);
            eventually(&what, Duration::from_secs(15), || cluster.reaches(*from, *to).then_some(()));
        }
    };
    let all = [0, 1, 2, 3, 4];
    ping_all(&cluster, &all);
    eventually("sessions of all with all, and whole routes", UP, || {
        let settled = |node: &usize| {
            let status = cluster.show(*node, "status")?;
            (status["in_sync"] == true && status["peers_established"] == NODES - 1).then_some(())
        };
        all.iter().all(|node| settled(node).is_some()).then_some(())
    });
    let mut monitors: Vec<Monitor> =
        all.iter().map(|index| Monitor::start(&cluster, &cluster.inside(*index))).collect();

    let leader = etcd.leader(&cluster);
    etcd.kill(leader);
    change(&cluster, "without-the-leader", UP);
    ping_all(&cluster, &all);
    assert_silent(&cluster, &monitors, "the leader killed");
    etcd.run(&cluster, leader);

    let minority = etcd.most_asked(&cluster, etcd.leader(&cluster), NODES);
    etcd.cut_off(&cluster, minority);
    change(&cluster, "without-a-minority", UP);
    ping_all(&cluster, &all);
    assert_silent(&cluster, &monitors, "a minority cut off");
    cluster.pass("minority");

    let away = Instant::now();
    etcd.signal_all(Signal::SIGSTOP);
    eventually("all nodes without a store", UP, || {
        let without = |node: &usize| Some(cluster.show(*node, "status")?["store"]["connected"] == false);
        all.iter().all(|node| without(node) == Some(true)).then_some(())
    });
    ping_all(&cluster, &all);
    // A daemon that starts meanwhile runs the last valid snapshot.
    assert_eq!(cluster.daemon(1).terminate(), Some(0));
    drop(cluster.take(1));
    cluster.start(1);
    // why: the minute of the outage.
    std::thread::sleep(AWAY.saturating_sub(away.elapsed()));
    eventually("sessions of the one that has started", UP, || {
        (cluster.show(1, "status")?["peers_established"] == NODES - 1).then_some(())
    });
    assert!(!routectl(&cluster, 0, &["get", "nodes"]).status.success(), "the members are away");
    assert_silent(&cluster, &monitors, "all members away");
    etcd.signal_all(Signal::SIGCONT);
    let woken = Instant::now();
    // The time that members need for an election is theirs: terms may pass without a leader.
    etcd.await_answers(&cluster);
    let elected = woken.elapsed();
    let took = in_step(&cluster, &all, IN_STEP);
    println!("all members away for {:?}: a leader after {elected:?}, in step {took:?} later", away.elapsed());
    change(&cluster, "after-the-outage", UP);
    ping_all(&cluster, &all);
    assert_silent(&cluster, &monitors, "the members back");

    // One more comes.
    cluster.start(NODES);
    let block = await_block(&mut cluster, NODES);
    assert!(!blocks.contains(&block), "{block} is in {blocks:?}");
    ping_all(&cluster, &[0, 1, 2, 3, 4, 5]);
    assert_told_of(&cluster, &monitors, &block, "node-6 added");
    // And one of the first nodes is deleted.
    let gone = NODES - 1;
    monitors.pop();
    assert_eq!(cluster.daemon(gone).terminate(), Some(0));
    drop(cluster.take(gone));
    assert_silent(&cluster, &monitors, "node-5 stopped");
    let deleted = routectl(&cluster, 0, &["delete", "node", "node-5"]);
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    for node in 0..gone {
        eventually("no route to the node that is gone", UP, || {
            let routes = cluster.bed.ip(&cluster.inside(node), "-o route show proto 179");
            (!routes.contains(&blocks[gone])).then_some(())
        });
    }
    assert_told_of(&cluster, &monitors, &blocks[gone], "node-5 deleted");
    ping_all(&cluster, &[0, 1, 2, 3, 5]);
}
