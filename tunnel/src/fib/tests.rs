use std::{collections::HashSet, net::Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::{
    desired::{self, BLACKHOLE_METRIC, Device, IpipSpec, VxlanSpec},
    diff::{NEXTHOP_IDS, Op},
    members::GroupMembers,
    observed::Nexthop,
    resolve::Exit,
};
use ipnet::IpNet;

mod model;
mod multipath;

use model::{FibModel, ModelRoute, free};

const METRIC: u32 = 512;

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

fn devices(desired: &mut DesiredState) {
    desired.ipip =
        desired::DesiredDevice::Present(IpipSpec { local: Ipv4Addr::new(192, 168, 0, 1), mtu: 1480 });
    desired.vxlan = desired::DesiredDevice::Present(VxlanSpec {
        local: IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1)),
        parent: 2,
        mtu: 1450,
        mac: [0x66, 1, 2, 3, 4, 5],
    });
}

/// Builds a settled node with three blocks.
fn settled_node(exit: Exit) -> FibModel {
    let mut model = FibModel::new(true);
    devices(&mut model.fib.desired);
    for i in 0..3 {
        model.set(prefix(i), Some(RouteTarget::Exit(exit)));
    }
    model.settle(true);
    model
}

#[test]
fn changing_a_nodes_exit_is_one_replace_of_its_next_hop_object() {
    let mut model = settled_node(ipip(2));
    for i in 0..3 {
        model.set(prefix(i), Some(RouteTarget::Exit(vxlan(2))));
    }
    let id = *model.observed().nexthops.keys().next().expect("an object");
    let gateway: IpAddr = "10.1.2.0".parse().expect("address");
    model.settle(true);
    assert_eq!(model.ops, [Op::ReplaceNexthop { id, gateway, index: 21 }]);
    assert_eq!(model.route_ops, []);
    assert!(model.is_at_rest(true));
}

#[test]
fn a_next_hop_object_that_other_routes_keep_is_not_reused() {
    let mut model = settled_node(ipip(2));
    model.set(prefix(0), Some(RouteTarget::Exit(vxlan(2))));
    model.settle(true);
    assert!(matches!(model.ops[..], [Op::AddNexthop { .. }]), "{:?}", model.ops);
    assert!(
        matches!(model.route_ops[..], [RouteOp { verb: RouteAction::Replace(_), .. }]),
        "{:?}",
        model.route_ops
    );
    assert!(model.is_at_rest(true));
}

#[test]
fn a_next_hop_object_whose_routes_diverge_is_not_reused() {
    let mut model = settled_node(ipip(2));
    model.set(prefix(0), Some(RouteTarget::Exit(vxlan(2))));
    model.set(prefix(1), Some(RouteTarget::Exit(vxlan(3))));
    model.set(prefix(2), None);
    model.settle(true);
    let adds = model.ops.iter().filter(|op| matches!(op, Op::AddNexthop { .. })).count();
    assert_eq!((adds, model.route_ops.len()), (2, 3), "{:?} {:?}", model.ops, model.route_ops);
    assert!(matches!(model.ops[2..], [Op::DeleteNexthop { .. }]), "{:?}", model.ops);
    assert!(model.is_at_rest(true));
}

#[test]
fn only_withdrawn_routes_are_deleted_before_the_sweep() {
    let mut earlier = settled_node(ipip(2));
    // A second run that has learned only one of them.
    let mut model = FibModel::new(true);
    model.fib.observed = earlier.fib.observed.take();
    model.routes = earlier.routes.clone();
    model.observe_routes();
    model.settle(false);
    assert_eq!((model.routes.len(), model.ops.len()), (3, 0));
    model.set(prefix(0), Some(RouteTarget::Exit(ipip(2))));
    model.set(prefix(0), None);
    model.settle(false);
    assert!(!model.routes.contains_key(&prefix(0)) && model.routes.len() == 2);
    assert_eq!((model.observed().nexthops.len(), model.ops.len()), (1, 0));
    model.observe_routes();
    model.settle(true);
    assert_eq!((model.routes.len(), model.observed().nexthops.len()), (0, 0));
    assert_eq!((model.observed().ipip, model.observed().vxlan), (None, None));
    model.fib.shrink();
    assert!(model.fib.table().is_empty());
}

