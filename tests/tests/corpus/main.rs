//! Real messages, decoded by us and by others: every well-formed one must say the same, and must
//! say the same again after we have encoded it.
#![allow(clippy::unwrap_used)]

mod compare;

use bgp::wire::attribute::Attributes;
use bgp::wire::frame::{self, MAX_EXTENDED_LEN, MessageKind};
use bgp::wire::notification::Notification;
use bgp::wire::open::Open;
use bgp::wire::refresh::RouteRefresh;
use bgp::wire::update::UpdateView;
use ipnet::IpNet;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use tests::{corpus, hex};

use compare::*;

#[test]
fn real_messages_decode_as_by_tshark() {
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
                // In captures that begin after the OPENs the width is unknown; tshark guesses as
                // well.
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
                    // tshark 4.0 does not know the extended form (RFC 9072) and reports it.
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
                    // Unknown families are not kept: a list of these alone is empty.
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
