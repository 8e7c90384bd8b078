//! One block behind several nodes: the kernel shares its packets among them.

use tunnel::{
    Encapsulation::{self, Ipip, Vxlan},
    PathKind::{Bgp, Static},
    PoolMode::{Always, CrossSubnet},
    RouteChange, TunnelHandle,
    dataplane::KernelEvent,
    kernel::{KernelMonitor, flush},
};

use crate::harness::{
    PATIENCE, config, events_before_marker, gone, in_namespace, ip, path, paths, settled, shared, start,
    until, with_ipip,
};

const BLOCK: &str = "10.1.50.0/26";

/// Returns the block behind nodes 2 and 3.
fn anycast() -> RouteChange {
    shared(BLOCK, "192.168.0.2", &["192.168.0.3"])
}

/// Returns gateways and devices of the block's route, as `ip` shows them.
fn leads() -> Vec<String> {
    let route = ip(&format!("route show {BLOCK} proto 179"));
    let objects = ip("nexthop");
    let object = |id: &str| objects.lines().find(|line| line.split_whitespace().nth(1) == Some(id));
    let after =
        |line: &str, word: &str| line.split_whitespace().skip_while(|w| *w != word).nth(1).map(str::to_owned);
    let Some(line) = after(&route, "nhid").as_deref().and_then(object) else { return Vec::new() };
    let members = after(line, "group");
    let all: Vec<&str> = match &members {
        Some(members) => members.split('/').filter_map(object).collect(),
        None => vec![line],
    };
    let leg = |line: &&str| Some(format!("{} {}", after(line, "via")?, after(line, "dev")?));
    let mut legs: Vec<String> = all.iter().filter_map(leg).collect();
    legs.sort();
    legs
}

fn leg(node: u8, encapsulation: Encapsulation) -> String {
    match encapsulation {
        Ipip => format!("192.168.0.{node} routed.ipip"),
        _ => format!("10.1.{node}.0 routed.vxlan"),
    }
}

/// Returns the number of our next-hop objects.
fn objects() -> usize {
    ip("nexthop show proto 179").lines().count()
}

async fn started(encapsulation: Encapsulation) -> TunnelHandle {
    let (tunnel, _) = start(encapsulation).await;
    tunnel.routes(vec![anycast()]).await.expect("alive");
    let report = settled(&tunnel).await;
    assert_eq!((report.failures, report.problems), (vec![], vec![]));
    assert_eq!(leads(), [leg(2, encapsulation), leg(3, encapsulation)]);
    tunnel
}

/// Returns the observed events, except those that the kernel sends at any time.
async fn news(monitor: &mut KernelMonitor) -> Vec<KernelEvent> {
    let mut events = events_before_marker(monitor).await;
    events.retain(|event| {
        !matches!(
            event,
            KernelEvent::Address { gone: false, .. } | KernelEvent::Neighbour { permanent: false, .. }
        )
    });
    ip("route del 203.0.113.0/24");
    events
}

async fn shares_comes_and_goes(encapsulation: Encapsulation) {
    let tunnel = started(encapsulation).await;
    assert_eq!(objects(), 4, "the nodes' objects, and a group of two of them");
    // More blocks of the same nodes share the group.
    tunnel.routes(vec![shared("10.1.51.0/26", "192.168.0.3", &["192.168.0.2"])]).await.expect("alive");
    settled(&tunnel).await;
    assert_eq!(objects(), 4);
    // One node is lost: the other gets all packets.
    let left = ["10.1.50.0/26", "10.1.51.0/26"].map(|block| path(block, "192.168.0.3", Bgp));
    tunnel.routes([gone("10.1.2.0/26")].into_iter().chain(left).collect()).await.expect("alive");
    let report = settled(&tunnel).await;
    assert_eq!(report.failures, []);
    assert_eq!(leads(), [leg(3, encapsulation)]);
    assert_eq!(objects(), 2, "{}", ip("nexthop"));
    // It comes back, with a third.
    tunnel
        .routes(vec![
            path("10.1.2.0/26", "192.168.0.2", Bgp),
            shared(BLOCK, "192.168.0.2", &["192.168.0.3", "192.168.9.4"]),
        ])
        .await
        .expect("alive");
    settled(&tunnel).await;
    assert_eq!(leads().len(), 3);
    tunnel.stop().await.expect("alive");
    let flushed = flush(179).await.expect("allowed");
    assert_eq!((flushed.nexthops, flushed.nexthops_left), (4, 0), "{flushed}");
    assert_eq!(ip("nexthop"), "");
}

#[test]
fn nodes_that_share_a_block_share_its_packets_until_one_is_lost() {
    in_namespace(|| shares_comes_and_goes(Vxlan));
}

#[test]
fn nodes_that_share_a_block_by_ipip_share_its_packets_until_one_is_lost() {
    with_ipip("nodes_that_share_a_block_by_ipip_share_its_packets_until_one_is_lost", || {
        shares_comes_and_goes(Ipip)
    });
}

