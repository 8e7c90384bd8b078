//! Real messages, decoded by us and by others: every well-formed one must say the same, and must
//! say the same again after we have encoded it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;

use bgp::wire::as_path::{AsPath, AsWidth};
use bgp::wire::attribute::{Attributes, Context, RawAttributes};
use bgp::wire::encode::{self, Form};
use bgp::wire::frame::{self, Frame, MAX_EXTENDED_LEN, MessageKind};
use bgp::wire::notification::Notification;
use bgp::wire::open::Open;
use bgp::wire::refresh::RouteRefresh;
use bgp::wire::update::{Update, UpdateView};
use bgp::{Asn, Families, Family};
use ipnet::IpNet;
use serde_json::Value;
use tests::{corpus, hex};

fn context(four: bool) -> Context {
    Context {
        as_width: if four { AsWidth::Four } else { AsWidth::Two },
        // Internal, so that LOCAL_PREF and the reflection attributes are read.
        internal: true,
        families: Families::BOTH,
    }
}

fn only_message(octets: &[u8]) -> Option<Frame<'_>> {
    frame::next(octets, MAX_EXTENDED_LEN).ok().flatten().filter(|frame| frame.len() == octets.len())
}

/// Rules that a message of the corpus breaks, each with why it is right that we say so although
/// others show it.
const FAULTS: &[(&str, &str)] = &[
    ("the Optional and Transitive bits", "RFC 7606 §3 c: shown by decoders whatever the flags"),
    ("announced routes have ORIGIN", "RFC 7606 §3 d: fragments of exchanges recorded for one attribute"),
    ("announced routes have AS_PATH", "RFC 7606 §3 d: likewise"),
    ("announced IPv4 routes have NEXT_HOP", "RFC 7606 §3 d: likewise"),
    ("NEXT_HOP is a unicast host address", "RFC 4271 §6.3: 0.0.0.0 and the like"),
    ("the next hop is a unicast host address", "RFC 4271 §6.3: likewise, in MP_REACH_NLRI"),
    ("the next hop's length is one of its family", "RFC 8950 next hops, which are not negotiated"),
    ("confederation segments", "RFC 5065 §5: we are in no confederation"),
    ("AS 0", "RFC 7607"),
    ("every well-known attribute is known", "RFC 4271 §6.3: type codes that were never assigned"),
];

fn known(rule: &str) -> Option<&'static str> {
    FAULTS.iter().find(|(start, _)| rule.starts_with(start)).map(|(_, why)| *why)
}

/// Whether all prefixes are whole once each has a path identifier before it (RFC 7911).
fn has_path_ids(view: &UpdateView<'_>) -> bool {
    let whole = |mut rest: &[u8]| {
        while let [_, _, _, _, bits, tail @ ..] = rest {
            let Some(tail) = tail.get(usize::from(bits.div_ceil(8))..) else { return false };
            rest = tail;
        }
        rest.is_empty()
    };
    let mp_lists = RawAttributes::new(view.attributes).filter(|raw| matches!(raw.code, 14 | 15)).count();
    if mp_lists == 0 && view.nlri.is_empty() && view.withdrawn.is_empty() {
        return false;
    }
    let mp = RawAttributes::new(view.attributes).all(|raw| match raw.code {
        14 => raw.value.get(3).and_then(|len| raw.value.get(5 + usize::from(*len)..)).is_some_and(whole),
        15 => raw.value.get(3..).is_some_and(whole),
        _ => true,
    });
    mp && whole(view.nlri) && whole(view.withdrawn)
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .map(|list| list.iter().map(|v| v.as_str().unwrap().to_owned()).collect())
        .unwrap_or_default()
}

fn prefixes(value: &Value) -> Option<Vec<IpNet>> {
    let mut nets: Vec<IpNet> = strings(value)
        .iter()
        .map(|text| text.parse::<IpNet>().ok().map(|net| net.trunc()))
        .collect::<Option<_>>()?;
    nets.sort_unstable();
    Some(nets)
}

fn sorted(nets: impl Iterator<Item = IpNet>) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = nets.collect();
    nets.sort_unstable();
    nets
}

