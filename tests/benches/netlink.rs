//! The kernel's routes: what a route costs from the learned path to the octets of its netlink message, and back to
//! the note that the kernel has it. The kernel's own part is left out.
#![allow(missing_docs)]

use std::net::{IpAddr, Ipv4Addr};

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use ipnet::{IpNet, Ipv4Net};
use tunnel::dataplane::MAX_BATCH;
use tunnel::desired::{RouteKey, RouteTarget};
use tunnel::fib::{DesiredRoute, Fib, RouteAction, RouteOp};
use tunnel::kernel::write_route;
use tunnel::netlink::wire::Batch;
use tunnel::observed::{ObservedState, Via};
use tunnel::{Exit, ExitReason, LearnedPath, PathKind};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const ROUTES: u32 = 100_000;
/// Blocks of one node, one after the other.
const EACH: u32 = 200;
const METRIC: u32 = 512;
const PROTOCOL: u8 = 179;

fn main() {
    divan::main();
}

fn key(number: u32) -> RouteKey {
    let block = Ipv4Net::new_assert(Ipv4Addr::from_bits(0x1400_0000 + (number << 6)), 26);
    RouteKey { prefix: IpNet::V4(block), metric: METRIC }
}

fn next_hop(number: u32, subnet: u8) -> IpAddr {
    let [_, _, high, low] = (number / EACH).to_be_bytes();
    IpAddr::from([172, subnet, high, low])
}

/// Learns all routes, or that none is there any more.
fn learn(fib: &mut Fib, subnet: Option<u8>) {
    for number in 0..ROUTES {
        let learned =
            subnet.map(|subnet| LearnedPath { next_hop: next_hop(number, subnet), kind: PathKind::Bgp });
        if let Some((slot, _)) = fib.learn(&key(number), learned, &[]) {
            let target = learned.map(|l| RouteTarget::Exit(Exit::Direct { gateway: l.next_hop, index: 2 }));
            fib.set_desired(slot, DesiredRoute { target, reason: target.map(|_| ExitReason::Never) });
        }
    }
}

/// Carries out all that is to be done, on a kernel that refuses nothing. Returns how many changes of routes there were.
fn carry_out(fib: &mut Fib, batch: &mut Batch) -> usize {
    let mut changes = 0;
    for op in fib.realise(&|_| false) {
        fib.done(&op);
    }
    assert!(fib.realise(&|_| false).is_empty());
    let mut ops = Vec::with_capacity(MAX_BATCH);
    loop {
        let done = fib.route_ops(&mut ops, MAX_BATCH, true, &|_| false);
        batch.clear(1);
        for op in &ops {
            write_route(batch, op, PROTOCOL);
        }
        black_box(batch.bytes());
        changes += ops.len();
        for op in ops.drain(..) {
            fib.route_done(&op, true);
        }
        if done {
            return changes;
        }
    }
}

fn empty() -> Fib {
    let mut fib = Fib::default();
    fib.observed = Some(ObservedState { nexthop_objects: true, ..ObservedState::default() });
    fib
}

fn full() -> Fib {
    let mut fib = empty();
    learn(&mut fib, Some(16));
    assert_eq!(carry_out(&mut fib, &mut Batch::default()), 100_000);
    fib
}

/// One batch of messages, into a buffer that is used again.
#[divan::bench]
fn encode_256_routes(bencher: Bencher<'_, '_>) {
    let op = |n| RouteOp { slot: n, key: key(n), verb: RouteAction::Add(Via::Nexthop(1000 + n / EACH)) };
    let routes: Vec<_> = (0..256).map(op).collect();
    let mut batch = Batch::default();
    bencher.counter(ItemsCount::new(256_u32)).bench_local(|| {
        batch.clear(1);
        for op in black_box(&routes) {
            write_route(&mut batch, op, PROTOCOL);
        }
        batch.acknowledge();
        assert_eq!(batch.count(), 256);
        black_box(batch.bytes().len())
    });
}

/// All routes are learned and written.
#[divan::bench(sample_size = 1, sample_count = 20)]
fn install_100_000(bencher: Bencher<'_, '_>) {
    let inputs = || (empty(), Batch::default());
    bencher.counter(ItemsCount::new(ROUTES)).with_inputs(inputs).bench_local_refs(|(fib, batch)| {
        learn(fib, Some(16));
        assert_eq!(carry_out(fib, batch), 100_000);
    });
}

/// All nodes take other addresses: their next-hop objects are replaced, and no route is touched.
#[divan::bench(sample_size = 1, sample_count = 20)]
fn move_100_000(bencher: Bencher<'_, '_>) {
    let inputs = || (full(), Batch::default());
    bencher.counter(ItemsCount::new(ROUTES)).with_inputs(inputs).bench_local_refs(|(fib, batch)| {
        learn(fib, Some(17));
        assert_eq!(carry_out(fib, batch), 0);
    });
}

/// All routes are compared, and are as they are to be.
#[divan::bench(sample_size = 1, sample_count = 20)]
fn compare_100_000(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(ROUTES)).with_inputs(full).bench_local_refs(|fib| {
        fib.mark_all();
        let mut ops = Vec::new();
        while !fib.route_ops(&mut ops, MAX_BATCH, true, &|_| false) {}
        assert!(ops.is_empty());
    });
}

/// All routes are withdrawn and deleted.
#[divan::bench(sample_size = 1, sample_count = 20)]
fn withdraw_100_000(bencher: Bencher<'_, '_>) {
    let inputs = || (full(), Batch::default());
    bencher.counter(ItemsCount::new(ROUTES)).with_inputs(inputs).bench_local_refs(|(fib, batch)| {
        learn(fib, None);
        assert_eq!(carry_out(fib, batch), 100_000);
        fib.shrink();
        assert!(fib.table().is_empty());
    });
}
