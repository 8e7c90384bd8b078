//! Multipath routes.

use super::*;

/// Builds a settled table of three blocks that two nodes share, and one block of each node alone.
fn shared() -> FibModel {
    let mut model = FibModel::new(true);
    devices(&mut model.fib.desired);
    set(&mut model, ipip(2), ipip(3));
    model.settle(true);
    model
}

fn set(model: &mut FibModel, one: Exit, other: Exit) {
    for i in 0..3 {
        model.set_exits(prefix(i), &[one, other]);
    }
    model.set(prefix(10), Some(RouteTarget::Exit(one)));
    model.set(prefix(11), Some(RouteTarget::Exit(other)));
}

#[test]
fn routes_with_the_same_exits_share_a_group_of_shared_objects() {
    let model = shared();
    assert_eq!(model.observed().nexthops.len(), 3, "two objects and a group");
    let (Via::Nexthop(group), Via::Nexthop(one), Via::Nexthop(other)) =
        (model.routes[&prefix(0)], model.routes[&prefix(10)], model.routes[&prefix(11)])
    else {
        panic!("no objects: {:?}", model.routes)
    };
    assert_eq!(model.observed().nexthops[&group].members, GroupMembers::new([one, other]));
    assert!((0..3).all(|i| model.routes[&prefix(i)] == Via::Nexthop(group)));
}

#[test]
fn another_encapsulation_of_one_node_is_one_replace_of_its_object_alone() {
    let mut model = shared();
    let Via::Nexthop(id) = model.routes[&prefix(10)] else { panic!("no object") };
    set(&mut model, vxlan(2), ipip(3));
    model.settle(true);
    let gateway: IpAddr = "10.1.2.0".parse().expect("address");
    assert_eq!(model.ops, [Op::ReplaceNexthop { id, gateway, index: 21 }]);
    assert_eq!(model.route_ops, []);
    // A change of both members at once takes two operations.
    set(&mut model, ipip(2), vxlan(3));
    model.settle(true);
    assert!(
        matches!(model.ops[..], [Op::ReplaceNexthop { .. }, Op::ReplaceNexthop { .. }]),
        "{:?}",
        model.ops
    );
    assert_eq!(model.route_ops, []);
    assert!(model.is_at_rest(true));
}

#[test]
fn an_object_that_only_groups_use_is_replaced_too() {
    let mut model = FibModel::new(true);
    devices(&mut model.fib.desired);
    model.set_exits(prefix(0), &[ipip(2), ipip(3), ipip(4)]);
    model.set_exits(prefix(1), &[ipip(3), ipip(4)]);
    model.settle(true);
    model.set_exits(prefix(0), &[ipip(2), vxlan(3), ipip(4)]);
    model.set_exits(prefix(1), &[vxlan(3), ipip(4)]);
    model.settle(true);
    assert!(matches!(model.ops[..], [Op::ReplaceNexthop { .. }]), "{:?}", model.ops);
    assert_eq!(model.route_ops, []);
    assert!(model.is_at_rest(true));
}

#[test]
fn an_object_is_not_replaced_under_a_group_whose_routes_keep_it() {
    let mut model = shared();
    // One of the shared blocks stays as it is, and so do its next hops.
    model.set_exits(prefix(0), &[vxlan(2), ipip(3)]);
    model.set_exits(prefix(1), &[vxlan(2), ipip(3)]);
    model.set(prefix(10), Some(RouteTarget::Exit(vxlan(2))));
    model.settle(true);
    assert!(model.ops.iter().all(|op| !matches!(op, Op::ReplaceNexthop { .. })), "{:?}", model.ops);
    let Via::Nexthop(kept) = model.routes[&prefix(2)] else { panic!("no group") };
    let contents: HashSet<_> = model.observed().contents(kept).into_iter().collect();
    let of = |exit| model.observed().realise(&exit).expect("realised");
    assert_eq!(contents, HashSet::from([of(ipip(2)), of(ipip(3))]));
    assert!(model.is_at_rest(true));
}

#[test]
fn an_object_that_moves_is_not_replaced_under_a_group_that_loses_it() {
    let mut model = shared();
    // A node that had a block alone is followed by another; its shared blocks are shared by others now.
    model.set(prefix(10), Some(RouteTarget::Exit(vxlan(5))));
    (0..3).for_each(|i| model.set_exits(prefix(i), &[ipip(3), ipip(4)]));
    model.settle(true);
    assert!(model.ops.iter().all(|op| !matches!(op, Op::ReplaceNexthop { .. })), "{:?}", model.ops);
    assert!(model.is_at_rest(true));
}

#[test]
fn a_lost_member_leaves_a_plain_exit_and_no_group() {
    let mut model = shared();
    for i in 0..3 {
        model.set(prefix(i), Some(RouteTarget::Exit(ipip(3))));
    }
    model.set(prefix(10), None);
    model.settle(true);
    assert_eq!(model.observed().nexthops.len(), 1);
    assert_eq!(model.routes[&prefix(0)], model.routes[&prefix(11)]);
    let group = model.ops.iter().position(|op| matches!(op, Op::DeleteNexthop { .. }));
    assert_eq!((group, model.ops.len()), (Some(0), 2), "{:?}", model.ops);
}

#[test]
fn refused_exits_and_those_without_a_device_leave_the_packets_to_the_others() {
    let mut model = FibModel::new(true);
    devices(&mut model.fib.desired);
    model.set_exits(prefix(0), &[ipip(2), vxlan(3)]);
    let blocked = |o: &Object| *o == Object::Link(Device::Vxlan);
    while model.turn(true, 10, &blocked) {}
    let leads = |model: &FibModel| match model.routes[&prefix(0)] {
        Via::Nexthop(id) => model.observed().contents(id).len(),
        _ => 0,
    };
    assert_eq!(leads(&model), 1);
    model.settle(true);
    assert_eq!(leads(&model), 2);
    // The kernel refuses a group.
    model.set_exits(prefix(1), &[ipip(2), ipip(4)]);
    let blocked = |o: &Object| matches!(o, Object::Group(_));
    while model.turn(true, 10, &blocked) {}
    assert!(matches!(model.routes[&prefix(1)], Via::Nexthop(id) if model.observed().contents(id).len() == 1));
    model.fib.invalidate();
    model.settle(true);
    assert!(matches!(model.routes[&prefix(1)], Via::Nexthop(id) if model.observed().contents(id).len() == 2));
}

#[test]
fn a_kernel_without_objects_gets_one_of_the_exits() {
    let mut model = FibModel::new(false);
    devices(&mut model.fib.desired);
    model.set_exits(prefix(0), &[ipip(3), ipip(2)]);
    model.settle(true);
    let gateway: IpAddr = "192.168.0.2".parse().expect("address");
    assert_eq!(model.routes.get(&prefix(0)), Some(&Via::Gateway { gateway, index: 20 }));
}

#[test]
fn lists_of_exits_are_held_only_by_desired_routes() {
    let mut model = shared();
    let id = |model: &FibModel| model.fib.exits.iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!((id(&model).len(), model.fib.others.iter().count()), (1, 1));
    assert!(
        model
            .fib
            .is_learned(&LearnedPath { next_hop: [192, 0, 2, 2].into(), kind: crate::node::PathKind::Bgp })
    );
    (0..3).for_each(|i| model.set(prefix(i), None));
    assert_eq!((id(&model).len(), model.fib.others.iter().count()), (0, 0));
    assert!(
        !model
            .fib
            .is_learned(&LearnedPath { next_hop: [192, 0, 2, 2].into(), kind: crate::node::PathKind::Bgp })
    );
}
