//! Compares what other decoders read in a message with what ours reads, and encodes it again.

use std::net::IpAddr;

use bgp::wire::as_path::{AsPath, AsWidth};
use bgp::wire::attribute::{Attributes, Context, RawAttributes};
use bgp::wire::encode::{self, UpdateFormat};
use bgp::wire::frame::{self, Frame, MAX_EXTENDED_LEN};
use bgp::wire::update::{UpdateMessage, UpdateView};
use bgp::{Asn, Family};
use ipnet::IpNet;
use serde_json::Value;

pub(crate) fn context(four: bool) -> Context {
    Context { as_width: if four { AsWidth::Four } else { AsWidth::Two }, ..Context::INTERNAL }
}

pub(crate) fn only_message(octets: &[u8]) -> Option<Frame<'_>> {
    frame::next(octets, MAX_EXTENDED_LEN).ok().flatten().filter(|frame| frame.len() == octets.len())
}

/// Rules that a message of the corpus breaks, each with why it is right that we say so although
/// others show it.
pub(crate) const FAULTS: &[(&str, &str)] = &[
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

pub(crate) fn known(rule: &str) -> Option<&'static str> {
    FAULTS.iter().find(|(start, _)| rule.starts_with(start)).map(|(_, why)| *why)
}

/// Returns whether all prefixes are complete if each has a path identifier before it (RFC 7911).
pub(crate) fn has_path_ids(view: &UpdateView<'_>) -> bool {
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

pub(crate) fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .map(|list| list.iter().map(|v| v.as_str().unwrap().to_owned()).collect())
        .unwrap_or_default()
}

pub(crate) fn prefixes(value: &Value) -> Option<Vec<IpNet>> {
    let mut nets: Vec<IpNet> = strings(value)
        .iter()
        .map(|text| text.parse::<IpNet>().ok().map(|net| net.trunc()))
        .collect::<Option<_>>()?;
    nets.sort_unstable();
    Some(nets)
}

pub(crate) fn sorted(nets: impl Iterator<Item = IpNet>) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = nets.collect();
    nets.sort_unstable();
    nets
}

pub(crate) fn path_of(path: AsPath<'_>) -> Vec<(u8, Vec<u32>)> {
    path.segments().map(|s| (s.kind.code(), s.asns().map(|asn| asn.0).collect())).collect()
}

pub(crate) fn shown_path(value: &Value) -> Vec<(u8, Vec<u32>)> {
    let segment = |segment: &Value| {
        let kind = segment[0].as_str().unwrap().parse().unwrap();
        (kind, strings(&segment[1]).iter().map(|asn| asn.parse().unwrap()).collect())
    };
    value.as_array().map(|list| list.iter().map(segment).collect()).unwrap_or_default()
}

pub(crate) fn groups(octets: &[u8], size: usize, width: usize) -> Vec<String> {
    let number = |part: &[u8]| part.iter().fold(0u64, |n, octet| n << 8 | u64::from(*octet)).to_string();
    octets.chunks(size).map(|one| one.chunks(width).map(number).collect::<Vec<_>>().join(":")).collect()
}

pub(crate) fn number(value: &Value) -> Option<u32> {
    value.as_str().map(|text| text.parse().unwrap())
}

/// Compares every attribute and every prefix with tshark's output; AS_PATH only if `paths`: tshark
/// knows the width of AS numbers. Otherwise it reads beyond the attribute.
pub(crate) fn compare_update(
    id: &str,
    row: &Value,
    paths: bool,
    update: &UpdateMessage<'_>,
    view: &UpdateView<'_>,
) -> usize {
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
pub(crate) fn check_round_trip(id: &str, update: &UpdateMessage<'_>) {
    let mut canonical = Vec::new();
    update.attributes.write_canonical(&mut canonical);
    let form = UpdateFormat { max_len: MAX_EXTENDED_LEN, ..UpdateFormat::default() };
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
pub(crate) fn same_meaning(id: &str, ours: &Attributes<'_>, again: &Attributes<'_>) {
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
