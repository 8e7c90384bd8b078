//! Encoding and decoding of UPDATEs, and the handling of malformed ones by RFC 7606.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};

use bgp::wire::as_path::{AsPath, AsWidth};
use bgp::wire::attribute::{Context, RawAttributes, UpdateVerdict, code, flag, push};
use bgp::wire::encode::{self, UpdateFormat};
use bgp::wire::error::ErrorCode;
use bgp::wire::frame::{self, MAX_LEN};
use bgp::wire::update::{UpdateMessage, UpdateView};
use bgp::{Asn, Family};
use ipnet::IpNet;
use proptest::prelude::*;

const EXTERNAL: Context = Context { internal: false, ..Context::INTERNAL };
const INTERNAL: Context = Context { internal: true, ..EXTERNAL };

fn canonical() -> Vec<u8> {
    let mut out = Vec::new();
    push(&mut out, flag::WELL_KNOWN, code::ORIGIN, |out| out.push(0));
    push(&mut out, flag::WELL_KNOWN, code::AS_PATH, |out| out.extend([2, 1, 0, 1, 0x11, 0x70]));
    push(&mut out, flag::WELL_KNOWN, code::LOCAL_PREF, |out| out.extend(100u32.to_be_bytes()));
    push(&mut out, 0xc0, code::AGGREGATOR, |out| out.extend([0, 1, 0x11, 0x70, 10, 0, 0, 9]));
    out
}

fn frames(mut octets: &[u8]) -> Vec<&[u8]> {
    let mut bodies = Vec::new();
    while let Some(frame) = frame::next(octets, MAX_LEN).unwrap() {
        bodies.push(frame.body);
        octets = &octets[frame.len()..];
    }
    assert!(octets.is_empty());
    bodies
}

/// Reads the body of an UPDATE made of an attribute list and a /24.
fn read<'a>(
    body: &'a mut Vec<u8>,
    attributes: &[u8],
    nlri: &[u8],
    context: &Context,
) -> Result<UpdateMessage<'a>, bgp::wire::WireError> {
    body.extend([0, 0]);
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    body.extend(nlri);
    UpdateView::parse(body)?.read(context)
}

const NLRI: &[u8] = &[24, 192, 0, 2];

#[test]
fn seven_hundred_prefixes_share_one_message() {
    let prefixes: Vec<IpNet> = (0..700u32)
        .map(|i| IpNet::new(Ipv4Addr::from_bits(0x0a00_0000 + i * 64).into(), 26).unwrap())
        .collect();
    let mut out = Vec::new();
    let next_hop = IpAddr::from([192, 168, 0, 2]);
    let count =
        encode::announce(&mut out, UpdateFormat::default(), &canonical(), next_hop, prefixes.iter().copied());
    assert_eq!(count, Ok(1));
    let bodies = frames(&out);
    let update = UpdateView::parse(bodies[0]).unwrap().read(&INTERNAL).unwrap();
    let read: Vec<_> =
        update.announcements().flat_map(|(via, list)| list.iter().map(move |p| (via, p))).collect();
    assert_eq!(read, prefixes.iter().map(|p| (next_hop, *p)).collect::<Vec<_>>());
    assert_eq!(update.fault, None);
    let mut again = Vec::new();
    update.attributes.write_canonical(&mut again);
    assert_eq!(again, canonical());
}

#[test]
fn a_two_octet_session_carries_as_trans_and_the_as4_attributes() {
    let mut out = Vec::new();
    let form = UpdateFormat { as_width: AsWidth::Two, ..UpdateFormat::default() };
    let prefix: IpNet = "10.1.2.0/26".parse().unwrap();
    encode::announce(&mut out, form, &canonical(), IpAddr::from([192, 168, 0, 2]), [prefix]).unwrap();
    let context = Context { as_width: AsWidth::Two, ..INTERNAL };
    let bodies = frames(&out);
    let update = UpdateView::parse(bodies[0]).unwrap().read(&context).unwrap();
    assert_eq!(update.attributes.as_path.unwrap().asns().collect::<Vec<_>>(), [Asn::TRANS]);
    let mut again = Vec::new();
    update.attributes.write_canonical(&mut again);
    assert_eq!(again, canonical(), "the merge restores the real numbers");
}

