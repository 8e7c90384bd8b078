//! The cases, as `malformed.jsonl` of the corpus has them.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use serde_json::Value;

use super::judge::AcceptedOutcome;
use crate::{corpus, hex};

/// A tester, by its relation to the device under test (AS 65000, 10.99.0.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// AS 65001.
    Ebgp,
    /// In the same AS, a client.
    Ibgp,
    /// AS 65003, without four-octet AS numbers.
    Ebgp2,
    /// Sees what is passed on to a client.
    Observer,
    /// Sees what is passed on to another AS, 65007.
    External,
    /// Has a session like a client's, and nothing else.
    Bystander,
}

/// The AS of the device under test.
pub const DUT_AS: u32 = 65000;
/// Its address, BGP identifier and cluster ID.
pub const DUT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

impl Role {
    /// All of them.
    pub const ALL: [Role; 6] =
        [Role::Ebgp, Role::Ibgp, Role::Ebgp2, Role::Observer, Role::External, Role::Bystander];

    /// Its address, which is its BGP identifier too.
    pub fn address(self) -> Ipv4Addr {
        let host = match self {
            Role::Ebgp => 2,
            Role::Ibgp => 4,
            Role::Ebgp2 => 5,
            Role::Observer => 6,
            Role::External => 7,
            Role::Bystander => 8,
        };
        Ipv4Addr::new(10, 99, 0, host)
    }

    /// Its AS.
    pub fn asn(self) -> u32 {
        match self {
            Role::Ebgp => 65001,
            Role::Ebgp2 => 65003,
            Role::External => 65007,
            Role::Ibgp | Role::Observer | Role::Bystander => DUT_AS,
        }
    }

    /// Returns whether the tester is in the same AS.
    pub fn is_internal(self) -> bool {
        self.asn() == DUT_AS
    }
}

/// The phase of the session in which the message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The device's OPEN has come.
    OpenSent,
    /// Both OPENs were exchanged, and its KEEPALIVE has come.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

/// One message, or several, and what they must lead to.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its number in the corpus.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The group of the case.
    pub group: String,
    /// When it is sent.
    pub phase: Phase,
    /// The tester that sends the message.
    pub role: Role,
    /// The message.
    pub octets: Vec<u8>,
    /// Send in pieces of so many octets.
    pub chunk: Option<usize>,
    /// The route it is about.
    pub prefix: Option<IpNet>,
    /// The attribute it is about.
    pub attribute: Option<u8>,
    /// The flags (of 0xe0) with which that attribute must be passed on.
    pub passed_on_with: Option<u8>,
    /// Whether the case needs a device that announced extended messages.
    pub needs_extended_messages: bool,
    /// The accepted outcomes: first the expected one, then those that the RFCs permit too.
    pub wanted: Vec<AcceptedOutcome>,
    /// The source, such as a section of an RFC.
    pub spec: String,
}

/// Every case of the corpus, in its order.
///
/// # Panics
/// The corpus is missing, or a line is not a case: a test must not leave any out.
pub fn read() -> Vec<Case> {
    let path = corpus().join("malformed.jsonl");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let cases: Vec<Case> = text
        .lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).expect("JSON");
            parse(&value).unwrap_or_else(|| panic!("not a case: {line}"))
        })
        .collect();
    assert!(!cases.is_empty(), "{} has no case", path.display());
    cases
}

fn parse(case: &Value) -> Option<Case> {
    let text = |field: &str| case[field].as_str().map(str::to_owned);
    let octet = |field: &str| case[field].as_u64().and_then(|value| u8::try_from(value).ok());
    let wanted =
        std::iter::once(&case["expected"]).chain(case["acceptable"].as_array().into_iter().flatten());
    Some(Case {
        id: text("id")?,
        name: text("name")?,
        group: text("group")?,
        phase: match case["phase"].as_str()? {
            "opensent" => Phase::OpenSent,
            "openconfirm" => Phase::OpenConfirm,
            "established" => Phase::Established,
            _ => return None,
        },
        role: match case["session"]["profile"].as_str()? {
            "ebgp" => Role::Ebgp,
            "ibgp" => Role::Ibgp,
            "ebgp2" => Role::Ebgp2,
            _ => return None,
        },
        octets: hex(case["hex"].as_str()?),
        chunk: case["chunk"].as_u64().and_then(|size| usize::try_from(size).ok()),
        prefix: match &case["prefix"] {
            Value::Null => None,
            prefix => Some(prefix.as_str()?.parse().ok()?),
        },
        attribute: octet("attr"),
        passed_on_with: octet("propagate_flags"),
        needs_extended_messages: case["requires_cap"] == 6,
        wanted: wanted.map(AcceptedOutcome::parse).collect::<Option<_>>()?,
        spec: text("spec")?,
    })
}