fn path_of(path: AsPath<'_>) -> Vec<(u8, Vec<u32>)> {
    path.segments().map(|s| (s.kind.code(), s.asns().map(|asn| asn.0).collect())).collect()
}

fn shown_path(value: &Value) -> Vec<(u8, Vec<u32>)> {
    let segment = |segment: &Value| {
        let kind = segment[0].as_str().unwrap().parse().unwrap();
        (kind, strings(&segment[1]).iter().map(|asn| asn.parse().unwrap()).collect())
    };
    value.as_array().map(|list| list.iter().map(segment).collect()).unwrap_or_default()
}

fn groups(octets: &[u8], size: usize, width: usize) -> Vec<String> {
    let number = |part: &[u8]| part.iter().fold(0u64, |n, octet| n << 8 | u64::from(*octet)).to_string();
    octets.chunks(size).map(|one| one.chunks(width).map(number).collect::<Vec<_>>().join(":")).collect()
}

fn number(value: &Value) -> Option<u32> {
    value.as_str().map(|text| text.parse().unwrap())
}

/// Compares every attribute and every prefix with what tshark showed; AS_PATH only where `paths` says
/// that tshark took AS numbers for as wide as they are: else it reads beyond the attribute.
fn compare_update(id: &str, row: &Value, paths: bool, update: &Update<'_>, view: &UpdateView<'_>) -> usize {
    let shown = &row["tshark"];
    let attributes = &update.attributes;
    let mut compared = 0;
    macro_rules! same {
        ($ours:expr, $theirs:expr, $what:literal) => {
            compared += 1;
            assert_eq!($ours, $theirs, "{id}: {}", $what);
        };
    }
    let raw: Vec<_> = RawAttributes::new(view.attributes)
        .map(|raw| (u64::from(raw.code), raw.value.len() as u64))
        .collect();
    let listed: Vec<_> = shown["attrs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| (a[0].as_u64().unwrap(), a[2].as_u64().unwrap()))
        .collect();
    same!(raw, listed, "attributes in the list");
    same!(attributes.origin.map(|origin| u32::from(origin.code())), number(&shown["origin"]), "ORIGIN");
    if let Some(path) = attributes.as_path.filter(|_| paths) {
        same!(path_of(path), shown_path(&shown["as_path"]), "AS_PATH");
    }
    if let Some(path) = attributes.as4_path {
        same!(path_of(path), shown_path(&shown["as4_path"]), "AS4_PATH");
    }
    same!(
        attributes.next_hop.map(|a| a.to_string()),
        shown["next_hop"].as_str().map(str::to_owned),
        "NEXT_HOP"
    );
    same!(attributes.med, number(&shown["med"]), "MULTI_EXIT_DISC");
    same!(attributes.local_pref, number(&shown["local_pref"]), "LOCAL_PREF");
    if let Some(aggregator) = attributes.aggregator {
        let ours = vec![aggregator.asn.to_string(), aggregator.id.to_string()];
        same!(ours, strings(&shown["aggregator"]), "AGGREGATOR");
    }
    if let Some(octets) = attributes.communities {
        // tshark lists the reserved ones, as one number, after the others.
        let plain =
            |text: &String| match text.strip_prefix("0x").map(|hex| u32::from_str_radix(hex, 16).unwrap()) {
                Some(number) => format!("{}:{}", number >> 16, number & 0xffff),
                None => text.clone(),
            };
        let mut theirs: Vec<String> = strings(&shown["communities"]).iter().map(plain).collect();
        let mut ours = groups(octets, 4, 2);
        theirs.sort();
        ours.sort();
        same!(ours, theirs, "COMMUNITIES");
    }
    if let Some(octets) = attributes.large_communities {
        same!(groups(octets, 12, 4), strings(&shown["large_communities"]), "LARGE_COMMUNITIES");
    }
    if let Some(originator) = attributes.originator_id {
        same!(
            Some(originator.to_string()),
            shown["originator_id"].as_str().map(str::to_owned),
            "ORIGINATOR_ID"
        );
    }
    if let (Some(octets), false) = (attributes.cluster_list, strings(&shown["cluster_list"]).is_empty()) {
        let ours: Vec<_> =
            octets.chunks(4).map(|id| format!("{}.{}.{}.{}", id[0], id[1], id[2], id[3])).collect();
        same!(ours, strings(&shown["cluster_list"]), "CLUSTER_LIST");
    }
    let of = |family: Family, lists: Vec<bgp::wire::nlri::Nlri<'_>>| {
        sorted(lists.into_iter().filter(move |list| list.family() == family).flatten())
    };
    // The fields outside MP attributes are read apart: an MP attribute may carry IPv4 as well.
    let plain = |octets| bgp::wire::nlri::Nlri::check(Family::Ipv4Unicast, octets).unwrap();
    same!(Some(sorted(plain(view.withdrawn).iter())), prefixes(&shown["withdrawn"]), "withdrawn");
    same!(Some(sorted(plain(view.nlri).iter())), prefixes(&shown["nlri"]), "NLRI");
    if let Some(reach) = attributes.mp_reach {
        let theirs = &shown["mp_reach"];
        same!(Some(of(reach.nlri.family(), vec![reach.nlri])), prefixes(&theirs["nlri"]), "MP_REACH_NLRI");
        let ours = strings(&theirs["nh"]);
        let next_hop: Option<IpAddr> = ours.first().map(|text| text.parse().unwrap());
        same!(Some(reach.next_hop), next_hop, "the next hop of MP_REACH_NLRI");
    }
    if let Some(unreach) = attributes.mp_unreach {
        let theirs = prefixes(&shown["mp_unreach"]["nlri"]);
        same!(Some(of(unreach.family(), vec![unreach])), theirs, "MP_UNREACH_NLRI");
    }
    compared
}