#[test]
fn an_as4_path_is_merged_with_a_real_aggregator_unless_there_is_an_as4_aggregator() {
    let context = Context { as_width: AsWidth::Two, ..INTERNAL };
    for (as4_aggregator, path) in [(false, [65003, 70000]), (true, [65003, 23456])] {
        let mut attributes = Vec::new();
        push(&mut attributes, 0x40, code::ORIGIN, |out| out.push(0));
        push(&mut attributes, 0x40, code::AS_PATH, |out| out.extend([2, 2, 0xfd, 0xeb, 0x5b, 0xa0]));
        push(&mut attributes, 0x40, code::NEXT_HOP, |out| out.extend([10, 99, 0, 2]));
        push(&mut attributes, 0xc0, code::AGGREGATOR, |out| out.extend([0xfd, 0xeb, 1, 2, 3, 4]));
        push(&mut attributes, 0xc0, code::AS4_PATH, |out| out.extend([2, 1, 0, 1, 0x11, 0x70]));
        if as4_aggregator {
            push(&mut attributes, 0xc0, code::AS4_AGGREGATOR, |out| {
                out.extend([0, 1, 0x11, 0x70, 5, 6, 7, 8])
            });
        }
        let mut body = Vec::new();
        let update = read(&mut body, &attributes, NLRI, &context).unwrap();
        assert_eq!(update.attributes.effective_aggregator().unwrap().asn, Asn(65003));
        let mut canonical = Vec::new();
        update.attributes.write_canonical(&mut canonical);
        let raw = RawAttributes::new(&canonical).find(|raw| raw.code == code::AS_PATH).unwrap();
        let asns = AsPath::check(raw.value, AsWidth::Four).unwrap().asns().map(|asn| asn.0);
        assert_eq!(asns.collect::<Vec<_>>(), path);
    }
}

#[test]
fn end_of_rib_is_recognized_for_both_families() {
    for family in Family::ALL {
        let mut out = Vec::new();
        encode::end_of_rib(&mut out, family);
        let bodies = frames(&out);
        let update = UpdateView::parse(bodies[0]).unwrap().read(&EXTERNAL).unwrap();
        assert_eq!(update.end_of_rib(), Some(family));
        assert_eq!(update.withdrawals().count() + update.announcements().count(), 0);
    }
}

#[test]
fn attributes_without_room_for_a_prefix_are_rejected_and_nothing_is_written() {
    let mut attributes = canonical();
    push(&mut attributes, 0xc0, code::COMMUNITIES, |out| out.resize(out.len() + 4080, 1));
    let mut out = vec![7];
    let prefix: IpNet = "10.1.2.0/26".parse().unwrap();
    let result = encode::announce(
        &mut out,
        UpdateFormat::default(),
        &attributes,
        IpAddr::from([1, 2, 3, 4]),
        [prefix],
    );
    assert!(result.is_err());
    assert_eq!(out, [7]);
}

#[test]
fn large_communities_are_passed_on_once_each_in_their_order() {
    for count in [3_u8, 40] {
        let of = |number: u8| [number; 12];
        let distinct: Vec<_> = (0..count).rev().map(of).collect();
        let twice: Vec<_> = distinct.iter().chain(&distinct).copied().collect();
        let mut attributes = Vec::new();
        push(&mut attributes, 0xe0, code::LARGE_COMMUNITIES, |out| out.extend(twice.as_flattened()));
        let mut body = Vec::new();
        let update = read(&mut body, &attributes, &[], &EXTERNAL).unwrap();
        let (mut out, mut wanted) = (Vec::new(), Vec::new());
        update.attributes.write_canonical(&mut out);
        push(&mut wanted, 0xe0, code::LARGE_COMMUNITIES, |out| out.extend(distinct.as_flattened()));
        assert_eq!(out, wanted, "{count}");
    }
}

