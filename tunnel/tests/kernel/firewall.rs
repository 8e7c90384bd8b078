//! The node's own nftables table: what it accepts and drops, masquerading, and repair.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    process::Command,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};
use tunnel::{
    Config,
    Encapsulation::{Ipip, Vxlan},
    Firewall, FirewallHandle, FirewallReport,
    PathKind::Bgp,
    PoolMode::Always,
    TunnelHandle, TunnelsFrom, VXLAN_VNI,
    firewall::Tunnels,
    netfilter,
    node::vtep_mac,
};

use crate::{
    harness::{
        PATIENCE, config, gone, in_guest, in_namespace, ip, path, settled, start, with_ipip_and_nftables,
    },
    namespaces::{SideNamespace, received, waiting},
    packets::{datagram, vxlan},
};

/// Runs `nft` in this thread's namespace; it must succeed.
fn nft(arguments: &str) -> String {
    let output =
        Command::new("nft").args(arguments.split_whitespace()).output().expect("nft runs: install nftables");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nft {arguments}:\n{error}");
    String::from_utf8(output.stdout).expect("text")
}

/// Waits until the report meets `condition`.
async fn report(firewall: &FirewallHandle, condition: impl Fn(&FirewallReport) -> bool) -> FirewallReport {
    let mut reports = firewall.watch();
    match tokio::time::timeout(PATIENCE, reports.wait_for(|report| condition(report))).await {
        Ok(report) => report.expect("alive").clone(),
        Err(_) => panic!("not within {PATIENCE:?}: {:?}\n{}", firewall.watch().borrow(), nft("list ruleset")),
    }
}

