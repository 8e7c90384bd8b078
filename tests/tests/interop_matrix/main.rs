//! Features beside peers: each is tried with each packaged speaker in network namespaces, asserted on routes seen
//! at both ends, and what came out is the table of `docs/interop.md`. All that we send is read by tshark.

mod capture;
mod client;
mod peers;
mod routed;
mod seen;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use capture::Capture;
use client::Client;
use peers::{Kind, Peer};
use routed::{Routed, bgp_peer, node};
use seen::Seen;
use tests::bed::Bed;

/// Our AS and block.
const ASN: u32 = 64512;
const OURS: &str = "10.1.1.0/26";
const OURS_V6: &str = "fd00:1::/64";
/// The peer's.
const EXTERNAL: u32 = 65010;
const THEIRS: &str = "10.1.2.0/26";
const THEIRS_V6: &str = "fd00:2::/64";
/// The tests' own neighbour's.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
const CLIENTS: &str = "10.1.3.0/26";
const LONG: &str = "10.1.3.64/26";

/// From start to Established on a loaded machine.
const START: Duration = Duration::from_secs(40);
/// From an event to its effect.
const SOON: Duration = Duration::from_secs(15);
/// Within which something must not happen that would happen at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The features, in the order of the table.
const FEATURES: [&str; 12] = [
    "iBGP, blocks both ways",
    "IPv6 over the IPv4 session, both ways",
    "reflection by us, to and from the peer",
    "reflection by the peer, to and from us",
    "large communities, kept both ways",
    "extended messages (a route of 12 kB of attributes)",
    "route too long for the peer's messages is withdrawn there",
    "route refresh asked by the peer",
    "eBGP without a filter: own block out, nothing in (RFC 8212)",
    "eBGP with filters: import, export, communities, prepended AS_PATH",
    "filters changed on a live session",
    "all we sent, read by tshark without a warning",
];

/// What came out of trying a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Works,
    /// The peer has it not.
    Absent,
    Fails(String),
}

type Results = BTreeMap<&'static str, Outcome>;

/// Looks until there is something, or gives up.
fn within<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        // why: the other side is another program, whose only event is what it answers when asked.
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn bed() -> Bed {
    let mut bed = Bed::with_two_nodes();
    bed.add_third_node("10.0.0.3/24");
    for (node, address, device) in
        [("a", "fd00::1/64", "eth0"), ("b", "fd00::2/64", "br0"), ("c", "fd00::3/64", "eth0")]
    {
        bed.ip(node, &format!("address add {address} dev {device} nodad"));
    }
    bed
}

/// Notes what came of a feature.
fn note(results: &mut Results, feature: usize, found: Result<(), String>) {
    let outcome = found.map_or_else(Outcome::Fails, |()| Outcome::Works);
    // A feature that several labs look at works where it works in all of them.
    let kept = results.entry(FEATURES[feature]).or_insert(Outcome::Works);
    if *kept == Outcome::Works {
        *kept = outcome;
    }
}

/// Waits until `look` gives what `fits`, else says what was there last.
fn expect(
    what: &str,
    mut look: impl FnMut() -> Option<Seen>,
    fits: impl Fn(&Seen) -> bool,
) -> Result<(), String> {
    let mut last = None;
    let found = within(SOON, || {
        last = look();
        last.as_ref().filter(|seen| fits(seen)).map(|_| ())
    });
    found.ok_or_else(|| format!("{what}: {last:?}"))
}