#[test]
fn each_attribute_error_has_its_verdict() {
    let good = |skip: u8| {
        let mut out = Vec::new();
        for (code, value) in [
            (code::ORIGIN, &[0][..]),
            (code::AS_PATH, &[2, 1, 0, 0, 0xfd, 0xe9]),
            (code::NEXT_HOP, &[10, 99, 0, 2]),
        ] {
            if code != skip {
                push(&mut out, flag::WELL_KNOWN, code, |out| out.extend(value));
            }
        }
        out
    };
    use UpdateVerdict::{Discard, Ok, SessionReset, TreatAsWithdraw};
    let cases: &[(u8, u8, &[u8], &Context, UpdateVerdict)] = &[
        (0x40, code::ORIGIN, &[3], &EXTERNAL, TreatAsWithdraw),
        (0x80, code::ORIGIN, &[0], &EXTERNAL, TreatAsWithdraw),
        (0x40, code::AS_PATH, &[2, 0], &EXTERNAL, TreatAsWithdraw),
        (0x40, code::AS_PATH, &[3, 1, 0, 0, 0, 9], &EXTERNAL, TreatAsWithdraw),
        (0x40, code::NEXT_HOP, &[127, 0, 0, 1], &EXTERNAL, TreatAsWithdraw),
        (0x40, code::NEXT_HOP, &[1, 2, 3], &EXTERNAL, TreatAsWithdraw),
        (0x80, code::MULTI_EXIT_DISC, &[1], &EXTERNAL, TreatAsWithdraw),
        (0x40, code::LOCAL_PREF, &[], &EXTERNAL, Discard),
        (0x40, code::LOCAL_PREF, &[], &INTERNAL, TreatAsWithdraw),
        (0x40, code::ATOMIC_AGGREGATE, &[1], &EXTERNAL, Discard),
        (0xc0, code::AGGREGATOR, &[1, 2, 3, 4, 5, 6], &EXTERNAL, Discard),
        (0xc0, code::COMMUNITIES, &[], &EXTERNAL, TreatAsWithdraw),
        (0x80, code::ORIGINATOR_ID, &[1], &EXTERNAL, Discard),
        (0x80, code::ORIGINATOR_ID, &[1], &INTERNAL, TreatAsWithdraw),
        (0x80, code::CLUSTER_LIST, &[1, 2, 3], &INTERNAL, TreatAsWithdraw),
        (0xc0, code::AS4_PATH, &[9, 9], &EXTERNAL, Discard),
        (0xc0, code::LARGE_COMMUNITIES, &[1; 13], &EXTERNAL, TreatAsWithdraw),
        (0xc0, code::TUNNEL_ENCAPSULATION, &[0, 1, 0, 9, 1], &EXTERNAL, TreatAsWithdraw),
        (0x80, code::MP_REACH_NLRI, &[0, 2, 1, 15, 0, 0], &EXTERNAL, SessionReset),
        (0x80, code::MP_UNREACH_NLRI, &[0, 2, 1, 129], &EXTERNAL, SessionReset),
        (0x80, code::MP_REACH_NLRI, &[0x40, 0x10, 9, 0, 0], &EXTERNAL, Ok),
        (0x40, 99, &[], &EXTERNAL, SessionReset),
        (0x80, 99, &[1], &EXTERNAL, Ok),
        (0xc0, 99, &[1], &EXTERNAL, Ok),
    ];
    for (flags, code, value, context, verdict) in cases {
        let mut attributes = good(*code);
        push(&mut attributes, *flags, *code, |out| out.extend(*value));
        let mut body = Vec::new();
        let found = match read(&mut body, &attributes, NLRI, context) {
            Result::Ok(update) => update.fault.map_or(Ok, |fault| fault.verdict),
            Err(_) => SessionReset,
        };
        assert_eq!(found, *verdict, "attribute {code} {flags:#x} {value:?}");
    }
}

#[test]
fn an_attribute_error_without_routes_resets() {
    let mut attributes = Vec::new();
    push(&mut attributes, 0xc0, code::COMMUNITIES, |out| out.extend([1, 2, 3]));
    let error = read(&mut Vec::new(), &attributes, &[], &EXTERNAL).unwrap_err();
    assert_eq!((error.code, error.data), (ErrorCode::ATTRIBUTE_LENGTH, vec![0xc0, 8, 3, 1, 2, 3]));
}

#[test]
fn a_cut_attribute_list_withdraws_the_readable_routes() {
    let mut attributes = canonical();
    attributes.extend([0xc0, 8, 200, 1]);
    let mut body = Vec::new();
    let update = read(&mut body, &attributes, NLRI, &INTERNAL).unwrap();
    assert!(update.is_treated_as_withdraw());
    let withdrawn: Vec<_> = update.withdrawals().flatten().map(|p| p.to_string()).collect();
    assert_eq!(withdrawn, ["192.0.2.0/24"]);
    assert_eq!(update.announcements().count(), 0);
}

#[test]
fn the_first_of_duplicate_attributes_counts_but_duplicate_mp_attributes_reset() {
    let mut attributes = canonical();
    push(&mut attributes, flag::WELL_KNOWN, code::NEXT_HOP, |out| out.extend([10, 0, 0, 1]));
    push(&mut attributes, flag::WELL_KNOWN, code::ORIGIN, |out| out.push(2));
    let mut body = Vec::new();
    let update = read(&mut body, &attributes, NLRI, &INTERNAL).unwrap();
    assert_eq!((update.fault, update.attributes.origin.unwrap().code()), (None, 0));
    for _ in 0..2 {
        push(&mut attributes, 0x80, code::MP_UNREACH_NLRI, |out| out.extend([0, 2, 1]));
    }
    let error = read(&mut Vec::new(), &attributes, NLRI, &INTERNAL).unwrap_err();
    assert_eq!(error.code, ErrorCode::MALFORMED_ATTRIBUTE_LIST);
}

#[test]
fn unknown_transitive_attributes_are_kept_with_the_partial_bit() {
    let mut attributes = canonical();
    push(&mut attributes, flag::WELL_KNOWN, code::NEXT_HOP, |out| out.extend([10, 0, 0, 1]));
    push(&mut attributes, 0xc0, 254, |out| out.push(7));
    push(&mut attributes, 0x80, 253, |out| out.push(7));
    let mut body = Vec::new();
    let update = read(&mut body, &attributes, NLRI, &INTERNAL).unwrap();
    let mut out = Vec::new();
    update.attributes.write_canonical(&mut out);
    let mut expected = canonical();
    push(&mut expected, 0xe0, 254, |out| out.push(7));
    assert_eq!(out, expected);
}

