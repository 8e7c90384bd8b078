//! The corpus, and properties of a message that need no decoder.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use flate2::read::GzDecoder;
use serde::Deserialize;

/// One message of the corpus.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its number in the corpus.
    pub id: String,
    /// The whole message.
    pub octets: Vec<u8>,
    /// Whether AS numbers have four octets in its session.
    pub asn4: bool,
    /// Whether prefixes have path identifiers in its session.
    pub add_path: bool,
    /// Whether the corpus's decoders see different prefixes: its mark for sessions with path
    /// identifiers of which it has no record.
    pub disputed: bool,
}

#[derive(Deserialize)]
struct Row {
    id: String,
    hex: String,
    asn4: bool,
    addpath: bool,
    agree: Option<bool>,
}

/// One path attribute as it stands.
#[derive(Clone, Copy, Debug)]
pub struct RawAttribute<'a> {
    /// The flags.
    pub flags: u8,
    /// The type code.
    pub code: u8,
    /// The value.
    pub value: &'a [u8],
}

impl Case {
    /// The message type.
    pub fn kind(&self) -> u8 {
        self.octets.get(18).copied().unwrap_or(0)
    }

    /// Returns the attributes of an UPDATE, as far as they are complete. Written independently, so
    /// that the code under comparison does not decide what is left out.
    pub fn attributes(&self) -> Vec<RawAttribute<'_>> {
        self.attributes_and_rest().0
    }

    /// Returns whether the list of attributes ends in the middle of one.
    pub fn is_cut(&self) -> bool {
        !self.attributes_and_rest().1.is_empty()
    }

    fn attributes_and_rest(&self) -> (Vec<RawAttribute<'_>>, &[u8]) {
        let mut attributes = Vec::new();
        let body = self.octets.get(19..).filter(|_| self.kind() == 2);
        let list = body.and_then(field).and_then(|(_, rest)| field(rest));
        let mut list = list.map_or(&[][..], |(list, _)| list);
        while let [flags, code, rest @ ..] = list {
            let length = if flags & 0x10 == 0 {
                rest.split_first().map(|(length, rest)| (usize::from(*length), rest))
            } else {
                rest.split_first_chunk()
                    .map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))
            };
            let Some((value, rest)) = length.and_then(|(length, rest)| rest.split_at_checked(length)) else {
                break;
            };
            attributes.push(RawAttribute { flags: *flags, code: *code, value });
            list = rest;
        }
        (attributes, list)
    }

    /// Returns whether an AS_PATH does not consist of segments of the session's width.
    pub fn has_path_of_other_width(&self) -> bool {
        let width = if self.asn4 { 4 } else { 2 };
        let attributes = self.attributes();
        let paths = attributes.iter().filter(|attribute| attribute.code == 2);
        paths.map(|attribute| attribute.value).any(|mut path| {
            while let [_, count, rest @ ..] = path {
                match rest.split_at_checked(usize::from(*count) * width) {
                    Some((_, rest)) => path = rest,
                    None => return true,
                }
            }
            !path.is_empty()
        })
    }

    /// Returns whether a next hop is the unspecified address.
    pub fn has_unspecified_next_hop(&self) -> bool {
        self.attributes().iter().any(|attribute| match (attribute.code, attribute.value) {
            (3, value) => value.iter().all(|octet| *octet == 0),
            (14, [_, _, 1, length, rest @ ..]) => {
                let next_hop = rest.get(..usize::from(*length)).unwrap_or(&[]);
                next_hop.iter().take(16).all(|octet| *octet == 0)
            }
            _ => false,
        })
    }

    /// Returns whether IPv4 prefixes have an IPv6 next hop (RFC 8950).
    pub fn has_foreign_next_hop(&self) -> bool {
        self.attributes().iter().any(|attribute| match (attribute.code, attribute.value) {
            (14, [0, 1, 1, length, ..]) => *length != 4,
            _ => false,
        })
    }

    /// Returns whether it has an attribute of this type.
    pub fn has(&self, code: u8) -> bool {
        self.attributes().iter().any(|attribute| attribute.code == code)
    }

    /// The Network Layer Reachability Information of an UPDATE.
    pub fn nlri(&self) -> &[u8] {
        let fields = self.octets.get(19..).filter(|_| self.kind() == 2);
        let rest = fields.and_then(field).and_then(|(_, rest)| field(rest));
        rest.map_or(&[], |(_, nlri)| nlri)
    }

    /// Returns whether it announces routes without ORIGIN, AS_PATH or, for IPv4's own field,
    /// NEXT_HOP.
    pub fn lacks_mandatory(&self) -> bool {
        let plain = !self.nlri().is_empty();
        (plain || self.has(14)) && (!self.has(1) || !self.has(2) || (plain && !self.has(3)))
    }

    /// AFI and SAFI of MP_REACH_NLRI and MP_UNREACH_NLRI.
    pub fn families(&self) -> Vec<(u16, u8)> {
        let attributes = self.attributes();
        let mp = attributes.iter().filter(|attribute| matches!(attribute.code, 14 | 15));
        mp.filter_map(|attribute| match attribute.value {
            [high, low, safi, ..] => Some((u16::from_be_bytes([*high, *low]), *safi)),
            _ => None,
        })
        .collect()
    }

    /// Returns whether all its families are unicast ones of IPv4 and IPv6.
    pub fn is_unicast(&self) -> bool {
        self.families().iter().all(|family| matches!(family, (1 | 2, 1)))
    }
}

/// A field with a length of two octets before it.
fn field(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Returns the directory of the corpus: `CORPUS`, or next to the workspace.
pub fn corpus() -> PathBuf {
    std::env::var_os("CORPUS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus")),
        PathBuf::from,
    )
}

/// Every real message of the corpus.
///
/// # Panics
/// The corpus is missing or broken: a comparison without it would prove nothing.
pub fn real_messages() -> Vec<Case> {
    let path = corpus().join("messages/real.jsonl.gz");
    let file = File::open(&path).unwrap_or_else(|error| {
        panic!("{}: {error}: set CORPUS to the directory that holds messages/", path.display())
    });
    let lines = BufReader::new(GzDecoder::new(file)).lines();
    lines
        .map(|line| {
            let line = line.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let row: Row = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:.200}"));
            Case {
                octets: unhex(&row.hex).unwrap_or_else(|| panic!("{}: not hexadecimal", row.id)),
                id: row.id,
                asn4: row.asn4,
                add_path: row.addpath,
                disputed: row.agree == Some(false),
            }
        })
        .collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
