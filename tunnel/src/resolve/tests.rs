use super::*;
use crate::node::{DEFAULT_ROUTE_METRIC, LocalNode, Pool, ProbeConfig};

fn node(name: &str, ipv4: &str, block: &str, vtep: Option<&str>) -> RemoteNode {
    RemoteNode {
        name: name.into(),
        ipv4: Some(ipv4.parse().expect("net")),
        ipv6: Some(format!("fd00::{}/64", &name[name.len() - 1..]).parse().expect("net")),
        blocks: vec![block.parse().expect("block")],
        vtep: vtep.map(|v| v.parse().expect("address")),
        vtep_ipv6: vtep.map(|_| "fd10::1".parse().expect("address")),
        mac: None,
    }
}

fn config(pools: &[(&str, Encapsulation, PoolMode)]) -> Config {
    Config {
        local: LocalNode {
            name: "a".into(),
            ipv4: Some("192.168.0.1/24".parse().expect("net")),
            ipv6: Some("fd00::a/64".parse().expect("net")),
            blocks: vec!["10.1.1.0/26".parse().expect("block")],
            tunnel_address: Some("10.1.1.0".parse().expect("address")),
            tunnel_ipv6: None,
            vtep_mac: None,
        },
        nodes: vec![
            node("b", "192.168.0.2/24", "10.1.2.0/26", Some("10.1.2.0")),
            node("c", "192.168.1.3/24", "10.1.3.0/26", Some("10.1.3.0")),
            node("d", "192.168.0.4/24", "10.1.4.0/26", None),
        ],
        pools: pools
            .iter()
            .map(|(c, encapsulation, mode)| Pool {
                cidr: c.parse().expect("cidr"),
                encapsulation: *encapsulation,
                mode: *mode,
            })
            .collect(),
        encapsulation: Encapsulation::Ipip,
        fallback: FallbackMode::Vxlan,
        route_protocol: 179,
        route_metric: DEFAULT_ROUTE_METRIC,
        nexthop_compat_keep: false,
        probing: ProbeConfig::default(),
        device_linger: std::time::Duration::ZERO,
    }
}

/// eth0 (index 2) has 192.168.0.0/24 and fd00::/64, a default route, and 192.168.0.4 behind a
/// router.
fn reach(address: IpAddr) -> Reach {
    let text = address.to_string();
    if text == "192.168.0.4" {
        Reach::Via { gateway: "192.168.0.254".parse().expect("address"), index: 2 }
    } else if text.starts_with("192.168.0.") || text.starts_with("fd00::") {
        Reach::OnLink { index: 2 }
    } else if text.starts_with("192.168.") {
        Reach::Via { gateway: "192.168.0.254".parse().expect("address"), index: 2 }
    } else if text.starts_with("10.") {
        Reach::Tunnel
    } else {
        Reach::Unreachable
    }
}

fn ask(config: &Config, prefix: &str, next_hop: &str, kind: PathKind) -> String {
    let learned = LearnedPath { next_hop: next_hop.parse().expect("address"), kind };
    let answer =
        resolve(config, &Reachability::default(), &prefix.parse().expect("prefix"), &learned, &mut reach);
    let exit = match answer.exit {
        None => "none".into(),
        Some(Exit::Direct { gateway, index }) => format!("direct {gateway} {index}"),
        Some(Exit::Ipip { remote }) => format!("ipip {remote}"),
        Some(Exit::Vxlan { vtep }) => format!("vxlan {vtep}"),
    };
    format!("{exit}: {}", answer.reason)
}