/// Waits until this number of packets was dropped.
async fn dropped(firewall: &FirewallHandle, count: impl Fn(&FirewallReport) -> Option<u64>, expected: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = firewall.report().await;
        if count(&report) == Some(expected) {
            return;
        }
        assert!(Instant::now() < deadline, "not {expected}: {report:?}");
        // why: counters are read at most once a second.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Starts the task with the table that follows from the configuration.
async fn keep(config: &Config, from: TunnelsFrom, masqueraded: &[&str]) -> FirewallHandle {
    let (firewall, _) = FirewallHandle::spawn(no_tunnels());
    firewall.configure(wanted(config, from, masqueraded));
    report(&firewall, |report| report.installed).await;
    firewall
}

fn wanted(config: &Config, from: TunnelsFrom, masqueraded: &[&str]) -> Firewall {
    let pools: Vec<_> = masqueraded.iter().map(|pool| pool.parse().expect("a prefix")).collect();
    Firewall::of(config, from, &pools)
}

fn no_tunnels() -> tokio::sync::watch::Receiver<Tunnels> {
    tokio::sync::watch::channel(Tunnels { whole: true, ..Tunnels::default() }).1
}

/// Sends a datagram to a pod inside our VXLAN; the first word of what the pod receives is the
/// sender.
fn send_vxlan(from: &UdpSocket, vni: u32, inner: (&str, &str)) {
    let payload = format!("{} {vni}", from.local_addr().expect("bound").ip());
    let packet = datagram(inner.0, inner.1, 4000, &payload);
    let node =
        if from.local_addr().expect("bound").is_ipv4() { "192.168.0.1:4789" } else { "[fd00::1]:4789" };
    from.send_to(&vxlan(vni, vtep_mac("node-1"), &packet), node).expect("sent");
}

fn arrived(pod: &UdpSocket) -> Option<String> {
    received(pod).map(|(text, _)| text)
}

#[test]
fn vxlan_packets_reach_a_pod_only_from_nodes_unless_any_source_is_accepted() {
    in_namespace(|| async {
        let (_tunnel, _) = start(Vxlan).await;
        let outside = SideNamespace::outside(&["192.168.0.2/24", "192.168.0.66/24"]);
        let pod = SideNamespace::pod("pod", &["10.1.1.5"]);
        let inbox = pod.udp("10.1.1.5:4000");
        let (node, spoofer) = (outside.udp("192.168.0.2:0"), outside.udp("192.168.0.66:0"));
        let inner = ("10.1.2.7", "10.1.1.5");

        let config = config(Vxlan, Always);
        let firewall = keep(&config, TunnelsFrom::Nodes, &[]).await;
        send_vxlan(&spoofer, VXLAN_VNI, inner);
        send_vxlan(&node, VXLAN_VNI, inner);
        assert_eq!(arrived(&inbox).as_deref(), Some("192.168.0.2 4096"));
        assert_eq!(waiting(&inbox), None);
        dropped(&firewall, |report| report.dropped_vxlan, 1).await;

        // A VXLAN of another program on the same port is not affected.
        ip("link add other type vxlan id 77 dstport 4789 local 192.168.0.1 dev eth0");
        ip("link set other address 66:00:00:00:00:77 up");
        ip("address add 10.77.0.1/24 dev other");
        let other = UdpSocket::bind("10.77.0.1:4000").expect("a socket");
        let frame = vxlan(77, [0x66, 0, 0, 0, 0, 0x77], &datagram("10.77.0.2", "10.77.0.1", 4000, "other"));
        spoofer.send_to(&frame, "192.168.0.1:4789").expect("sent");
        assert_eq!(arrived(&other).as_deref(), Some("other"));

        // A node that is added is one more element, and is refused again when it is removed.
        let handles = nft("--handle list table inet routed");
        let mut more = wanted(&config, TunnelsFrom::Nodes, &[]);
        more.nodes.insert([192, 168, 0, 66].into());
        firewall.configure(more);
        report(&firewall, |report| report.nodes == 7).await;
        send_vxlan(&spoofer, VXLAN_VNI, inner);
        assert_eq!(arrived(&inbox).as_deref(), Some("192.168.0.66 4096"));
        firewall.configure(wanted(&config, TunnelsFrom::Nodes, &[]));
        report(&firewall, |report| report.nodes == 6).await;
        assert_eq!(nft("--handle list table inet routed"), handles, "the table was replaced and not changed");
        send_vxlan(&spoofer, VXLAN_VNI, inner);
        send_vxlan(&node, VXLAN_VNI, inner);
        assert_eq!(arrived(&inbox).as_deref(), Some("192.168.0.2 4096"));
        dropped(&firewall, |report| report.dropped_vxlan, 2).await;

        firewall.configure(wanted(&config, TunnelsFrom::Any, &[]));
        report(&firewall, |report| !report.wanted).await;
        assert_eq!(nft("list ruleset"), "");
        send_vxlan(&spoofer, VXLAN_VNI, inner);
        assert_eq!(arrived(&inbox).as_deref(), Some("192.168.0.66 4096"));
    });
}

#[test]
fn ipip_packets_reach_a_pod_only_from_nodes_unless_any_source_is_accepted() {
    with_ipip_and_nftables("ipip_packets_reach_a_pod_only_from_nodes", || async {
        let (tunnel, report) = start(Ipip).await;
        assert_eq!(report.problems, Vec::<String>::new());
        let outside = SideNamespace::outside(&["192.168.0.2/24", "192.168.0.66/24"]);
        let pod = SideNamespace::pod("pod", &["10.1.1.5"]);
        let inbox = pod.udp("10.1.1.5:4000");
        let [node, spoofer] =
            ["192.168.0.2", "192.168.0.66"].map(|from| outside.run(move || ipip_from(from)));
        let packet = |payload: &str| datagram("10.1.2.7", "10.1.1.5", 4000, payload);
        let to = SocketAddr::from(([192, 168, 0, 1], 0)).into();
        let send = |socket: &Socket, packet: &[u8]| assert!(socket.send_to(packet, &to).expect("sent") > 0);

        let config = config(Ipip, Always);
        let firewall = keep(&config, TunnelsFrom::Nodes, &[]).await;
        send(&spoofer, &packet("spoofed"));
        // Fragments are reassembled before they are checked.
        send(&spoofer, &packet(&"x".repeat(3000)));
        send(&node, &packet("from a node"));
        assert_eq!(arrived(&inbox).as_deref(), Some("from a node"));
        assert_eq!(waiting(&inbox), None);
        dropped(&firewall, |report| report.dropped_ipip, 2).await;

        // Exit points that only BGP names may answer.
        drop(firewall);
        tunnel.routes(vec![path("10.1.66.0/26", "192.168.0.66", Bgp)]).await.expect("alive");
        let (firewall, _) = FirewallHandle::spawn(tunnel.tunnels());
        firewall.configure(wanted(&config, TunnelsFrom::Nodes, &[]));
        self::report(&firewall, |report| report.nodes == 7).await;
        send(&spoofer, &packet("from an exit point"));
        assert_eq!(arrived(&inbox).as_deref(), Some("from an exit point"));
        tunnel.routes(vec![gone("10.1.66.0/26")]).await.expect("alive");
        self::report(&firewall, |report| report.nodes == 6).await;
        send(&spoofer, &packet("spoofed"));
        send(&node, &packet("from a node"));
        assert_eq!(arrived(&inbox).as_deref(), Some("from a node"));

        firewall.configure(wanted(&config, TunnelsFrom::Any, &[]));
        self::report(&firewall, |report| !report.wanted).await;
        send(&spoofer, &packet("from anybody"));
        assert_eq!(arrived(&inbox).as_deref(), Some("from anybody"));
    });
}

/// Opens a socket that prepends an IPv4 header with protocol 4.
fn ipip_from(address: &str) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(4))).expect("a raw socket");
    let address: IpAddr = address.parse().expect("an address");
    socket.bind(&SocketAddr::new(address, 0).into()).expect("bound");
    socket
}

