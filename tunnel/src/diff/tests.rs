use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::{
    desired::{BLACKHOLE_METRIC, Parent},
    observed::Nexthop,
};

const METRIC: u32 = 512;

fn free(_: &Object) -> bool {
    false
}

/// Carries a plan out on the picture, as a kernel that never refuses would.
fn carry_out(observed: &mut Observed, plan: &Plan) {
    for op in plan.stages.iter().flatten() {
        if let Op::AddRoute { key, .. } = op {
            assert!(!observed.routes().contains_key(key), "adds over an existing route: {op:?}");
        }
        if let Op::AddNexthop { id, .. } = op {
            assert!(!observed.nexthops.contains_key(id), "adds over an existing next hop: {op:?}");
        }
        if let Op::AddRoute { via: Via::Nexthop(id), .. } | Op::ReplaceRoute { via: Via::Nexthop(id), .. } =
            op
        {
            assert!(observed.nexthops.contains_key(id), "route before its next hop: {op:?}");
        }
        if let Op::DeleteNexthop { id } = op {
            assert_eq!(observed.nexthop_references(*id), 0, "a next hop still in use is deleted");
        }
        observed.apply(op);
        match *op {
            Op::CreateIpip(spec) => {
                observed.ipip = Some(Link {
                    index: 20,
                    up: false,
                    mtu: 1480,
                    mac: [0; 6],
                    kind: LinkKind::Ipip { local: Some(spec.local.into()), remote: None, pmtudisc: true },
                });
            }
            Op::CreateVxlan(spec) => {
                observed.vxlan = Some(Link {
                    index: 21,
                    up: false,
                    mtu: 1500,
                    mac: [2; 6],
                    kind: LinkKind::Vxlan {
                        vni: VXLAN_VNI,
                        port: VXLAN_PORT,
                        local: Some(spec.local),
                        parent: spec.parent,
                        learning: false,
                    },
                });
            }
            _ => {}
        }
    }
}

fn settle(desired: &Desired, observed: &mut Observed, sweep: Sweep<'_>) -> usize {
    for pass in 0..10 {
        let plan = diff(desired, observed, Scope::All, sweep, &free);
        if plan.is_empty() {
            return pass;
        }
        carry_out(observed, &plan);
    }
    panic!("no rest after 10 passes: {:?}", diff(desired, observed, Scope::All, sweep, &free));
}

fn prefix(i: u32) -> RouteKey {
    let net = ipnet::Ipv4Net::new(Ipv4Addr::from(0x0a01_0000 + (i << 6)), 26).expect("prefix");
    RouteKey { prefix: IpNet::V4(net), metric: METRIC }
}

fn ipip(i: u8) -> Exit {
    Exit::Ipip { remote: Ipv4Addr::new(192, 168, 0, i) }
}

fn vxlan(i: u8) -> Exit {
    Exit::Vxlan { vtep: IpAddr::V4(Ipv4Addr::new(10, 1, i, 0)) }
}

fn devices(desired: &mut Desired) {
    desired.ipip = Wanted::Present(IpipSpec { local: Ipv4Addr::new(192, 168, 0, 1), mtu: 1480 });
    desired.vxlan = Wanted::Present(VxlanSpec {
        local: IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1)),
        parent: 2,
        mtu: 1450,
        mac: [0x66, 1, 2, 3, 4, 5],
    });
}

fn empty() -> Observed {
    let mut observed = Observed::default();
    observed.nexthop_objects = true;
    observed.parent = Some(Parent { index: 2, mtu: 1500 });
    observed
}

/// A node with three blocks, settled.
fn settled_node(exit: Exit) -> (Desired, Observed) {
    let mut desired = Desired::default();
    devices(&mut desired);
    for i in 0..3 {
        desired.set_route(prefix(i), Some(Target::Exit(exit)));
    }
    let mut observed = empty();
    settle(&desired, &mut observed, Sweep::All);
    (desired, observed)
}

