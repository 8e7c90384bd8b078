//! Pool mode x subnets x encapsulation, for IPv4 and IPv6: exactly what the kernel has, against snapshots, and packets between all
//! pods. The cluster runs on while its resources change from one to the next.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test --package tests --test exits matrix -- --nocapture | awk '/^SNAPSHOT/ { file = $2 ".txt";
//! next } /^END/ { file = "" } file { print > file }'` in their directory writes the snapshots, to be read before they are
//! committed.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use testbed::{eventually, eventually_or, with_ipip};
use tests::cluster::{Cluster, Settings};

const PATIENCE: Duration = Duration::from_secs(20);

/// Returns node 1's routes, each line with its next-hop object in place of the object's id.
fn state(cluster: &Cluster) -> String {
    let objects: HashMap<String, String> = cluster
        .bed
        .next_hops("n1")
        .iter()
        .map(|o| {
            let word = |key: &str| o[key].as_str().unwrap_or("-").to_owned();
            (o["id"].to_string(), format!("via {} dev {}", word("gateway"), word("dev")))
        })
        .collect();
    let mut text = String::new();
    for family in ["-4", "-6"] {
        let routes = cluster.bed.ip("n1", &format!("{family} route show table main proto 179"));
        let mut lines: Vec<String> = routes
            .lines()
            .map(|line| {
                let mut words = Vec::new();
                let mut rest = line.split_whitespace();
                while let Some(word) = rest.next() {
                    match word {
                        "nhid" => {
                            let id = rest.next().unwrap_or_default();
                            words.push(objects.get(id).map_or("no object", String::as_str).to_owned());
                        }
                        // These words are part of the object already.
                        "via" | "dev" if words.iter().any(|w: &String| w.starts_with("via")) => {
                            _ = rest.next()
                        }
                        "onlink" => {}
                        "pref" | "proto" => _ = rest.next(),
                        other => words.push(other.to_owned()),
                    }
                }
                words.join(" ")
            })
            .collect();
        lines.sort();
        let _ = writeln!(text, "routes {family}\n  {}", lines.join("\n  "));
    }
    for device in ["routed.ipip", "routed.vxlan"] {
        let link =
            cluster.bed.exec("n1", &["sh", "-c", &format!("ip -o link show {device} 2>/dev/null || true")]);
        let mtu =
            link.split_whitespace().skip_while(|word| *word != "mtu").nth(1).unwrap_or("absent").to_owned();
        let _ = writeln!(text, "{device} mtu {mtu}");
    }
    let sorted = |command: &str, keep: &dyn Fn(&str) -> bool| {
        let told = cluster.bed.exec("n1", &["sh", "-c", &format!("{command} 2>/dev/null || true")]);
        let mut lines: Vec<String> = told
            .lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty() && keep(line))
            .collect();
        lines.sort();
        format!("  {}", lines.join("\n  ")).trim_end().to_owned()
    };
    let permanent = |line: &str| line.contains("PERMANENT") || line.contains("permanent");
    let _ = writeln!(
        text,
        "neighbours\n{}",
        sorted(
            "ip -4 neighbour show dev routed.vxlan nud permanent; ip -6 neighbour show dev routed.vxlan nud permanent",
            &permanent
        )
    );
    let _ = writeln!(text, "forwarding entries\n{}", sorted("bridge fdb show dev routed.vxlan", &permanent));
    let _ = writeln!(
        text,
        "probes\n{}",
        sorted("ip rule show pref 1790; ip route show table 17904; ip route show table 17917", &|_| true)
    );
    text
}

fn snapshot(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/exits/snapshots").join(format!("{name}.txt"))
}

#[test]
fn every_mode_subnet_and_encapsulation_is_in_the_kernel_as_in_the_snapshots() {
    with_ipip("matrix::every_mode_subnet_and_encapsulation_is_in_the_kernel_as_in_the_snapshots", || {
        let update = std::env::var_os("UPDATE_SNAPSHOTS").is_some();
        // Nodes 1 and 3 share a subnet, node 2 is in another.
        let mut cluster = Cluster::new(3, 2);
        cluster.route_pods();
        let mut started = false;
        for (subnets, lengths) in [("24", [24, 24, 24]), ("32", [32, 32, 32]), ("mixed", [32, 24, 24])] {
            for (node, length) in cluster.nodes.iter_mut().zip(lengths) {
                (node.length, node.length6) = (length, if length == 24 { 64 } else { 128 });
            }
            for encapsulation in ["ipip", "vxlan"] {
                for mode in ["Always", "CrossSubnet", "Never"] {
                    let (ipip, vxlan) =
                        if encapsulation == "ipip" { (mode, "Never") } else { ("Never", mode) };
                    let settings = Settings { ipv6: Some(mode), ..Settings::default().modes(ipip, vxlan) };
                    cluster.configure(&settings);
                    if !started {
                        cluster.start_all();
                        started = true;
                    }
                    let name = format!("{encapsulation}-{}-{subnets}", mode.to_lowercase());
                    let path = snapshot(&name);
                    if update {
                        settle(&cluster);
                        // The guest's disk is gone with it.
                        println!("SNAPSHOT {name}\n{}END", state(&cluster));
                    } else {
                        let wanted = std::fs::read_to_string(&path)
                            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                        eventually_or(&name, PATIENCE, || {
                            let found = state(&cluster);
                            if found == wanted {
                                return Ok(());
                            }
                            Err(format!("found\n{found}\nwanted\n{wanted}"))
                        });
                    }
                    cluster.reach_all();
                    for (from, to) in cluster.pairs() {
                        let what =
                            format!("{name}: an answer by IPv6 from node {} to node {}", from + 1, to + 1);
                        eventually(&what, PATIENCE, || cluster.reaches6(from, to).then_some(()));
                    }
                }
            }
        }
    });
}

/// Waits until the kernel's state is the same for longer than probes and `recoverAfter` take.
fn settle(cluster: &Cluster) {
    let (mut last, mut since) = (state(cluster), Instant::now());
    while since.elapsed() < Duration::from_secs(7) {
        let now = state(cluster);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        // why: what is waited for is that nothing happens.
        std::thread::sleep(Duration::from_millis(200));
    }
}