#[test]
fn vxlan_packets_over_ipv6_reach_a_pod_only_from_nodes() {
    in_namespace(|| async {
        let mut config = config(Vxlan, Always);
        config.local.ipv4 = None;
        let (tunnel, _task) = TunnelHandle::spawn().expect("netlink");
        tunnel.configure(config.clone()).await.expect("alive");
        tunnel.routes(vec![path("fd10::2:0/122", "fd00::2", Bgp)]).await.expect("alive");
        assert_eq!(settled(&tunnel).await.problems, Vec::<String>::new());
        let outside = SideNamespace::outside(&["fd00::2/64", "fd00::66/64"]);
        let pod = SideNamespace::pod("pod", &["fd10::1:5"]);
        let inbox = pod.udp("[fd10::1:5]:4000");
        let (node, spoofer) = (outside.udp("[fd00::2]:0"), outside.udp("[fd00::66]:0"));
        let inner = ("fd10::2:7", "fd10::1:5");

        let firewall = keep(&config, TunnelsFrom::Nodes, &[]).await;
        // In fragments too: the first one has the inner header.
        let long = "x".repeat(3000);
        let fragmented = vxlan(VXLAN_VNI, vtep_mac("node-1"), &datagram(inner.0, inner.1, 4000, &long));
        spoofer.send_to(&fragmented, "[fd00::1]:4789").expect("sent");
        send_vxlan(&spoofer, VXLAN_VNI, inner);
        send_vxlan(&node, VXLAN_VNI, inner);
        assert_eq!(arrived(&inbox).as_deref(), Some("fd00::2 4096"));
        assert_eq!(waiting(&inbox), None);
        dropped(&firewall, |report| report.dropped_vxlan, 2).await;

        firewall.configure(wanted(&config, TunnelsFrom::Any, &[]));
        report(&firewall, |report| !report.wanted).await;
        send_vxlan(&spoofer, VXLAN_VNI, inner);
        assert_eq!(arrived(&inbox).as_deref(), Some("fd00::66 4096"));
    });
}

#[test]
fn packets_that_leave_the_pools_are_masqueraded_and_those_to_a_pool_are_not() {
    in_namespace(|| async {
        let (_tunnel, _) = start(Vxlan).await;
        let outside = SideNamespace::outside(&["192.168.0.2/24", "fd00::2/64"]);
        outside.run(|| {
            ip("address add 203.0.113.9/32 dev lo");
            ip("address add 2001:db8::9/128 dev lo nodad");
            ip("address add 10.1.9.9/32 dev lo");
            ip("address add fd10::9:9/128 dev lo nodad");
        });
        // A forwarding host solicits neighbors from a link-local address.
        ip("address add fe80::a/64 dev eth0 nodad");
        for route in ["203.0.113.9", "10.1.9.9"] {
            ip(&format!("route add {route} via 192.168.0.2"));
        }
        for route in ["2001:db8::9", "fd10::9:9"] {
            ip(&format!("-6 route add {route} via fd00::2"));
        }
        let pod = SideNamespace::pod("pod", &["10.1.1.5", "fd10::1:5"]);
        let inboxes = ["203.0.113.9", "10.1.9.9", "192.168.0.2", "2001:db8::9", "fd10::9:9"].map(|address| {
            let address: IpAddr = address.parse().expect("an address");
            (address, outside.run(move || UdpSocket::bind((address, 4000)).expect("a socket")))
        });
        let sources = || {
            inboxes.each_ref().map(|(address, inbox)| {
                // A new flow each time: connection tracking applies the first decision to later packets of
                // a flow.
                let from = pod.udp(if address.is_ipv4() { "10.1.1.5:0" } else { "[fd10::1:5]:0" });
                from.send_to(b"x", (*address, 4000)).expect("sent");
                received(inbox).map(|(_, from)| from.to_string()).unwrap_or_default()
            })
        };
        let (pod4, pod6) = ("10.1.1.5", "fd10::1:5");
        assert_eq!(sources(), [pod4, pod4, pod4, pod6, pod6], "without natOutgoing");

        let config = config(Vxlan, Always);
        let firewall = keep(&config, TunnelsFrom::Any, &["10.1.0.0/16", "fd10::/64"]).await;
        let (node4, node6) = ("192.168.0.1", "fd00::1");
        assert_eq!(sources(), [node4, pod4, node4, node6, pod6], "natOutgoing of both pools");
        assert!(!firewall.report().await.guards_vxlan);

        firewall.configure(wanted(&config, TunnelsFrom::Any, &["fd10::/64"]));
        report(&firewall, |report| report.masqueraded.len() == 1).await;
        assert_eq!(sources(), [pod4, pod4, pod4, node6, pod6], "of the IPv6 pool alone");

        firewall.configure(wanted(&config, TunnelsFrom::Any, &[]));
        report(&firewall, |report| !report.wanted).await;
        assert_eq!(nft("list ruleset"), "", "no pool asks for it");
        assert_eq!(sources(), [pod4, pod4, pod4, pod6, pod6]);
    });
}

