//! The labs: each tries some features with one speaker.

use std::net::Ipv4Addr;
use std::process::Command;

use testbed::Testbed;
use tests::capture::{Capture, Wire};

use super::routed::{Routed, bgp_peer, node};
use super::shown_route::ShownRoute;
use super::speakers::{Kind, PASSWORD, Peer, Setup};
use super::test_neighbor::Client;
use super::{
    ASN, AT_ONCE, CLIENTS, EXTERNAL, FEATURES, LONG, OURS, OURS_V6, Outcome, PLAIN, Results, SOON, START,
    THEIRS, THEIRS_V6, bed, note, within,
};

/// Waits until `look` returns what `fits`; otherwise fails with the last value.
fn expect(
    what: &str,
    mut look: impl FnMut() -> Option<ShownRoute>,
    fits: impl Fn(&ShownRoute) -> bool,
) -> Result<(), String> {
    let mut last = None;
    let found = within(SOON, || {
        last = look();
        last.as_ref().filter(|seen| fits(seen)).map(|_| ())
    });
    found.ok_or_else(|| format!("{what}: {last:?}"))
}

pub(super) fn expect_next_hop(routed: &Routed<'_>, prefix: &str, next_hop: &str) -> Result<(), String> {
    let mut last = None;
    let found = within(SOON, || {
        last = routed.next_hop(prefix);
        (last.as_deref() == Some(next_hop)).then_some(())
    });
    found.ok_or_else(|| format!("{prefix} here: {last:?}"))
}

fn first_mistake(checks: impl IntoIterator<Item = Result<(), String>>) -> Result<(), String> {
    checks.into_iter().collect()
}

pub(super) fn up(routed: &Routed<'_>, client: Option<&mut Client>, kind: Kind) {
    assert!(
        within(START, || routed.is_up("10.0.0.2")).is_some(),
        "{kind:?}: {:?}",
        routed.session("10.0.0.2")
    );
    if let Some(client) = client {
        assert!(within(START, || client.is_up()).is_some(), "{kind:?}: the tests' own neighbour");
    }
}

pub(super) fn tshark(results: &mut Results, capture: Capture) -> Wire {
    let wire = capture.stop();
    let complaints = wire.complaints();
    let found = complaints.is_empty().then_some(()).ok_or_else(|| complaints.join("; "));
    note(results, FEATURES.len() - 1, found);
    wire
}

/// We reflect; the peer and the tests' own neighbour are our clients.
pub(super) fn we_reflect(kind: Kind, results: &mut Results) {
    let bed = bed();
    let capture = Capture::start(&bed);
    let peer = Peer::start(&bed, kind, PLAIN);
    let resources = node(", routeReflectorClusterID: 10.0.0.100")
        + &bgp_peer("peer", "10.0.0.2", ASN, "")
        + &bgp_peer("client", "10.0.0.3", ASN, "");
    let routed = Routed::start(&bed, &resources);
    let mut client =
        within(START, || Client::call(&bed, Ipv4Addr::new(10, 0, 0, 1))).expect("routed to listen");
    up(&routed, Some(&mut client), kind);
    client.announce(CLIENTS, 3);
    note(
        results,
        0,
        first_mistake([
            expect(
                "our block there",
                || peer.seen(OURS),
                |seen| seen.next_hop == "10.0.0.1" && seen.as_path.is_empty(),
            ),
            expect_next_hop(&routed, THEIRS, "10.0.0.2"),
        ]),
    );
    note(
        results,
        1,
        first_mistake([
            expect("our IPv6 block there", || peer.seen(OURS_V6), |seen| seen.next_hop == "fd00::1"),
            expect_next_hop(&routed, THEIRS_V6, "fd00::2"),
        ]),
    );
    let ours_only = |seen: &ShownRoute| seen.clusters == ["10.0.0.100"];
    note(
        results,
        2,
        first_mistake([
            expect(
                "the client's block there",
                || peer.seen(CLIENTS),
                |seen| {
                    seen.next_hop == "10.0.0.3"
                        && seen.originator.as_deref() == Some("10.0.0.3")
                        && ours_only(seen)
                },
            ),
            expect(
                "the peer's block at the client",
                || client.seen(THEIRS),
                |seen| {
                    seen.next_hop == "10.0.0.2"
                        && seen.originator.as_deref() == Some("10.0.0.2")
                        && ours_only(seen)
                },
            ),
        ]),
    );
    note(
        results,
        4,
        first_mistake([
            expect(
                "the client's communities there",
                || peer.seen(CLIENTS),
                |seen| seen.large == ["64512:7:0", "64512:7:1", "64512:7:2"].map(str::to_owned).into(),
            ),
            expect(
                "the peer's community at the client",
                || client.seen(THEIRS),
                |seen| seen.large == ["64512:1:2".to_owned()].into(),
            ),
        ]),
    );
    // Short first, so that there is something to be replaced, or taken back.
    client.announce(LONG, 1);
    let short = expect("the short route there", || peer.seen(LONG), |seen| seen.large.len() == 1);
    client.announce(LONG, 1000);
    if kind.has_extended_messages() {
        // BIRD shows the first of them only.
        let long = expect("the long route there", || peer.seen(LONG), |seen| seen.large.len() > 20);
        note(results, 5, short.and(long));
        results.insert(FEATURES[6], Outcome::Absent);
    } else {
        let gone = within(SOON, || peer.seen(LONG).is_none().then_some(()));
        let gone = gone.ok_or_else(|| "the short route is still there".to_owned());
        results.insert(FEATURES[5], Outcome::Absent);
        note(
            results,
            6,
            short.and(gone).and(routed.is_up("10.0.0.2").ok_or_else(|| "the session ended".into())),
        );
    }
    if kind.asks_again() {
        peer.ask_again();
        // Its request is on the wire, and our block again after it.
        let again = within(SOON, || wire_lines(&bed, "ip.src == 10.0.0.2 && bgp.type == 5").first().cloned());
        let again = again.ok_or_else(|| "no ROUTE-REFRESH from the peer".to_owned()).and_then(|asked| {
            let filter = format!("ip.src == 10.0.0.1 && ip.dst == 10.0.0.2 && frame.number > {asked} && bgp.nlri_prefix == 10.1.1.0");
            within(SOON, || wire_lines(&bed, &filter).first().map(|_| ()))
                .ok_or_else(|| "our block is not sent again".to_owned())
        });
        note(results, 7, again);
    } else {
        results.insert(FEATURES[7], Outcome::Absent);
    }
    tshark(results, capture);
}

