//! Many routes: queries meanwhile, and refusals.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tunnel::{
    DataplaneReport,
    Encapsulation::Vxlan,
    PathKind::Bgp,
    PoolMode::{Always, CrossSubnet},
    RouteChange, TunnelHandle,
    dataplane::KernelEvent,
    kernel::KernelMonitor,
    report::ExitKind,
};

use crate::harness::{config, events_before_marker, gone, in_namespace, ip, path, settled, start, until};

fn prefix(number: u32) -> String {
    format!("10.{}.{}.{}/32", 2 + (number >> 16), (number >> 8) & 0xff, number & 0xff)
}

/// Returns routes to node-2, `from..to`.
fn routes(from: u32, to: u32) -> Vec<RouteChange> {
    (from..to).map(|number| path(&prefix(number), "192.168.0.2", Bgp)).collect()
}

/// Starts a task whose pool is 10.0.0.0/8, and settles it.
async fn started() -> TunnelHandle {
    let (tunnel, _) = start(Vxlan).await;
    let mut config = config(Vxlan, Always);
    config.pools[0].cidr = "10.0.0.0/8".parse().expect("cidr");
    tunnel.configure(config).await.expect("alive");
    tunnel.settle().await.expect("alive");
    tunnel
}

#[test]
fn queries_are_answered_while_two_hundred_thousand_routes_are_written() {
    const ROUTES: u32 = 200_000;
    in_namespace(|| async {
        let tunnel = started().await;
        let before = tunnel.summary().await.expect("alive").routes_installed;
        let began = Instant::now();
        for from in (0..ROUTES).step_by(5000) {
            tunnel.routes(routes(from, from + 5000)).await.expect("alive");
        }
        let (mut answers, mut longest) = (0, Duration::ZERO);
        loop {
            let began = Instant::now();
            let summary = tunnel.summary().await.expect("alive");
            let one = tunnel.route(prefix(7).parse().expect("prefix")).await.expect("alive");
            longest = longest.max(began.elapsed());
            assert!(one.len() <= 1, "{one:?}");
            if summary.routes_installed == before + 200_000 {
                break;
            }
            answers += u32::from(summary.routes_waiting > 0 && summary.routes_installed > before);
        }
        assert!(answers > 0, "no query was answered while routes were written");
        // Relative, since this is no release build and other tests run in parallel: there it takes some
        // milliseconds.
        let all = began.elapsed();
        assert!(longest < all / 4, "{longest:?} of {all:?}");
        let report = settled(&tunnel).await;
        assert_eq!((report.failures, report.drift), (vec![], 0));
        assert_eq!(report.routes.iter().filter(|r| r.installed).count(), before + 200_000);

        // An event with unknown effects: everything is listed, and nothing was wrong.
        let listed = ip("-4 route show table main proto 179").lines().count();
        // One of the earlier routes is the IPv6 block's blackhole.
        assert_eq!(listed, before - 1 + 200_000);
        ip("link set routed.vxlan mtu 1400");
        until("the MTU is put right", || ip("link show routed.vxlan").contains("mtu 1450")).await;
        let report = settled(&tunnel).await;
        assert_eq!((report.routes_installed, report.drift), (before + 200_000, 1));

        tunnel.routes((0..ROUTES).map(|number| gone(&prefix(number))).collect()).await.expect("alive");
        let report = settled(&tunnel).await;
        assert_eq!((report.routes_installed, report.routes.len()), (before, before));
        assert_eq!(ip("-4 route show table main proto 179").lines().count(), before - 1);
    });
}

#[test]
fn a_refusal_is_reported_for_the_affected_route_only() {
    in_namespace(|| async {
        let tunnel = started().await;
        let foreign: BTreeSet<u32> = [0, 255, 256, 700, 999].into();
        for number in &foreign {
            ip(&format!("route add {} via 192.168.0.254 metric 512 proto static", prefix(*number)));
        }
        tunnel.routes(routes(0, 1000)).await.expect("alive");
        let report = settled(&tunnel).await;
        let refused: BTreeSet<String> =
            report.routes.iter().filter(|r| !r.installed).map(|r| r.prefix.to_string()).collect();
        assert_eq!(refused, foreign.iter().map(|number| prefix(*number)).collect());
        assert_eq!(report.failures_total, foreign.len(), "{:?}", report.failures);
        assert!(report.failures.iter().all(|f| f.text.contains("File exists")), "{:?}", report.failures);
        // Foreign routes were not touched, and ours are installed once they are gone.
        for number in &foreign {
            assert!(ip(&format!("route show {}", prefix(*number))).contains("proto static"));
            ip(&format!("route del {} proto static", prefix(*number)));
        }
        let began = Instant::now();
        while settled(&tunnel).await.failures_total > 0 {
            assert!(began.elapsed() < Duration::from_secs(20), "the refused routes are not retried");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(settled(&tunnel).await.routes.iter().all(|r| r.installed));
    });
}

#[test]
fn all_blocks_of_a_node_change_encapsulation_by_one_message() {
    in_namespace(|| async {
        let tunnel = started().await;
        let mut config = config(Vxlan, CrossSubnet);
        config.pools[0].cidr = "10.0.0.0/8".parse().expect("cidr");
        tunnel.configure(config).await.expect("alive");
        // Node-4 is in another subnet; node-2's own block would keep an object for the new address.
        let moving = |next_hop| {
            let mut all: Vec<_> = (0..5000).map(|n| path(&prefix(n), next_hop, Bgp)).collect();
            all.push(path("10.1.4.0/26", next_hop, Bgp));
            all
        };
        tunnel.routes(moving("192.168.9.4")).await.expect("alive");
        tunnel.routes(vec![gone("10.1.2.0/26")]).await.expect("alive");
        let report = settled(&tunnel).await;
        let leads =
            |report: &DataplaneReport, exit| report.routes.iter().filter(|r| r.exit == Some(exit)).count();
        assert_eq!((leads(&report, ExitKind::Direct), leads(&report, ExitKind::Vxlan)), (1, 5001));

        let mut monitor = KernelMonitor::open(&[]).expect("an event socket");
        tunnel.routes(moving("192.168.0.2")).await.expect("alive");
        let report = settled(&tunnel).await;
        assert_eq!((leads(&report, ExitKind::Direct), leads(&report, ExitKind::Vxlan)), (5002, 0));
        let missing: Vec<_> = report.routes.iter().filter(|r| !r.installed).take(3).collect();
        assert!(missing.is_empty() && report.failures.is_empty(), "{missing:?} {:?}", report.failures);
        let events = events_before_marker(&mut monitor).await;
        let routes = events.iter().filter(|e| matches!(e, KernelEvent::Route { .. })).count();
        let nexthops = events.iter().filter(|e| matches!(e, KernelEvent::Nexthop { ours: true })).count();
        assert_eq!((routes, nexthops), (0, 1), "{events:?}");
        assert!(
            ip(&format!("route get {}", prefix(4999).trim_end_matches("/32")))
                .contains("via 192.168.0.2 dev eth0")
        );
    });
}
