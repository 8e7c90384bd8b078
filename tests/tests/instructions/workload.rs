//! The workloads: each a plain loop over the public interface, the same in every run.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp::wire::attribute::{Context, code, flag, push};
use bgp::wire::encode::{self, UpdateFormat};
use bgp::wire::frame::{self, MAX_LEN};
use bgp::wire::update::UpdateView;
use bgp::{Asn, Families, PeerId, RouterId};
use bytes::Bytes;
use ipnet::{IpNet, Ipv4Net};
use routing::outbox::Delivery;
use routing::{AttrSet, PeerSession, Rib, RibConfig, RouteBatch};

/// Attribute sets, and prefixes with each.
const SETS: u32 = 1000;
const PREFIXES: u32 = 50;
/// Prefixes decided on at once, as the RIB's task does.
const BUDGET: usize = 4096;
/// Peers that receive the routes.
const CLIENTS: u32 = 10;
const SOURCE: PeerId = PeerId(0);

/// Prepares a workload; what it returns is what is counted.
pub(crate) fn prepare(name: &str) -> Option<Box<dyn FnOnce()>> {
    match name {
        "decode" => Some(decode()),
        "apply" => Some(apply(0)),
        "export" => Some(apply(CLIENTS)),
        "withdraw" => Some(withdraw()),
        _ => None,
    }
}

fn attributes(set: u32) -> Arc<AttrSet> {
    let next_hop = Ipv4Addr::from_bits(0xac10_0000 + set);
    let mut octets = AttrSet::originated(next_hop.into()).canonical().to_vec();
    push(&mut octets, flag::OPTIONAL | flag::TRANSITIVE, code::COMMUNITIES, |out| {
        out.extend(next_hop.octets());
    });
    Arc::new(AttrSet::from_canonical(&octets, next_hop.into()))
}

fn prefixes(set: u32) -> impl Iterator<Item = IpNet> {
    let block = move |number| Ipv4Addr::from_bits(0x0a00_0000 + (set * PREFIXES + number) * 64);
    (0..PREFIXES).map(move |number| Ipv4Net::new_assert(block(number), 26).into())
}

fn decode() -> Box<dyn FnOnce()> {
    let mut octets = Vec::new();
    for set in 0..SETS {
        let attrs = attributes(set);
        encode::announce(
            &mut octets,
            UpdateFormat::default(),
            attrs.canonical(),
            attrs.next_hop,
            prefixes(set),
        )
        .expect("it fits a message");
    }
    let context = Context::INTERNAL;
    Box::new(move || {
        let mut rest = &octets[..];
        let mut count = 0;
        while let Some(message) = frame::next(rest, MAX_LEN).expect("a message") {
            let update = UpdateView::parse(message.body).expect("an UPDATE").read(&context).expect("routes");
            count += update.announcements().map(|(_, list)| black_box(list.iter()).count()).sum::<usize>();
            rest = &rest[message.len()..];
        }
        assert_eq!(count, (SETS * PREFIXES) as usize);
    })
}

fn batches(announce: bool) -> Vec<RouteBatch> {
    (0..SETS)
        .map(|set| {
            let mut batch = RouteBatch::default();
            batch.push(announce.then(|| attributes(set)).as_ref(), prefixes(set));
            batch
        })
        .collect()
}

/// Takes everything and counts it.
#[derive(Default)]
struct CountingSink(usize);

impl Delivery for CountingSink {
    fn deliver(&mut self, _: PeerId, chunk: Bytes) -> bool {
        self.0 += chunk.len();
        true
    }
}

fn rib(clients: u32) -> Rib {
    let address = Ipv4Addr::new(192, 168, 0, 100);
    let mut rib = Rib::new(RibConfig {
        local_as: Asn(64512),
        router_id: RouterId(address),
        cluster_id: Some(Ipv4Addr::new(10, 0, 0, 1)),
        local_addresses: vec![IpAddr::V4(address)],
        multipath: routing::config::DEFAULT_MULTIPATH,
    });
    for id in 0..=clients {
        let address = Ipv4Addr::from_bits(0xc0a8_0000 + id);
        let session = PeerSession {
            router_id: RouterId(address),
            address: address.into(),
            internal: true,
            client: true,
            form: UpdateFormat::default(),
            families: Families::BOTH,
            sends_add_path: Families::NONE,
            restarts: false,
            restarting: false,
            long_lived: false,
            marks_refresh: false,
        };
        rib.peer_up(PeerId(id), session);
        assert!(rib.resume(PeerId(id), &mut CountingSink::default()));
    }
    rib
}

fn run(rib: &mut Rib, batches: &[RouteBatch]) -> CountingSink {
    let mut delivery = CountingSink::default();
    let mut changes = Vec::new();
    let mut waiting = 0;
    for batch in batches {
        rib.routes(SOURCE, batch);
        waiting += batch.len();
        if waiting >= BUDGET {
            waiting = 0;
            rib.run(BUDGET, &mut delivery);
        }
    }
    while !rib.run(BUDGET, &mut delivery) {}
    while rib.has_best_changes() {
        rib.best_changes(BUDGET, &mut changes);
        black_box(&changes);
        changes.clear();
    }
    delivery
}

fn apply(clients: u32) -> Box<dyn FnOnce()> {
    let batches = batches(true);
    let mut rib = rib(clients);
    Box::new(move || {
        let delivery = run(&mut rib, &batches);
        assert!(delivery.0 >= (clients * SETS * PREFIXES * 5) as usize, "everybody was told everything");
        assert_eq!(rib.counts().prefixes, (SETS * PREFIXES) as usize);
        // The release of the memory is not counted.
        std::mem::forget(rib);
    })
}

fn withdraw() -> Box<dyn FnOnce()> {
    let mut rib = rib(CLIENTS);
    run(&mut rib, &batches(true));
    let batches = batches(false);
    Box::new(move || {
        run(&mut rib, &batches);
        assert_eq!(rib.counts().prefixes, 0);
    })
}
