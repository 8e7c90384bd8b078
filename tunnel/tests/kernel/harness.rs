//! A network namespace for each test, and `ip` as the independent witness of its contents.

use std::{
    collections::HashMap,
    future::Future,
    net::IpAddr,
    process::{Command, Output},
    time::Duration,
};

use testbed::guest::{has_inet_tables, has_ipip, is_guest};
use testbed::{Guest, Namespace, run_in_guest};
use tunnel::{
    Config, DataplaneReport, Encapsulation, FallbackMode, LearnedPath, LocalNode, PathKind, Pool, PoolMode,
    RemoteNode, RouteChange, TunnelHandle, dataplane::KernelEvent, kernel::KernelMonitor,
    node::DEFAULT_ROUTE_METRIC,
};

/// Timeout of a condition: far longer than it ever takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test in a new namespace that has `eth0` with 192.168.0.1/24 and fd00::1/64.
pub(crate) fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let outcome = Namespace::scoped(|| {
        // No link-local addresses: each makes an event of its own, some time after its link came up.
        std::fs::write("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1").expect("addr_gen_mode");
        ip("link set lo up");
        ip("link add eth0 type veth peer name eth0-peer");
        ip("link set eth0-peer up");
        ip("link set eth0 up");
        ip("address add 192.168.0.1/24 dev eth0");
        ip("address add fd00::1/64 dev eth0 nodad");
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(test());
    });
    outcome.expect("a network namespace: run the tests as root");
}

/// Runs the only test whose name contains `name` here if the kernel has ipip, else in a User-Mode
/// Linux guest.
pub(crate) fn with_ipip<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F + Send + 'static) {
    if is_guest() || has_ipip() {
        return in_namespace(test);
    }
    run_in_guest(Guest::UserModeLinux, &[name]);
}

/// Runs the only test whose name contains `name` in a User-Mode Linux guest.
pub(crate) fn in_guest<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F + Send + 'static) {
    if is_guest() {
        return in_namespace(test);
    }
    run_in_guest(Guest::UserModeLinux, &[name]);
}

/// Runs the only test whose name contains `name` where the kernel has both ipip and nftables of
/// family inet: here, or under QEMU with a distribution's kernel.
pub(crate) fn with_ipip_and_nftables<F: Future<Output = ()>>(
    name: &str,
    test: impl FnOnce() -> F + Send + 'static,
) {
    if is_guest() || has_ipip() && has_inet_tables() {
        return in_namespace(test);
    }
    run_in_guest(Guest::Qemu, &[name]);
}

