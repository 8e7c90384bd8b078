//! Features by peers: each is tried with each packaged speaker in network namespaces and asserted
//! on routes at both ends; the results are the table of `docs/interop.md`. tshark reads all that
//! routed sends.

mod bird_features;
mod configuration;
mod labs;
mod page;
mod routed;
mod shown_route;
mod speakers;
mod test_neighbor;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bird_features::told_more;
use labs::{capable, external, they_reflect, watched, we_reflect};
use page::{page, rows};
use speakers::{Kind, Setup};
use testbed::Testbed;

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

/// A peer in our AS that only does what it must.
const PLAIN: Setup = Setup { asn: ASN, reflects: false, all: false, again: false, bfd: false };

/// The features, in the order of the table.
const FEATURES: [&str; 21] = [
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
    "TCP-MD5",
    "several paths to a block, sent to the peer (RFC 7911)",
    "routes sent again between marks (RFC 7313)",
    "our restart: the peer keeps our block (RFC 4724)",
    "the peer's restart: we keep its block (RFC 4724)",
    "BFD (RFC 5881): a pulled cable ends the session within 2 s",
    "several paths to a block, taken from the peer (RFC 7911)",
    "IPv4 block with an IPv6 next hop (RFC 8950)",
    "roles (RFC 9234): those that fit hold, others are refused",
    "all we sent, read by tshark without a warning",
];

/// The result of a feature.
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

fn bed() -> Testbed {
    let mut bed = Testbed::with_two_nodes();
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
    // A feature that several labs try works if it works in all of them.
    let kept = results.entry(FEATURES[feature]).or_insert(Outcome::Works);
    if *kept == Outcome::Works {
        *kept = outcome;
    }
}

#[test]
fn every_feature_works_with_every_speaker_as_documented() {
    let all: Vec<(Kind, Results)> = std::thread::scope(|scope| {
        let running: Vec<_> = Kind::ALL
            .into_iter()
            .map(|kind| {
                let labs = move || {
                    let mut results = Results::new();
                    we_reflect(kind, &mut results);
                    they_reflect(kind, &mut results);
                    external(kind, &mut results);
                    capable(kind, &mut results);
                    watched(kind, &mut results);
                    told_more(kind, &mut results);
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