#[test]
fn an_unknown_parent_leaves_the_devices_as_they_are() {
    let mut model = settled_node(ipip(2));
    model.fib.desired.ipip = desired::DesiredDevice::Unknown;
    model.fib.desired.vxlan = desired::DesiredDevice::Unknown;
    assert!(model.is_at_rest(true));
}

#[test]
fn ids_in_use_by_others_are_skipped() {
    let mut model = FibModel::new(true);
    devices(&mut model.fib.desired);
    let foreign =
        Nexthop { ours: false, gateway: None, index: 2, onlink: false, members: GroupMembers::default() };
    model.fib.observed.as_mut().expect("observed").nexthops.insert(*NEXTHOP_IDS.start(), foreign);
    model.set(prefix(0), Some(RouteTarget::Exit(ipip(2))));
    model.settle(true);
    assert_eq!(model.observed().nexthops.get(NEXTHOP_IDS.start()), Some(&foreign));
    assert_eq!(model.routes.get(&prefix(0)), Some(&Via::Nexthop(NEXTHOP_IDS.start() + 1)));
}

#[test]
fn a_kernel_without_objects_gets_plain_gateways() {
    let mut model = FibModel::new(false);
    devices(&mut model.fib.desired);
    model.set(prefix(0), Some(RouteTarget::Exit(ipip(2))));
    model.settle(true);
    let gateway: IpAddr = "192.168.0.2".parse().expect("address");
    assert_eq!(model.routes.get(&prefix(0)), Some(&Via::Gateway { gateway, index: 20 }));
    assert!(model.observed().nexthops.is_empty());
}

#[test]
fn a_blocked_object_and_its_dependants_are_left_alone() {
    let mut model = FibModel::new(true);
    devices(&mut model.fib.desired);
    model.set(prefix(0), Some(RouteTarget::Exit(ipip(2))));
    model.set(prefix(1), Some(RouteTarget::Exit(vxlan(3))));
    let blocked = |o: &Object| *o == Object::Link(Device::Vxlan);
    while model.turn(true, 10, &blocked) {}
    assert!(model.observed().vxlan.is_none());
    assert!(model.routes.contains_key(&prefix(0)) && !model.routes.contains_key(&prefix(1)));
}

#[test]
fn a_vxlan_device_with_the_same_vni_prevents_the_creation_of_ours() {
    let mut model = FibModel::new(true);
    devices(&mut model.fib.desired);
    model.fib.observed.as_mut().expect("observed").vxlan_rival = Some("vxlan.calico".into());
    model.settle(true);
    assert!(model.observed().vxlan.is_none() && model.observed().ipip.is_some());
}

#[test]
fn a_changed_outer_source_recreates_the_device_and_a_changed_mtu_does_not() {
    let mut model = settled_node(ipip(2));
    let desired::DesiredDevice::Present(spec) = model.fib.desired.ipip else { panic!("no device") };
    model.fib.desired.ipip = desired::DesiredDevice::Present(IpipSpec { mtu: 1380, ..spec });
    model.settle(true);
    assert!(matches!(model.ops[..], [Op::SetLink { mtu: Some(1380), .. }]), "{:?}", model.ops);
    let spec = IpipSpec { local: Ipv4Addr::new(192, 168, 0, 9), ..spec };
    model.fib.desired.ipip = desired::DesiredDevice::Present(spec);
    model.settle(true);
    assert!(
        matches!(model.ops[..2], [Op::DeleteLink { index: 20, .. }, Op::CreateIpip(_)]),
        "{:?}",
        model.ops
    );
    assert_eq!((model.routes.len(), model.route_ops.len()), (3, 3), "the routes went with the device");
}

