//! BGPFilter, and what names it.

use routing::policy::{Action, Community, NextHopMode, Operation, Operator};

use super::tests::{mistakes, snapshot, v3, warnings};

fn filter(spec: &str) -> String {
    v3("BGPFilter", "f", spec)
}

#[test]
fn every_field_of_a_rule_is_read() {
    let text = filter(
        "\n  exportV4:\n    - cidr: 10.0.0.0/8\n      matchOperator: In\n      prefixLength: {min: 16, max: 24}\n      \
         source: RemotePeers\n      interface: 'eth*'\n      peerType: eBGP\n      communities: {values: ['65000:1']}\n      \
         asPathPrefix: [65000, '1.10']\n      priority: 1024\n      action: Accept\n      operations:\n        - \
         addCommunity: {value: '1:2:3'}\n        - prependASPath: {prefix: [65001, 65002]}\n        - setPriority: {value: \
         512}\n  importV6: [{action: Reject}]",
    );
    let snapshot = snapshot(&text);
    let filter = &snapshot.filter("f").expect("the filter").filter;
    let rule = &filter.export_v4[0];
    let prefix = rule.prefix.as_ref().expect("a prefix");
    assert_eq!((prefix.operator, prefix.min, prefix.max), (Operator::In, 16, 24));
    assert!(rule.from_peers);
    assert_eq!(rule.interface.as_deref(), Some("eth*"));
    assert_eq!(rule.community, Some(Community::Standard(65000 << 16 | 1)));
    assert_eq!(rule.as_path_prefix.iter().map(|asn| asn.0).collect::<Vec<_>>(), [65000, 65546]);
    assert_eq!(rule.priority, Some(1024));
    assert_eq!(
        rule.operations[..2],
        [
            Operation::AddCommunity(Community::Large([1, 2, 3])),
            Operation::PrependAsPath(vec![bgp::Asn(65001), bgp::Asn(65002)]),
        ]
    );
    assert_eq!(rule.operations[2], Operation::SetPriority(512));
    assert_eq!(filter.import_v6[0].action, Action::Reject);
    assert!(snapshot.filter("g").is_none());
}

#[test]
fn each_rule_of_a_filter_names_its_line() {
    for (spec, line) in [
        ("{importV4: [{}]}", "f.yaml:4: spec.importV4[0].action: is required"),
        (
            "\n  importV4:\n    - action: Accept\n      cidr: 10.0.0.0/8",
            "f.yaml:7: spec.importV4[0].matchOperator: is required with cidr",
        ),
        (
            "{importV4: [{action: Accept, matchOperator: In}]}",
            "f.yaml:4: spec.importV4[0].cidr: is required with matchOperator",
        ),
        (
            "{importV4: [{action: Accept, prefixLength: {min: 1}}]}",
            "f.yaml:4: spec.importV4[0].prefixLength: must be left out where there is no cidr",
        ),
        (
            "{importV4: [{action: Accept, cidr: 'fd00::/8', matchOperator: In}]}",
            "f.yaml:4: spec.importV4[0].cidr: must be an IPv4 prefix in this list (got \"fd00::/8\")",
        ),
        (
            "{importV4: [{action: Accept, cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {max: 33}}]}",
            "f.yaml:4: spec.importV4[0].prefixLength.max: must be a whole number from 0 to 32 (got 33)",
        ),
        (
            "{exportV6: [{action: Accept, cidr: 'fd00::/8', matchOperator: Inside}]}",
            "f.yaml:4: spec.exportV6[0].matchOperator: must be one of Equal, NotEqual, In, NotIn (got \"Inside\")",
        ),
        (
            "{exportV4: [{action: Reject, operations: [{setPriority: {value: 1}}]}]}",
            "f.yaml:4: spec.exportV4[0].operations: must be left out where action is Reject",
        ),
        (
            "{exportV4: [{action: Accept, operations: [{setPriority: {value: 1}, addCommunity: {value: '1:2'}}]}]}",
            "f.yaml:4: spec.exportV4[0].operations[0]: must be exactly one of addCommunity, prependASPath, setPriority",
        ),
        (
            "{exportV4: [{action: Accept, operations: [{setPriority: {value: 0}}]}]}",
            "f.yaml:4: spec.exportV4[0].operations[0].setPriority.value: must be a whole number from 1 to 2147483646 (got 0)",
        ),
        (
            "{exportV4: [{action: Accept, operations: [{prependASPath: {prefix: []}}]}]}",
            "f.yaml:4: spec.exportV4[0].operations[0].prependASPath.prefix: must be 1 to 10 AS numbers (got 0)",
        ),
        (
            "{exportV4: [{action: Accept, communities: {values: ['1:2', '1:3']}}]}",
            "f.yaml:4: spec.exportV4[0].communities.values: must be one community (got 2)",
        ),
        (
            "{exportV4: [{action: Accept, source: LocalPeers}]}",
            "f.yaml:4: spec.exportV4[0].source: must be one of RemotePeers (got \"LocalPeers\")",
        ),
        ("{exportV4: {action: Accept}}", "f.yaml:4: spec.exportV4: must be a list (got a mapping)"),
        (
            "{exportV4: [{acton: Accept, action: Accept}]}",
            "f.yaml:4: spec.exportV4[0].acton: unknown field (did you mean action?)",
        ),
    ] {
        assert_eq!(mistakes(&filter(spec)), [line], "{spec}");
    }
    let community = mistakes(&filter("{importV4: [{action: Accept, communities: {values: ['1:70000']}}]}"));
    assert!(
        community[0].contains("spec.importV4[0].communities.values[0]: must be a community"),
        "{community:?}"
    );
}