/// Encodes what was read and reads it again, on a four-octet session.
fn check_round_trip(id: &str, update: &Update<'_>) {
    let mut canonical = Vec::new();
    update.attributes.write_canonical(&mut canonical);
    let form = Form { as_width: AsWidth::Four, max_len: MAX_EXTENDED_LEN };
    for (next_hop, list) in update.announcements() {
        let mut out = Vec::new();
        encode::announce(&mut out, form, &canonical, next_hop, list).unwrap();
        let frame = only_message(&out).unwrap_or_else(|| panic!("{id}: one message"));
        let view = UpdateView::parse(frame.body).unwrap();
        let again = view.read(&context(true)).unwrap();
        assert_eq!(again.fault, None, "{id}: encoded again");
        let read: Vec<_> =
            again.announcements().flat_map(|(via, list)| list.iter().map(move |p| (via, p))).collect();
        let expected: Vec<_> = list.iter().map(|prefix| (next_hop, prefix)).collect();
        assert_eq!(read, expected, "{id}: prefixes encoded again");
        let mut canonical_again = Vec::new();
        again.attributes.write_canonical(&mut canonical_again);
        assert_eq!(canonical_again, canonical, "{id}: attributes encoded again");
        same_meaning(id, &update.attributes, &again.attributes);
    }
    for list in update.withdrawals() {
        let mut out = Vec::new();
        encode::withdraw(&mut out, form, list.family(), list);
        let frame = only_message(&out).unwrap_or_else(|| panic!("{id}: one message"));
        let again = UpdateView::parse(frame.body).unwrap().read(&context(true)).unwrap();
        assert_eq!(
            again.withdrawals().flatten().collect::<Vec<_>>(),
            list.iter().collect::<Vec<_>>(),
            "{id}"
        );
    }
}

