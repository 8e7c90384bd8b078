use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

pub(super) fn mistakes(text: &str) -> Vec<String> {
    let parsed = parse_file("f.yaml", text);
    let mut all = parsed.mistakes;
    if all.is_empty() {
        all = assemble(&parsed.documents).mistakes;
    }
    all.iter().map(ToString::to_string).collect()
}

pub(super) fn warnings(text: &str) -> Vec<String> {
    let parsed = parse_file("f.yaml", text);
    assert_eq!(parsed.mistakes, [], "{text}");
    let assembled = assemble(&parsed.documents);
    assert_eq!(assembled.mistakes, [], "{text}");
    parsed.warnings.iter().chain(&assembled.warnings).map(ToString::to_string).collect()
}

pub(super) fn snapshot(text: &str) -> Snapshot {
    let parsed = parse_file("f.yaml", text);
    assert_eq!(parsed.mistakes, [], "{text}");
    let assembled = assemble(&parsed.documents);
    assert_eq!(assembled.mistakes, [], "{text}");
    assembled.snapshot
}

pub(super) fn v3(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n")
}

/// Checks for one mistake. The lines of `v3` are apiVersion 1, kind 2, metadata 3, spec 4; the next
/// document begins at 6.
fn one_mistake(spec_kind: &str, spec: &str, line: &str) {
    assert_eq!(mistakes(&v3(spec_kind, "x", spec)), [line.to_owned()], "{spec}");
}

#[test]
fn the_v1_pool_of_the_calico_guide_is_read() {
    let text = "apiVersion: v1\nkind: ipPool\nmetadata:\n  cidr: 192.168.0.0/16\nspec:\n  ipip:\n    enabled: true\n    \
                mode: cross-subnet\n  nat-outgoing: true\n";
    let snapshot = snapshot(text);
    let pool = &snapshot.pools[0];
    assert_eq!(pool.name, "192-168-0-0-16");
    assert_eq!(
        pool.effective(EncapsulationKind::Vxlan),
        (EncapsulationKind::Ipip, EncapsulationMode::CrossSubnet)
    );
    assert!(pool.nat_outgoing);
    assert_eq!(warnings(text), Vec::<String>::new());
}

#[test]
fn a_v1_pool_without_ipip_or_with_it_disabled_is_never() {
    for (spec, mode) in [
        ("", EncapsulationMode::Never),
        ("spec: {}", EncapsulationMode::Never),
        ("spec: {ipip: {enabled: false, mode: always}}", EncapsulationMode::Never),
        ("spec: {ipip: {enabled: true}}", EncapsulationMode::Always),
    ] {
        let text = format!("apiVersion: v1\nkind: ipPool\nmetadata: {{cidr: 10.0.0.0/16}}\n{spec}\n");
        assert_eq!(snapshot(&text).pools[0].effective(EncapsulationKind::Vxlan).1, mode, "{spec}");
    }
}

#[test]
fn a_v3_pool_that_names_no_mode_takes_the_clusters() {
    let pool = |spec: &str| snapshot(&v3("IPPool", "p", spec)).pools.remove(0);
    let plain = pool("{cidr: 10.0.0.0/16}");
    assert_eq!(
        plain.effective(EncapsulationKind::Ipip),
        (EncapsulationKind::Ipip, EncapsulationMode::Always)
    );
    assert_eq!(
        plain.effective(EncapsulationKind::Vxlan),
        (EncapsulationKind::Vxlan, EncapsulationMode::Always)
    );
    assert_eq!(plain.effective(EncapsulationKind::None), (EncapsulationKind::None, EncapsulationMode::Never));
    let never = pool("{cidr: 10.0.0.0/16, ipipMode: Never}");
    assert_eq!(never.effective(EncapsulationKind::Ipip), (EncapsulationKind::None, EncapsulationMode::Never));
    let vxlan = pool("{cidr: 10.0.0.0/16, ipipMode: Never, vxlanMode: CrossSubnet}");
    assert_eq!(
        vxlan.effective(EncapsulationKind::Ipip),
        (EncapsulationKind::Vxlan, EncapsulationMode::CrossSubnet)
    );
    let v6 = pool("{cidr: 'fd00::/48'}");
    assert_eq!(v6.effective(EncapsulationKind::Ipip), (EncapsulationKind::None, EncapsulationMode::Never));
    assert_eq!((plain.block_size, v6.block_size), (26, 122));
}

