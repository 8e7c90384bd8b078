//! Pool policies, address families, conflicts, missing parts and many routes.

use tunnel::{
    Encapsulation::{Ipip, Vxlan},
    PathKind::{Bgp, Discard},
    PoolMode::{Always, CrossSubnet},
    TunnelHandle,
    report::DeviceState,
};

use crate::harness::{
    BLACKHOLE, config, exits, gone, in_namespace, ip, our_routes, path, paths, settled, start, until,
    with_ipip,
};

#[test]
fn cross_subnet_is_direct_on_link_and_tunnelled_elsewhere() {
    in_namespace(|| async {
        let (tunnel, _task) = TunnelHandle::spawn().expect("netlink");
        tunnel.configure(config(Vxlan, CrossSubnet)).await.expect("alive");
        tunnel.routes(paths(Bgp)).await.expect("alive");
        tunnel.routes(vec![path("172.30.0.0/24", "192.168.9.4", Bgp)]).await.expect("alive");
        let report = settled(&tunnel).await;
        assert_eq!(
            our_routes("-4"),
            [
                "10.1.2.0/26 via 192.168.0.2 dev eth0 onlink metric 512",
                "10.1.3.0/26 via 192.168.0.3 dev eth0 onlink metric 512",
                "10.1.4.0/26 via 10.1.4.0 dev routed.vxlan onlink metric 512",
                BLACKHOLE,
            ]
        );
        let outside = report.routes.iter().find(|r| r.prefix.to_string() == "172.30.0.0/24").expect("route");
        assert_eq!((outside.exit, outside.reason.as_str()), (None, "no route to the next hop"));

        // A route to the next hop appears: the prefix outside every pool follows it.
        ip("route add default via 192.168.0.254");
        let line = "172.30.0.0/24 via 192.168.0.254 dev eth0 onlink metric 512";
        until("the plain route appears", || our_routes("-4").iter().any(|l| l == line)).await;
        ip("link set eth0 down");
        until("routes by eth0 are gone", || !our_routes("-4").iter().any(|l| l == line)).await;
        ip("link set eth0 up");
        ip("route add default via 192.168.0.254");
        until("and come back", || our_routes("-4").iter().any(|l| l == line)).await;
    });
}

#[test]
fn ipv6_blocks_move_between_direct_and_vxlan() {
    in_namespace(|| async {
        let (tunnel, _task) = TunnelHandle::spawn().expect("netlink");
        tunnel.configure(config(Vxlan, CrossSubnet)).await.expect("alive");
        tunnel.routes(vec![path("fd10::2:0/122", "fd00::2", Bgp)]).await.expect("alive");
        tunnel.in_sync().await.expect("alive");
        let has = |part: &str| our_routes("-6").iter().any(|l| l.starts_with(part));
        assert_eq!(settled(&tunnel).await.failures, []);
        assert!(has("fd10::2:0/122 via fd00::2 dev eth0 onlink metric 512"), "{:?}", our_routes("-6"));
        assert!(has("blackhole fd10::1:0/122"), "{:?}", our_routes("-6"));

        tunnel.configure(config(Vxlan, Always)).await.expect("alive");
        assert_eq!(settled(&tunnel).await.failures, []);
        assert!(
            has("fd10::2:0/122 via fd10::2:0 dev routed.vxlan onlink metric 512"),
            "{:?}",
            our_routes("-6")
        );

        tunnel.configure(config(Vxlan, CrossSubnet)).await.expect("alive");
        assert_eq!(settled(&tunnel).await.failures, []);
        assert!(has("fd10::2:0/122 via fd00::2 dev eth0 onlink metric 512"), "{:?}", our_routes("-6"));
    });
}

#[test]
fn a_route_becomes_a_blackhole_and_a_route_again() {
    in_namespace(|| async {
        let (tunnel, _task) = TunnelHandle::spawn().expect("netlink");
        tunnel.configure(config(Vxlan, Always)).await.expect("alive");
        for (prefix, next_hop) in [("10.1.2.0/26", "192.168.0.2"), ("fd10::2:0/122", "fd00::2")] {
            let family = if prefix.contains(':') { "-6" } else { "-4" };
            let has = |part: String| our_routes(family).iter().any(|line| line.starts_with(&part));
            for _ in 0..2 {
                tunnel.routes(vec![path(prefix, next_hop, Bgp)]).await.expect("alive");
                tunnel.in_sync().await.expect("alive");
                assert_eq!(settled(&tunnel).await.failures, []);
                assert!(has(format!("{prefix} via ")), "{:?}", our_routes(family));
                tunnel.routes(vec![path(prefix, next_hop, Discard)]).await.expect("alive");
                assert_eq!(settled(&tunnel).await.failures, []);
                assert!(has(format!("blackhole {prefix}")), "{:?}", our_routes(family));
                assert!(!has(format!("{prefix} via ")), "{:?}", our_routes(family));
            }
        }
    });
}

#[test]
fn another_vxlan_device_with_our_port_is_reported_until_it_is_gone() {
    in_namespace(|| async {
        ip("link add vxlan.calico type vxlan id 4096 dstport 4789 dev eth0 local 192.168.0.1 nolearning");
        let (tunnel, report) = start(Vxlan).await;
        assert!(report.problems.iter().any(|p| p.contains("vxlan.calico")), "{:?}", report.problems);
        assert_eq!(report.devices[1].state, DeviceState::Missing);
        ip("link del vxlan.calico");
        until("our device takes its place", || our_routes("-4") == exits(Vxlan)).await;
        assert_eq!(settled(&tunnel).await.problems, Vec::<String>::new());
    });
}

