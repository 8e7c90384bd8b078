//! Filters compared with a simple reference evaluator, which works on bits and lists, one condition
//! after the other, and shares no code with the rules.

use std::net::{IpAddr, Ipv4Addr};

use bgp::wire::attribute::{RawAttributes, code, flag, push};
use proptest::prelude::*;

use super::*;
use crate::attrs::AttrSet;
use crate::path::SourceKind;

/// Route in the form of the reference evaluator.
#[derive(Clone, Debug)]
struct Route {
    prefix: IpNet,
    communities: Vec<u32>,
    large: Vec<[u32; 3]>,
    path: Vec<u32>,
    local_pref: Option<u32>,
    kind: SourceKind,
    internal: bool,
    interface: Option<&'static str>,
}

impl Route {
    fn attrs(&self) -> AttrSet {
        let mut out = Vec::new();
        push(&mut out, flag::WELL_KNOWN, code::ORIGIN, |out| out.push(0));
        push(&mut out, flag::WELL_KNOWN, code::AS_PATH, |out| {
            if !self.path.is_empty() {
                out.extend([2, self.path.len() as u8]);
                self.path.iter().for_each(|asn| out.extend(asn.to_be_bytes()));
            }
        });
        if let Some(local_pref) = self.local_pref {
            push(&mut out, flag::WELL_KNOWN, code::LOCAL_PREF, |out| out.extend(local_pref.to_be_bytes()));
        }
        let transitive = flag::OPTIONAL | flag::TRANSITIVE;
        if !self.communities.is_empty() {
            push(&mut out, transitive, code::COMMUNITIES, |out| {
                self.communities.iter().for_each(|one| out.extend(one.to_be_bytes()));
            });
        }
        if !self.large.is_empty() {
            push(&mut out, transitive, code::LARGE_COMMUNITIES, |out| {
                self.large.iter().flatten().for_each(|part| out.extend(part.to_be_bytes()));
            });
        }
        AttrSet::from_canonical(&out, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)))
    }
}

fn bits(prefix: &IpNet) -> String {
    let all = match prefix.addr() {
        IpAddr::V4(address) => format!("{:032b}", address.to_bits()),
        IpAddr::V6(address) => format!("{:0128b}", address.to_bits()),
    };
    all[..prefix.prefix_len() as usize].to_owned()
}

/// Returns whether a route satisfies every condition of a rule.
fn holds(rule: &FilterRule, route: &Route) -> bool {
    let mut conditions = Vec::new();
    if let Some(PrefixMatch { net, operator, min, max }) = &rule.prefix {
        let (outer, inner) = (bits(net), bits(&route.prefix));
        let length = inner.len() >= *min as usize && inner.len() <= *max as usize;
        conditions.push(match operator {
            Operator::Equal => outer == inner && length,
            Operator::NotEqual => !(outer == inner && length),
            Operator::In => inner.starts_with(&outer) && length,
            Operator::NotIn => !(inner.starts_with(&outer) && length),
        });
    }
    if rule.from_peers {
        conditions.push([SourceKind::Ibgp, SourceKind::Ebgp, SourceKind::Client].contains(&route.kind));
    }
    match rule.interface.as_deref() {
        Some("eth*") => conditions.push(route.interface.is_some_and(|name| name.starts_with("eth"))),
        Some("*1") => conditions.push(route.interface.is_some_and(|name| name.ends_with('1'))),
        Some(exact) => conditions.push(route.interface == Some(exact)),
        None => {}
    }
    if let Some(peer) = rule.peer {
        conditions.push((peer == PeerKind::Internal) == route.internal);
    }
    match rule.community {
        Some(Community::Standard(number)) => conditions.push(route.communities.contains(&number)),
        Some(Community::Large(parts)) => conditions.push(route.large.contains(&parts)),
        None => {}
    }
    let wanted: Vec<u32> = rule.as_path_prefix.iter().map(|asn| asn.0).collect();
    conditions.push(route.path.len() >= wanted.len() && route.path[..wanted.len()] == wanted[..]);
    if let Some(priority) = rule.priority {
        let local_pref = route.local_pref.unwrap_or(100);
        conditions.push(i64::from(priority) == 2_147_483_647 - i64::from(local_pref));
    }
    conditions.into_iter().all(|holds| holds)
}