#[test]
#[allow(clippy::type_complexity)] // A table, read in one place.
fn every_pool_policy_and_path_kind_resolves_as_the_table_says() {
    use Encapsulation::{Ipip, None as Plain, Vxlan};
    use PathKind::{Bgp, Static};
    use PoolMode::{Always, CrossSubnet, Never};
    let pool = "10.1.0.0/16";
    let b = ("10.1.2.0/26", "192.168.0.2");
    let c = ("10.1.3.0/26", "192.168.1.3");
    let d = ("10.1.4.0/26", "192.168.0.4");
    #[rustfmt::skip]
    let table: &[(&[(&str, Encapsulation, PoolMode)], (&str, &str), PathKind, &str)] = &[
        (&[], b, Bgp, "ipip 192.168.0.2: always"),
        (&[], b, Static, "vxlan 10.1.2.0: no BGP path: static table"),
        (&[(pool, Ipip, Always)], b, Bgp, "ipip 192.168.0.2: always"),
        (&[(pool, Ipip, Always)], c, Bgp, "ipip 192.168.1.3: always"),
        (&[(pool, Ipip, Always)], c, Static, "vxlan 10.1.3.0: no BGP path: static table"),
        (&[(pool, Ipip, Always)], d, Static, "none: next hop has no VTEP in the node table"),
        (&[(pool, Ipip, CrossSubnet)], b, Bgp, "direct 192.168.0.2 2: same subnet"),
        (&[(pool, Ipip, CrossSubnet)], b, Static, "direct 192.168.0.2 2: same subnet"),
        (&[(pool, Ipip, CrossSubnet)], c, Bgp, "ipip 192.168.1.3: other subnet"),
        (&[(pool, Ipip, CrossSubnet)], c, Static, "vxlan 10.1.3.0: no BGP path: static table"),
        (&[(pool, Ipip, CrossSubnet)], d, Bgp, "ipip 192.168.0.4: same subnet, but behind a router"),
        (&[(pool, Vxlan, Always)], b, Bgp, "vxlan 10.1.2.0: always"),
        (&[(pool, Vxlan, CrossSubnet)], b, Bgp, "direct 192.168.0.2 2: same subnet"),
        (&[(pool, Vxlan, CrossSubnet)], c, Bgp, "vxlan 10.1.3.0: other subnet"),
        (&[(pool, Vxlan, Always)], d, Bgp, "none: next hop has no VTEP in the node table"),
        (&[(pool, Ipip, Never)], b, Bgp, "direct 192.168.0.2 2: never"),
        (&[(pool, Ipip, Never)], c, Bgp, "direct 192.168.0.254 2: never"),
        (&[(pool, Plain, Always)], c, Static, "direct 192.168.0.254 2: never"),
        (&[(pool, Ipip, Always)], ("172.16.0.0/24", "192.168.0.2"), Bgp, "direct 192.168.0.2 2: outside every pool"),
        (&[(pool, Ipip, Always)], ("172.16.0.0/24", "203.0.113.9"), Bgp, "none: no route to the next hop"),
        (&[(pool, Ipip, Always)], ("172.16.0.0/24", "10.9.9.9"), Bgp,
            "none: the route to the next hop leads into the tunnel"),
        (&[(pool, Ipip, Always)], ("10.1.9.0/26", "203.0.113.9"), Bgp, "ipip 203.0.113.9: always"),
        (&[(pool, Ipip, Always)], ("10.1.9.0/26", "192.168.0.1"), Bgp, "none: next hop is this node"),
        (&[(pool, Ipip, Always)], ("10.1.1.0/26", "192.168.0.2"), Bgp, "none: this node's own block"),
        (&[(pool, Ipip, Always), ("10.1.2.0/24", Plain, Never)], b, Bgp, "direct 192.168.0.2 2: never"),
        (&[("fd10::/32", Ipip, Always)], ("fd10::/122", "fd00::b"), Bgp, "vxlan fd10::1: IPv6 is not carried by ipip"),
        (&[("fd10::/32", Ipip, Always)], ("fd10::/122", "fd00::99"), Bgp,
            "direct fd00::99 2: IPv6 is not carried by ipip"),
        (&[("fd10::/32", Ipip, CrossSubnet)], ("fd10::/122", "fd00::b"), Bgp, "direct fd00::b 2: same subnet"),
        (&[("fd10::/32", Vxlan, Always)], ("fd10::/122", "192.168.0.2"), Bgp, "vxlan fd10::1: always"),
        (&[(pool, Ipip, Always)], ("10.1.2.0/26", "::ffff:192.168.0.2"), Bgp, "ipip 192.168.0.2: always"),
        (&[(pool, Ipip, Always)], ("10.1.2.0/26", "fd00::b"), Bgp, "ipip 192.168.0.2: always"),
        (&[(pool, Ipip, Always)], ("10.1.2.0/26", "fd00::99"), Bgp,
            "none: next hop has no address of the prefix's family"),
    ];
    for (pools, (prefix, next_hop), kind, expected) in table {
        assert_eq!(
            &ask(&config(pools), prefix, next_hop, *kind),
            expected,
            "{pools:?} {prefix} {next_hop} {kind:?}"
        );
    }
}

#[test]
fn no_fallback_leaves_a_block_without_bgp_path_unreached() {
    let mut config = config(&[("10.1.0.0/16", Encapsulation::Ipip, PoolMode::Always)]);
    config.fallback = FallbackMode::None;
    assert_eq!(
        ask(&config, "10.1.2.0/26", "192.168.0.2", PathKind::Static),
        "none: no BGP path, and fallback is none"
    );
    assert!(!config.needs_vxlan() && config.needs_ipip());
}

#[test]
fn a_slash_32_node_address_makes_cross_subnet_always_tunnel() {
    let mut config = config(&[("10.1.0.0/16", Encapsulation::Ipip, PoolMode::CrossSubnet)]);
    config.local.ipv4 = Some("192.168.0.1/32".parse().expect("net"));
    assert_eq!(ask(&config, "10.1.2.0/26", "192.168.0.2", PathKind::Bgp), "ipip 192.168.0.2: other subnet");
}