fn show(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs `ip` in this thread's namespace; it must succeed.
pub(crate) fn ip(arguments: &str) -> String {
    let output =
        Command::new("ip").args(arguments.split_whitespace()).output().expect("ip runs: install iproute2");
    assert!(output.status.success(), "ip {arguments}:\n{}", show(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns the routes with protocol 179 of a family, one per line, each with the contents of its
/// next-hop object in place of the object's id.
pub(crate) fn our_routes(family: &str) -> Vec<String> {
    let objects: HashMap<String, String> = ip("nexthop")
        .lines()
        .filter_map(|line| {
            let (id, content) = line.strip_prefix("id ")?.split_once(' ')?;
            let words: Vec<&str> = content.split_whitespace().collect();
            let device = words.iter().position(|w| *w == "dev")?;
            let onlink = if words.contains(&"onlink") { " onlink" } else { "" };
            Some((id.to_owned(), format!("{}{onlink}", words.get(..device + 2)?.join(" "))))
        })
        .collect();
    let mut lines: Vec<String> = ip(&format!("{family} route show table main proto 179"))
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let Some(at) = words.iter().position(|w| *w == "nhid") else { return words.join(" ") };
            let metric = words.iter().position(|w| *w == "metric").expect("a metric");
            let object = objects.get(words[at + 1]).map_or("no object", String::as_str);
            format!("{} {object} {}", words[..at].join(" "), words[metric..metric + 2].join(" "))
        })
        .collect();
    lines.sort();
    lines
}

/// Waits, event by event, until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let mut monitor = KernelMonitor::open(&[]).expect("an event socket");
    let wait = async {
        while !condition() {
            monitor.events(179).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, wait).await.is_ok(),
        "not within {PATIENCE:?}: {what}\n{}\n{}\n{}",
        ip("-d link"),
        ip("route"),
        ip("nexthop"),
    );
}

/// Returns all events up to the marker route, which the test adds last.
pub(crate) async fn events_before_marker(monitor: &mut KernelMonitor) -> Vec<KernelEvent> {
    ip("route add 203.0.113.0/24 via 192.168.0.254");
    let mut before = Vec::new();
    loop {
        for event in monitor.events(179).await {
            match event {
                KernelEvent::Route { key, .. } if key.prefix.to_string() == "203.0.113.0/24" => {
                    return before;
                }
                event => before.push(event),
            }
        }
    }
}

/// Returns the configuration of node-1 of four; node-4 is in another subnet.
pub(crate) fn config(encapsulation: Encapsulation, mode: PoolMode) -> Config {
    let node = |i: u8, ipv4: &str| RemoteNode {
        name: format!("node-{i}"),
        ipv4: Some(ipv4.parse().expect("net")),
        ipv6: Some(format!("fd00::{i}/64").parse().expect("net")),
        blocks: vec![
            format!("10.1.{i}.0/26").parse().expect("block"),
            format!("fd10::{i}:0/122").parse().expect("block"),
        ],
        vtep: Some([10, 1, i, 0].into()),
        vtep_ipv6: None,
        mac: None,
    };
    Config {
        local: LocalNode {
            name: "node-1".into(),
            ipv4: Some("192.168.0.1/24".parse().expect("net")),
            ipv6: Some("fd00::1/64".parse().expect("net")),
            blocks: ["10.1.1.0/26", "10.1.200.7/32", "fd10::1:0/122"]
                .map(|b| b.parse().expect("block"))
                .to_vec(),
            tunnel_address: Some([10, 1, 1, 0].into()),
            tunnel_ipv6: None,
            vtep_mac: None,
        },
        nodes: vec![node(2, "192.168.0.2/24"), node(3, "192.168.0.3/24"), node(4, "192.168.9.4/24")],
        pools: ["10.1.0.0/16", "fd10::/64"]
            .map(|cidr| Pool { cidr: cidr.parse().expect("cidr"), encapsulation, mode })
            .to_vec(),
        encapsulation,
        fallback: FallbackMode::Vxlan,
        route_protocol: 179,
        route_metric: DEFAULT_ROUTE_METRIC,
        nexthop_compat_keep: false,
        // No other node answers here, and BGP paths that come back are used at once.
        probing: tunnel::ProbeConfig { recover_after: Duration::ZERO, ..tunnel::ProbeConfig::default() },
        device_linger: Duration::ZERO,
    }
}

/// Returns a best path.
pub(crate) fn path(prefix: &str, next_hop: &str, kind: PathKind) -> RouteChange {
    let next_hop: IpAddr = next_hop.parse().expect("address");
    let learned = Some(LearnedPath { next_hop, kind });
    RouteChange { prefix: prefix.parse().expect("prefix"), learned, others: Box::default() }
}

/// Returns the withdrawal of a path.
pub(crate) fn gone(prefix: &str) -> RouteChange {
    RouteChange { prefix: prefix.parse().expect("prefix"), learned: None, others: Box::default() }
}

/// Returns a best path whose packets others share.
pub(crate) fn shared(prefix: &str, next_hop: &str, others: &[&str]) -> RouteChange {
    let others = others.iter().map(|other| other.parse().expect("address")).collect();
    RouteChange { others, ..path(prefix, next_hop, PathKind::Bgp) }
}

/// Returns the paths of the other nodes' IPv4 blocks.
pub(crate) fn paths(kind: PathKind) -> Vec<RouteChange> {
    [("10.1.2.0/26", "192.168.0.2"), ("10.1.3.0/26", "192.168.0.3"), ("10.1.4.0/26", "192.168.9.4")]
        .map(|(prefix, next_hop)| path(prefix, next_hop, kind))
        .to_vec()
}

/// Blackhole of the local node's block.
pub(crate) const BLACKHOLE: &str = "blackhole 10.1.1.0/26 metric 4294967295";

/// Returns the report after all previous input was processed.
pub(crate) async fn settled(tunnel: &TunnelHandle) -> DataplaneReport {
    tunnel.settle().await.expect("alive");
    tunnel.report().await.expect("alive")
}

/// Starts a task and settles it.
pub(crate) async fn start(encapsulation: Encapsulation) -> (TunnelHandle, DataplaneReport) {
    let (tunnel, _task) = TunnelHandle::spawn().expect("netlink");
    tunnel.configure(config(encapsulation, PoolMode::Always)).await.expect("alive");
    tunnel.routes(paths(PathKind::Bgp)).await.expect("alive");
    tunnel.in_sync().await.expect("alive");
    let report = settled(&tunnel).await;
    (tunnel, report)
}

/// Returns the IPv4 routes of a settled cluster.
pub(crate) fn exits(encapsulation: Encapsulation) -> Vec<String> {
    let mut lines: Vec<String> = [(2, "192.168.0.2"), (3, "192.168.0.3"), (4, "192.168.9.4")]
        .map(|(i, node)| match encapsulation {
            Encapsulation::Ipip => format!("10.1.{i}.0/26 via {node} dev routed.ipip onlink metric 512"),
            _ => format!("10.1.{i}.0/26 via 10.1.{i}.0 dev routed.vxlan onlink metric 512"),
        })
        .to_vec();
    lines.push(BLACKHOLE.to_owned());
    lines.sort();
    lines
}
