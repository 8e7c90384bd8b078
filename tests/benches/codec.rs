//! Decoding and encoding of an UPDATE that announces one /26 and of one packed with 700, with what
//! they allocate.
#![allow(missing_docs)]

use std::net::{IpAddr, Ipv4Addr};

use bgp::wire::attribute::{Context, Origin, code, flag, push};
use bgp::wire::encode::{UpdateFormat, announce};
use bgp::wire::frame::{self, MAX_LEN};
use bgp::wire::update::UpdateView;
use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use ipnet::{IpNet, Ipv4Net};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const PREFIXES: [usize; 2] = [1, 700];
const NEXT_HOP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 2));

fn main() {
    divan::main();
}

/// The first /26 blocks of 10.0.0.0/8.
fn blocks(count: usize) -> Vec<IpNet> {
    let blocks = (0x0a00_0000_u32..).step_by(64).take(count);
    blocks.map(|bits| Ipv4Net::new_assert(Ipv4Addr::from_bits(bits), 26).into()).collect()
}

/// ORIGIN, AS_PATH and LOCAL_PREF.
fn attributes() -> Vec<u8> {
    let mut out = Vec::new();
    push(&mut out, flag::WELL_KNOWN, code::ORIGIN, |out| out.push(Origin::Igp.code()));
    push(&mut out, flag::WELL_KNOWN, code::AS_PATH, |out| {
        out.extend([2, 2]);
        [64513_u32, 4_200_000_001].iter().for_each(|number| out.extend(number.to_be_bytes()));
    });
    push(&mut out, flag::WELL_KNOWN, code::LOCAL_PREF, |out| out.extend(100_u32.to_be_bytes()));
    out
}

fn encoded(prefixes: &[IpNet]) -> Vec<u8> {
    let mut out = Vec::new();
    let messages =
        announce(&mut out, UpdateFormat::default(), &attributes(), NEXT_HOP, prefixes.iter().copied());
    assert_eq!(messages, Ok(1));
    out
}

/// Reads a message and visits each of its routes; returns their number.
fn read(octets: &[u8], context: &Context) -> usize {
    let frame = frame::next(octets, MAX_LEN).expect("a frame").expect("a whole one");
    let read = UpdateView::parse(frame.body).and_then(|view| view.read(context));
    let update = read.as_ref().expect("a readable UPDATE");
    assert!(update.fault.is_none());
    black_box(&update.attributes);
    let routes = |(next_hop, list): (IpAddr, bgp::wire::nlri::Nlri<'_>)| {
        black_box(next_hop);
        list.iter().map(black_box).count()
    };
    update.announcements().map(routes).sum()
}

#[divan::bench(args = PREFIXES, sample_size = 200)]
fn decode(bencher: Bencher<'_, '_>, prefixes: usize) {
    let octets = encoded(&blocks(prefixes));
    let context = Context::INTERNAL;
    assert_eq!(read(&octets, &context), prefixes);
    bencher
        .counter(ItemsCount::new(prefixes))
        .counter(BytesCount::new(octets.len()))
        .bench_local(|| read(black_box(&octets), &context));
}

#[divan::bench(args = PREFIXES, sample_size = 200)]
fn encode(bencher: Bencher<'_, '_>, prefixes: usize) {
    let (blocks, attributes) = (blocks(prefixes), attributes());
    // Used again, as a session does: it grows once, before the measuring.
    let mut out = encoded(&blocks);
    bencher.counter(ItemsCount::new(prefixes)).counter(BytesCount::new(out.len())).bench_local(|| {
        out.clear();
        let prefixes = black_box(&blocks).iter().copied();
        announce(&mut out, UpdateFormat::default(), black_box(&attributes), NEXT_HOP, prefixes)
    });
    assert_eq!(out, encoded(&blocks));
}
