//! State of a cluster: creation, adoption, sweep, repair and changes.

use tunnel::{
    Encapsulation::{self, Ipip, Vxlan},
    PathKind::{Bgp, Static},
    PoolMode::Always,
    TunnelHandle,
    dataplane::KernelEvent,
    kernel::KernelMonitor,
    report::{ExitKind, NextHops},
};

use crate::harness::{
    BLACKHOLE, config, events_before_marker, exits, gone, in_namespace, ip, our_routes, path, settled, start,
    until, with_ipip,
};

async fn builds_all(encapsulation: Encapsulation) {
    let (tunnel, report) = start(encapsulation).await;
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.failures, []);
    assert!(report.in_sync && report.next_hops == NextHops::Objects, "{report:?}");
    assert_eq!(our_routes("-4"), exits(encapsulation));

    let vxlan = ip("-d link show routed.vxlan");
    for part in ["id 4096", "local 192.168.0.1", "dev eth0", "dstport 4789", "nolearning", "mtu 1450", ",UP"]
    {
        assert!(vxlan.contains(part), "no {part} in {vxlan}");
    }
    let mac = tunnel::node::vtep_mac("node-1").map(|o| format!("{o:02x}")).join(":");
    assert!(vxlan.contains(&mac), "no {mac} in {vxlan}");
    assert!(ip("address show routed.vxlan").contains("inet 10.1.1.0/32"));
    let mac = tunnel::node::vtep_mac("node-2").map(|o| format!("{o:02x}")).join(":");
    let neighbours = ip("neighbour show dev routed.vxlan");
    assert!(neighbours.contains(&format!("10.1.2.0 lladdr {mac} PERMANENT")), "{neighbours}");
    let fdb = std::process::Command::new("bridge").args(["fdb", "show", "dev", "routed.vxlan"]).output();
    let fdb = String::from_utf8(fdb.expect("bridge runs").stdout).expect("text");
    assert!(fdb.contains(&format!("{mac} dst 192.168.0.2 self permanent")), "{fdb}");

    if encapsulation == Ipip {
        let ipip = ip("-d link show routed.ipip");
        for part in ["ipip", "local 192.168.0.1", "remote any", "pmtudisc", "mtu 1480", ",UP"] {
            assert!(ipip.contains(part) && !ipip.contains("nopmtudisc"), "no {part} in {ipip}");
        }
        assert!(ip("address show routed.ipip").contains("inet 10.1.1.0/32"));
        assert!(!ip("link show tunl0").contains(",UP"), "tunl0 was touched");
    }
    for (name, value) in
        [("ip_forward", "1"), ("nexthop_compat_mode", "0"), ("conf/routed.vxlan/rp_filter", "2")]
    {
        let path = format!("/proc/sys/net/ipv4/{name}");
        assert_eq!(std::fs::read_to_string(&path).expect("sysctl").trim(), value, "{name}");
    }
    let route = report.routes.iter().find(|r| r.prefix.to_string() == "10.1.2.0/26").expect("the route");
    assert_eq!((route.installed, route.exit), (true, Some(encapsulation.into())));
    let tunnel_report = &report.tunnels[0];
    assert_eq!(tunnel_report.node, "node-2");
    assert_eq!(tunnel_report.in_use, Some(ExitKind::from(encapsulation)));
    assert_eq!(tunnel_report.preferred, tunnel_report.in_use);
    tunnel.stop().await.expect("alive");
    assert_eq!(our_routes("-4"), exits(encapsulation), "a stop changes nothing");
}

#[test]
fn a_vxlan_cluster_gets_devices_vteps_next_hops_routes_and_the_blackhole() {
    in_namespace(|| builds_all(Vxlan));
}

#[test]
fn an_ipip_cluster_gets_both_devices_vteps_next_hops_routes_and_the_blackhole() {
    with_ipip("an_ipip_cluster_gets_both_devices_vteps_next_hops_routes_and_the_blackhole", || {
        builds_all(Ipip)
    });
}

async fn second_start_is_silent(encapsulation: Encapsulation) {
    let (tunnel, _) = start(encapsulation).await;
    tunnel.stop().await.expect("alive");
    // The kernel reports an IPv6 address from a work queue, just before it adds the local route.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !ip("-6 route show table local dev routed.vxlan").contains("fd10::1:0") {
        assert!(std::time::Instant::now() < deadline, "the first start's address is not there");
    }
    let mut monitor = KernelMonitor::open(&[]).expect("an event socket");
    let (_tunnel, report) = start(encapsulation).await;
    assert_eq!(events_before_marker(&mut monitor).await, [], "the second start changed something");
    assert_eq!(report.drift, 0);
    assert!(report.routes.iter().all(|r| r.installed), "{report:?}");
}

#[test]
fn a_second_start_adopts_all_and_sends_no_event() {
    in_namespace(|| second_start_is_silent(Vxlan));
}

#[test]
fn a_second_start_with_ipip_adopts_all_and_sends_no_event() {
    with_ipip("a_second_start_with_ipip_adopts_all_and_sends_no_event", || second_start_is_silent(Ipip));
}

