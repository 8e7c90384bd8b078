//! Every kind of switch under streams of numbered packets: what the network lets through arrives, once and in order.

use std::time::Duration;

use testbed::with_ipip;
use tests::cluster::{Cluster, Settings};
use tests::streams::Streams;

const UP: Duration = Duration::from_secs(30);
/// Time for which streams run before and after a change.
const BESIDE: Duration = Duration::from_millis(500);
const SWITCH: Duration = Duration::from_secs(25);

fn up(nodes: u8, settings: &Settings, exit: &str) -> Cluster {
    let mut cluster = Cluster::new(nodes, 1);
    cluster.configure(settings);
    cluster.start_all();
    cluster.wait_for_all(exit, UP);
    cluster.reach_all();
    cluster
}

/// Runs streams while `change` is made.
fn whole(cluster: &Cluster, what: &str, change: impl FnOnce()) {
    let streams = Streams::start(cluster);
    streams.run_for(BESIDE);
    change();
    streams.run_for(BESIDE);
    streams.stop().assert_whole(what);
}

#[test]
fn a_pools_mode_that_changes_loses_nothing() {
    with_ipip("switches::a_pools_mode_that_changes_loses_nothing", || {
        let settings = Settings::default();
        let cluster = up(3, &settings, "ipip");
        for (ipip, vxlan, exit) in [
            ("Never", "Always", "vxlan"),
            ("Never", "CrossSubnet", "direct"),
            ("Always", "Never", "ipip"),
            ("CrossSubnet", "Never", "direct"),
            ("Never", "Always", "vxlan"),
            ("Always", "Never", "ipip"),
        ] {
            whole(&cluster, &format!("to {exit}"), || {
                cluster.configure(&settings.clone().modes(ipip, vxlan));
                cluster.wait_for_all(exit, SWITCH);
            });
        }
    });
}

#[test]
fn vxlan_to_direct_and_back_on_two_processors_loses_nothing() {
    let settings = Settings::default().modes("Never", "Always");
    let cluster = up(3, &settings, "vxlan");
    for (mode, exit) in [("CrossSubnet", "direct"), ("Always", "vxlan"), ("CrossSubnet", "direct")] {
        whole(&cluster, &format!("to {exit}"), || {
            cluster.configure(&settings.clone().modes("Never", mode));
            cluster.wait_for_all(exit, SWITCH);
        });
    }
}

#[test]
fn fallback_for_lost_bgp_and_the_return_lose_nothing() {
    with_ipip("switches::fallback_for_lost_bgp_and_the_return_lose_nothing", || {
        let cluster = up(3, &Settings::default(), "ipip");
        whole(&cluster, "BGP is lost", || {
            cluster.drop_packets("bgp", &["tcp dport 179", "tcp sport 179"]);
            cluster.wait_for_all("vxlan", SWITCH);
        });
        whole(&cluster, "BGP is back", || {
            cluster.pass("bgp");
            cluster.wait_for_all("ipip", SWITCH);
        });
    });
}

#[test]
fn fallback_for_dropped_ipip_loses_what_was_dropped_and_nothing_more() {
    with_ipip("switches::fallback_for_dropped_ipip_loses_what_was_dropped_and_nothing_more", || {
        let cluster = up(3, &Settings::default(), "ipip");
        let streams = Streams::start(&cluster);
        streams.run_for(BESIDE);
        // Packets of the streams, 128 and 1450 octets long; probes are shorter.
        cluster.drop_packets(
            "ipip",
            &["ip protocol 4 ip length 148", "ip protocol 4 ip length 1470", "ip protocol 4"],
        );
        cluster.wait_for_all("vxlan", SWITCH);
        let dropped: u64 = cluster.pass("ipip").into_iter().take(2).sum();
        streams.stop().assert_lost("IP-in-IP is dropped", dropped);
        whole(&cluster, "IP-in-IP is back", || cluster.wait_for_all("ipip", SWITCH));
    });
}

#[test]
fn a_mesh_that_becomes_a_reflector_and_back_loses_nothing() {
    with_ipip("switches::a_mesh_that_becomes_a_reflector_and_back_loses_nothing", || {
        let settings = Settings::default();
        let cluster = up(3, &settings, "ipip");
        for mesh in [false, true] {
            let sessions = if mesh { 2 } else { 1 };
            whole(&cluster, if mesh { "to a mesh" } else { "to a reflector" }, || {
                cluster.configure(&Settings { mesh, ..settings.clone() });
                testbed::eventually("the sessions", SWITCH, || {
                    let peers = cluster.show(2, "peers")?;
                    let peers = peers.as_array()?;
                    let there = peers.iter().all(|peer| peer["state"] == "Established");
                    (peers.len() == sessions && there).then_some(())
                });
                cluster.wait_for_all("ipip", SWITCH);
            });
        }
    });
}
