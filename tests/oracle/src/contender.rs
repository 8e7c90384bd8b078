//! The three decoders under one stopwatch: each reads the same octets and visits every attribute
//! and prefix.

use std::hint::black_box;
use std::io::Cursor;
use std::net::{IpAddr, Ipv4Addr};

use bgp::wire::as_path::AsWidth;
use bgp::wire::attribute::Context;
use bgp::wire::frame::{self, MAX_LEN};
use bgp::wire::update::UpdateView;
use bgpkit_parser::models::{AsPathSegment, AsnLength, AttributeValue, BgpMessage};
use bgpkit_parser::parser::bgp::messages::parse_bgp_message;
use bytes::Bytes;

use crate::our_reader;

/// The result of a decoder as one number: equal messages have equal numbers, in whatever order
/// their parts are visited. One addition per part, so that the visit costs next to nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Digest(u64);

impl Digest {
    fn origin(&mut self, code: u8) {
        self.add(1, code.into());
    }

    fn asn(&mut self, number: u32) {
        self.add(2, number);
    }

    fn next_hop(&mut self, address: IpAddr) {
        self.add(3, bits(address));
    }

    fn local_pref(&mut self, preference: u32) {
        self.add(4, preference);
    }

    fn withdrawn(&mut self, address: IpAddr, len: u8) {
        self.add(128 + u64::from(len), bits(address));
    }

    fn prefix(&mut self, address: IpAddr, len: u8) {
        self.add(5 + u64::from(len), bits(address));
    }

    fn add(&mut self, kind: u64, value: u32) {
        self.0 = self.0.wrapping_add(u64::from(value) << 8).wrapping_add(kind);
    }
}

fn bits(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(_) => 0,
    }
}

/// A decoder with all that it can prepare before a message comes.
pub struct Contender<'a> {
    /// The crate's name.
    pub name: &'static str,
    /// Reads the message so many times; the sum of what it found.
    pub read: Box<dyn FnMut(usize) -> u64 + 'a>,
}

/// Ours first, then the others.
///
/// # Panics
/// When a decoder refuses `octets`, which must be a well-formed UPDATE.
pub fn contenders(octets: &[u8]) -> [Contender<'_>; 3] {
    let context: Context = our_reader::context(true);
    assert_eq!(context.as_width, AsWidth::Four);
    // It reads from reference-counted buffers: filling one is not timed.
    let shared = Bytes::copy_from_slice(octets);
    let capabilities = bgp_rs::Capabilities { FOUR_OCTET_ASN_SUPPORT: true, ..Default::default() };
    let mut reader = bgp_rs::Reader { stream: Cursor::new(octets), capabilities };
    [
        Contender { name: "bgp", read: repeat(move || ours(black_box(octets), &context)) },
        Contender { name: "bgpkit-parser", read: repeat(move || bgpkit(black_box(&shared))) },
        Contender {
            name: "bgp-rs",
            read: repeat(move || {
                reader.stream.set_position(0);
                bgp_rs(black_box(&mut reader))
            }),
        },
    ]
}

/// The loop lies inside the box, so that no call through it is in the time of a message.
fn repeat<'a>(mut read: impl FnMut() -> u64 + 'a) -> Box<dyn FnMut(usize) -> u64 + 'a> {
    Box::new(move |times| (0..times).fold(0, |sum, _| black_box(read()).wrapping_add(sum)))
}

fn ours(octets: &[u8], context: &Context) -> u64 {
    let mut digest = Digest::default();
    let frame = frame::next(octets, MAX_LEN).expect("a frame").expect("a whole one");
    let view = UpdateView::parse(frame.body).expect("an UPDATE");
    let read = view.read(context);
    let update = read.as_ref().expect("a readable UPDATE");
    assert!(update.fault.is_none());
    let attributes = &update.attributes;
    if let Some(origin) = attributes.origin {
        digest.origin(origin.code());
    }
    if let Some(path) = attributes.as_path {
        for segment in path.segments() {
            segment.asns().for_each(|asn| digest.asn(asn.0));
        }
    }
    if let Some(preference) = attributes.local_pref {
        digest.local_pref(preference);
    }
    for list in update.withdrawals() {
        list.iter().for_each(|prefix| digest.withdrawn(prefix.addr(), prefix.prefix_len()));
    }
    for (next_hop, list) in update.announcements() {
        digest.next_hop(next_hop);
        for prefix in list {
            digest.prefix(prefix.addr(), prefix.prefix_len());
        }
    }
    digest.0
}