#[test]
fn each_rule_of_a_pool_names_its_line() {
    one_mistake("IPPool", "{}", "f.yaml:4: spec.cidr: is required");
    one_mistake(
        "IPPool",
        "{cidr: 10.0.0.1/16}",
        "f.yaml:4: spec.cidr: must have no host bits: write 10.0.0.0/16 (got \"10.0.0.1/16\")",
    );
    one_mistake(
        "IPPool",
        "\n  cidr: 10.0.0.0/16\n  ipipMode: Sometimes",
        "f.yaml:6: spec.ipipMode: must be one of Always, CrossSubnet, Never (got \"Sometimes\")",
    );
    one_mistake(
        "IPPool",
        "\n  cidr: 10.0.0.0/16\n  vxlanMode: Always\n  ipipMode: Always",
        "f.yaml:7: spec.ipipMode: only one of ipipMode and vxlanMode may be other than Never",
    );
    one_mistake(
        "IPPool",
        "{cidr: 'fd00::/48', ipipMode: Always}",
        "f.yaml:4: spec.ipipMode: must be Never in an IPv6 pool: IP-in-IP carries IPv4 only (cidr is fd00::/48)",
    );
    one_mistake(
        "IPPool",
        "\n  cidr: 10.0.0.0/16\n  blockSize: 19",
        "f.yaml:6: spec.blockSize: must be from 20 to 32 in an IPv4 pool (got 19)",
    );
    one_mistake(
        "IPPool",
        "{cidr: 10.0.0.0/28}",
        "f.yaml:4: spec.cidr: must hold at least one block of /26 (got 10.0.0.0/28)",
    );
    one_mistake(
        "IPPool",
        "{cidr: 169.254.0.0/16}",
        "f.yaml:4: spec.cidr: must not be link-local (got 169.254.0.0/16)",
    );
    one_mistake(
        "IPPool",
        "{cidr: 10.0.0.0/16, nodeSelector: 'global()'}",
        "f.yaml:4: spec.nodeSelector: must be a selector: global() is not allowed here (got \"global()\")",
    );
    one_mistake(
        "IPPool",
        "{cidr: 10.0.0.0/16, ipipmode: Always}",
        "f.yaml:4: spec.ipipmode: unknown field (did you mean ipipMode?)",
    );
    one_mistake(
        "IPPool",
        "{cidr: 10.0.0.0/16, natOutgoing: 'yes'}",
        "f.yaml:4: spec.natOutgoing: must be true or false (got \"yes\")",
    );
    assert_eq!(mistakes(&v3("IPPool", "x", "{cidr: 10.0.0.0/28, disabled: true}")), Vec::<String>::new());
}

#[test]
fn overlapping_pools_are_the_later_ones_mistake_whichever_is_wider() {
    let narrow_later = v3("IPPool", "a", "{cidr: 10.0.0.0/8}") + &v3("IPPool", "b", "{cidr: 10.1.0.0/16}");
    assert_eq!(
        mistakes(&narrow_later),
        ["f.yaml:9: spec.cidr: must not overlap another pool: 10.0.0.0/8 of \"a\" is at f.yaml:4"]
    );
    let wide_later = v3("IPPool", "a", "{cidr: 10.1.0.0/16}") + &v3("IPPool", "b", "{cidr: 10.0.0.0/8}");
    assert_eq!(
        mistakes(&wide_later),
        ["f.yaml:9: spec.cidr: must not overlap another pool: 10.1.0.0/16 of \"a\" is at f.yaml:4"]
    );
    let apart = v3("IPPool", "a", "{cidr: 10.1.0.0/16}") + &v3("IPPool", "b", "{cidr: 10.2.0.0/16}");
    assert_eq!(mistakes(&apart), Vec::<String>::new());
}