/// The numbers of the packets so far that a display filter lets through.
fn wire_lines(bed: &Testbed, filter: &str) -> Vec<String> {
    let output = Command::new("tshark")
        .arg("-r")
        .arg(bed.path("wire.pcap"))
        .args(["-n", "-Y", filter, "-T", "fields", "-e", "frame.number"])
        .output()
        .expect("tshark to run");
    // The last packet may be half written: what was read is printed all the same.
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// The peer reflects; we and the tests' own neighbour are its clients.
pub(super) fn they_reflect(kind: Kind, results: &mut Results) {
    if !kind.reflects() {
        results.insert(FEATURES[3], Outcome::Absent);
        return;
    }
    let bed = bed();
    let capture = Capture::start(&bed);
    let _peer = Peer::start(&bed, kind, Setup { reflects: true, ..PLAIN });
    let routed = Routed::start(&bed, &(node("") + &bgp_peer("peer", "10.0.0.2", ASN, "")));
    up(&routed, None, kind);
    let mut client =
        within(START, || Client::call(&bed, Ipv4Addr::new(10, 0, 0, 2))).expect("the peer to listen");
    // A connection that comes too early may be refused.
    let called = within(START, || {
        if client.is_up().is_none() {
            client = Client::call(&bed, Ipv4Addr::new(10, 0, 0, 2))?;
            return within(AT_ONCE * 2, || client.is_up());
        }
        Some(())
    });
    assert!(called.is_some(), "{kind:?}: the tests' own neighbour");
    client.announce(CLIENTS, 3);
    note(
        results,
        3,
        first_mistake([
            expect_next_hop(&routed, CLIENTS, "10.0.0.3"),
            expect(
                "our block at the client",
                || client.seen(OURS),
                |seen| {
                    seen.next_hop == "10.0.0.1"
                        && seen.originator.as_deref() == Some("10.0.0.1")
                        && seen.clusters == ["10.0.0.2"]
                },
            ),
        ]),
    );
    tshark(results, capture);
}

const FILTER: &str = "---\napiVersion: projectcalico.org/v3\nkind: BGPFilter\nmetadata: { name: fabric }\nspec:\n  importV4:\n    \
                      - { cidr: 10.1.2.0/24, matchOperator: In, action: Accept, operations: [{ addCommunity: { value: \
                      '64512:9:9' } }] }\n    - { action: Reject }\n  exportV4:\n    - { cidr: 10.1.3.0/24, matchOperator: In, \
                      action: Reject }\n    - { source: RemotePeers, action: Reject }\n    - { action: Accept, operations: [{ \
                      prependASPath: { prefix: [64999, 64998] } }, { addCommunity: { value: '64512:8:8' } }] }\n";

/// The peer is outside; the tests' own neighbour is our client.
pub(super) fn external(kind: Kind, results: &mut Results) {
    let bed = bed();
    let capture = Capture::start(&bed);
    let peer = Peer::start(&bed, kind, Setup { asn: EXTERNAL, ..PLAIN });
    let cluster = node(", routeReflectorClusterID: 10.0.0.100") + &bgp_peer("client", "10.0.0.3", ASN, "");
    let routed = Routed::start(&bed, &(cluster.clone() + &bgp_peer("peer", "10.0.0.2", EXTERNAL, "")));
    let mut client =
        within(START, || Client::call(&bed, Ipv4Addr::new(10, 0, 0, 1))).expect("routed to listen");
    up(&routed, Some(&mut client), kind);
    let since = routed.session("10.0.0.2").map(|peer| peer["since"].clone());
    client.announce(CLIENTS, 1);
    // Outside of every pool.
    client.announce("10.77.0.0/24", 0);
    let reason = within(SOON, || routed.rejected(THEIRS));
    note(
        results,
        8,
        first_mistake([
            expect(
                "our block there",
                || peer.seen(OURS),
                |seen| seen.next_hop == "10.0.0.1" && seen.as_path == [ASN],
            ),
            expect("another node's block there", || peer.seen(CLIENTS), |seen| seen.as_path == [ASN]),
            match reason {
                Some(reason) if reason.contains("RFC 8212") => Ok(()),
                other => Err(format!("the peer's block is rejected because {other:?}")),
            },
            match (client.seen(THEIRS), peer.seen("10.77.0.0/24")) {
                (None, None) => Ok(()),
                seen => Err(format!("nothing comes in, and nothing but blocks goes out: {seen:?}")),
            },
        ]),
    );
    let with_filter = bgp_peer("peer", "10.0.0.2", EXTERNAL, ", filters: [fabric]") + FILTER;
    bed.write("resources/cluster.yaml", &(cluster.clone() + &with_filter));
    note(
        results,
        9,
        first_mistake([
            expect_next_hop(&routed, THEIRS, "10.0.0.2"),
            expect(
                "the peer's block at the client",
                || client.seen(THEIRS),
                |seen| {
                    seen.as_path == [EXTERNAL]
                        && seen.large == ["64512:1:2", "64512:9:9"].map(str::to_owned).into()
                },
            ),
            expect(
                "our block there",
                || peer.seen(OURS),
                |seen| seen.as_path == [ASN, 64999, 64998] && seen.large == ["64512:8:8".to_owned()].into(),
            ),
            within(SOON, || peer.seen(CLIENTS).is_none().then_some(()))
                .ok_or_else(|| "a rejected block is still there".to_owned()),
        ]),
    );
    bed.write("resources/cluster.yaml", &(cluster + &bgp_peer("peer", "10.0.0.2", EXTERNAL, "")));
    note(
        results,
        10,
        first_mistake([
            expect(
                "our block there again",
                || peer.seen(OURS),
                |seen| seen.as_path == [ASN] && seen.large.is_empty(),
            ),
            expect("the other node's block there again", || peer.seen(CLIENTS), |seen| seen.as_path == [ASN]),
            within(SOON, || client.seen(THEIRS).is_none().then_some(()))
                .ok_or_else(|| "the peer's block is still at the client".to_owned()),
            match routed.session("10.0.0.2").map(|peer| peer["since"].clone()) {
                now if now == since => Ok(()),
                now => Err(format!("the session is of {now:?}, not of {since:?}")),
            },
        ]),
    );
    tshark(results, capture);
}

/// Features that some speakers have, all at once; the tests' own neighbors are clients.
pub(super) fn capable(kind: Kind, results: &mut Results) {
    const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 4);
    let bed = bed();
    bed.ip("c", "address add 10.0.0.4/24 dev eth0");
    let capture = Capture::start(&bed);
    let setup = Setup { all: true, ..PLAIN };
    let peer = Peer::start(&bed, kind, setup);
    let password = bed.write("password", PASSWORD);
    let security =
        if kind.has_passwords() { format!("passwordFile: {}, ", password.display()) } else { String::new() };
    let more = format!(", routed: {{ {security}addPath: both }}");
    let resources = node(", routeReflectorClusterID: 10.0.0.100")
        + &bgp_peer("peer", "10.0.0.2", ASN, &more)
        + &bgp_peer("client", "10.0.0.3", ASN, "")
        + &bgp_peer("second", "10.0.0.4", ASN, "");
    let routed = Routed::start(&bed, &resources);
    let us = Ipv4Addr::new(10, 0, 0, 1);
    let mut client = within(START, || Client::call(&bed, us)).expect("routed to listen");
    let mut second = within(START, || Client::call_from(&bed, SECOND, us)).expect("routed to listen");
    up(&routed, Some(&mut client), kind);
    assert!(within(START, || second.is_up()).is_some(), "{kind:?}: the second client");
    client.announce(CLIENTS, 1);
    second.announce(CLIENTS, 2);
    let exchanged = first_mistake([
        expect("our block there", || peer.seen(OURS), |seen| seen.next_hop == "10.0.0.1"),
        expect_next_hop(&routed, THEIRS, "10.0.0.2"),
    ]);
    if kind.has_passwords() {
        // TCP option 19 (RFC 2385).
        let signed = within(SOON, || wire_lines(&bed, "tcp.option_kind == 19").first().map(|_| ()));
        note(results, 11, exchanged.clone().and(signed.ok_or_else(|| "nothing is signed".to_owned())));
    } else {
        results.insert(FEATURES[11], Outcome::Absent);
    }
    let mut paths = 0;
    let both = within(SOON, || {
        paths = peer.paths(CLIENTS);
        (paths == 2).then_some(())
    });
    note(results, 12, both.ok_or_else(|| format!("{paths} paths there")));
    if kind.has_marked_refreshes() {
        peer.ask_again();
        // We send no requests, so these are the markers of answers; all of an answer may be in one
        // packet.
        let marks = within(SOON, || {
            let sent = wire_lines(&bed, "ip.src == 10.0.0.1 && ip.dst == 10.0.0.2 && bgp.type == 5");
            (!sent.is_empty()).then_some(())
        });
        note(results, 13, marks.ok_or_else(|| "no marks".to_owned()));
    } else {
        results.insert(FEATURES[13], Outcome::Absent);
    }
    // A restart without a word: the other side has no more than a TCP reset.
    if kind.restarts() {
        peer.kill();
        let down = within(SOON, || routed.is_up("10.0.0.2").is_none().then_some(()));
        let kept = within(AT_ONCE, || routed.next_hop(THEIRS).is_none().then_some(())).is_none();
        let again = Peer::start(&bed, kind, Setup { again: true, ..setup });
        let back = within(START, || routed.is_up("10.0.0.2"));
        let held = routed.next_hop(THEIRS).is_some();
        let whole = expect("our block there again", || again.seen(OURS), |seen| seen.next_hop == "10.0.0.1");
        let restarted = match (down, kept, back, held) {
            (Some(()), true, Some(()), true) => whole.and(expect_next_hop(&routed, THEIRS, "10.0.0.2")),
            other => Err(format!("down, kept, back, held: {other:?}")),
        };
        note(results, 15, restarted);
        our_restart(kind, results, &bed, &again, routed);
    } else {
        results.insert(FEATURES[15], Outcome::Absent);
        our_restart(kind, results, &bed, &peer, routed);
    }
    tshark(results, capture);
}

