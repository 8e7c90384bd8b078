//! IP-in-IP dropped, BGP dropped or refused, both, one way, one pair, now and then.

use std::time::{Duration, Instant};

use testbed::with_ipip;
use tests::cluster::{Cluster, Settings};

const SECOND: Duration = Duration::from_secs(1);
const UP: Duration = Duration::from_secs(30);
/// From the first packet dropped to the switch.
const BY_PROBE: Duration = Duration::from_secs(5);
/// Clean for `recoverAfter` (4 s), a probe before and one after.
const BACK: Duration = Duration::from_secs(8);

fn up(nodes: u8) -> Cluster {
    let mut cluster = Cluster::new(nodes, 1);
    cluster.configure(&Settings::default());
    cluster.start_all();
    cluster.wait_for_all("ipip", UP);
    cluster.reach_all();
    cluster
}

#[test]
fn ipip_that_is_dropped_leads_to_vxlan_within_five_seconds_and_back_when_it_passes() {
    with_ipip(
        "fallback::ipip_that_is_dropped_leads_to_vxlan_within_five_seconds_and_back_when_it_passes",
        || {
            let cluster = up(3);
            cluster.drop_packets("ipip", &["ip protocol 4"]);
            let start = Instant::now();
            cluster.wait_for_all("vxlan", BY_PROBE);
            println!("vxlan after {:?}", start.elapsed());
            cluster.reach_all();
            let tunnel = cluster.tunnel(0, 1).expect("an answer");
            assert_eq!(tunnel["preferred"], "ipip");
            assert!(
                tunnel["reason"].as_str().is_some_and(|r| r.contains("IP-in-IP does not pass")),
                "{tunnel}"
            );
            assert!(tunnel["last_probe_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{tunnel}");
            cluster.pass("ipip");
            let start = Instant::now();
            cluster.wait_for_all("ipip", BACK);
            assert!(
                start.elapsed() > Duration::from_millis(3500),
                "not before recoverAfter: {:?}",
                start.elapsed()
            );
            cluster.reach_all();
        },
    );
}

#[test]
fn ipip_dropped_for_one_pair_or_in_one_direction_moves_that_pair_alone() {
    with_ipip("fallback::ipip_dropped_for_one_pair_or_in_one_direction_moves_that_pair_alone", || {
        let cluster = up(3);
        let (a, b) = (cluster.nodes[0].address, cluster.nodes[1].address);
        cluster.drop_packets("pair", &[&format!("ip saddr {a} ip daddr {b} ip protocol 4")]);
        // Requests of one side are lost, and of the other the answers.
        cluster.wait_for(0, 1, "vxlan", BY_PROBE);
        cluster.wait_for(1, 0, "vxlan", SECOND);
        for (from, to) in [(0, 2), (2, 0), (1, 2), (2, 1)] {
            assert_eq!(cluster.tunnel(from, to).expect("an answer")["in_use"], "ipip");
        }
        cluster.reach_all();
        cluster.pass("pair");
        cluster.wait_for_all("ipip", BACK);
    });
}

#[test]
fn bgp_that_is_dropped_or_refused_leads_to_vxlan_and_back_when_it_passes() {
    with_ipip("fallback::bgp_that_is_dropped_or_refused_leads_to_vxlan_and_back_when_it_passes", || {
        let cluster = up(2);
        cluster.drop_packets("bgp", &["tcp dport 179", "tcp sport 179"]);
        // The hold time detects it, after 3 s of which some are gone; fallbackAfter is for who never came.
        cluster.wait_for_all("vxlan", Duration::from_secs(6));
        cluster.reach_all();
        cluster.pass("bgp");
        let start = Instant::now();
        // Calls wait 0.5 s and longer between them.
        cluster.wait_for_all("ipip", Duration::from_secs(25));
        assert!(start.elapsed() > Duration::from_millis(3500), "not before recoverAfter");

        // From the start, by a reset.
        let mut cluster = Cluster::new(2, 1);
        cluster.configure(&Settings::default());
        for index in 0..2 {
            let inside = cluster.inside(index);
            // Nothing listens on the port: every connection is refused.
            cluster.bed.exec(&inside, &["sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=0"]);
            cluster.bed.ip(&inside, "rule add ipproto tcp dport 179 iif lo prohibit pref 10");
            cluster.bed.ip(&inside, "rule add ipproto tcp sport 179 iif lo prohibit pref 11");
        }
        let start = Instant::now();
        cluster.start_all();
        cluster.answer_all();
        cluster.wait_for_all("vxlan", Duration::from_secs(2 + 1 + 2));
        assert!(start.elapsed() > Duration::from_millis(1900), "not before fallbackAfter");
        cluster.reach_all();
        for index in 0..2 {
            let inside = cluster.inside(index);
            cluster.bed.ip(&inside, "rule delete pref 10");
            cluster.bed.ip(&inside, "rule delete pref 11");
        }
        cluster.wait_for_all("ipip", Duration::from_secs(25));
    });
}

#[test]
fn bgp_and_ipip_dropped_at_once_and_intermittent_loss_settle() {
    with_ipip("fallback::bgp_and_ipip_dropped_at_once_and_intermittent_loss_settle", || {
        let cluster = up(2);
        cluster.drop_packets("both", &["ip protocol 4", "tcp dport 179", "tcp sport 179"]);
        cluster.wait_for_all("vxlan", Duration::from_secs(6));
        cluster.reach_all();
        cluster.pass("both");
        cluster.wait_for_all("ipip", Duration::from_secs(25));

        // Two seconds away, two seconds there, for a minute: one switch, not thirty. What is there for two seconds must not
        // be there for `recoverAfter` where the machine is slow.
        cluster.configure(&Settings::default().with("recoverAfter", "10s"));
        let before = cluster.tunnel(0, 1).expect("an answer")["since"].clone();
        let mut seen = vec![before];
        for _ in 0..15 {
            for drop in [true, false] {
                if drop {
                    cluster.drop_packets("flap", &["ip protocol 4"]);
                }
                let until = Instant::now() + 2 * SECOND;
                while Instant::now() < until {
                    let since = cluster.tunnel(0, 1).expect("an answer")["since"].clone();
                    if seen.last() != Some(&since) {
                        seen.push(since);
                    }
                    // why: the interval at which the exit is looked at.
                    std::thread::sleep(SECOND / 10);
                }
                if drop {
                    cluster.pass("flap");
                }
            }
        }
        assert_eq!(seen.len(), 2, "it was left once: {seen:?}");
        assert_eq!(cluster.tunnel(0, 1).expect("an answer")["in_use"], "vxlan");
        cluster.wait_for_all("ipip", BACK + 6 * SECOND);
    });
}