#[test]
fn a_rule_that_can_never_match_is_warned_of() {
    let warned = |spec: &str| warnings(&filter(spec));
    assert_eq!(
        warned(
            "{importV4: [{action: Accept, cidr: 10.0.0.0/16, matchOperator: In, prefixLength: {max: 12}}]}"
        ),
        [
            "f.yaml:4: spec.importV4[0]: can't match: no prefix is what cidr, matchOperator and prefixLength ask for \
             together"
        ]
    );
    assert_eq!(
        warned(
            "\n  importV4:\n    - action: Accept\n    - action: Reject\n      cidr: 10.0.0.0/16\n      matchOperator: In"
        ),
        ["f.yaml:7: spec.importV4[1]: can't match: rule 0 matches first whatever rule 1 would match"]
    );
    assert_eq!(
        warned(
            "{importV4: [{action: Accept, cidr: 10.0.0.0/8, matchOperator: In}, {action: Reject, cidr: 10.1.0.0/16, \
             matchOperator: Equal, peerType: iBGP}]}"
        )
        .len(),
        1
    );
    for fine in [
        "{importV4: [{action: Accept, cidr: 10.0.0.0/16, matchOperator: In}, {action: Reject}]}",
        "{importV4: [{action: Accept, peerType: iBGP}, {action: Reject, peerType: eBGP}]}",
        "{importV4: [{action: Accept}], exportV4: [{action: Reject}]}",
    ] {
        assert_eq!(warned(fine), Vec::<String>::new(), "{fine}");
    }
}

#[test]
fn a_peer_that_names_an_unknown_filter_is_warned_of() {
    let peer = v3("BGPPeer", "tor", "{peerIP: 10.0.0.254, asNumber: 65000, filters: [f, nobody]}");
    assert_eq!(
        warnings(&(peer + &filter("{importV4: [{action: Accept}], exportV4: [{action: Accept}]}"))),
        [
            "f.yaml:4: spec.filters[1]: no BGPFilter \"nobody\": nothing is imported from this peer and nothing exported \
             to it until there is one"
        ]
    );
}

#[test]
fn a_direction_without_a_rule_is_warned_of_where_the_peer_is_outside() {
    let with = |peer: &str, spec: &str| warnings(&(v3("BGPPeer", "tor", peer) + &filter(spec)));
    assert_eq!(
        with("{peerIP: 10.0.0.254, asNumber: 65000, filters: [f]}", "{exportV4: [{action: Accept}]}"),
        [
            "f.yaml:4: spec.filters: no import rule in any of them: nothing is imported from this peer outside the \
             cluster's AS (RFC 8212); write importV4: [{action: Accept}] to import all"
        ]
    );
    assert_eq!(
        with("{peerIP: 10.0.0.254, asNumber: 65000, filters: [f]}", "{importV4: [{action: Accept}]}"),
        Vec::<String>::new(),
        "own blocks go out anyway"
    );
    assert_eq!(
        with("{peerIP: 10.0.0.254, asNumber: 64512, filters: [f]}", "{exportV4: [{action: Accept}]}"),
        Vec::<String>::new(),
        "inside there is no such rule"
    );
}