#[test]
fn changing_a_nodes_exit_is_one_replace_of_its_next_hop_object() {
    let (mut desired, mut observed) = settled_node(ipip(2));
    for i in 0..3 {
        desired.set_route(prefix(i), Some(Target::Exit(vxlan(2))));
    }
    let dirty: HashSet<_> = (0..3).map(prefix).collect();
    let plan = diff(&desired, &observed, Scope::Routes(&dirty), Sweep::All, &free);
    let id = *observed.nexthops.keys().next().expect("an object");
    let gateway: IpAddr = "10.1.2.0".parse().expect("address");
    assert_eq!(plan.stages, [vec![Op::ReplaceNexthop { id, gateway, index: 21 }]]);
    carry_out(&mut observed, &plan);
    assert!(diff(&desired, &observed, Scope::All, Sweep::All, &free).is_empty());
}

#[test]
fn a_next_hop_object_that_other_routes_keep_is_not_taken_over() {
    let (mut desired, mut observed) = settled_node(ipip(2));
    desired.set_route(prefix(0), Some(Target::Exit(vxlan(2))));
    let plan = diff(&desired, &observed, Scope::All, Sweep::All, &free);
    assert!(matches!(plan.stages[0][..], [Op::AddNexthop { .. }]), "{plan:?}");
    assert!(matches!(plan.stages[1][..], [Op::ReplaceRoute { .. }]), "{plan:?}");
    carry_out(&mut observed, &plan);
    assert!(diff(&desired, &observed, Scope::All, Sweep::All, &free).is_empty());
}

#[test]
fn only_withdrawn_routes_are_deleted_before_the_sweep() {
    let (_, observed) = settled_node(ipip(2));
    let nothing = Desired::default();
    assert!(diff(&nothing, &observed, Scope::All, Sweep::Routes(&HashSet::new()), &free).is_empty());
    let withdrawn = HashSet::from([prefix(0)]);
    let mut without = observed.clone();
    settle(&nothing, &mut without, Sweep::Routes(&withdrawn));
    assert!(observed.routes().contains_key(&prefix(0)) && !without.routes().contains_key(&prefix(0)));
    assert_eq!(without.routes().len(), observed.routes().len() - 1);
    assert_eq!((&without.nexthops, without.vxlan), (&observed.nexthops, observed.vxlan));
    let mut swept = observed.clone();
    settle(&nothing, &mut swept, Sweep::All);
    assert_eq!((swept.routes().len(), swept.nexthops.len()), (0, 0));
    assert_eq!((swept.ipip, swept.vxlan), (None, None));
}

#[test]
fn an_unknown_parent_leaves_the_devices_as_they_are() {
    let (mut desired, mut observed) = settled_node(ipip(2));
    desired.ipip = Wanted::Unknown;
    desired.vxlan = Wanted::Unknown;
    assert_eq!(settle(&desired, &mut observed, Sweep::All), 0);
}

#[test]
fn ids_in_use_by_others_are_skipped() {
    let mut desired = Desired::default();
    devices(&mut desired);
    desired.set_route(prefix(0), Some(Target::Exit(ipip(2))));
    let mut observed = empty();
    let foreign = Nexthop { ours: false, gateway: None, index: 2, onlink: false };
    observed.nexthops.insert(*NEXTHOP_IDS.start(), foreign);
    settle(&desired, &mut observed, Sweep::All);
    assert_eq!(observed.nexthops.get(NEXTHOP_IDS.start()), Some(&foreign));
    assert_eq!(observed.routes().get(&prefix(0)), Some(&Via::Nexthop(NEXTHOP_IDS.start() + 1)));
}

#[test]
fn a_kernel_without_objects_gets_plain_gateways() {
    let mut desired = Desired::default();
    devices(&mut desired);
    desired.set_route(prefix(0), Some(Target::Exit(ipip(2))));
    let mut observed = empty();
    observed.nexthop_objects = false;
    settle(&desired, &mut observed, Sweep::All);
    let gateway: IpAddr = "192.168.0.2".parse().expect("address");
    assert_eq!(observed.routes().get(&prefix(0)), Some(&Via::Gateway { gateway, index: 20 }));
    assert!(observed.nexthops.is_empty());
}