/// The values of the two readings, but for what the merge of AS4 attributes changes on purpose.
fn same_meaning(id: &str, ours: &Attributes<'_>, again: &Attributes<'_>) {
    assert_eq!(ours.origin, again.origin, "{id}");
    assert_eq!((ours.med, ours.local_pref), (again.med, again.local_pref), "{id}");
    assert_eq!(
        (ours.communities, ours.large_communities),
        (again.communities, again.large_communities),
        "{id}"
    );
    assert_eq!(ours.extended_communities, again.extended_communities, "{id}");
    assert_eq!((ours.originator_id, ours.cluster_list), (again.originator_id, again.cluster_list), "{id}");
    assert_eq!(ours.atomic_aggregate, again.atomic_aggregate, "{id}");
    assert_eq!(ours.effective_aggregator(), again.aggregator, "{id}");
    if ours.as4_path.is_none() {
        assert_eq!(ours.as_path.map(path_of), again.as_path.map(path_of), "{id}");
    } else {
        let count = |path: Option<AsPath<'_>>| path.map(|path| path.hops());
        assert_eq!(count(ours.as_path), count(again.as_path), "{id}: the merged path is as long");
        assert!(again.as_path.unwrap().asns().all(|asn| asn != Asn::TRANS), "{id}: the numbers are real");
    }
}

#[test]
fn real_messages_say_what_others_read_in_them() {
    let file = std::fs::File::open(corpus().join("messages/real.jsonl.gz")).unwrap();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut compared = 0;
    for line in BufReader::new(flate2::read::GzDecoder::new(file)).lines() {
        let row: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let id = row["id"].as_str().unwrap();
        let octets = hex(row["hex"].as_str().unwrap());
        let shown = &row["tshark"];
        let mut count = |what: String| *counts.entry(what).or_default() += 1;
        let malformed = row["malformed_per_tshark"].as_bool().unwrap() || shown.get("expert").is_some();
        let Some(message) = only_message(&octets) else {
            assert!(malformed, "{id}: the header is refused");
            count("excluded: malformed header, as tshark says".into());
            continue;
        };
        match message.kind {
            MessageKind::Update if row["addpath"].as_bool().unwrap() => {
                count("excluded: add-path, which is not negotiated".into());
            }
            MessageKind::Update => {
                let view = match UpdateView::parse(message.body) {
                    Ok(view) => view,
                    Err(error) => {
                        assert!(malformed, "{id}: {error}: {}", row["hex"]);
                        count(format!("excluded: {} (tshark says so too)", error.rule));
                        continue;
                    }
                };
                // Of captures that begin after the OPENs nobody knows the width; tshark guesses as well.
                let labelled = row["asn4"].as_bool().unwrap();
                let readable = |four: &bool| {
                    let mut fine = true;
                    Attributes::read(view.attributes, &context(*four), |fault| {
                        fine &= fault.attribute != Some(2)
                    });
                    fine
                };
                let width = [labelled, !labelled].into_iter().find(readable).unwrap_or(labelled);
                if width != labelled {
                    count("UPDATE with AS numbers of the other width than recorded".into());
                }
                match view.read(&context(width)) {
                    Ok(update) if update.fault.is_none() => {
                        compared += compare_update(id, &row, width == labelled, &update, &view);
                        check_round_trip(id, &update);
                        count("UPDATE compared".into());
                    }
                    result => {
                        let rule = match &result {
                            Ok(update) => update.fault.unwrap().rule,
                            Err(error) => error.rule,
                        };
                        let why = known(rule)
                            .or(malformed.then_some("tshark says so too"))
                            .or_else(|| has_path_ids(&view).then_some("add-path, not recorded as such"));
                        let why = why.unwrap_or_else(|| panic!("{id}: {rule}: {}", row["hex"]));
                        count(format!("excluded: {rule} ({why})"));
                    }
                }
            }
            MessageKind::Open => match Open::parse(message.body) {
                Ok(open) => {
                    assert_eq!(u64::from(open.hold_time), as_number(&shown["hold"]), "{id}");
                    assert_eq!(open.router_id.to_string(), shown["id"].as_str().unwrap(), "{id}");
                    // tshark 4.0 doesn't know the extended form (RFC 9072) and says so.
                    if !malformed {
                        let as4 = strings(&shown["as4"]).last().map(|asn| asn.parse().unwrap());
                        let my_as = as4.unwrap_or_else(|| as_number(&shown["my_as"]));
                        assert_eq!(u64::from(open.asn.0), my_as, "{id}");
                        let caps = strings(&shown["caps"]);
                        let has = |code: &str| caps.iter().any(|cap| cap == code);
                        let ours = open.capabilities;
                        assert_eq!(
                            (
                                ours.multiprotocol.is_some(),
                                ours.route_refresh,
                                ours.graceful_restart.is_some()
                            ),
                            (has("1"), has("2"), has("64")),
                            "{id}"
                        );
                        assert_eq!(
                            (ours.extended_message, ours.four_octet_as.is_some()),
                            (has("6"), has("65")),
                            "{id}"
                        );
                    }
                    let mut open = open;
                    // Families that we don't exchange are not kept, so none but those says nothing.
                    open.capabilities.multiprotocol =
                        open.capabilities.multiprotocol.filter(|f| !f.is_empty());
                    let mut out = Vec::new();
                    open.encode(&mut out);
                    assert_eq!(
                        Open::parse(only_message(&out).unwrap().body),
                        Ok(open),
                        "{id}: encoded again"
                    );
                    count("OPEN compared".into());
                }
                Err(error) => {
                    // Recorded from fuzzers: tshark shows the fields without judging them.
                    let judged = [
                        as_number(&shown["version"]) != 4,
                        matches!(as_number(&shown["hold"]), 1 | 2),
                        as_number(&shown["my_as"]) == 0,
                        shown["id"] == "0.0.0.0",
                        malformed,
                    ];
                    assert!(judged.contains(&true), "{id}: {error}: {}", row["hex"]);
                    count(format!("excluded: OPEN, {}", error.rule));
                }
            },
            MessageKind::Notification => {
                let ours = Notification::parse(message.body);
                let code = (u64::from(ours.code.code), u64::from(ours.code.subcode));
                assert_eq!(code, (as_number(&shown["code"]), as_number(&shown["subcode"])), "{id}");
                let mut out = Vec::new();
                ours.encode(&mut out);
                assert_eq!(out, octets, "{id}: encoded again");
                count("NOTIFICATION compared".into());
            }
            MessageKind::RouteRefresh => {
                let ours = RouteRefresh::parse(message.body).unwrap();
                assert_eq!(u64::from(ours.family.afi), as_number(&shown["afi"]), "{id}");
                assert_eq!(u64::from(ours.family.safi), as_number(&shown["safi"]), "{id}");
                let mut out = Vec::new();
                ours.encode(&mut out);
                // Filters (RFC 5291), which are not negotiated, are passed over.
                assert_eq!(out[18..23], octets[18..23], "{id}: encoded again");
                count("ROUTE-REFRESH compared".into());
            }
            MessageKind::Keepalive => count("KEEPALIVE".into()),
        }
    }
    println!("{counts:#?}\n{compared} values compared");
    let excluded: usize =
        counts.iter().filter(|(what, _)| what.starts_with("excluded")).map(|(_, n)| n).sum();
    assert!(counts["UPDATE compared"] > 9 * excluded, "most messages are compared");
}