fn any_prefix(family: Family) -> impl Strategy<Value = IpNet> {
    (any::<u128>(), 0..=family.max_prefix_len()).prop_map(move |(bits, len)| {
        let address = match family {
            Family::Ipv4Unicast => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
            Family::Ipv6Unicast => IpAddr::V6(bits.into()),
        };
        IpNet::new(address, len).unwrap().trunc()
    })
}

proptest! {
    #[test]
    fn path_identifiers_and_ipv6_next_hops_of_ipv4_prefixes_survive_the_wire(
        v4 in prop::collection::vec((any::<u32>(), any_prefix(Family::Ipv4Unicast)), 1..1500),
        v6 in prop::collection::vec((any::<u32>(), any_prefix(Family::Ipv6Unicast)), 1..500),
    ) {
        let form = UpdateFormat { extended_next_hop: true, ..UpdateFormat::default() };
        let both = bgp::Families::BOTH;
        let context = Context { add_path: both, extended_next_hop: true, ..INTERNAL };
        let v6_address: IpAddr = "2001:db8::1".parse().unwrap();
        for (family, next_hop, paths) in [
            (Family::Ipv4Unicast, IpAddr::from([10, 0, 0, 1]), &v4),
            (Family::Ipv4Unicast, v6_address, &v4),
            (Family::Ipv6Unicast, v6_address, &v6),
        ] {
            let mut out = Vec::new();
            encode::announce(&mut out, form, &canonical(), next_hop, paths.iter().copied()).unwrap();
            let announced = out.len();
            encode::withdraw(&mut out, form, family, paths.iter().copied());
            let (mut read, mut gone) = (Vec::new(), Vec::new());
            for body in frames(&out) {
                let update = UpdateView::parse(body).unwrap().read(&context).unwrap();
                prop_assert_eq!(update.fault, None);
                for (told, list) in update.announcements() {
                    prop_assert_eq!((told, list.family(), list.with_ids()), (next_hop, family, true));
                    read.extend(list.paths());
                }
                gone.extend(update.withdrawals().flat_map(|list| list.paths()));
            }
            prop_assert_eq!(&read, paths);
            prop_assert_eq!(&gone, paths);
            // A peer without either capability treats it as an error; it is never sent to one.
            let plain = UpdateFormat::default();
            let other = encode::announce(&mut Vec::new(), plain, &canonical(), next_hop, paths.iter().copied());
            prop_assert_eq!(other.is_err(), (family == Family::Ipv4Unicast) != next_hop.is_ipv4());
            prop_assert!(announced > 0);
        }
    }

    #[test]
    fn encoded_announcements_and_withdrawals_are_decoded_unchanged(
        v4 in prop::collection::vec(any_prefix(Family::Ipv4Unicast), 0..3000),
        v6 in prop::collection::vec(any_prefix(Family::Ipv6Unicast), 0..900),
    ) {
        for (family, next_hop, prefixes) in [
            (Family::Ipv4Unicast, IpAddr::from([10, 0, 0, 1]), v4),
            (Family::Ipv6Unicast, "2001:db8::1".parse().unwrap(), v6),
        ] {
            let mut out = Vec::new();
            let count = encode::announce(&mut out, UpdateFormat::default(), &canonical(), next_hop, prefixes.iter().copied()).unwrap();
            let bodies = frames(&out);
            prop_assert_eq!(bodies.len(), count);
            let mut read = Vec::new();
            for body in bodies {
                let update = UpdateView::parse(body).unwrap().read(&INTERNAL).unwrap();
                read.extend(update.announcements().flat_map(|(_, list)| list.iter()));
            }
            prop_assert_eq!(&read, &prefixes);

            out.clear();
            let count = encode::withdraw(&mut out, UpdateFormat::default(), family, prefixes.iter().copied());
            let bodies = frames(&out);
            prop_assert_eq!(bodies.len(), count);
            read.clear();
            for body in bodies {
                let update = UpdateView::parse(body).unwrap().read(&INTERNAL).unwrap();
                read.extend(update.withdrawals().flatten());
            }
            prop_assert_eq!(&read, &prefixes);
        }
    }

    #[test]
    fn any_octets_are_read_without_a_panic(body: Vec<u8>, internal: bool, four: bool) {
        let as_width = if four { AsWidth::Four } else { AsWidth::Two };
        let context = Context { as_width, internal, ..Context::INTERNAL };
        if let Ok(update) = UpdateView::parse(&body).and_then(|view| view.read(&context)) {
            let mut out = Vec::new();
            update.attributes.write_canonical(&mut out);
        }
    }
}