#[test]
fn another_path_to_one_member_is_one_message_and_no_route_change() {
    in_namespace(|| async {
        let (tunnel, _) = start(Vxlan).await;
        tunnel.routes(vec![shared(BLOCK, "192.168.0.2", &["192.168.9.4"])]).await.expect("alive");
        settled(&tunnel).await;
        assert_eq!(leads(), [leg(2, Vxlan), leg(4, Vxlan)]);
        let mut monitor = KernelMonitor::open(&[]).expect("an event socket");
        tunnel.configure(config(Vxlan, CrossSubnet)).await.expect("alive");
        let report = settled(&tunnel).await;
        // Nodes 2 and 3 are in this node's subnet.
        assert_eq!(
            news(&mut monitor).await,
            [KernelEvent::Nexthop { ours: true }, KernelEvent::Nexthop { ours: true }]
        );
        assert_eq!(leads(), [leg(4, Vxlan), "192.168.0.2 eth0".to_owned()]);
        assert_eq!(report.failures, []);
    });
}

#[test]
fn members_may_differ_in_encapsulation_and_the_return_of_one_is_one_message() {
    with_ipip("members_may_differ_in_encapsulation_and_the_return_of_one_is_one_message", || async {
        let (tunnel, _) = start(Ipip).await;
        let mut config = config(Ipip, Always);
        config.probing.recover_after = std::time::Duration::from_secs(3600);
        tunnel.configure(config.clone()).await.expect("alive");
        for kind in [Static, Bgp] {
            tunnel.routes(vec![path("10.1.2.0/26", "192.168.0.2", kind)]).await.expect("alive");
        }
        tunnel.routes(vec![anycast()]).await.expect("alive");
        settled(&tunnel).await;
        assert_eq!(leads(), [leg(2, Vxlan), leg(3, Ipip)]);
        let mut monitor = KernelMonitor::open(&[]).expect("an event socket");
        config.probing.recover_after = std::time::Duration::ZERO;
        tunnel.configure(config).await.expect("alive");
        // No node answers probes here, neither by IP-in-IP nor by VXLAN: once that is known, the preferred
        // path is used.
        let deadline = std::time::Instant::now() + PATIENCE;
        while leads() != [leg(2, Ipip), leg(3, Ipip)] {
            assert!(std::time::Instant::now() < deadline, "{:?}", leads());
            // why: the condition is three losses, and another program reads the kernel's routes.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(news(&mut monitor).await, [KernelEvent::Nexthop { ours: true }]);
    });
}

#[test]
fn a_second_start_adopts_the_group_without_an_event() {
    in_namespace(|| async {
        let tunnel = started(Vxlan).await;
        tunnel.stop().await.expect("alive");
        let before = ip("nexthop");
        // The kernel reports an IPv6 address from a work queue, just before it adds the local route.
        let there = || ip("-6 route show table local dev routed.vxlan").contains("fd10::1:0");
        until("the first start's address", there).await;
        let mut monitor = KernelMonitor::open(&[]).expect("an event socket");
        let (tunnel, _task) = TunnelHandle::spawn().expect("netlink");
        tunnel.configure(config(Vxlan, Always)).await.expect("alive");
        let mut all = paths(Bgp);
        all.push(anycast());
        tunnel.routes(all).await.expect("alive");
        tunnel.in_sync().await.expect("alive");
        let report = settled(&tunnel).await;
        assert_eq!((news(&mut monitor).await, report.drift), (vec![], 0));
        assert_eq!(ip("nexthop"), before);
    });
}

#[test]
fn a_group_that_was_changed_is_repaired() {
    in_namespace(|| async {
        let tunnel = started(Vxlan).await;
        let right = [leg(2, Vxlan), leg(3, Vxlan)];
        let id = |of: &str| {
            let all = ip("nexthop show proto 179");
            let line = all.lines().find(|line| line.contains(of)).expect("it").to_owned();
            line.split_whitespace().nth(1).expect("an id").to_owned()
        };
        for what in ["del a group", "replace a group", "weigh it", "del a member", "down"] {
            let before = settled(&tunnel).await.drift;
            let group = id("group");
            match what {
                "del a group" => ip(&format!("nexthop del id {group}")),
                "replace a group" => {
                    ip(&format!("nexthop replace id {group} group {} proto 179", id("via 10.1.2.0")))
                }
                "weigh it" => ip(&format!(
                    "nexthop replace id {group} group {},5/{} proto 179",
                    id("via 10.1.2.0"),
                    id("via 10.1.3.0")
                )),
                "del a member" => ip(&format!("nexthop del id {}", id("via 10.1.2.0"))),
                _ => ip("link set routed.vxlan down"),
            };
            until(what, || {
                leads() == right
                    && !ip("nexthop").contains(',')
                    && ip("link show routed.vxlan").contains(",UP")
            })
            .await;
            let report = settled(&tunnel).await;
            assert!(report.drift > before, "{what}: not counted");
            assert_eq!(report.failures, [], "{what}");
        }
    });
}

#[test]
fn a_flush_leaves_a_group_that_other_programs_use_and_its_members() {
    in_namespace(|| async {
        let tunnel = started(Vxlan).await;
        tunnel.stop().await.expect("alive");
        let group =
            ip("nexthop show proto 179").lines().find(|l| l.contains("group")).expect("it").to_owned();
        let id = group.split_whitespace().nth(1).expect("an id");
        ip(&format!("route add 198.51.100.0/24 nhid {id} proto 80"));
        let flushed = flush(179).await;
        // The objects of a device go with it, and so does everything that uses them: that is the purpose of
        // a flush.
        let flushed = flushed.expect("allowed");
        assert_eq!((flushed.nexthops, flushed.nexthops_left), (1, 3), "{flushed}");
    });
}
