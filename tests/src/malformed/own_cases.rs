//! Cases of our own, of the same kinds as the corpus has: what stands there once, and its neighbours.

use bgp::wire::attribute::{code, push};
use ipnet::IpNet;

use super::case::{Case, Phase, Role};
use super::judge::AcceptedOutcome;

const OT: u8 = 0xc0;
const IPV4: [u8; 6] = [1, 4, 0, 1, 0, 1];

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    headers(&mut all);
    states(&mut all);
    opens(&mut all);
    updates(&mut all);
    for (number, case) in all.iter_mut().enumerate() {
        case.id = format!("M{number:03}");
    }
    all
}

fn case(
    group: &str,
    name: &str,
    phase: Phase,
    role: Role,
    octets: Vec<u8>,
    wanted: Vec<AcceptedOutcome>,
    spec: &str,
) -> Case {
    Case {
        id: String::new(),
        name: name.to_owned(),
        group: group.to_owned(),
        phase,
        role,
        octets,
        chunk: None,
        prefix: None,
        attribute: None,
        passed_on_with: None,
        needs_extended_messages: false,
        wanted,
        spec: spec.to_owned(),
    }
}

fn reset(code: u8, subcode: u8) -> Vec<AcceptedOutcome> {
    vec![AcceptedOutcome::Reset(vec![(code, subcode)])]
}

/// Returns a message with a header of any length and type.
fn raw(length: u16, kind: u8, body: &[u8]) -> Vec<u8> {
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).expect("a message's length");
    raw(length, kind, body)
}

fn headers(all: &mut Vec<Case>) {
    let mut add = |name: &str, octets, wanted| {
        all.push(case("header", name, Phase::Established, Role::Ebgp, octets, wanted, "RFC 4271 §6.1"));
    };
    let mut marker = message(4, &[]);
    marker[0] = 0xfe;
    add("marker-first-octet", marker, reset(1, 1));
    add("length-0", raw(0, 4, &[]), reset(1, 2));
    add("type-6", message(6, &[]), reset(1, 3));
    add("keepalive-of-20", message(4, &[0]), reset(1, 2));
    add("open-of-28", message(1, &[0; 9]), reset(1, 2));
    add("update-of-22", message(2, &[0; 3]), reset(1, 2));
    add("refresh-of-19", message(5, &[]), vec![AcceptedOutcome::Reset(vec![(7, 1), (1, 2)])]);
    add(
        "refresh-with-filters",
        message(5, &[0, 1, 0, 1, 1, 64, 0, 0]),
        vec![AcceptedOutcome::Ignore, AcceptedOutcome::Accept],
    );
    add("keepalive", message(4, &[]), vec![AcceptedOutcome::Accept]);
}

fn states(all: &mut Vec<Case>) {
    let mut add = |name: &str, phase, octets, wanted| {
        all.push(case("fsm", name, phase, Role::Ebgp, octets, wanted, "RFC 6608 §4"));
    };
    let update = message(2, &[0; 4]);
    add("update-in-opensent", Phase::OpenSent, update.clone(), reset(5, 1));
    add("notification-in-opensent", Phase::OpenSent, message(3, &[6, 2]), vec![AcceptedOutcome::Close]);
    add("update-in-openconfirm", Phase::OpenConfirm, update, reset(5, 2));
    add("refresh-in-openconfirm", Phase::OpenConfirm, message(5, &[0, 1, 0, 1]), reset(5, 2));
}

/// An OPEN of the tester's: AS, hold time, identifier and what follows.
fn open(version: u8, my_as: u16, hold_time: u16, id: [u8; 4], rest: &[u8]) -> Vec<u8> {
    let mut body = vec![version];
    body.extend(my_as.to_be_bytes());
    body.extend(hold_time.to_be_bytes());
    body.extend(id);
    body.extend(rest);
    message(1, &body)
}

/// One parameter with capabilities.
fn capabilities(list: &[&[u8]]) -> Vec<u8> {
    let list = list.concat();
    let len = u8::try_from(list.len()).expect("a short list");
    [&[len + 2, 2, len][..], &list].concat()
}