/// The peer and we watch each other by BFD; slower than it could be, since several labs share the processors.
pub(super) fn watched(kind: Kind, results: &mut Results) {
    const FEATURE: usize = 16;
    if !kind.has_bfd() {
        results.insert(FEATURES[FEATURE], Outcome::Absent);
        return;
    }
    let bed = bed();
    let capture = Capture::start(&bed);
    let _peer = Peer::start(&bed, kind, Setup { asn: EXTERNAL, bfd: true, ..PLAIN });
    let more = ", routed: { bfd: { minInterval: 300ms, multiplier: 3 } }";
    let routed = Routed::start(&bed, &(node("") + &bgp_peer("peer", "10.0.0.2", EXTERNAL, more)));
    up(&routed, None, kind);
    let watched = within(SOON, || (routed.session("10.0.0.2")?["bfd"]["state"] == "up").then_some(()));
    bed.ip("b", "link set eth0 down");
    let ended = within(AT_ONCE * 2, || routed.is_up("10.0.0.2").is_none().then_some(()));
    let session = routed.session("10.0.0.2");
    let found =
        watched.and(ended).ok_or_else(|| format!("watched, ended: {watched:?}, {ended:?}: {session:?}"));
    note(results, FEATURE, found);
    tshark(results, capture);
}

fn our_restart(kind: Kind, results: &mut Results, bed: &Testbed, peer: &Peer, routed: Routed<'_>) {
    if !kind.waits_for_restarts() {
        results.insert(FEATURES[14], Outcome::Absent);
        return;
    }
    routed.kill();
    let lost = within(AT_ONCE, || peer.seen(OURS).is_none().then_some(())).is_some();
    let routed = Routed::again(bed);
    let back = within(START, || match peer.seen(OURS) {
        Some(_) => routed.is_up("10.0.0.2").map(|()| true),
        None => Some(false),
    });
    let found = match (lost, back) {
        (false, Some(true)) => {
            expect("our block there still", || peer.seen(OURS), |seen| seen.next_hop == "10.0.0.1")
        }
        other => Err(format!("lost, there until we were back: {other:?}")),
    };
    note(results, 14, found);
}