#[test]
fn a_node_has_all_fields_of_the_static_table() {
    let text = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata:\n  name: node-b\n  labels: {rack: r1}\n  \
                annotations: {x: y}\n  creationTimestamp: null\nspec:\n  bgp: {ipv4Address: 192.168.0.2/24, asNumber: \
                64513, routeReflectorClusterID: 10.0.0.1, ipv4IPIPTunnelAddr: 10.1.2.1}\n  podCIDRs: [10.1.2.0/26, \
                'fd00:1::/122']\n  ipv4VXLANTunnelAddr: 10.1.2.0\n  vxlanTunnelMACAddr: 66:aa:bb:cc:dd:ee\nstatus: {}\n";
    let snapshot = snapshot(text);
    let node = &snapshot.nodes[0];
    assert_eq!(node.ipv4.map(|net| net.to_string()).as_deref(), Some("192.168.0.2/24"));
    assert_eq!((node.as_number, node.cluster_id), (Some(64513), Some([10, 0, 0, 1].into())));
    assert_eq!(node.ipip_tunnel_address, Some([10, 1, 2, 1].into()));
    assert_eq!(node.vxlan_mac, Some([0x66, 0xaa, 0xbb, 0xcc, 0xdd, 0xee]));
    assert_eq!(node.labels.get("rack").map(String::as_str), Some("r1"));
    let blocks: Vec<String> = snapshot.blocks_of("node-b").iter().map(ToString::to_string).collect();
    assert_eq!(blocks, ["10.1.2.0/26", "fd00:1::/122"]);
    assert_eq!(snapshot.blocks()["node-b"], snapshot.blocks_of("node-b"));
}

#[test]
fn all_mistakes_of_a_file_are_reported_from_top_to_bottom() {
    let text = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: a/b}\nspec:\n  bgp:\n    ipv4Address: \
                nowhere\n    asNumber: 0\n  colour: red\n---\nkind: Node\n---\n[1]\n---\na: [\n---\napiVersion: \
                v2\nkind: Node\n";
    let lines = mistakes(text);
    let starts: Vec<&str> = lines.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        starts,
        ["f.yaml:3", "f.yaml:6", "f.yaml:7", "f.yaml:8", "f.yaml:10", "f.yaml:12", "f.yaml:14", "f.yaml:16"],
        "{lines:#?}"
    );
}

#[test]
fn duplicate_names_addresses_and_blocks_are_mistakes() {
    let node = |name: &str, spec: &str| v3("Node", name, spec);
    let names =
        node("a", "{bgp: {ipv4Address: 10.0.0.1/24}}") + &node("a", "{bgp: {ipv4Address: 10.0.0.2/24}}");
    assert_eq!(mistakes(&names), ["f.yaml:8: metadata.name: must be unique: Node \"a\" is also at f.yaml:3"]);
    let addresses =
        node("a", "{bgp: {ipv4Address: 10.0.0.1/24}}") + &node("b", "{bgp: {ipv4Address: 10.0.0.1/16}}");
    assert_eq!(
        mistakes(&addresses),
        ["f.yaml:9: spec.bgp.ipv4Address: must be unique: 10.0.0.1 is also a's, at f.yaml:4"]
    );
    let blocks =
        node("a", "{podCIDRs: [10.1.0.0/26]}") + &node("b", "{podCIDRs: [10.2.0.0/26, 10.1.0.0/26]}");
    assert_eq!(
        mistakes(&blocks),
        ["f.yaml:9: spec.podCIDRs[1]: must have one owner: 10.1.0.0/26 is also a's, at f.yaml:4"]
    );
    let twice = node("a", "{podCIDRs: [10.1.0.0/26, 10.1.0.0/26]}");
    assert_eq!(
        mistakes(&twice),
        ["f.yaml:4: spec.podCIDRs[1]: must have one owner: 10.1.0.0/26 is also a's, at f.yaml:4"]
    );
    let tunnels =
        node("a", "{ipv4VXLANTunnelAddr: 10.1.0.0}") + &node("b", "{bgp: {ipv4IPIPTunnelAddr: 10.1.0.0}}");
    assert_eq!(
        mistakes(&tunnels),
        ["f.yaml:9: spec.bgp.ipv4IPIPTunnelAddr: must be unique: 10.1.0.0 is also a's, at f.yaml:4"]
    );
    let default =
        node("a", "{podCIDRs: [10.1.0.0/26]}") + &node("b", "{bgp: {ipv4IPIPTunnelAddr: 10.1.0.0}}");
    assert_eq!(
        mistakes(&default),
        ["f.yaml:9: spec.bgp.ipv4IPIPTunnelAddr: must be unique: 10.1.0.0 is also a's, at f.yaml:4"]
    );
    // sha1sum of "a" begins with 86f7e437fa.
    let macs = node("a", "{}") + &node("b", "{vxlanTunnelMACAddr: '66:86:f7:e4:37:fa'}");
    assert_eq!(
        mistakes(&macs),
        ["f.yaml:9: spec.vxlanTunnelMACAddr: must be unique: 66:86:f7:e4:37:fa is also a's, at f.yaml:1"]
    );
    let shared = node("a", "{ipv4VXLANTunnelAddr: 10.1.0.0, bgp: {ipv4IPIPTunnelAddr: 10.1.0.0}}");
    assert_eq!(mistakes(&shared), Vec::<String>::new());
}