fn opens(all: &mut Vec<Case>) {
    let mut add = |name: &str, role, octets, wanted, spec| {
        all.push(case("open", name, Phase::OpenSent, role, octets, wanted, spec));
    };
    let id = [10, 99, 0, 2];
    let as4: &[u8] = &[65, 4, 0, 0, 0xfd, 0xe9];
    let with = |list: &[&[u8]]| open(4, 65001, 90, id, &capabilities(&[&[&IPV4[..], as4], list].concat()));
    let rule = "RFC 4271 §6.2";
    add("version-5", Role::Ebgp, open(5, 65001, 90, id, &[0]), reset(2, 1), rule);
    add("hold-time-2", Role::Ebgp, open(4, 65001, 2, id, &[0]), reset(2, 6), rule);
    add("as-trans-alone", Role::Ebgp, open(4, 23456, 90, id, &[0]), reset(2, 2), "RFC 6793 §9");
    let both = capabilities(&[as4]);
    add("as-numbers-disagree", Role::Ebgp, open(4, 65002, 90, id, &both), reset(2, 2), "RFC 6793 §4.1");
    let zero = capabilities(&[&[65, 4, 0, 0, 0, 0]]);
    add("four-octet-as-0", Role::Ebgp, open(4, 65001, 90, id, &zero), reset(2, 2), "RFC 7607 §2");
    let ours = open(4, 65000, 90, [10, 99, 0, 1], &[0]);
    add("our-identifier", Role::Ibgp, ours, reset(2, 3), "RFC 6286 §2.2");
    let ours = open(4, 65001, 90, [10, 99, 0, 1], &both);
    add("our-identifier-in-another-as", Role::Ebgp, ours, vec![AcceptedOutcome::Accept], "RFC 6286 §2.2");
    add("authentication-parameter", Role::Ebgp, open(4, 65001, 90, id, &[3, 1, 1, 0]), reset(2, 4), rule);
    add("octets-after-the-parameters", Role::Ebgp, open(4, 65001, 90, id, &[0, 9]), reset(2, 0), rule);
    let cut = open(4, 65001, 90, id, &[255, 255, 0, 9, 2, 0, 9, 1]);
    add("extended-parameters-cut", Role::Ebgp, cut, reset(2, 0), "RFC 9072 §2");
    add("graceful-restart-of-3", Role::Ebgp, with(&[&[64, 3, 0, 120, 0]]), reset(2, 0), "RFC 4724 §3");
    add(
        "extended-message-with-a-value",
        Role::Ebgp,
        with(&[&[6, 1, 0]]),
        vec![AcceptedOutcome::Accept],
        "RFC 8654 §3",
    );
    let family = with(&[&[1, 4, 0x40, 0x04, 0, 71]]);
    add("a-family-that-is-not-ours", Role::Ebgp, family, vec![AcceptedOutcome::Accept], "RFC 5492 §3");
}

/// An UPDATE that announces a prefix, with these attributes in the places of the usual ones of their types.
fn update(role: Role, attributes: &[(u8, u8, &[u8])], nlri: &[u8]) -> Vec<u8> {
    let asn = role.asn().to_be_bytes();
    let path: Vec<u8> = match role {
        Role::Ebgp2 => [&[2, 1][..], &asn[2..]].concat(),
        Role::Ebgp => [&[2, 1][..], &asn].concat(),
        _ => Vec::new(),
    };
    let next_hop = role.address().octets();
    let usual: [(u8, u8, &[u8]); 3] =
        [(0x40, code::ORIGIN, &[0]), (0x40, code::AS_PATH, &path), (0x40, code::NEXT_HOP, &next_hop)];
    let given = |code: u8| attributes.iter().any(|(_, other, _)| *other == code);
    let mut list = Vec::new();
    for (flags, code, value) in usual.iter().filter(|(_, code, _)| !given(*code)).chain(attributes) {
        push(&mut list, *flags, *code, |out| out.extend_from_slice(value));
    }
    let len = u16::try_from(list.len()).expect("attributes of a message");
    message(2, &[&[0, 0][..], &len.to_be_bytes(), &list, nlri].concat())
}

