//! Drop rules on the lab's bridge. They use the bridge family of nftables, the only one that
//! User-Mode Linux has too.

use std::{
    io::Write,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

use testbed::Namespace;

use super::error::LabError;

/// The protocol of a node that is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockedProtocol {
    /// TCP port 179.
    Bgp,
    /// IP protocol 4.
    Ipip,
}

impl BlockedProtocol {
    /// Returns the name for display.
    pub(super) fn text(self) -> &'static str {
        match self {
            BlockedProtocol::Bgp => "TCP port 179",
            BlockedProtocol::Ipip => "IP protocol 4",
        }
    }

    fn table(self) -> &'static str {
        match self {
            BlockedProtocol::Bgp => "routed-lab-bgp",
            BlockedProtocol::Ipip => "routed-lab-ipip",
        }
    }

    fn matches(self) -> &'static [&'static str] {
        match self {
            BlockedProtocol::Bgp => &["tcp sport 179", "tcp dport 179"],
            BlockedProtocol::Ipip => &["ip protocol 4"],
        }
    }
}

/// Drops packets from and to `node`.
///
/// # Errors
/// `nft` is missing or fails.
pub(super) fn drop_packets(
    network: &Namespace,
    node: Ipv4Addr,
    what: BlockedProtocol,
) -> Result<(), LabError> {
    let mut rules = format!("table bridge {} {{\n chain wire {{\n", what.table());
    rules.push_str("  type filter hook prerouting priority 0; policy accept;\n");
    for direction in ["saddr", "daddr"] {
        for packets in what.matches() {
            rules.push_str(&format!("  ip {direction} {node} {packets} counter drop\n"));
        }
    }
    rules.push_str(" }\n}\n");
    network.run(move || nft(&["-f", "-"], &rules)).map_err(LabError::namespace)??;
    Ok(())
}

/// Returns the number of dropped packets.
///
/// # Errors
/// `nft` fails.
pub(super) fn dropped(network: &Namespace, what: BlockedProtocol) -> Result<u64, LabError> {
    let list = move || nft(&["list", "table", "bridge", what.table()], "");
    let listing = network.run(list).map_err(LabError::namespace)??;
    packets(&listing).ok_or(LabError::Program { program: "nft", text: listing })
}

/// Returns the sum of a listing's counters; `None` if it has none.
fn packets(listing: &str) -> Option<u64> {
    let mut words = listing.split_whitespace();
    let mut sum = None;
    while words.any(|w| w == "packets") {
        let count: u64 = words.next()?.parse().ok()?;
        sum = Some(sum.unwrap_or(0) + count);
    }
    sum
}

fn nft(arguments: &[&str], input: &str) -> Result<String, LabError> {
    let spawned = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(LabError::Missing { program: "nft", remedy: "apt-get install nftables" });
        }
        other => other.map_err(LabError::system("nft"))?,
    };
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(LabError::system("nft"))?;
    }
    let output = child.wait_with_output().map_err(LabError::system("nft"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        return Err(LabError::Program { program: "nft", text: text(&output.stderr) });
    }
    Ok(text(&output.stdout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_counters_are_added_up() {
        let listing = "ip saddr 192.168.0.3 tcp sport 179 counter packets 3 bytes 180 drop\n\
                       ip saddr 192.168.0.3 tcp dport 179 counter packets 4 bytes 240 drop\n";
        assert_eq!(packets(listing), Some(7));
        assert_eq!(packets("counter packets 0 bytes 0"), Some(0));
        assert_eq!(packets("table bridge routed-lab {}"), None);
        assert_eq!(packets("counter packets many"), None);
    }
}
