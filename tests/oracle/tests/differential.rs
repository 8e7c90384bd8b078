//! Our decoder against two others over the real messages of the corpus.

use std::collections::BTreeMap;

use oracle::case::{Case, real_messages};
use oracle::message::Outcome;
use oracle::{bgp_rs_reader, bgpkit_reader, our_reader};

/// A kind of message that an oracle does not handle correctly, and why. The octets decide to which
/// messages it applies, not our decoder.
struct Exclusion {
    name: &'static str,
    reason: &'static str,
    applies: fn(&Case) -> bool,
}

/// Messages that neither oracle can judge.
const COMMON: &[Exclusion] = &[
    Exclusion {
        name: "mandatory attribute missing",
        reason: "RFC 7606 has the routes withdrawn; the oracle reads attributes and judges none",
        applies: Case::lacks_mandatory,
    },
    Exclusion {
        name: "unspecified next hop",
        reason: "no host address, so the routes are withdrawn; route monitors write it for routes of their own",
        applies: Case::has_unspecified_next_hop,
    },
    Exclusion {
        name: "IPv6 next hop of IPv4 prefixes",
        reason: "RFC 8950, which we don't negotiate and so refuse",
        applies: Case::has_foreign_next_hop,
    },
    Exclusion {
        name: "AS_PATH of the other width",
        reason: "broken in the session it is labelled with; the oracle guesses the width or drops the attribute",
        applies: Case::has_path_of_other_width,
    },
    Exclusion {
        name: "attributes cut off",
        reason: "RFC 7606 ends the session; the oracle keeps what came before",
        applies: Case::is_cut,
    },
    Exclusion {
        name: "OPEN of AS 0",
        reason: "RFC 7607 refuses it; the oracle judges no OPEN",
        applies: |case| case.kind() == 1 && case.octets.get(20..22) == Some(&[0, 0]),
    },
    Exclusion {
        name: "path identifiers",
        reason: "RFC 7911, which we don't negotiate; the oracle guesses from the octets",
        applies: |case| case.add_path || case.disputed,
    },
    Exclusion {
        name: "ROUTE-REFRESH with filters",
        reason: "RFC 5291, which we don't negotiate; the oracle leaves out what follows the family",
        applies: |case| case.kind() == 5 && case.octets.len() > 23,
    },
];

/// Messages that bgp-rs alone gets wrong.
const BGP_RS: &[Exclusion] = &[
    Exclusion {
        name: "labelled prefixes",
        reason: "it takes labels for prefix lengths, and panics",
        applies: |case| case.families().iter().any(|(_, safi)| *safi == 4),
    },
    Exclusion {
        name: "extended optional parameters",
        reason: "it doesn't know RFC 9072 and takes the lengths for content",
        applies: |case| case.kind() == 1 && case.octets.get(28..30) == Some(&[255, 255]),
    },
];

fn differ(name: &str, read: fn(&[u8], bool) -> Outcome, own: &[Exclusion], at_least: usize) {
    let cases = real_messages();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut compared, mut read_by_both) = (0, 0);
    let mut differences = Vec::new();
    for case in &cases {
        if let Some(exclusion) = COMMON.iter().chain(own).find(|exclusion| (exclusion.applies)(case)) {
            *counts.entry(exclusion.name).or_default() += 1;
            continue;
        }
        compared += 1;
        match (our_reader::read(&case.octets, case.asn4), read(&case.octets, case.asn4)) {
            (Outcome::Refused(_), Outcome::Refused(_)) => {}
            (ours, theirs) if ours == theirs => read_by_both += 1,
            (ours, theirs) => {
                differences.push(format!("{}\n  ours   {ours:?}\n  theirs {theirs:?}", case.id))
            }
        }
    }
    println!("{name}: {compared} of {} messages compared, {read_by_both} read by both", cases.len());
    for exclusion in COMMON.iter().chain(own) {
        let count = counts.get(exclusion.name).unwrap_or(&0);
        println!("  {count:5} left out: {}: {}", exclusion.name, exclusion.reason);
        assert!(*count > 0, "{:?} leaves nothing out: drop it", exclusion.name);
    }
    let shown: Vec<&str> = differences.iter().take(25).map(String::as_str).collect();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), shown.join("\n"));
    assert!(read_by_both >= at_least, "only {read_by_both} messages read by both");
}

#[test]
fn bgp_rs_reads_what_we_read() {
    differ("bgp-rs", bgp_rs_reader::read, BGP_RS, 4300);
}

#[test]
fn bgpkit_parser_reads_what_we_read() {
    differ("bgpkit-parser", bgpkit_reader::read, &[], 4300);
}