#[test]
fn the_policy_of_a_peer_is_read() {
    let peer = |spec: &str| snapshot(&v3("BGPPeer", "x", spec)).peers.remove(0).policy;
    let policy = peer(
        "{peerIP: 10.0.0.1, asNumber: 65000, nextHopMode: Self, localASNumber: 65010, numAllowedLocalASNumbers: 2, routed: \
         {maxPrefixes: {limit: 100}}}",
    );
    assert_eq!(policy.next_hop_mode, NextHopMode::Own);
    assert_eq!((policy.local_as_number, policy.allowed_local_as), (Some(65010), 2));
    let max = policy.max_prefixes.expect("a limit");
    assert_eq!(
        (max.limit, max.warn_at, max.restart_after),
        (100, 80, Some(std::time::Duration::from_secs(300)))
    );
    assert_eq!(max.as_policy().warn_at, 80);
    let never =
        peer("{peerSelector: all(), routed: {maxPrefixes: {limit: 1, warnAt: 50, restartAfter: never}}}");
    assert_eq!(never.max_prefixes.and_then(|max| max.restart_after), None);
    let keep = peer("{peerIP: 10.0.0.1, asNumber: 65000, keepOriginalNextHop: true}");
    assert_eq!(keep.next_hop_mode, NextHopMode::Keep);
    let range = peer("{routed: {peerRange: 10.0.0.0/16}}").range.expect("a range");
    assert_eq!((range.net.to_string().as_str(), range.limit), ("10.0.0.0/16", 1000));
    for (spec, line) in [
        (
            "{peerIP: 10.0.0.1, asNumber: 1, nextHopMode: Keep, keepOriginalNextHop: true}",
            "f.yaml:4: spec.keepOriginalNextHop: excludes nextHopMode: keep nextHopMode",
        ),
        (
            "{peerIP: 10.0.0.1, asNumber: 1, routed: {peerRange: 10.0.0.0/16}}",
            "f.yaml:4: spec.routed.peerRange: excludes peerIP and peerSelector: keep one of them",
        ),
        (
            "{peerSelector: all(), routed: {peerLimit: 5}}",
            "f.yaml:4: spec.routed.peerLimit: must be left out where there is no peerRange",
        ),
        (
            "{peerSelector: all(), routed: {maxPrefixes: {warnAt: 5}}}",
            "f.yaml:4: spec.routed.maxPrefixes.limit: is required",
        ),
        (
            "{peerSelector: all(), routed: {maxPrefixes: {limit: 5, restartAfter: 0}}}",
            "f.yaml:4: spec.routed.maxPrefixes.restartAfter: must be never, or a duration from 1s to 24h (got 0)",
        ),
    ] {
        assert_eq!(mistakes(&v3("BGPPeer", "x", spec)), [line], "{spec}");
    }
}

#[test]
fn own_blocks_get_communities_by_value_and_by_name() {
    let configuration = |spec: &str| v3("BGPConfiguration", "default", spec);
    let text = configuration(
        "{communities: [{name: rack, value: '65000:7'}], prefixAdvertisements: [{cidr: 10.1.0.0/16, communities: [rack, \
         '1:2:3']}]}",
    );
    let advertisements = snapshot(&text).configuration.advertisements;
    assert_eq!(
        advertisements[0].communities,
        [Community::Standard(65000 << 16 | 7), Community::Large([1, 2, 3])]
    );
    for (spec, line) in [
        (
            "{prefixAdvertisements: [{cidr: 10.1.0.0/16, communities: [rack]}]}",
            "f.yaml:4: spec.prefixAdvertisements[0].communities[0]: must be a community (a:b or a:b:c) or a name out of \
             spec.communities (got \"rack\")",
        ),
        ("{communities: [{name: a}]}", "f.yaml:4: spec.communities[0].value: is required"),
        (
            "{communities: [{name: a, value: '1:2'}, {name: a, value: '1:3'}]}",
            "f.yaml:4: spec.communities[1].name: must be unique: \"a\" stands there twice",
        ),
        (
            "{routed: {ownership: maybe}}",
            "f.yaml:4: spec.routed.ownership: must be one of strict, warn, off (got \"maybe\")",
        ),
    ] {
        assert_eq!(mistakes(&configuration(spec)), [line], "{spec}");
    }
}