#[test]
fn a_node_without_its_address_waits_for_it() {
    in_namespace(|| async {
        ip("address flush dev eth0");
        let (tunnel, report) = start(Vxlan).await;
        assert!(report.problems.iter().any(|p| p.contains("no interface has")), "{:?}", report.problems);
        ip("address add 192.168.0.1/24 dev eth0");
        until("all is there", || our_routes("-4") == exits(Vxlan)).await;
        assert_eq!(settled(&tunnel).await.problems, Vec::<String>::new());
    });
}

#[test]
fn ten_thousand_routes_are_written_and_withdrawn() {
    in_namespace(|| async {
        let (tunnel, _) = start(Vxlan).await;
        let prefixes: Vec<String> =
            (0..10_000u32).map(|i| format!("10.1.{}.{}/32", 128 + (i >> 8), i & 0xff)).collect();
        let mut config = config(Vxlan, Always);
        config.pools[0].cidr = "10.0.0.0/8".parse().expect("cidr");
        tunnel.configure(config).await.expect("alive");
        let changes = prefixes.iter().map(|p| path(p, "192.168.0.2", Bgp)).collect();
        tunnel.routes(changes).await.expect("alive");
        let report = settled(&tunnel).await;
        assert_eq!((report.failures, report.drift), (vec![], 0));
        assert_eq!(our_routes("-4").len(), 10_004);
        tunnel.routes(prefixes.iter().map(|p| gone(p)).collect()).await.expect("alive");
        settled(&tunnel).await;
        assert_eq!(our_routes("-4"), exits(Vxlan));
    });
}

/// In a child process without privileges, since capabilities belong to the process.
#[test]
fn a_missing_privilege_is_one_problem_line_and_not_fatal() {
    const NAME: &str = "a_missing_privilege_is_one_problem_line_and_not_fatal";
    if std::env::var_os("TEST_UNPRIVILEGED").is_some() {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(
            async {
                let (_tunnel, report) = start(Vxlan).await;
                let lines: Vec<_> = report.problems.iter().filter(|p| p.contains("CAP_NET_ADMIN")).collect();
                assert_eq!(lines.len(), 1, "{:?}", report.problems);
                assert!(report.problems.iter().all(|p| !p.contains('\n')));
                assert!(report.routes.iter().all(|r| !r.installed));
            },
        );
        return;
    }
    in_namespace(|| async {
        // Copied, since the target directory may be inaccessible to other users.
        let copy = std::env::temp_dir().join(format!("tunnel-unprivileged-{}", std::process::id()));
        std::fs::copy(std::env::current_exe().expect("own path"), &copy).expect("copy");
        let output = std::process::Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&copy)
            .args([NAME, "--nocapture"])
            .env("TEST_UNPRIVILEGED", "1")
            .output()
            .expect("setpriv runs: install util-linux");
        std::fs::remove_file(&copy).expect("remove the copy");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}{output:?}");
    });
}

#[test]
fn tunl0_is_used_if_a_second_ipip_device_is_refused() {
    with_ipip("tunl0_is_used_if_a_second_ipip_device_is_refused", || async {
        // The kernel has at most one device for a pair of endpoints.
        ip("link add other type ipip local 192.168.0.1");
        let (_tunnel, report) = start(Ipip).await;
        let through_tunl0: Vec<String> =
            exits(Ipip).iter().map(|line| line.replace("routed.ipip", "tunl0")).collect();
        assert_eq!(our_routes("-4"), through_tunl0);
        let link = ip("link show tunl0");
        assert!(link.contains(",UP") && link.contains("mtu 1480"), "{link}");
        assert_eq!((report.devices[0].name.as_str(), report.failures), ("tunl0", vec![]));
    });
}

#[test]
fn nodes_with_only_ipv6_addresses_use_vxlan_over_ipv6() {
    in_namespace(|| async {
        let mut config = config(Vxlan, Always);
        config.local.ipv4 = None;
        config.nodes.iter_mut().for_each(|node| node.ipv4 = None);
        let (tunnel, _task) = TunnelHandle::spawn().expect("netlink");
        tunnel.configure(config).await.expect("alive");
        let changes = vec![path("fd10::2:0/122", "fd00::2", Bgp), path("10.1.2.0/26", "fd00::2", Bgp)];
        tunnel.routes(changes).await.expect("alive");
        let report = settled(&tunnel).await;
        assert_eq!(report.failures, []);
        let vxlan = ip("-d link show routed.vxlan");
        assert!(vxlan.contains("local fd00::1") && vxlan.contains("mtu 1430"), "{vxlan}");
        let routes = [our_routes("-4"), our_routes("-6")].concat().join("\n");
        for line in
            ["10.1.2.0/26 via 10.1.2.0 dev routed.vxlan", "fd10::2:0/122 via fd10::2:0 dev routed.vxlan"]
        {
            assert!(routes.contains(line), "no {line} in\n{routes}");
        }
    });
}

#[test]
fn a_strict_rp_filter_is_reported_where_plain_packets_may_arrive() {
    in_namespace(|| async {
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").expect("a sysctl");
        std::fs::write("/proc/sys/net/ipv4/conf/eth0/rp_filter", "1").expect("a sysctl");
        let (tunnel, report) = start(Vxlan).await;
        assert_eq!(report.problems, Vec::<String>::new(), "mode Always has no plain packets");
        tunnel.configure(config(Vxlan, CrossSubnet)).await.expect("alive");
        let report = settled(&tunnel).await;
        assert_eq!(report.problems.len(), 1, "{report:?}");
        assert!(report.problems[0].contains("net/ipv4/conf/eth0/rp_filter=2"), "{:?}", report.problems);
        let value = std::fs::read_to_string("/proc/sys/net/ipv4/conf/eth0/rp_filter").expect("a sysctl");
        assert_eq!(value.trim(), "1", "it is not ours to set");
    });
}
