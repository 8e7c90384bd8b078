//! Restarts without a change in the kernel: its routes stay, and its route monitor reports no
//! event.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testbed::{eventually, with_ipip};
use tests::cluster::{Cluster, Settings};
use tests::route_monitor::Monitor;
use tests::streams::Streams;

const UP: Duration = Duration::from_secs(30);

fn restarts(settings: Settings, exit: &str) {
    let mut cluster = Cluster::new(3, 1);
    // BGP has the time that it has by default: on a busy machine two seconds are not enough for two starts.
    cluster.configure(&settings.with("fallbackAfter", "10s"));
    cluster.start_all();
    cluster.wait_for_all(exit, UP);
    cluster.reach_all();
    let monitor = Monitor::start(&cluster, "n1");
    let streams = Streams::start(&cluster);
    let in_sync = |cluster: &Cluster| {
        eventually("routes that are whole", UP, || {
            let status = cluster.show(0, "status")?;
            (status["in_sync"] == true && status["peers_established"] == 2).then_some(())
        });
    };
    for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGTERM] {
        if signal == Signal::SIGTERM {
            assert_eq!(cluster.daemon(0).terminate(), Some(0));
        }
        drop(cluster.take(0));
        cluster.start(0);
        in_sync(&cluster);
    }
    // Killed again before it has caught up.
    drop(cluster.take(0));
    cluster.start(0);
    eventually("an answer", UP, || cluster.show(0, "status"));
    drop(cluster.take(0));
    cluster.start(0);
    in_sync(&cluster);
    cluster.wait_for_all(exit, UP);
    let told = monitor.mark(&cluster, "n1");
    assert!(told.is_empty(), "restarts changed the kernel: {told:#?}");
    streams.stop().assert_whole("five restarts");

    // A check of the monitor itself.
    cluster.bed.ip("n1", "route flush proto 179");
    assert!(!monitor.mark(&cluster, "n1").is_empty());
    cluster.reach_all();
}

#[test]
fn three_restarts_and_a_second_kill_within_the_window_change_nothing_in_the_kernel() {
    restarts(Settings::default().modes("Never", "Always"), "vxlan");
}

#[test]
fn with_ipip_too() {
    with_ipip("restart::with_ipip_too", || restarts(Settings::default(), "ipip"));
}

#[test]
fn a_fallback_in_use_stays_in_use_over_a_restart() {
    with_ipip("restart::a_fallback_in_use_stays_in_use_over_a_restart", || {
        let mut cluster = Cluster::new(2, 1);
        cluster.configure(&Settings::default().with("recoverAfter", "30s"));
        cluster.start_all();
        cluster.wait_for_all("ipip", UP);
        cluster.drop_packets("ipip", &["ip protocol 4"]);
        cluster.wait_for_all("vxlan", Duration::from_secs(6));
        let monitor = Monitor::start(&cluster, "n1");
        let streams = Streams::start(&cluster);
        drop(cluster.take(0));
        cluster.start(0);
        eventually("routes that are whole", UP, || {
            (cluster.show(0, "status")?["in_sync"] == true).then_some(())
        });
        cluster.wait_for(0, 1, "vxlan", Duration::from_secs(5));
        // Longer than three probes and what they lead to.
        streams.run_for(Duration::from_secs(6));
        assert_eq!(cluster.tunnel(0, 1).expect("an answer")["in_use"], "vxlan");
        assert_eq!(monitor.mark(&cluster, "n1"), Vec::<String>::new());
        streams.stop().assert_whole("a restart while IP-in-IP is blocked");
        cluster.pass("ipip");
    });
}

/// Numbers that differ and can be had again.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[test]
fn two_hundred_kills_while_routes_are_written_leave_the_unchanged_ones_alone() {
    const SEEDS: u64 = 200;
    let mut cluster = Cluster::new(2, 1);
    let settings = Settings::default().modes("Never", "Always");
    // Blocks that come and go next to one that stays.
    let address = |n: u64| format!("10.1.{}.{}", 64 + n / 250 % 128, n % 250);
    let blocks = |from: u64| {
        let more: Vec<String> = (from..from + 300).map(|n| address(n) + "/32").collect();
        format!(", podCIDRs: [10.1.2.0/26, {}]", more.join(", "))
    };
    let text = |cluster: &mut Cluster, from: u64| {
        cluster.nodes[1].more = blocks(from);
        cluster.configure(&settings);
    };
    text(&mut cluster, 0);
    cluster.start_all();
    cluster.wait_for_all("vxlan", UP);
    eventually("300 routes", UP, || (count(&cluster) == 302).then_some(()));
    let monitor = Monitor::start(&cluster, "n1");
    // Time from a start until routes are written: the kills come at any point of it.
    text(&mut cluster, 5000);
    drop(cluster.take(0));
    let begun = Instant::now();
    cluster.start(0);
    let other = address(5000);
    eventually("a route of the other blocks", UP, || {
        cluster.bed.ip("n1", "-o route show proto 179").contains(&other).then_some(())
    });
    let window = begun.elapsed().clamp(Duration::from_millis(120), Duration::from_millis(500));
    let window = u64::try_from(window.as_micros()).expect("less than a second");
    let mut seed = 1;
    for _ in 0..SEEDS {
        let from = next(&mut seed) % 5000;
        text(&mut cluster, from);
        drop(cluster.take(0));
        cluster.start(0);
        // why: the kill is to come at any point of a start.
        std::thread::sleep(Duration::from_micros(next(&mut seed) % window));
        drop(cluster.take(0));
    }
    text(&mut cluster, 100);
    cluster.start(0);
    eventually("the routes that are wanted, and no other", UP, || (count(&cluster) == 302).then_some(()));
    let told = monitor.mark(&cluster, "n1");
    let unchanged: Vec<_> = told.iter().filter(|line| line.contains("10.1.2.0/26")).collect();
    assert!(unchanged.is_empty(), "{unchanged:#?}");
    println!("{SEEDS} kills: {} events of other routes, none of the unchanged one", told.len());
    assert!(told.len() > 1000, "routes were written meanwhile: {}", told.len());
    cluster.reach_all();
}

fn count(cluster: &Cluster) -> usize {
    cluster.bed.ip("n1", "-o route show proto 179").lines().count()
}
