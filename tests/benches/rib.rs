//! The RIB: what a prefix costs from a peer's batch to the decision, and to the messages for the
//! peers of a route reflector.
#![allow(missing_docs)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp::wire::attribute::{code, flag, push};
use bgp::wire::encode::UpdateFormat;
use bgp::{Asn, Families, PeerId, RouterId};
use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use ipnet::{IpNet, Ipv4Net};
use routing::outbox::Delivery;
use routing::{AttrSet, PeerSession, Rib, RibConfig, RouteBatch};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// Prefixes that are decided on before the peers are sent anything, as in the RIB's task.
const BUDGET: usize = 4096;
/// Prefixes in a batch: what one packed UPDATE brings.
const BATCH: usize = 700;
const SOURCE: PeerId = PeerId(1);
/// The first next hop.
const FIRST: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 0);

fn main() {
    divan::main();
}

/// Takes everything and counts it.
#[derive(Default)]
struct CountingSink {
    octets: Vec<usize>,
}

impl Delivery for CountingSink {
    fn deliver(&mut self, peer: PeerId, chunk: Bytes) -> bool {
        let peer = peer.0 as usize;
        if self.octets.len() <= peer {
            self.octets.resize(peer + 1, 0);
        }
        self.octets[peer] += chunk.len();
        true
    }
}

/// The first /26 blocks of 10.0.0.0/8, `BATCH` to a batch, the batches with `sets` different
/// attribute sets in turn, the first of which has the next hop `first`.
fn batches(prefixes: usize, sets: u32, first: Ipv4Addr) -> Vec<RouteBatch> {
    let sets: Vec<Arc<AttrSet>> = (0..sets)
        .map(|set| {
            let next_hop = Ipv4Addr::from_bits(first.to_bits() + set);
            let mut octets = AttrSet::originated(next_hop.into()).canonical().to_vec();
            push(&mut octets, flag::OPTIONAL | flag::TRANSITIVE, code::COMMUNITIES, |out| {
                out.extend(next_hop.octets());
            });
            Arc::new(AttrSet::from_canonical(&octets, next_hop.into()))
        })
        .collect();
    let blocks: Vec<IpNet> = (0x0a00_0000_u32..)
        .step_by(64)
        .take(prefixes)
        .map(|bits| Ipv4Net::new_assert(Ipv4Addr::from_bits(bits), 26).into())
        .collect();
    blocks
        .chunks(BATCH)
        .zip(sets.iter().cycle())
        .map(|(blocks, attrs)| {
            let mut batch = RouteBatch::default();
            batch.push(Some(attrs), blocks.iter().copied());
            batch
        })
        .collect()
}

fn session(id: u32, client: bool) -> PeerSession {
    let address = Ipv4Addr::from_bits(0xac10_0000 + id);
    PeerSession {
        router_id: RouterId(address),
        address: IpAddr::V4(address),
        internal: true,
        client,
        form: UpdateFormat::default(),
        families: Families::BOTH,
        sends_add_path: Families::NONE,
        restarts: false,
        restarting: false,
        long_lived: false,
        marks_refresh: false,
    }
}

/// Creates a RIB with so many peers, all of them sent End-of-RIB.
fn rib(peers: u32, cluster_id: Option<Ipv4Addr>) -> Rib {
    let address = Ipv4Addr::new(192, 168, 0, 100);
    let mut rib = Rib::new(RibConfig {
        local_as: Asn(64512),
        router_id: RouterId(address),
        cluster_id,
        local_addresses: vec![IpAddr::V4(address)],
        multipath: routing::config::DEFAULT_MULTIPATH,
    });
    for id in 1..=peers {
        rib.peer_up(PeerId(id), session(id, cluster_id.is_some()));
        assert!(rib.resume(PeerId(id), &mut CountingSink::default()));
    }
    rib
}

/// Applies every batch; how many best paths changed.
fn apply(rib: &mut Rib, batches: &[RouteBatch], delivery: &mut CountingSink) -> usize {
    let (mut changes, mut changed) = (Vec::new(), 0);
    for batch in batches {
        rib.routes(SOURCE, black_box(batch));
        while !rib.run(BUDGET, delivery) {}
        rib.best_changes(usize::MAX, &mut changes);
        changed += black_box(&changes).len();
        changes.clear();
    }
    changed
}

/// One peer of a full mesh announces 100,000 prefixes with so many attribute sets.
#[divan::bench(args = [1, 10, 100], sample_size = 1, sample_count = 20)]
fn apply_100_000(bencher: Bencher<'_, '_>, sets: u32) {
    const PREFIXES: usize = 100_000;
    let batches = batches(PREFIXES, sets, FIRST);
    bencher.counter(ItemsCount::new(PREFIXES)).with_inputs(|| rib(1, None)).bench_local_refs(|rib| {
        assert_eq!(apply(rib, &batches, &mut CountingSink::default()), PREFIXES);
    });
}

/// Every prefix of a full table gets another next hop.
#[divan::bench(args = [1, 10, 100], sample_size = 1, sample_count = 20)]
fn replace_100_000(bencher: Bencher<'_, '_>, sets: u32) {
    const PREFIXES: usize = 100_000;
    let before = batches(PREFIXES, sets, FIRST);
    let after = batches(PREFIXES, sets, Ipv4Addr::new(172, 17, 0, 0));
    let full = || {
        let mut rib = rib(1, None);
        assert_eq!(apply(&mut rib, &before, &mut CountingSink::default()), PREFIXES);
        rib
    };
    bencher.counter(ItemsCount::new(PREFIXES)).with_inputs(full).bench_local_refs(|rib| {
        assert_eq!(apply(rib, &after, &mut CountingSink::default()), PREFIXES);
    });
}

/// A client of a route reflector announces 10,000 prefixes with 10 attribute sets to every other
/// client.
#[divan::bench(args = [2, 100], sample_size = 1, sample_count = 40)]
fn reflect_10_000(bencher: Bencher<'_, '_>, peers: u32) {
    const PREFIXES: usize = 10_000;
    let batches = batches(PREFIXES, 10, FIRST);
    let inputs = || (rib(peers, Some(Ipv4Addr::new(10, 0, 0, 1))), CountingSink::default());
    bencher.counter(ItemsCount::new(PREFIXES)).with_inputs(inputs).bench_local_refs(|(rib, delivery)| {
        assert_eq!(apply(rib, &batches, delivery), PREFIXES);
        // Each prefix takes five octets; the source is spared its own.
        let told = &delivery.octets[2..];
        assert!(told.len() + 1 == peers as usize && told.iter().all(|octets| *octets > 5 * PREFIXES));
        assert_eq!(delivery.octets[1], 0);
    });
}