fn as_number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str().map(|text| text.parse().unwrap())).unwrap()
}

#[test]
fn exabgp_reads_the_same_routes() {
    let text = std::fs::read_to_string(corpus().join("messages/exabgp_qa.jsonl")).unwrap();
    let (mut compared, mut faulty, mut other_families, mut without) = (0, 0, 0, 0);
    for (at, line) in text.lines().enumerate() {
        let row: Value = serde_json::from_str(line).unwrap();
        let octets = hex(row["hex"].as_str().unwrap());
        let id = format!("exabgp {at}");
        let Some(message) = only_message(&octets).filter(|frame| frame.kind == MessageKind::Update) else {
            without += 1;
            continue;
        };
        let shown = &row["json"]["neighbor"]["message"]["update"];
        let families = ["ipv4 unicast", "ipv6 unicast"];
        let lists = |what: &str| shown[what].as_object().cloned().unwrap_or_default();
        let ours = |map: &serde_json::Map<String, Value>| {
            map.keys().all(|family| families.contains(&family.as_str()))
        };
        if !shown.is_object() || !ours(&lists("announce")) || !ours(&lists("withdraw")) {
            other_families += 1;
            continue;
        }
        let result = UpdateView::parse(message.body).unwrap().read(&context(true));
        let update = match result {
            Ok(update) if update.fault.is_none() => update,
            broken => {
                let rule = broken.map_or_else(|error| error.rule, |update| update.fault.unwrap().rule);
                assert!(known(rule).is_some(), "{id}: {rule}");
                faulty += 1;
                continue;
            }
        };
        let mut expected = Vec::new();
        let nlri = |one: &Value| one["nlri"].as_str().or(one.as_str()).unwrap().parse::<IpNet>().unwrap();
        let with_path_id = |one: &Value| one.get("path-information").is_some();
        let mut path_ids = false;
        for by_next_hop in lists("announce").values() {
            for (next_hop, list) in by_next_hop.as_object().unwrap() {
                let Ok(next_hop) = next_hop.parse::<IpAddr>() else { continue };
                path_ids |= list.as_array().unwrap().iter().any(with_path_id);
                expected.extend(list.as_array().unwrap().iter().map(|one| (next_hop, nlri(one))));
            }
        }
        if path_ids {
            other_families += 1;
            continue;
        }
        let mut read: Vec<_> =
            update.announcements().flat_map(|(via, list)| list.iter().map(move |p| (via, p))).collect();
        expected.sort_unstable();
        read.sort_unstable();
        assert_eq!(read, expected, "{id}: announced");
        let gone: Vec<IpNet> =
            lists("withdraw").values().flat_map(|list| list.as_array().unwrap().iter().map(nlri)).collect();
        assert_eq!(sorted(update.withdrawals().flatten()), sorted(gone.into_iter()), "{id}: withdrawn");
        let attribute = &shown["attribute"];
        let origin =
            update.attributes.origin.map(|origin| ["igp", "egp", "incomplete"][usize::from(origin.code())]);
        assert_eq!(origin, attribute["origin"].as_str(), "{id}");
        assert_eq!(update.attributes.med.map(u64::from), attribute["med"].as_u64(), "{id}");
        assert_eq!(
            update.attributes.local_pref.map(u64::from),
            attribute["local-preference"].as_u64(),
            "{id}"
        );
        check_round_trip(&id, &update);
        compared += 1;
    }
    println!(
        "{compared} compared, {faulty} break a rule, {other_families} without a decoding of ours, {without} no UPDATE"
    );
    assert!(compared > 0);
}

