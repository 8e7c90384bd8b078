//! Many routes: what is answered meanwhile, and what is refused.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tunnel::{Encapsulation::Vxlan, Mode::Always, PathKind::Bgp, RouteChange, TunnelHandle};

use crate::harness::{config, gone, in_namespace, ip, path, settled, start, until};

/// The longest that an answer may take while routes are written.
const ANSWERED_WITHIN: Duration = Duration::from_millis(100);

fn prefix(number: u32) -> String {
    format!("10.{}.{}.{}/32", 2 + (number >> 16), (number >> 8) & 0xff, number & 0xff)
}

/// Routes to node-2, `from..to`.
fn routes(from: u32, to: u32) -> Vec<RouteChange> {
    (from..to).map(|number| path(&prefix(number), "192.168.0.2", Bgp)).collect()
}

/// A settled task whose pool holds all of 10.0.0.0/8.
async fn started() -> TunnelHandle {
    let (tunnel, _) = start(Vxlan).await;
    let mut config = config(Vxlan, Always);
    config.pools[0].cidr = "10.0.0.0/8".parse().expect("cidr");
    tunnel.configure(config).await.expect("alive");
    tunnel.settle().await.expect("alive");
    tunnel
}

#[test]
fn questions_are_answered_while_two_hundred_thousand_routes_are_written() {
    const ROUTES: u32 = 200_000;
    in_namespace(|| async {
        let tunnel = started().await;
        let before = tunnel.summary().await.expect("alive").routes_installed;
        for from in (0..ROUTES).step_by(5000) {
            tunnel.routes(routes(from, from + 5000)).await.expect("alive");
        }
        let (mut answers, mut longest) = (0, Duration::ZERO);
        loop {
            let asked = Instant::now();
            let summary = tunnel.summary().await.expect("alive");
            let one = tunnel.route(prefix(7).parse().expect("prefix")).await.expect("alive");
            longest = longest.max(asked.elapsed());
            assert!(one.len() <= 1, "{one:?}");
            if summary.routes_installed == before + 200_000 {
                break;
            }
            answers += u32::from(summary.routes_waiting > 0 && summary.routes_installed > before);
        }
        assert!(answers > 0, "no answer while routes were written");
        assert!(longest < ANSWERED_WITHIN, "{longest:?}");
        let report = settled(&tunnel).await;
        assert_eq!((report.failures, report.drift), (vec![], 0));
        assert_eq!(report.routes.iter().filter(|r| r.installed).count(), before + 200_000);

        // An event that leaves nothing certain: all is listed, and nothing was wrong.
        let listed = ip("-4 route show table main proto 179").lines().count();
        // One of those that were there before is the IPv6 block's blackhole.
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
fn a_refusal_is_told_of_the_route_that_it_concerns_and_of_no_other() {
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
        // What is not ours was not touched, and ours take their places once it is gone.
        for number in &foreign {
            assert!(ip(&format!("route show {}", prefix(*number))).contains("proto static"));
            ip(&format!("route del {} proto static", prefix(*number)));
        }
        let asked = Instant::now();
        while settled(&tunnel).await.failures_total > 0 {
            assert!(asked.elapsed() < Duration::from_secs(20), "they are not tried again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(settled(&tunnel).await.routes.iter().all(|r| r.installed));
    });
}