fn prefix() -> impl Strategy<Value = IpNet> {
    // Few bits, so that prefixes are often equal or nested.
    prop_oneof![
        (0..4u32, 8..34u8).prop_map(|(at, length)| {
            let address = Ipv4Addr::from_bits(0x0a00_0000 | at << 22);
            IpNet::new(address.into(), length.min(32)).expect("a length").trunc()
        }),
        (0..4u128, 16..130u8).prop_map(|(at, length)| {
            let address = std::net::Ipv6Addr::from_bits(0xfd00 << 112 | at << 100);
            IpNet::new(address.into(), length.min(128)).expect("a length").trunc()
        }),
    ]
}

fn community() -> impl Strategy<Value = Community> {
    prop_oneof![
        (0..3u32).prop_map(Community::Standard),
        (0..2u32, 0..2u32).prop_map(|(a, c)| Community::Large([a, 7, c])),
    ]
}

prop_compose! {
    fn rule()(
        prefix in prop::option::of((prefix(), 0..4usize, any::<bool>(), 0..40u8, 0..40u8)),
        from_peers in any::<bool>(),
        interface in prop::option::weighted(0.2, prop::sample::select(vec!["eth*", "*1", "eth0"])),
        peer in prop::option::weighted(0.2, any::<bool>()),
        community in prop::option::weighted(0.3, community()),
        as_path_prefix in prop::collection::vec(64_512..64_514u32, 0..2),
        priority in prop::option::weighted(0.2, prop::sample::select(vec![2_147_483_547u32, 2_147_483_447])),
        accept in any::<bool>(),
        operations in prop::collection::vec(operation(), 0..3),
    ) -> FilterRule {
        let operators = [Operator::Equal, Operator::NotEqual, Operator::In, Operator::NotIn];
        let prefix = prefix.map(|(net, operator, whole, min, max)| PrefixMatch {
            net,
            operator: operators[operator],
            min: if whole { net.prefix_len() } else { min },
            max: if whole { net.max_prefix_len() } else { max },
        });
        FilterRule {
            prefix,
            from_peers,
            interface: interface.map(ToOwned::to_owned),
            peer: peer.map(|internal| if internal { PeerKind::Internal } else { PeerKind::External }),
            community,
            as_path_prefix: as_path_prefix.into_iter().map(Asn).collect(),
            priority,
            action: if accept { Action::Accept } else { Action::Reject },
            operations: if accept { operations } else { Vec::new() },
        }
    }
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        community().prop_map(Operation::AddCommunity),
        prop::collection::vec(1..5u32, 1..4)
            .prop_map(|path| Operation::PrependAsPath(path.into_iter().map(Asn).collect())),
        (1..2_147_483_647u32).prop_map(Operation::SetPriority),
    ]
}