fn updates(all: &mut Vec<Case>) {
    use AcceptedOutcome::{Accept, Discard, Withdraw};
    let mut host = 0;
    let mut add = |name: &str, role, attributes: &[(u8, u8, &[u8])], about: u8, wanted, spec: &str| {
        host += 1;
        let prefix: IpNet = format!("198.19.{host}.0/24").parse().expect("a prefix");
        let octets = update(role, attributes, &[24, 198, 19, host]);
        let mut case = case("update", name, Phase::Established, role, octets, wanted, spec);
        (case.prefix, case.attribute) = (Some(prefix), Some(about));
        all.push(case);
    };
    let zero: &[u8] = &[0, 0, 0, 0, 1, 2, 3, 4];
    let (ebgp, ibgp, ebgp2) = (Role::Ebgp, Role::Ibgp, Role::Ebgp2);
    add("aggregator-as-0", ebgp, &[(OT, 7, zero)], 7, vec![Discard], "RFC 7607 §2");
    add("aggregator-as-0-in-two-octets", ebgp2, &[(OT, 7, &zero[2..])], 7, vec![Discard], "RFC 7607 §2");
    add("as4-aggregator-as-0", ebgp2, &[(OT, 18, zero)], 18, vec![Discard], "RFC 7607 §2");
    add("as4-path-as-0", ebgp2, &[(OT, 17, &[2, 1, 0, 0, 0, 0])], 17, vec![Discard], "RFC 7607 §2");
    add(
        "as4-path-of-a-confederation",
        ebgp2,
        &[(OT, 17, &[3, 1, 0, 0, 0xfd, 0xeb])],
        17,
        vec![Accept, Discard],
        "RFC 6793 §6",
    );
    add(
        "as-path-in-two-octets-as-0",
        ebgp2,
        &[(0x40, 2, &[2, 2, 0xfd, 0xeb, 0, 0])],
        2,
        vec![Withdraw],
        "RFC 7607 §2",
    );
    add(
        "as-set-with-as-0",
        ebgp,
        &[(0x40, 2, &[2, 1, 0, 0, 0xfd, 0xe9, 1, 1, 0, 0, 0, 0])],
        2,
        vec![Withdraw],
        "RFC 7607 §2",
    );
    add("empty-path-from-outside", ebgp, &[(0x40, 2, &[])], 2, vec![Withdraw], "RFC 4271 §6.3");
    add(
        "path-of-another-as",
        ebgp,
        &[(0x40, 2, &[2, 1, 0, 0, 0xfd, 0xea])],
        2,
        vec![Withdraw],
        "RFC 4271 §6.3",
    );
    add("confed-set", ibgp, &[(0x40, 2, &[4, 1, 0, 0, 0xfd, 0xea])], 2, vec![Withdraw], "RFC 5065 §5");
    for (name, next_hop) in [
        ("our-own", [10, 99, 0, 1]),
        ("of-class-e", [240, 0, 0, 1]),
        ("multicast", [224, 0, 0, 5]),
        ("0", [0; 4]),
    ] {
        let name = format!("next-hop-{name}");
        add(&name, ebgp, &[(0x40, 3, &next_hop)], 3, vec![Withdraw], "RFC 4271 §6.3");
    }
    // Every type with the flags of another kind.
    for (flags, about, value) in [
        (0x80, 2, &[2, 1, 0, 0, 0xfd, 0xe9][..]),
        (0x40, 4, &[0; 4]),
        (0x40, 7, zero),
        (0x80, 8, &[0; 4]),
        (0x40, 16, &[0; 8]),
        (0x80, 32, &[0; 12]),
        (0x80, 23, &[0, 8, 0, 0]),
    ] {
        let name = format!("flags-of-{about}");
        add(&name, ebgp, &[(flags, about, value)], about, vec![Withdraw], "RFC 7606 §3 c");
    }
    for (about, value) in [(5, &[0, 0, 0, 1, 2][..]), (9, &[1, 2, 3]), (10, &[1, 2, 3, 4])] {
        let name = format!("from-outside-{about}");
        add(
            &name,
            ebgp,
            &[(if about == 5 { 0x40 } else { 0x80 }, about, value)],
            about,
            vec![Discard],
            "RFC 7606 §7",
        );
    }
    for (about, value) in [(9, &[][..]), (10, &[]), (10, &[1, 2, 3, 4, 5])] {
        let name = format!("length-{}-of-{about}", value.len());
        add(&name, ibgp, &[(0x80, about, value)], about, vec![Withdraw], "RFC 7606 §7.9, §7.10");
    }
    for (about, value) in [(16, &[][..]), (16, &[0; 9]), (32, &[0; 11]), (8, &[0; 3]), (8, &[])] {
        let name = format!("length-{}-of-{about}", value.len());
        add(&name, ebgp, &[(OT, about, value)], about, vec![Withdraw], "RFC 7606 §7, RFC 8092 §6");
    }
    add(
        "origin-as-long-as-an-extended-length",
        ebgp,
        &[(0x40, 1, &[0; 300])],
        1,
        vec![Withdraw],
        "RFC 7606 §7.1",
    );
    add("origin-255", ebgp, &[(0x40, 1, &[255])], 1, vec![Withdraw], "RFC 7606 §7.1");
    add("atomic-aggregate-of-4", ebgp, &[(0x40, 6, &[0; 4])], 6, vec![Discard], "RFC 7606 §7.6");
    add("tunnel-tlv-overrun", ebgp, &[(OT, 23, &[0, 8, 0, 9, 1])], 23, vec![Withdraw], "RFC 9012 §13");
    add("only-to-customer-of-3", ebgp, &[(OT, 35, &[0; 3])], 35, vec![Withdraw], "RFC 9234 §5");
    add("prefix-sid-type-0", ebgp, &[(OT, 40, &[0; 6])], 40, vec![Discard], "RFC 8669 §6");
    // Fits as it came, and no more once our AS or a LOCAL_PREF is in it: the old route must go.
    add(
        "too-long-to-pass-on",
        ebgp,
        &[(OT, 99, &[7; 4096 - 19 - 4 - 20 - 4 - 4])],
        99,
        vec![Withdraw],
        "RFC 4271 §9.2",
    );
    let mut passed = |name: &str, flags, about, value: &[u8]| {
        host += 1;
        let prefix: IpNet = format!("198.19.{host}.0/24").parse().expect("a prefix");
        let octets = update(ebgp, &[(flags, about, value)], &[24, 198, 19, host]);
        let mut case = case("update", name, Phase::Established, ebgp, octets, vec![Accept], "RFC 4271 §5");
        (case.prefix, case.attribute, case.passed_on_with) = (Some(prefix), Some(about), Some(0xe0));
        all.push(case);
    };
    passed("unknown-of-3000", OT, 99, &[7; 3000]);
    passed("unknown-partial-already", OT | 0x20, 99, &[7]);
    passed("unknown-empty", OT, 99, &[]);
    passed("checked-only", OT, 40, &[1, 0, 7, 0, 0, 0, 0, 0, 0, 1]);
    let community: (u8, u8, &[u8]) = (OT, 8, &[1, 2, 3]);
    let mut resets = |name: &str, attributes: &[(u8, u8, &[u8])], nlri: &[u8], subcodes: &[u8]| {
        let codes = subcodes.iter().map(|subcode| (3, *subcode)).collect();
        let octets = update(ebgp, attributes, nlri);
        let wanted = vec![AcceptedOutcome::Reset(codes)];
        all.push(case("update", name, Phase::Established, ebgp, octets, wanted, "RFC 7606 §3, §5"));
    };
    let reach: &[u8] = &[&[0, 2, 1, 16, 0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1, 0]].concat();
    resets("mp-reach-twice", &[(0x80, 14, reach), (0x80, 14, reach)], &[], &[1]);
    let nothing: &[u8] = &[&[0, 2, 1, 16, 0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1]].concat();
    resets("bad-community-and-an-empty-mp-reach", &[(0x80, 14, nothing), community], &[], &[0, 1, 5, 9]);
    resets(
        "bad-community-and-an-mp-unreach",
        &[(0x80, 15, &[0, 2, 1, 16, 0x20, 1]), community],
        &[],
        &[0, 1, 5, 9],
    );
    resets(
        "mp-reach-next-hop-of-24",
        &[(0x80, 14, &[&[0, 2, 1, 24][..], &[1; 24], &[0, 16, 0x20, 1]].concat())],
        &[],
        &[0, 1, 5, 9],
    );
    resets(
        "mp-reach-prefix-of-129",
        &[(0x80, 14, &[&reach[..21], &[129][..], &[1; 17]].concat())],
        &[],
        &[0, 1, 9, 10],
    );
    resets("prefix-of-33", &[], &[33, 10, 1, 2, 3, 0], &[10, 1]);
    resets("well-known-98", &[(0x40, 98, &[1])], &[24, 198, 19, 255], &[2]);
}