#[test]
fn fuzzed_input_is_read_without_a_panic() {
    let mut inputs = 0;
    for file in ["corpi_bgpd.hex", "corpi_bird.hex", "gobgp_badlen.hex"] {
        let text = std::fs::read_to_string(corpus().join("fuzz").join(file)).unwrap();
        for line in text.lines() {
            let octets = hex(line);
            inputs += 1;
            let mut rest = &octets[..];
            while let Ok(Some(message)) = frame::next(rest, MAX_EXTENDED_LEN) {
                read_anything(message.kind, message.body);
                rest = &rest[message.len()..];
            }
            // Whatever it was meant as: as the body of every kind, too.
            MessageKind::ALL
                .iter()
                .for_each(|kind| read_anything(*kind, octets.get(19..).unwrap_or_default()));
        }
    }
    println!("{inputs} inputs");
    assert!(inputs > 0);
}

fn read_anything(kind: MessageKind, body: &[u8]) {
    match kind {
        MessageKind::Open => _ = Open::parse(body),
        MessageKind::Notification => _ = Notification::parse(body).to_string(),
        MessageKind::RouteRefresh => _ = RouteRefresh::parse(body),
        MessageKind::Keepalive => {}
        MessageKind::Update => {
            for four in [false, true] {
                if let Ok(update) = UpdateView::parse(body).and_then(|view| view.read(&context(four))) {
                    let mut out = Vec::new();
                    update.attributes.write_canonical(&mut out);
                    let _ = update.announcements().flat_map(|(_, list)| list).count();
                }
            }
        }
    }
}
