//! More changes of routes than the kernel accepts at once.

use super::*;
use crate::dataplane::{MAX_BATCH, MAX_IN_FLIGHT};

#[tokio::test]
async fn input_is_processed_while_the_kernel_writes() {
    let mut state = Reconciler::new(Fake::default());
    state.configure(config());
    state.in_sync();
    settle(&mut state).await;
    state.dataplane.slow = true;
    let many = |first: u32, count: u32| -> Vec<RouteChange> {
        let prefix = |i: u32| format!("{}/32", Ipv4Addr::from_bits(0x1400_0000 + i));
        let change = |i| RouteChange { prefix: prefix(i).parse().expect("prefix"), ..change(2) };
        (first..first + count).map(change).collect()
    };
    let most = u32::try_from(MAX_IN_FLIGHT * MAX_BATCH).expect("a few thousand");
    state.routes(many(0, 2 * most));
    while state.reconcile().await == Turn::More {}
    assert_eq!(state.writes.in_flight.len(), MAX_IN_FLIGHT, "as many as may be in flight, without waiting");
    // Nothing is completed, yet a route with a new next hop is treated like those before.
    state.routes(vec![RouteChange { prefix: "20.9.0.0/32".parse().expect("prefix"), ..change(3) }]);
    assert_eq!(state.reconcile().await, Turn::Writing);
    assert_eq!(state.writes.in_flight.len(), MAX_IN_FLIGHT);
    let hops = |gateway: [u8; 4]| {
        let nexthops = state.dataplane.kernel.nexthops.values();
        nexthops.filter(|hop| hop.gateway == Some(gateway.into())).count()
    };
    assert_eq!(hops([192, 168, 0, 3]), 1, "{:?}", state.dataplane.kernel.nexthops);
    settle(&mut state).await;
    let installed = state.summary().routes_installed;
    assert_eq!(installed, 2 * MAX_IN_FLIGHT * MAX_BATCH + 2, "including the own block and the later route");
}

#[tokio::test]
async fn a_resync_after_a_refusal_takes_place_without_other_input() {
    let mut state = settled().await;
    // The kernel lost the next hop, and the event has not arrived yet.
    state.dataplane.kernel.nexthops.clear();
    state.dataplane.routes.remove(&key(2));
    state.routes(vec![RouteChange { prefix: "10.1.2.64/26".parse().expect("prefix"), ..change(2) }]);
    // Other input arrives each time before the completion is processed.
    while state.reconcile().await != Turn::Rest {}
    let report = whole_report(&mut state);
    assert_eq!((report.failures, report.drift), (vec![], 2));
    assert!(report.routes.iter().all(|r| r.installed), "{:?}", report.routes);
}

/// Another program deletes a route while our change is in flight: after the kernel executed it, or
/// `before`.
async fn deleted_in_flight(before: bool) {
    let mut state = settled().await;
    let complete_oldest = |state: &mut Reconciler<Fake>| {
        state.handle(vec![KernelEvent::Route { key: key(2), via: None, ours: true }]);
    };
    state.dataplane.routes.remove(&key(2));
    complete_oldest(&mut state);
    state.dataplane.slow = true;
    while state.reconcile().await == Turn::More {}
    assert!(
        !state.writes.in_flight.is_empty() && state.dataplane.routes.contains_key(&key(2)),
        "it is repaired"
    );
    if !before {
        state.dataplane.routes.remove(&key(2));
    }
    // Before the result is processed.
    complete_oldest(&mut state);
    settle(&mut state).await;
    assert!(state.dataplane.routes.contains_key(&key(2)), "before: {before}");
    let report = whole_report(&mut state);
    // The resync cannot attribute the presence of the route.
    let drift = if before { 3 } else { 2 };
    assert_eq!((report.failures, report.drift), (vec![], drift), "before: {before}");
    assert!(report.routes.iter().all(|r| r.installed), "{:?}", report.routes);
}

#[tokio::test]
async fn a_route_that_is_deleted_during_its_repair_is_repaired_again() {
    deleted_in_flight(false).await;
}

#[tokio::test]
async fn a_late_event_of_an_old_deletion_is_resolved_by_a_resync() {
    deleted_in_flight(true).await;
}

#[tokio::test]
async fn a_report_during_an_observation_shows_installed_routes() {
    let mut state = settled().await;
    let installed = state.summary().routes_installed;
    let index = state.dataplane.kernel.link(Device::Vxlan).expect("a device").index;
    state.handle(vec![KernelEvent::Link { index, name: Device::Vxlan.name().to_owned() }]);
    let mut turns = 0;
    while step(&mut state).await {
        turns += 1;
        assert_eq!(state.summary().routes_installed, installed, "after {turns} turns");
        let report = whole_report(&mut state);
        assert!(report.routes.iter().all(|r| r.installed), "after {turns} turns: {:?}", report.routes);
    }
    assert!(turns > 2, "it was observed");
    // A route that is gone is not reported.
    state.dataplane.routes.remove(&key(2));
    state.dataplane.refused.insert(Object::Route(key(2)), ENOMEM);
    state.handle(vec![KernelEvent::Overrun]);
    settle(&mut state).await;
    assert_eq!(state.summary().routes_installed, installed - 1);
}