/// Tables of other programs, some with our name.
const FOREIGN: &str = "table ip routed { set nodes4 { type ipv4_addr; elements = { 192.0.2.1 }; }; chain tunnels { type \
                       filter hook input priority 0; ip saddr @nodes4 counter accept; }; }; table inet filter { counter \
                       seen { }; chain input { type filter hook input priority filter; policy accept; udp dport 4789 \
                       counter name seen; }; }; table bridge routed { chain a { }; }";

fn foreign() -> String {
    ["ip routed", "inet filter", "bridge routed"]
        .map(|table| nft(&format!("--handle --stateless list table {table}")))
        .concat()
}

#[test]
fn changes_of_the_table_are_repaired_and_counted_and_other_tables_stay() {
    in_namespace(|| async {
        nft(FOREIGN);
        let before = foreign();
        let config = config(Vxlan, Always);
        let firewall = keep(&config, TunnelsFrom::Nodes, &["10.1.0.0/16"]).await;
        let right = || nft("--stateless list table inet routed");
        let expected = right();
        let mut times = Vec::new();
        for (count, tampering) in (1..).zip([
            "flush chain inet routed tunnels",
            "delete table inet routed",
            "add element inet routed nodes4 { 192.168.0.66 }",
            "delete element inet routed nodes4 { 192.168.0.2 }",
            "flush set inet routed masqueraded4",
            "insert rule inet routed tunnels accept",
            "add rule inet routed outgoing ip daddr 192.0.2.0/24 tcp dport { 80, 443 } snat ip to 10.1.1.1",
            "add table inet routed { flags dormant; }",
            "add chain inet routed more",
            "add counter inet routed more",
        ]) {
            let began = Instant::now();
            nft(tampering);
            report(&firewall, |report| report.drift >= count).await;
            times.push(began.elapsed());
            assert_eq!(right(), expected, "{tampering}");
        }
        times.sort();
        println!("repaired within {times:?}");
        assert!(times[times.len() / 2] < Duration::from_secs(2), "{times:?}");
        assert_eq!(foreign(), before);
        nft("flush ruleset");
        report(&firewall, |report| report.drift >= 11).await;
        assert_eq!(nft("--stateless list ruleset"), expected, "no other table is created");
    });
}

