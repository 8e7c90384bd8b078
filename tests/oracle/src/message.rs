//! The form that messages are compared in.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

/// A message as named fields; a field that the message doesn't have is absent.
pub type Message = BTreeMap<&'static str, String>;

/// The result of a decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message was read.
    Read(Message),
    /// The message was refused, with this text.
    Refused(String),
    /// The decoder panicked.
    Panicked,
}

/// The prefixes of an UPDATE, in no order.
#[derive(Clone, Debug, Default)]
pub struct Prefixes {
    announced: Vec<String>,
    withdrawn: Vec<String>,
}

impl Prefixes {
    /// Notes an announced prefix; host bits are dropped, since they mean nothing.
    pub fn announce(&mut self, prefix: IpNet, next_hop: Option<IpAddr>) {
        let next_hop = next_hop.map_or_else(|| "nowhere".to_owned(), |address| address.to_string());
        self.announced.push(format!("{} via {next_hop}", prefix.trunc()));
    }

    /// Notes a withdrawn prefix.
    pub fn withdraw(&mut self, prefix: IpNet) {
        self.withdrawn.push(prefix.trunc().to_string());
    }

    /// Puts both lists into a message.
    pub fn store(mut self, message: &mut Message) {
        self.announced.sort();
        self.withdrawn.sort();
        message.insert("announced", self.announced.join(", "));
        message.insert("withdrawn", self.withdrawn.join(", "));
    }
}

/// One segment of an AS path, as in `sequence[1 2]`.
pub fn segment(kind: &str, numbers: impl IntoIterator<Item = u32>) -> String {
    let numbers: Vec<String> = numbers.into_iter().map(|number| number.to_string()).collect();
    format!("{kind}[{}]", numbers.join(" "))
}

/// Octets in hexadecimal.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}