#[test]
fn a_block_may_be_listed_and_confirmed_for_the_same_node_only() {
    let affinity = |node: &str, state: &str| {
        v3(
            "BlockAffinity",
            &format!("{node}-x"),
            &format!("{{node: {node}, cidr: 10.1.0.0/26, state: {state}}}"),
        )
    };
    let node = v3("Node", "a", "{podCIDRs: [10.1.0.0/26]}");
    let same = snapshot(&(node.clone() + &affinity("a", "confirmed")));
    assert_eq!(same.blocks_of("a").len(), 1);
    assert_eq!(
        mistakes(&(node.clone() + &affinity("b", "confirmed"))),
        ["f.yaml:9: spec.cidr: must have one owner: 10.1.0.0/26 is also a's, at f.yaml:4"]
    );
    let pending = snapshot(&(node + &affinity("b", "pending")));
    assert!(pending.blocks_of("b").is_empty());
}

#[test]
fn a_block_outside_every_pool_is_a_mistake_where_pools_exist() {
    let node = v3("Node", "a", "{podCIDRs: [10.1.0.0/26]}");
    assert_eq!(mistakes(&node), Vec::<String>::new());
    let rule = "f.yaml:4: spec.podCIDRs[0]: must lie inside an IPPool: no pool holds 10.1.0.0/26";
    assert_eq!(mistakes(&(node.clone() + &v3("IPPool", "p", "{cidr: 10.2.0.0/16}"))), [rule]);
    assert_eq!(mistakes(&(node.clone() + &v3("IPPool", "p", "{cidr: 10.0.0.0/16}"))), [rule]);
    assert_eq!(mistakes(&(node.clone() + &v3("IPPool", "p", "{cidr: 10.1.0.0/16}"))), Vec::<String>::new());
    assert_eq!(mistakes(&(node + &v3("IPPool", "p", "{cidr: 'fd00::/48'}"))), Vec::<String>::new());
}

#[test]
fn encapsulation_follows_the_pool_the_cluster_or_is_plain() {
    let none = Snapshot::default();
    let block: ipnet::IpNet = "10.1.0.0/26".parse().unwrap();
    assert_eq!(none.encapsulation_of(&block), Some((EncapsulationKind::Ipip, EncapsulationMode::Always)));
    let pool = snapshot(&v3("IPPool", "p", "{cidr: 10.1.0.0/16, vxlanMode: Always}"));
    assert_eq!(pool.encapsulation_of(&block), Some((EncapsulationKind::Vxlan, EncapsulationMode::Always)));
    assert_eq!(pool.encapsulation_of(&"10.2.0.0/26".parse().unwrap()), None);
}

#[test]
fn a_node_with_a_32_is_warned_of_under_cross_subnet_only() {
    let nodes = v3("Node", "node1", "{bgp: {ipv4Address: 10.0.2.15/20}}")
        + &v3("Node", "node2", "{bgp: {ipv4Address: 10.0.2.10/32}}");
    assert_eq!(warnings(&nodes), Vec::<String>::new());
    let lines = warnings(&(nodes + &v3("IPPool", "p", "{cidr: 192.168.0.0/16, ipipMode: CrossSubnet}")));
    assert_eq!(
        lines,
        [
            "f.yaml:9: spec.bgp.ipv4Address: node2 has 10.0.2.10/32, a subnet of one address: cross-subnet (pool p) can \
          never see it as a neighbour and always tunnels; write its real subnet, such as 10.0.2.10/20"
        ]
    );
}