#[test]
fn a_blocked_object_and_what_hangs_on_it_is_left_alone() {
    let mut desired = Desired::default();
    devices(&mut desired);
    desired.set_route(prefix(0), Some(Target::Exit(ipip(2))));
    desired.set_route(prefix(1), Some(Target::Exit(vxlan(3))));
    let mut observed = empty();
    let blocked = |o: &Object| *o == Object::Link(Device::Vxlan);
    for _ in 0..5 {
        let plan = diff(&desired, &observed, Scope::All, Sweep::All, &blocked);
        carry_out(&mut observed, &plan);
    }
    assert!(observed.vxlan.is_none());
    assert!(observed.routes().contains_key(&prefix(0)) && !observed.routes().contains_key(&prefix(1)));
}

#[test]
fn a_rival_vxlan_device_keeps_ours_from_being_created() {
    let mut desired = Desired::default();
    devices(&mut desired);
    let mut observed = empty();
    observed.vxlan_rival = Some("vxlan.calico".into());
    settle(&desired, &mut observed, Sweep::All);
    assert!(observed.vxlan.is_none() && observed.ipip.is_some());
}

#[test]
fn a_changed_outer_source_recreates_the_device_and_a_changed_mtu_does_not() {
    let (mut desired, observed) = settled_node(ipip(2));
    let Wanted::Present(spec) = desired.ipip else { panic!("no device") };
    desired.ipip = Wanted::Present(IpipSpec { mtu: 1380, ..spec });
    let plan = diff(&desired, &observed, Scope::All, Sweep::All, &free);
    assert!(matches!(plan.stages[0][..], [Op::SetLink { mtu: Some(1380), .. }]), "{plan:?}");
    desired.ipip = Wanted::Present(IpipSpec { local: Ipv4Addr::new(192, 168, 0, 9), ..spec });
    let plan = diff(&desired, &observed, Scope::All, Sweep::All, &free);
    assert!(matches!(plan.stages[0][..], [Op::DeleteLink { index: 20, .. }, Op::CreateIpip(_)]), "{plan:?}");
}

fn any_exit() -> impl Strategy<Value = Exit> {
    prop_oneof![
        (1u8..6).prop_map(ipip),
        (1u8..6).prop_map(vxlan),
        (1u8..6, 2u32..4).prop_map(|(i, index)| Exit::Direct {
            gateway: IpAddr::V4(Ipv4Addr::new(192, 168, 0, i)),
            index
        }),
        (1u16..4).prop_map(|i| Exit::Vxlan { vtep: IpAddr::V6([0xfd10, 0, 0, 0, 0, 0, 0, i].into()) }),
    ]
}

fn any_route() -> impl Strategy<Value = (RouteKey, Target)> {
    (0u32..40, any_exit(), 0u8..8).prop_map(|(i, exit, kind)| {
        if kind == 0 {
            return (RouteKey { metric: BLACKHOLE_METRIC, ..prefix(i) }, Target::Blackhole);
        }
        let key = if exit.is_ipv4() {
            prefix(i)
        } else {
            let address =
                std::net::Ipv6Addr::new(0xfd10, 1, 0, 0, 0, 0, 0, u16::try_from(i << 6).expect("u16"));
            RouteKey { prefix: IpNet::V6(ipnet::Ipv6Net::new(address, 122).expect("prefix")), metric: METRIC }
        };
        (key, Target::Exit(exit))
    })
}

