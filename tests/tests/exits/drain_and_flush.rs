//! A node that is drained, and what is left of the daemon after a flush: nothing of ours, everything of others.

use std::process::Command;
use std::time::Duration;

use testbed::{Testbed, eventually, product};
use tests::cluster::{Cluster, Settings};

const UP: Duration = Duration::from_secs(30);

fn vxlan() -> Settings {
    Settings::default().modes("Never", "Always")
}

#[test]
fn a_drained_node_is_announced_as_leaving_then_withdrawn_and_not_reached_by_the_table() {
    let mut cluster = Cluster::new(3, 1);
    cluster.configure(&vxlan());
    cluster.start_all();
    cluster.wait_for_all("vxlan", UP);
    let mut drain = Command::new(product("routectl"))
        .arg("--socket")
        .arg(cluster.socket(2))
        .args(["drain", "--wait", "2s"])
        .spawn()
        .expect("routectl to run");
    let explain = |cluster: &Cluster| {
        let output = Command::new(product("routectl"))
            .arg("--socket")
            .arg(cluster.socket(0))
            .args(["explain", "10.1.3.0/26", "-o", "json"])
            .output()
            .expect("routectl to run");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).ok()
    };
    eventually("the block with LOCAL_PREF 0", Duration::from_secs(2), || {
        let view = explain(&cluster)?;
        view["paths"].as_array()?.iter().any(|path| path["local_pref"] == 0).then_some(())
    });
    assert!(cluster.reaches(0, 2), "it still carries what comes");
    assert!(drain.wait().expect("routectl").success());
    let mut daemon = cluster.take(2).expect("a daemon");
    eventually("the daemon's end", Duration::from_secs(5), || (!daemon.is_running()).then_some(()));
    // The static table has it, but its owner has spoken.
    let routes = cluster.show(0, "routes").expect("an answer");
    assert!(
        routes.as_array().expect("a list").iter().all(|route| route["prefix"] != "10.1.3.0/26"),
        "{routes}"
    );
    assert!(cluster.reaches(0, 1));
    // It comes back as any other.
    cluster.start(2);
    cluster.wait_for_all("vxlan", UP);
    cluster.reach_all();
}

#[test]
fn a_node_without_bgp_is_not_drained_and_the_reason_is_given() {
    let mut cluster = Cluster::new(2, 1);
    cluster.configure(&vxlan().with("bgp", "disabled"));
    cluster.start_all();
    cluster.wait_for_all("vxlan", UP);
    let output = Command::new(product("routectl"))
        .arg("--socket")
        .arg(cluster.socket(0))
        .arg("drain")
        .output()
        .expect("routectl to run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("delete its Node resource"), "{said}");
    assert_eq!(cluster.bed.exec("n1", &["ss", "-tlnH", "sport = :179"]), "", "nobody listens at port 179");
    cluster.reach_all();
}

/// All that other programs could have made, as text.
fn foreign(bed: &Testbed, node: &str) -> String {
    let mut all = String::new();
    for words in [
        "-4 route show table all",
        "-6 route show table all",
        "nexthop",
        "rule",
        "-6 rule",
        "-d address",
        "neighbour",
    ] {
        let text = bed.ip(node, &format!("-o {words}"));
        // Sorted, since the kernel's order is that of its tables' making; without times that run.
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| !line.contains("REACHABLE") && !line.contains("STALE") && !line.contains("DELAY"))
            .map(|line| line.split(" valid_lft").next().unwrap_or(line).to_owned())
            .collect();
        lines.sort();
        all.push_str(&format!("== {words}\n{}\n", lines.join("\n")));
    }
    all.push_str(&bed.exec(node, &["bridge", "fdb", "show", "dev", "theirs"]));
    all.push_str(&bed.exec(node, &["nft", "list", "ruleset"]));
    all
}

#[test]
fn objects_of_other_programs_are_unchanged_after_start_run_and_flush() {
    let mut cluster = Cluster::new(2, 1);
    // The switch changes what is shown of others' routes, not the routes.
    cluster.configure(&vxlan().with("nexthopCompat", "keep"));
    let bed = &cluster.bed;
    for words in [
        "link add theirs type vxlan id 77 dstport 8472 dev eth0 local 192.168.0.1 nolearning",
        "link set theirs up",
        "address add 10.77.0.1/24 dev theirs",
        "neighbour add 10.77.0.2 lladdr 02:00:00:00:00:77 dev theirs nud permanent",
        "route add 10.88.0.0/16 via 192.168.0.2 proto bird",
        "route add 10.1.200.0/26 via 192.168.0.2 proto bird metric 512",
        "route add 10.89.0.0/16 via 192.168.0.2 table 100",
        "route add blackhole 10.90.0.0/16 metric 4294967295",
        "nexthop add id 7 via 192.168.0.2 dev eth0",
        "nexthop add id 1919156225 via 192.168.0.2 dev eth0 proto bird",
        "route add 10.91.0.0/16 nhid 1919156225",
        "rule add fwmark 0x11 lookup 100",
        "-6 route add blackhole fd77::/64",
    ] {
        bed.ip("n1", words);
    }
    bed.exec("n1", &["bridge", "fdb", "append", "02:00:00:00:00:77", "dst", "192.168.0.2", "dev", "theirs"]);
    bed.exec(
        "n1",
        &["nft", "add table ip theirs; add chain ip theirs c { type filter hook input priority 5; }"],
    );
    bed.exec("n1", &["nft", "add rule ip theirs c tcp dport 1 drop"]);
    // Link-local addresses have routes after duplicate address detection.
    eventually("addresses that are tried no more", UP, || {
        (!cluster.bed.ip("n1", "-o address").contains("tentative")).then_some(())
    });
    let before = foreign(&cluster.bed, "n1");
    assert!(
        before.contains("10.91.0.0/16 nhid 1919156225") && before.contains("tcp dport 1 drop"),
        "{before}"
    );

    cluster.start_all();
    cluster.wait_for_all("vxlan", UP);
    cluster.reach_all();
    let flush = |cluster: &Cluster| {
        Command::new("ip")
            .args(["netns", "exec", &cluster.bed.namespace("n1")])
            .arg(product("routectl"))
            .arg("--socket")
            .arg(cluster.socket(0))
            .arg("flush")
            .output()
            .expect("routectl to run")
    };
    let refused = flush(&cluster);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stop it first"), "{refused:?}");
    cluster.reach_all();

    assert_eq!(cluster.daemon(0).terminate(), Some(0));
    cluster.reach_all();
    let done = flush(&cluster);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success() && said.contains("Removed 2 routes") && said.contains("routed.vxlan"),
        "{done:?}"
    );
    assert_eq!(foreign(&cluster.bed, "n1"), before);
    assert!(!cluster.reaches(0, 1));
    let again = flush(&cluster);
    assert!(String::from_utf8_lossy(&again.stdout).contains("Removed 0 routes"), "{again:?}");
}