prop_compose! {
    fn route()(
        prefix in prefix(),
        communities in prop::collection::vec(0..3u32, 0..3),
        large in prop::collection::vec((0..2u32, 0..2u32), 0..2),
        path in prop::collection::vec(64_512..64_514u32, 0..3),
        local_pref in prop::option::of(prop::sample::select(vec![100u32, 200])),
        kind in prop::sample::select(SourceKind::ALL.to_vec()),
        internal in any::<bool>(),
        interface in prop::sample::select(vec![None, Some("eth0"), Some("eth1"), Some("bond1")]),
    ) -> Route {
        let large = large.into_iter().map(|(a, c)| [a, 7, c]).collect();
        Route { prefix, communities, large, path, local_pref, kind, internal, interface }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2000), ..ProptestConfig::default() })]

    #[test]
    fn filters_agree_with_the_reference_evaluator(
        filters in prop::collection::vec(prop::collection::vec(rule(), 0..4), 1..3),
        route in route(),
    ) {
        let is_v4 = route.prefix.addr().is_ipv4();
        let made: Vec<Filter> = filters
            .iter()
            .map(|rules| match is_v4 {
                true => Filter { import_v4: rules.clone(), ..Filter::default() },
                false => Filter { import_v6: rules.clone(), ..Filter::default() },
            })
            .collect();
        let chain = Chain::import(&made);
        let attrs = route.attrs();
        let subject = Subject {
            prefix: route.prefix,
            attrs: &attrs,
            kind: route.kind,
            peer: if route.internal { PeerKind::Internal } else { PeerKind::External },
            interface: route.interface,
        };
        let first = filters.iter().flatten().find(|rule| holds(rule, &route));
        match (chain.evaluate(&subject), first) {
            (FilterOutcome::NoMatch, None) => {}
            (FilterOutcome::Rejected, Some(FilterRule { action: Action::Reject, .. })) => {}
            (FilterOutcome::Accepted(rule, _), Some(expected)) if expected.action == Action::Accept => {
                prop_assert_eq!(rule, expected);
            }
            (outcome, expected) => prop_assert!(false, "{:?} instead of {:?}", outcome, expected),
        }
        let other = Chain::export(&made);
        prop_assert_eq!(other.evaluate(&subject), FilterOutcome::NoMatch, "the other direction has no rules");
    }

    #[test]
    fn operations_agree_with_the_reference_evaluator(route in route(), operations in prop::collection::vec(operation(), 0..5)) {
        let attrs = route.attrs();
        let result = AttrSet::from_canonical(&apply_operations(attrs.canonical(), &operations), attrs.next_hop);
        let mut expected = route.clone();
        for operation in &operations {
            match operation {
                Operation::AddCommunity(Community::Standard(one)) if !expected.communities.contains(one) => {
                    expected.communities.push(*one);
                }
                Operation::AddCommunity(Community::Large(one)) if !expected.large.contains(one) => {
                    expected.large.push(*one);
                }
                Operation::AddCommunity(_) => {}
                Operation::PrependAsPath(path) => {
                    expected.path.splice(0..0, path.iter().map(|asn| asn.0));
                }
                Operation::OnlyToCustomer(_) => unreachable!("not part of filters"),
                Operation::SetPriority(priority) => expected.local_pref = Some(2_147_483_647 - priority),
            }
        }
        let expected = expected.attrs();
        prop_assert_eq!(result.canonical(), expected.canonical());
        let codes: Vec<u8> = RawAttributes::new(result.canonical()).map(|raw| raw.code).collect();
        prop_assert!(codes.is_sorted(), "{:?}", codes);
    }
}

#[test]
fn an_empty_prefix_match_is_detected() {
    let net: IpNet = "10.0.0.0/16".parse().expect("a prefix");
    let empty = |operator, min, max| PrefixMatch { net, operator, min, max }.is_empty();
    assert!(empty(Operator::In, 24, 20));
    assert!(empty(Operator::In, 0, 15), "a prefix in a /16 is not shorter");
    assert!(!empty(Operator::In, 16, 16));
    assert!(empty(Operator::Equal, 24, 32));
    assert!(!empty(Operator::NotEqual, 24, 32));
    assert!(!empty(Operator::NotIn, 16, 32));
    let all = PrefixMatch {
        net: "0.0.0.0/0".parse().expect("a prefix"),
        operator: Operator::NotIn,
        min: 0,
        max: 32,
    };
    assert!(all.is_empty(), "every prefix is in 0.0.0.0/0");
}

#[test]
fn communities_are_parsed_in_both_forms_only() {
    for (text, community) in [
        ("65535:666", Community::BLACKHOLE),
        ("65535:65281", Community::NO_EXPORT),
        ("0:0", Community::Standard(0)),
        ("4294967295:0:1", Community::Large([u32::MAX, 0, 1])),
    ] {
        assert_eq!(text.parse(), Ok(community), "{text}");
        assert_eq!(community.to_string(), text);
    }
    for text in
        ["", "1", "1:", "65536:1", "1:65536", "1:2:4294967296", "1:2:3:4", "+1:2", "01:2", "a:b", " 1:2"]
    {
        assert_eq!(text.parse::<Community>(), Err(InvalidCommunity), "{text}");
    }
}