#[test]
fn a_second_start_changes_nothing_and_a_flush_deletes_only_our_table() {
    in_namespace(|| async {
        nft(FOREIGN);
        let before = foreign();
        let config = config(Vxlan, Always);
        let (firewall, task) = FirewallHandle::spawn(no_tunnels());
        firewall.configure(wanted(&config, TunnelsFrom::Nodes, &["10.1.0.0/16", "fd10::/64"]));
        report(&firewall, |report| report.installed).await;
        let first = nft("--handle list ruleset");
        drop(firewall);
        task.await.expect("it ends in peace");
        assert_eq!(nft("--handle list ruleset"), first, "a stop leaves all as it is");

        // No route is known yet: a node that was accepted before stays accepted for now.
        nft("add element inet routed nodes4 { 192.168.0.77 }");
        let first = nft("--handle list ruleset");
        let (say, tunnels) = tokio::sync::watch::channel(Tunnels::default());
        let (firewall, task) = FirewallHandle::spawn(tunnels);
        firewall.configure(wanted(&config, TunnelsFrom::Nodes, &["10.1.0.0/16", "fd10::/64"]));
        report(&firewall, |report| report.installed).await;
        assert_eq!(nft("--handle list ruleset"), first, "a second start changed something");
        assert_eq!(firewall.report().await.drift, 0);
        say.send(Tunnels { whole: true, ..Tunnels::default() }).expect("alive");
        let deadline = Instant::now() + PATIENCE;
        while nft("list table inet routed").contains("192.168.0.77") {
            assert!(Instant::now() < deadline, "whoever is no node is still accepted");
            // why: the table is the witness, and reports nothing by itself.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }

        drop(firewall);
        task.await.expect("it ends in peace");
        assert!(netfilter::flush().await.expect("flushed"));
        assert_eq!(nft("list tables").lines().count(), 3);
        assert_eq!(foreign(), before);
        assert!(!netfilter::flush().await.expect("there is nothing to flush"));
    });
}

#[test]
fn an_exit_point_that_only_bgp_names_is_accepted_while_in_use() {
    in_namespace(|| async {
        let (tunnel, _task) = TunnelHandle::spawn().expect("netlink");
        let config = config(Ipip, Always);
        tunnel.configure(config.clone()).await.expect("alive");
        tunnel.routes(vec![path("10.1.77.0/26", "192.168.0.77", Bgp)]).await.expect("alive");
        tunnel.in_sync().await.expect("alive");
        let (firewall, _task) = FirewallHandle::spawn(tunnel.tunnels());
        firewall.configure(wanted(&config, TunnelsFrom::Nodes, &[]));
        report(&firewall, |report| report.nodes == 7).await;
        assert!(nft("list set inet routed nodes4").contains("192.168.0.77"));
        tunnel.routes(vec![gone("10.1.77.0/26")]).await.expect("alive");
        report(&firewall, |report| report.nodes == 6).await;
        assert!(!nft("list set inet routed nodes4").contains("192.168.0.77"));
    });
}

#[test]
fn a_kernel_without_inet_tables_is_reported_only_where_a_table_is_needed() {
    // User-Mode Linux as packaged by Debian has nftables only for bridges.
    in_guest("a_kernel_without_inet_tables_is_reported", || async {
        let (firewall, _) = FirewallHandle::spawn(no_tunnels());
        let config = config(Vxlan, Always);
        firewall.configure(wanted(&config, TunnelsFrom::Nodes, &[]));
        let failed = report(&firewall, |report| report.problem.is_some()).await;
        let problem = failed.problem.expect("a problem");
        assert!(problem.starts_with("this kernel has no nftables of family inet"), "{problem}");
        assert!(
            problem.contains("Operation not supported") && problem.contains("modprobe nf_tables"),
            "{problem}"
        );
        assert!(!failed.installed);
        firewall.configure(wanted(&config, TunnelsFrom::Any, &[]));
        let empty = report(&firewall, |report| !report.wanted).await;
        assert_eq!(empty.problem, None);
    });
}

#[test]
fn with_five_thousand_nodes_one_more_is_one_more_element() {
    in_namespace(|| async {
        let config = config(Vxlan, Always);
        let mut firewall = wanted(&config, TunnelsFrom::Nodes, &[]);
        firewall.nodes.extend((0..5000u32).map(|number| IpAddr::from((0xac10_0000 + number).to_be_bytes())));
        let (handle, _) = FirewallHandle::spawn(no_tunnels());
        let began = Instant::now();
        handle.configure(firewall.clone());
        report(&handle, |report| report.installed).await;
        let made = began.elapsed();
        let table = || nft("--handle --terse list table inet routed");
        let before = table();
        firewall.nodes.insert([192, 168, 0, 66].into());
        let began = Instant::now();
        handle.configure(firewall);
        report(&handle, |report| report.nodes == 5007).await;
        println!("5,000 nodes: made in {made:?}, one more in {:?}", began.elapsed());
        assert_eq!(table(), before, "the table was replaced and not changed");
        assert!(nft("get element inet routed nodes4 { 192.168.0.66 }").contains("192.168.0.66"));
        assert!(made < Duration::from_secs(10), "{made:?}");
    });
}