#[test]
fn each_rule_of_a_peer_names_its_line() {
    let peer = |spec: &str| mistakes(&v3("BGPPeer", "x", spec));
    assert_eq!(peer("{peerIP: 10.0.0.1, asNumber: 65000}"), Vec::<String>::new());
    assert_eq!(peer("{node: a, peerSelector: has(rr)}"), Vec::<String>::new());
    one_mistake(
        "BGPPeer",
        "{asNumber: 65000}",
        "f.yaml:4: spec.peerIP: is required, unless peerSelector or routed.peerRange is given",
    );
    one_mistake("BGPPeer", "{peerIP: 10.0.0.1}", "f.yaml:4: spec.asNumber: is required with peerIP");
    one_mistake(
        "BGPPeer",
        "{peerIP: 10.0.0.1, asNumber: 1, node: a, nodeSelector: all()}",
        "f.yaml:4: spec.node: excludes nodeSelector: keep one of them",
    );
    one_mistake(
        "BGPPeer",
        "{peerSelector: all(), asNumber: 1}",
        "f.yaml:4: spec.asNumber: excludes peerSelector: the nodes have their own AS numbers",
    );
    one_mistake(
        "BGPPeer",
        "\n  peerIP: 10.0.0.1\n  asNumber: 1\n  reachableBy: 10.0.0.9",
        "f.yaml:7: spec.reachableBy: is not honoured (got \"10.0.0.9\"): no static route is made for a peer: make it on the \
         nodes (ip route add PEER/32 via GATEWAY) and leave this out",
    );
    one_mistake(
        "BGPPeer",
        "\n  peerIP: 10.0.0.1\n  asNumber: 1\n  ttlSecurity: 256",
        "f.yaml:7: spec.ttlSecurity: must be a whole number from 1 to 255 (got 256)",
    );
    one_mistake(
        "BGPPeer",
        "\n  peerIP: 10.0.0.1\n  asNumber: 1\n  ttlSecurity: 2\n  routed: {multihop: 2}",
        "f.yaml:8: spec.routed.multihop: excludes ttlSecurity, which says how many hops there are: keep one of them",
    );
    one_mistake(
        "BGPPeer",
        "\n  peerIP: 10.0.0.1\n  asNumber: 1\n  routed: {passwordFile: secret}",
        "f.yaml:7: spec.routed.passwordFile: must be an absolute path (got \"secret\")",
    );
    one_mistake(
        "BGPPeer",
        "\n  peerIP: 10.0.0.1\n  asNumber: 1\n  password: {secretKeyRef: {name: a, key: b}}",
        "f.yaml:7: spec.password: is a Kubernetes secret, which routed does not read: write the password into a file on each \
         node (mode 0600) and name that in spec.routed.passwordFile",
    );
    one_mistake(
        "BGPPeer",
        "\n  routed: {peerRange: 10.0.0.0/16, passwordFile: /etc/x}",
        "f.yaml:5: spec.routed.peerRange: excludes passwordFile, which is for one peer at a time: give such peers \
         resources of their own",
    );
    one_mistake(
        "BGPPeer",
        "\n  peerIP: 10.0.0.1\n  asNumber: 1\n  routed: {bfd: {minInterval: 5ms}}",
        "f.yaml:7: spec.routed.bfd.minInterval: must be from 10ms to 10s (got \"5ms\")",
    );
    one_mistake(
        "BGPPeer",
        "\n  peerIP: 10.0.0.1\n  asNumber: 1\n  routed: {bfd: {multiplier: 0}}",
        "f.yaml:7: spec.routed.bfd.multiplier: must be a whole number from 1 to 255 (got 0)",
    );
    let watched = snapshot(&v3("BGPPeer", "x", "{peerIP: 10.0.0.1, asNumber: 1, routed: {bfd: {}}}"));
    let bfd = watched.peers[0].bfd.unwrap();
    assert_eq!((bfd.min_interval, bfd.multiplier.get()), (std::time::Duration::from_millis(50), 3));
    let guarded = snapshot(&v3(
        "BGPPeer",
        "x",
        "{peerIP: 10.0.0.1, asNumber: 1, ttlSecurity: 2, routed: {passwordFile: /etc/x}}",
    ));
    let Security { password_file, ttl_security, multihop } = guarded.peers[0].security.clone();
    assert_eq!(password_file, Some("/etc/x".into()));
    assert_eq!((ttl_security.map(u8::from), multihop), (Some(2), None));
    let parsed = snapshot(&v3("BGPPeer", "x", "{peerIP: '[fd00::1]:1790', asNumber: 1, keepaliveTime: 10s}"));
    let address: IpAddr = "fd00::1".parse().unwrap();
    assert_eq!(parsed.peers[0].peer_ip, Some((address, Some(1790))));
    assert_eq!(parsed.peers[0].keepalive_time, Some(std::time::Duration::from_secs(10)));
}