#[test]
fn a_route_that_changes_while_in_flight_is_compared_afterwards() {
    let mut model = settled_node(ipip(2));
    model.set(prefix(0), None);
    let mut batch = Vec::new();
    assert!(model.fib.route_ops(&mut batch, 10, true, &free));
    assert_eq!(batch.len(), 1);
    model.set(prefix(0), Some(RouteTarget::Exit(ipip(2))));
    let mut second = Vec::new();
    assert!(model.fib.route_ops(&mut second, 10, true, &free));
    assert_eq!(second, []);
    model.carry_out_route(batch[0]);
    model.settle(true);
    assert_eq!(model.routes.len(), 3);
    assert!(model.is_at_rest(true));
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

/// Generates a route to exits of one family; without exits a blackhole.
fn any_route() -> impl Strategy<Value = (RouteKey, Vec<Exit>)> {
    let exits = prop_oneof![
        2 => prop::collection::vec(any_exit(), 1),
        1 => prop::collection::vec(any_exit(), 2..5),
    ];
    (0u32..40, exits, 0u8..8).prop_map(|(i, mut exits, kind)| {
        if kind == 0 {
            return (RouteKey { metric: BLACKHOLE_METRIC, ..prefix(i) }, Vec::new());
        }
        let exit = exits[0];
        exits.retain(|other| other.is_ipv4() == exit.is_ipv4());
        let key = if exit.is_ipv4() {
            prefix(i)
        } else {
            let address =
                std::net::Ipv6Addr::new(0xfd10, 1, 0, 0, 0, 0, 0, u16::try_from(i << 6).expect("u16"));
            RouteKey { prefix: IpNet::V6(ipnet::Ipv6Net::new(address, 122).expect("prefix")), metric: METRIC }
        };
        (key, exits)
    })
}

prop_compose! {
    fn any_wanted()(
        routes in prop::collection::vec(any_route(), 0..40),
        ipip in any::<bool>(),
        vteps in prop::collection::btree_map(1u8..6, 1u8..6, 0..5),
        hosts in prop::collection::btree_set(1u16..4, 0..3),
        address in prop::option::of(1u8..3),
    ) -> ModelRoute {
        let mut wanted = ModelRoute::default();
        let desired = &mut wanted.base;
        devices(desired);
        if !ipip {
            desired.ipip = desired::DesiredDevice::Absent;
        }
        for (i, j) in vteps {
            let mac = [0x66, 0, 0, 0, 0, j];
            desired.neighbours.insert(IpAddr::V4(Ipv4Addr::new(10, 1, i, 0)), mac);
            desired.fdb.insert(mac, IpAddr::V4(Ipv4Addr::new(192, 168, 0, i)));
        }
        for i in hosts {
            let host = IpNet::from(IpAddr::V6([0xfd10, 0, 0, 0, 0, 0, 0, i].into()));
            let key = RouteKey { prefix: host, metric: METRIC };
            desired.routes.push((key, RouteTarget::Device(Device::Vxlan)));
        }
        if let Some(i) = address {
            let net = IpNet::V4(ipnet::Ipv4Net::from(Ipv4Addr::new(10, 1, i, 0)));
            desired.addresses.insert((Device::Vxlan, net));
        }
        for (key, exits) in routes {
            if exits.is_empty() {
                wanted.base.routes.push((key, RouteTarget::Blackhole));
            } else {
                wanted.routes.insert(key, exits);
            }
        }
        wanted
    }
}

/// Asserts that the kernel has all desired routes, and with `exactly` no others.
fn holds(wanted: &ModelRoute, model: &FibModel, exactly: bool) {
    let observed = model.observed();
    let mut keys = HashSet::new();
    for (key, target) in &wanted.base.routes {
        let right = match target {
            RouteTarget::Device(device) => observed.link(*device).map(|link| Via::Link(link.index)),
            _ => Some(Via::Blackhole),
        };
        let via = model.routes.get(key);
        assert!(right.is_none() || via == right.as_ref(), "{key:?} {target:?} {via:?}");
        keys.insert(*key);
    }
    for (key, exits) in &wanted.routes {
        let right: HashSet<(IpAddr, u32)> = exits.iter().filter_map(|e| observed.realise(e)).collect();
        let leads: HashSet<(IpAddr, u32)> = match model.routes.get(key) {
            Some(Via::Nexthop(id)) => observed.contents(*id).into_iter().collect(),
            Some(Via::Gateway { gateway, index }) => [(*gateway, *index)].into(),
            _ => HashSet::new(),
        };
        let one_of_them = !observed.nexthop_objects && leads.len() == 1 && leads.is_subset(&right);
        assert!(right.is_empty() || leads == right || one_of_them, "{key:?} {exits:?} {leads:?}");
        keys.insert(*key);
    }
    let base = &wanted.base;
    assert!(base.fdb.iter().all(|(m, r)| observed.fdb.contains(&(*m, *r))));
    assert!(base.neighbours.iter().all(|(a, m)| observed.neighbours.get(a) == Some(m)));
    if exactly {
        assert!(model.routes.keys().all(|k| keys.contains(k)));
        assert_eq!(observed.fdb.len(), base.fdb.len());
        assert_eq!(observed.neighbours.len(), base.neighbours.len());
        assert_eq!(observed.addresses, base.addresses);
        let used = |id| model.routes.values().any(|via| *via == Via::Nexthop(id));
        let shares = |id| observed.nexthops.iter().any(|(g, n)| used(*g) && n.members.contains(id));
        assert!(
            observed.nexthops.keys().all(|id| used(*id) || shares(*id)),
            "unused next-hop objects are left: {observed:?}"
        );
    }
}

proptest! {
    #[test]
    fn any_state_leads_to_any_other_and_to_rest(
        first in any_wanted(), second in any_wanted(), objects in any::<bool>()
    ) {
        let mut model = FibModel::new(objects);
        model.want(&first);
        model.settle(true);
        holds(&first, &model, true);
        prop_assert!(model.is_at_rest(true));
        let mut unswept = model.clone();
        unswept.want(&second);
        unswept.settle(false);
        holds(&second, &unswept, false);
        model.want(&second);
        model.settle(true);
        holds(&second, &model, true);
        prop_assert!(model.is_at_rest(true));
        unswept.fib.mark_all();
        unswept.settle(true);
        holds(&second, &unswept, true);
    }

    #[test]
    fn what_an_earlier_run_left_is_adopted_and_swept(first in any_wanted(), second in any_wanted()) {
        let mut earlier = FibModel::new(true);
        earlier.want(&first);
        earlier.settle(true);
        let mut model = FibModel::new(true);
        model.fib.observed = earlier.fib.observed.clone();
        model.routes = earlier.routes.clone();
        model.observe_routes();
        // Everything is in place: nothing is written.
        let mut same = model.clone();
        same.want(&first);
        same.settle(true);
        prop_assert_eq!((&same.ops[..], &same.route_ops[..]), (&[][..], &[][..]));
        model.want(&second);
        model.settle(true);
        holds(&second, &model, true);
    }

    #[test]
    fn changes_of_others_are_healed(wanted in any_wanted(), hit in prop::collection::vec(any::<bool>(), 50)) {
        let mut model = FibModel::new(true);
        model.want(&wanted);
        model.settle(true);
        let before = model.routes.clone();
        let mut keys: Vec<RouteKey> = before.keys().copied().collect();
        keys.sort();
        for (key, _) in keys.iter().zip(&hit).filter(|(_, hit)| **hit) {
            model.routes.remove(key);
            prop_assert!(model.fib.event(key, None));
            prop_assert!(!model.fib.event(key, None));
        }
        model.settle(true);
        prop_assert_eq!(model.routes, before);
    }
}