fn bgpkit(octets: &Bytes) -> u64 {
    let mut digest = Digest::default();
    let read = parse_bgp_message(&mut octets.clone(), false, &AsnLength::Bits32);
    let BgpMessage::Update(update) = read.expect("a message") else { panic!("an UPDATE") };
    assert!(!update.attributes.has_validation_warnings());
    for value in &update.attributes {
        match value {
            AttributeValue::Origin(origin) => digest.origin(*origin as u8),
            AttributeValue::AsPath(path) => {
                for segment in &path.segments {
                    let (AsPathSegment::AsSequence(numbers)
                    | AsPathSegment::AsSet(numbers)
                    | AsPathSegment::ConfedSequence(numbers)
                    | AsPathSegment::ConfedSet(numbers)) = segment;
                    numbers.iter().for_each(|number| digest.asn(number.to_u32()));
                }
            }
            AttributeValue::NextHop(address) => digest.next_hop(*address),
            AttributeValue::LocalPreference(preference) => digest.local_pref(*preference),
            _ => {}
        }
    }
    for prefix in &update.withdrawn_prefixes {
        digest.withdrawn(prefix.prefix.addr(), prefix.prefix.prefix_len());
    }
    for prefix in &update.announced_prefixes {
        digest.prefix(prefix.prefix.addr(), prefix.prefix.prefix_len());
    }
    digest.0
}

fn bgp_rs(reader: &mut bgp_rs::Reader<Cursor<&[u8]>, bgp_rs::Capabilities>) -> u64 {
    use bgp_rs::{Message, NLRIEncoding, PathAttribute, Segment};
    let mut digest = Digest::default();
    let (_, read) = reader.read().expect("a message");
    let Message::Update(update) = read else { panic!("an UPDATE") };
    for attribute in &update.attributes {
        match attribute {
            PathAttribute::ORIGIN(origin) => digest.origin(match origin {
                bgp_rs::Origin::IGP => 0,
                bgp_rs::Origin::EGP => 1,
                bgp_rs::Origin::INCOMPLETE => 2,
            }),
            PathAttribute::AS_PATH(path) => {
                for segment in &path.segments {
                    let (Segment::AS_SEQUENCE(numbers) | Segment::AS_SET(numbers)) = segment;
                    numbers.iter().for_each(|number| digest.asn(*number));
                }
            }
            PathAttribute::NEXT_HOP(address) => digest.next_hop(*address),
            PathAttribute::LOCAL_PREF(preference) => digest.local_pref(*preference),
            _ => {}
        }
    }
    for route in &update.withdrawn_routes {
        let NLRIEncoding::IP(prefix) = route else { panic!("a plain prefix") };
        digest.withdrawn(prefix.into(), prefix.length);
    }
    for route in &update.announced_routes {
        let NLRIEncoding::IP(prefix) = route else { panic!("a plain prefix") };
        digest.prefix(prefix.into(), prefix.length);
    }
    digest.0
}

/// An UPDATE that announces the first `prefixes` /26 blocks of 10.0.0.0/8 with ORIGIN, AS_PATH,
/// NEXT_HOP and LOCAL_PREF, written here octet by octet.
///
/// # Panics
/// When they don't fit one message of 4,096 octets.
pub fn update(prefixes: u32) -> Vec<u8> {
    let mut attributes = vec![0x40, 1, 1, 0];
    attributes.extend([0x40, 2, 10, 2, 2]);
    [64513_u32, 4_200_000_001].iter().for_each(|number| attributes.extend(number.to_be_bytes()));
    attributes.extend([0x40, 3, 4, 192, 168, 0, 2]);
    attributes.extend([0x40, 5, 4, 0, 0, 0, 100]);
    let mut octets = vec![0xff; 16];
    octets.extend([0, 0, 2, 0, 0]);
    octets.extend(u16::try_from(attributes.len()).expect("a short list").to_be_bytes());
    octets.extend(attributes);
    for block in 0..prefixes {
        octets.push(26);
        octets.extend(Ipv4Addr::from_bits(0x0a00_0000 + (block << 6)).octets());
    }
    assert!(octets.len() <= MAX_LEN, "{prefixes} prefixes need {} octets", octets.len());
    let length = u16::try_from(octets.len()).expect("at most 4,096");
    octets[16..18].copy_from_slice(&length.to_be_bytes());
    octets
}

/// The messages that are measured: what they are called, and how many prefixes they announce.
pub const SAMPLES: [(&str, u32); 2] = [("one /26", 1), ("700 x /26", 700)];