#[test]
fn v1_nodes_and_peers_are_read() {
    let text = "apiVersion: v1\nkind: node\nmetadata: {name: n1}\nspec: {bgp: {ipv4Address: 10.0.0.1}}\n---\napiVersion: \
                v1\nkind: bgpPeer\nmetadata: {scope: node, node: n1, peerIP: 10.0.0.9}\nspec: {asNumber: 65000}\n---\n\
                apiVersion: v1\nkind: bgpPeer\nmetadata: {scope: global, peerIP: 'fd00::'}\nspec: {asNumber: 65000}\n";
    let snapshot = snapshot(text);
    assert_eq!(snapshot.nodes[0].ipv4.unwrap().to_string(), "10.0.0.1/32");
    let names: Vec<&str> = snapshot.peers.iter().map(|peer| peer.name.as_str()).collect();
    assert_eq!(names, ["global-fd00", "n1-10-0-0-9"]);
    assert_eq!(snapshot.peers[1].node.as_deref(), Some("n1"));
}

#[test]
fn other_kinds_are_refused_by_name() {
    for (version, kind, line) in [
        (
            "v1",
            "Node",
            "f.yaml:2: kind: Kubernetes' own Node is not read: write a Node of projectcalico.org/v3",
        ),
        ("v1", "pool", "f.yaml:2: kind: must be one of ipPool, node, bgpPeer in v1 (got \"pool\")"),
    ] {
        assert_eq!(mistakes(&format!("apiVersion: {version}\nkind: {kind}\n")), [line]);
    }
}

#[test]
fn a_cluster_configuration_gives_its_encapsulation_and_names_the_rest() {
    let text = "kind: ClusterConfiguration\napiVersion: example.com/v1\nmetadata: {name: c}\nspec:\n  kubernetes:\n    \
                version: 1.17.8\n    containerNetworking:\n      calico:\n        encapsulation: vxlan\n        mtu: 1480\n";
    let read = |text: &str| {
        let mut parsed = parse_file("f.yaml", text);
        assert_eq!(parsed.mistakes, []);
        parsed.clusters.remove(0)
    };
    let cluster = read(text);
    assert_eq!(cluster.encapsulation, EncapsulationKind::Vxlan);
    let ignored: Vec<String> = cluster.ignored.iter().map(ToString::to_string).collect();
    assert_eq!(
        ignored,
        [
            "f.yaml:3: metadata: ignored: not about routing",
            "f.yaml:6: spec.kubernetes.version: ignored: not about routing",
            "f.yaml:10: spec.kubernetes.containerNetworking.calico.mtu: ignored: not about routing",
        ]
    );
    assert_eq!(read(&text.replace("vxlan", "ipip")).encapsulation, EncapsulationKind::Ipip);
    assert_eq!(
        read(&text.replace("        encapsulation: vxlan\n", "")).encapsulation,
        EncapsulationKind::Ipip
    );
    let wrong = mistakes(&text.replace("vxlan", "gre"));
    assert_eq!(
        wrong,
        [
            "f.yaml:9: spec.kubernetes.containerNetworking.calico.encapsulation: must be one of ipip, vxlan, none (got \
          \"gre\")"
        ]
    );
}

#[test]
fn a_file_over_the_size_limit_is_refused() {
    let lines = mistakes(&"#".repeat(MAX_FILE_BYTES + 1));
    assert_eq!(
        lines,
        [format!("f.yaml: must be at most {MAX_FILE_BYTES} bytes (got {})", MAX_FILE_BYTES + 1)]
    );
}

#[test]
fn json_is_read_as_the_yaml_it_is() {
    let text =
        r#"{"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": "a"}, "spec": {}}"#;
    assert_eq!(snapshot(text).nodes[0].name, "a");
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*") {
        let parsed = parse_file("f", &text);
        assemble(&parsed.documents);
    }

    #[test]
    fn arbitrary_fields_never_panic(
        kind in "(IPPool|Node|BGPPeer|BGPConfiguration|BlockAffinity)",
        spec in "[a-zA-Z0-9:{}\\[\\], .'/&*!|>%@-]{0,200}",
    ) {
        parse_file("f", &v3(&kind, "x", &spec));
    }

    #[test]
    fn arbitrary_values_never_panic(
        field in "(cidr|ipipMode|blockSize|podCIDRs|bgp|routed|peerIP|nodeSelector|state|keepaliveTime)",
        value in "\\PC{0,60}",
    ) {
        for kind in ["IPPool", "Node", "BGPPeer", "BGPConfiguration", "BlockAffinity"] {
            parse_file("f", &v3(kind, "default", &format!("\n  {field}: {value}")));
        }
    }

    #[test]
    fn selectors_never_panic(text in "[a-z()!&|'\"{}=, ]{0,80}") {
        let _ = Selector::parse(&text);
    }
}