#[test]
fn leftovers_stay_until_in_sync_and_foreign_routes_forever() {
    in_namespace(|| async {
        let (tunnel, _) = start(Vxlan).await;
        tunnel.stop().await.expect("alive");
        ip("route add 10.1.2.0/26 via 192.168.0.254 proto 80 metric 100");
        ip("route add 10.1.2.0/26 via 192.168.0.254 proto 80");
        ip("route add 10.1.7.0/26 via 192.168.0.254 proto 80 metric 512");
        ip("route add 10.1.8.0/26 via 192.168.0.254 proto 179 metric 77");
        ip("nexthop add id 7 via 192.168.0.254 dev eth0 proto 80");
        ip("nexthop add id 8 via 192.168.0.254 dev eth0 proto 179");
        let foreign = ip("route show proto 80");

        let (tunnel, _task) = TunnelHandle::spawn().expect("netlink");
        tunnel.configure(config(Vxlan, Always)).await.expect("alive");
        tunnel.routes(vec![path("10.1.2.0/26", "192.168.0.2", Bgp)]).await.expect("alive");
        let report = settled(&tunnel).await;
        assert_eq!(report.failures, []);
        assert_eq!(our_routes("-4").len(), 5, "a leftover was deleted before in_sync");

        tunnel.in_sync().await.expect("alive");
        settled(&tunnel).await;
        assert_eq!(our_routes("-4"), [exits(Vxlan)[0].clone(), BLACKHOLE.to_owned()]);
        assert_eq!(ip("route show proto 80"), foreign);
        let objects = ip("nexthop");
        assert!(objects.contains("id 7 ") && !objects.contains("id 8 "), "{objects}");
        assert_eq!(ip("nexthop show proto 179").lines().count(), 1, "{objects}");

        // A foreign route has the metric: it is reported and never replaced.
        tunnel.routes(vec![path("10.1.7.0/26", "192.168.0.3", Bgp)]).await.expect("alive");
        let report = settled(&tunnel).await;
        assert_eq!(report.failures.len(), 1, "{report:?}");
        assert_eq!((report.failures[0].errno, report.failures[0].attempts), (17, 1));
        assert_eq!(ip("route show proto 80"), foreign);
        tunnel.routes(vec![gone("10.1.7.0/26")]).await.expect("alive");
        assert_eq!(settled(&tunnel).await.failures, []);
    });
}

async fn heals(encapsulation: Encapsulation) {
    let (tunnel, _) = start(encapsulation).await;
    let device = if encapsulation == Ipip { "routed.ipip" } else { "routed.vxlan" };
    let mtu = |parent: u32| parent - if encapsulation == Ipip { 20 } else { 50 };
    let right = exits(encapsulation);
    let permanent = || {
        let all = ip("neighbour show nud permanent");
        all.lines()
            .filter(|l| l.contains("dev routed.vxlan"))
            .map(str::to_owned)
            .collect::<std::collections::BTreeSet<_>>()
    };
    let neighbours = permanent();
    let right_state = || {
        our_routes("-4") == right
            && permanent() == neighbours
            && ip(&format!("address show {device}")).contains("inet 10.1.1.0/32")
            && ip(&format!("link show {device}")).contains(&format!("mtu {} ", mtu(1500)))
    };
    assert!(right_state());
    for tampering in [
        "route del 10.1.2.0/26 proto 179 metric 512",
        "route del blackhole 10.1.1.0/26 metric 4294967295",
        "route replace 10.1.3.0/26 via 192.168.0.254 dev eth0 proto 179 metric 512",
        "route replace 10.1.3.0/26 via 192.168.0.254 dev eth0 proto 80 metric 512",
        "nexthop flush proto 179",
        "neighbour del 10.1.2.0 dev routed.vxlan",
        &format!("address flush dev {device}"),
        &format!("link set {device} down"),
        &format!("link set {device} mtu 1300"),
        &format!("link del {device}"),
        "link del routed.vxlan",
    ] {
        let before = settled(&tunnel).await.drift;
        ip(tampering);
        if tampering.contains("proto 80") {
            // The owner of the conflicting route has to remove it.
            ip("route del 10.1.3.0/26 proto 80");
        }
        until(tampering, right_state).await;
        let report = settled(&tunnel).await;
        assert!(report.drift > before, "{tampering}: not counted");
        assert_eq!(report.failures, [], "{tampering}");
    }
    ip("link set eth0 mtu 1400");
    until("MTU follows the parent", || {
        ip(&format!("link show {device}")).contains(&format!("mtu {} ", mtu(1400)))
    })
    .await;
}

#[test]
fn all_tampering_is_repaired() {
    in_namespace(|| heals(Vxlan));
}

#[test]
fn all_tampering_is_repaired_with_ipip() {
    with_ipip("all_tampering_is_repaired_with_ipip", || heals(Ipip));
}

#[test]
fn the_fallback_of_a_node_is_one_change_of_its_next_hop() {
    with_ipip("the_fallback_of_a_node_is_one_change_of_its_next_hop", || async {
        let (tunnel, _) = start(Ipip).await;
        let mut monitor = KernelMonitor::open(&[]).expect("an event socket");
        tunnel.routes(vec![path("10.1.2.0/26", "192.168.0.2", Static)]).await.expect("alive");
        let report = settled(&tunnel).await;
        let mut events = events_before_marker(&mut monitor).await;
        // The kernel reports its own IPv6 addresses at any time.
        events.retain(|event| !matches!(event, KernelEvent::Address { gone: false, .. }));
        assert_eq!(events, [KernelEvent::Nexthop { ours: true }]);
        assert_eq!(our_routes("-4")[0], exits(Vxlan)[0]);
        let node = &report.tunnels[0];
        assert_eq!((node.preferred, node.in_use), (Some(ExitKind::Ipip), Some(ExitKind::Vxlan)));
        assert_eq!(node.reason, "no BGP path: static table");
        tunnel.routes(vec![path("10.1.2.0/26", "192.168.0.2", Bgp)]).await.expect("alive");
        // No node answers probes here, neither by IP-in-IP nor by VXLAN: once that is known, the preferred
        // path is used.
        let mut routes = Vec::new();
        for _ in 0..200 {
            routes = our_routes("-4");
            if routes == exits(Ipip) {
                return;
            }
            // why: the condition is three losses, and another program reads the kernel's routes.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(routes, exits(Ipip));
    });
}