fn expect_next_hop(routed: &Routed<'_>, prefix: &str, next_hop: &str) -> Result<(), String> {
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

fn up(routed: &Routed<'_>, client: Option<&mut Client>, kind: Kind) {
    assert!(
        within(START, || routed.is_up("10.0.0.2")).is_some(),
        "{kind:?}: {:?}",
        routed.session("10.0.0.2")
    );
    if let Some(client) = client {
        assert!(within(START, || client.is_up()).is_some(), "{kind:?}: the tests' own neighbour");
    }
}

fn tshark(results: &mut Results, capture: Capture) -> capture::Wire {
    let wire = capture.stop();
    let complaints = wire.complaints();
    let found = complaints.is_empty().then_some(()).ok_or_else(|| complaints.join("; "));
    note(results, 11, found);
    wire
}

/// We reflect; the peer and the tests' own neighbour are our clients.
fn we_reflect(kind: Kind, results: &mut Results) {
    let bed = bed();
    let capture = Capture::start(&bed);
    let peer = Peer::start(&bed, kind, ASN, false);
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
    let ours_only = |seen: &Seen| seen.clusters == ["10.0.0.100"];
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
        // Its question is on the wire, and our block once more after it.
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
fn wire_lines(bed: &Bed, filter: &str) -> Vec<String> {
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
fn they_reflect(kind: Kind, results: &mut Results) {
    if !kind.reflects() {
        results.insert(FEATURES[3], Outcome::Absent);
        return;
    }
    let bed = bed();
    let capture = Capture::start(&bed);
    let _peer = Peer::start(&bed, kind, ASN, true);
    let routed = Routed::start(&bed, &(node("") + &bgp_peer("peer", "10.0.0.2", ASN, "")));
    up(&routed, None, kind);
    let mut client =
        within(START, || Client::call(&bed, Ipv4Addr::new(10, 0, 0, 2))).expect("the peer to listen");
    // One that comes too early may be turned away.
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
fn external(kind: Kind, results: &mut Results) {
    let bed = bed();
    let capture = Capture::start(&bed);
    let peer = Peer::start(&bed, kind, EXTERNAL, false);
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

fn version(kind: Kind) -> String {
    let (package, _) = kind.package();
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${Version}", package])
        .output()
        .expect("dpkg-query to run");
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!version.is_empty(), "{package} is not installed: run `make test`, which installs it");
    version
}

fn cell(outcome: Option<&Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Works) => "yes",
        Some(Outcome::Absent) => "-",
        Some(Outcome::Fails(_)) => "FAILS",
        None => "NOT TRIED",
    }
}

fn page(all: &[(Kind, Results)]) -> String {
    let mut page = String::from(
        "# With whom it speaks\n\nEach feature with each speaker as Debian 12 packages it, on routes seen at both ends, in network \
         namespaces.\n`-`: the speaker has it not, or can't be asked for it. Generated by\n`UPDATE_INTEROP=1 cargo test -p tests \
         --test interop_matrix`, as root; without the variable the same\ncommand fails where a result is not the one that stands \
         here.\n\n| |",
    );
    for (kind, _) in all {
        let _ = write!(page, " {} |", kind.package().1);
    }
    page += "\n|---|";
    page += &"---|".repeat(all.len());
    page += "\n| version |";
    for (kind, _) in all {
        let _ = write!(page, " {} |", version(*kind));
    }
    page.push('\n');
    for feature in FEATURES {
        let _ = write!(page, "| {feature} |");
        for (_, results) in all {
            let _ = write!(page, " {} |", cell(results.get(feature)));
        }
        page.push('\n');
    }
    page
}

/// The lines that don't depend on a version.
fn rows(page: &str) -> Vec<&str> {
    page.lines().filter(|line| line.starts_with('|') && !line.starts_with("| version")).collect()
}

#[test]
fn every_feature_does_with_every_speaker_what_the_documentation_says() {
    let all: Vec<(Kind, Results)> = std::thread::scope(|scope| {
        let running: Vec<_> = Kind::ALL
            .into_iter()
            .map(|kind| {
                let labs = move || {
                    let mut results = Results::new();
                    we_reflect(kind, &mut results);
                    they_reflect(kind, &mut results);
                    external(kind, &mut results);
                    results
                };
                (kind, scope.spawn(labs))
            })
            .collect();
        let ended = |(kind, labs): (Kind, std::thread::ScopedJoinHandle<'_, Results>)| {
            (kind, labs.join().unwrap_or_else(|_| panic!("{kind:?}: a lab could not be run")))
        };
        running.into_iter().map(ended).collect()
    });
    for (kind, results) in &all {
        for (feature, outcome) in results {
            if let Outcome::Fails(why) = outcome {
                eprintln!("{kind:?}: {feature}: {why}");
            }
        }
    }
    let page = page(&all);
    println!("{page}");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/interop.md");
    if std::env::var_os("UPDATE_INTEROP").is_some() {
        std::fs::write(&path, &page).expect("to write docs/interop.md");
    }
    let documented = std::fs::read_to_string(&path).expect("docs/interop.md");
    assert_eq!(rows(&page), rows(&documented), "docs/interop.md says otherwise: see the failures above");
}