prop_compose! {
    fn any_desired()(
        routes in prop::collection::vec(any_route(), 0..40),
        ipip in any::<bool>(),
        vteps in prop::collection::btree_map(1u8..6, 1u8..6, 0..5),
        address in prop::option::of(1u8..3),
    ) -> Desired {
        let mut desired = Desired::default();
        devices(&mut desired);
        if !ipip {
            desired.ipip = Wanted::Absent;
        }
        for (i, j) in vteps {
            let mac = [0x66, 0, 0, 0, 0, j];
            desired.neighbours.insert(IpAddr::V4(Ipv4Addr::new(10, 1, i, 0)), mac);
            desired.fdb.insert(mac, IpAddr::V4(Ipv4Addr::new(192, 168, 0, i)));
        }
        if let Some(i) = address {
            let net = IpNet::V4(ipnet::Ipv4Net::from(Ipv4Addr::new(10, 1, i, 0)));
            desired.addresses.insert((Device::Vxlan, net));
        }
        for (key, target) in routes {
            desired.set_route(key, Some(target));
        }
        desired
    }
}

/// That `observed` has all of `desired`, and with `exactly` nothing else.
fn holds(desired: &Desired, observed: &Observed, exactly: bool) {
    for (key, target) in desired.routes() {
        let via = observed.routes().get(key);
        match target {
            Target::Exit(exit) if observed.realise(exit).is_some() => {
                assert!(via.is_some_and(|v| observed.leads_to(v, exit)), "{key:?} {exit:?} {via:?}");
            }
            Target::Exit(_) | Target::Device(_) => {}
            Target::Blackhole => assert_eq!(via, Some(&Via::Blackhole)),
        }
    }
    assert!(desired.fdb.iter().all(|(m, r)| observed.fdb.contains(&(*m, *r))));
    assert!(desired.neighbours.iter().all(|(a, m)| observed.neighbours.get(a) == Some(m)));
    if exactly {
        assert!(observed.routes().keys().all(|k| desired.routes().contains_key(k)));
        assert_eq!(observed.fdb.len(), desired.fdb.len());
        assert_eq!(observed.neighbours.len(), desired.neighbours.len());
        assert_eq!(observed.addresses, desired.addresses);
        let used = observed.nexthops.keys().all(|id| observed.nexthop_references(*id) > 0);
        assert!(used, "unused next-hop objects are left: {observed:?}");
    }
}

proptest! {
    #[test]
    fn applying_a_diff_reaches_desired_and_the_diff_is_empty_then(first in any_desired(), second in any_desired()) {
        let mut observed = empty();
        settle(&first, &mut observed, Sweep::All);
        holds(&first, &observed, true);
        prop_assert!(diff(&first, &observed, Scope::All, Sweep::All, &free).is_empty());
        let mut unswept = observed.clone();
        settle(&second, &mut unswept, Sweep::Routes(&HashSet::new()));
        holds(&second, &unswept, false);
        settle(&second, &mut observed, Sweep::All);
        holds(&second, &observed, true);
        settle(&second, &mut unswept, Sweep::All);
        holds(&second, &unswept, true);
    }

    #[test]
    fn comparing_the_changed_routes_alone_reaches_the_same(first in any_desired(), second in any_desired()) {
        let mut observed = empty();
        settle(&first, &mut observed, Sweep::All);
        let mut third = first.clone();
        let mut dirty = HashSet::new();
        for key in first.routes().keys() {
            third.set_route(*key, None);
            dirty.insert(*key);
        }
        for (key, target) in second.routes() {
            third.set_route(*key, Some(*target));
            dirty.insert(*key);
        }
        for _ in 0..10 {
            let plan = diff(&third, &observed, Scope::Routes(&dirty), Sweep::All, &free);
            carry_out(&mut observed, &plan);
        }
        holds(&third, &observed, true);
    }

    #[test]
    fn plain_gateways_reach_desired_too(first in any_desired(), second in any_desired()) {
        let mut observed = empty();
    observed.nexthop_objects = false;
        settle(&first, &mut observed, Sweep::All);
        settle(&second, &mut observed, Sweep::All);
        holds(&second, &observed, true);
    }
}
