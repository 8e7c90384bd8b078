//! `routectl ipam show`: pools, blocks and addresses, in tables as calicoctl's.

use std::net::IpAddr;

use clap::Args;
use ipnet::IpNet;

use super::Blocks;
use crate::{Failure, output};
use api::client::Client;
use api::view::StatusView;
use datastore::used_addresses;
use resource::BlockAffinity;

/// Numbers of addresses beyond this are written with an exponent.
const LARGEST_WRITTEN_OUT: u128 = 1_000_000_000_000;

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Show each block with its node.
    #[arg(long)]
    show_blocks: bool,
    /// Show the addresses that nodes have borrowed from blocks of others.
    #[arg(long, conflicts_with_all = ["show_blocks", "ip"])]
    show_borrowed: bool,
    /// Show the block and pool of an address.
    #[arg(long, value_name = "IP", conflicts_with = "show_blocks")]
    ip: Option<IpAddr>,
}

/// The addresses of this node's pods.
struct LocalPods {
    node: String,
    used: Vec<IpAddr>,
}

impl Show {
    pub(super) async fn run(&self, client: &Client, blocks: &Blocks) -> Result<(), Failure> {
        if self.show_borrowed {
            return output::print(&borrowed(blocks));
        }
        if !self.show_blocks && self.ip.is_none() {
            return output::print(&table(blocks, None));
        }
        let status: StatusView = client.get("/v1/status").await?;
        let here = LocalPods { node: status.node, used: used_addresses() };
        match self.ip {
            Some(address) => output::print(&(one(blocks, &here, address) + "\n")),
            None => output::print(&table(blocks, Some(&here))),
        }
    }
}

/// Renders pools, and with `here` their blocks.
fn table(blocks: &Blocks, here: Option<&LocalPods>) -> String {
    let all = blocks.all();
    let mut rows = Vec::new();
    for pool in &blocks.pools {
        // A borrowed address is part of a block of another node.
        let inside: Vec<_> = all
            .iter()
            .filter(|(block, ..)| pool.cidr.contains(block) && block.prefix_len() <= pool.block_size)
            .collect();
        let total = size(&pool.cidr);
        let in_use = inside.iter().map(|(block, ..)| size(block)).fold(0, u128::saturating_add);
        rows.push(row("IP Pool", &pool.cidr, Some(in_use.min(total)), &pool.name, here.is_some()));
        let Some(here) = here else { continue };
        for (block, node, _) in inside {
            let of_here = *node == here.node;
            let used = of_here.then(|| here.used.iter().filter(|address| block.contains(*address)).count());
            rows.push(row("Block", block, used.map(|count| count as u128), node, true));
        }
    }
    let headings = ["GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE", "IPS FREE", "POOL OR NODE"];
    let shown = if here.is_some() { &headings[..] } else { &headings[..5] };
    output::boxed(shown, &rows)
}

fn row(grouping: &str, cidr: &IpNet, in_use: Option<u128>, name: &str, named: bool) -> Vec<String> {
    let total = size(cidr);
    let share = |part: u128| format!("{} ({}%)", written(part), percent(part, total));
    let mut row = vec![
        grouping.to_owned(),
        cidr.to_string(),
        written(total),
        in_use.map_or_else(|| "-".into(), share),
        in_use.map_or_else(|| "-".into(), |in_use| share(total.saturating_sub(in_use))),
    ];
    row.extend(named.then(|| name.to_owned()));
    row
}

/// Renders the borrowed addresses.
fn borrowed(blocks: &Blocks) -> String {
    let all = blocks.all();
    let is_one = |affinity: &&BlockAffinity| affinity.cidr.prefix_len() == affinity.cidr.max_prefix_len();
    let mut rows = Vec::new();
    for affinity in blocks.affinities.iter().filter(is_one) {
        let holds = |(block, node, _): &&(IpNet, &str, &str)| {
            block.prefix_len() < affinity.cidr.prefix_len()
                && block.contains(&affinity.cidr)
                && *node != affinity.node
        };
        if let Some((block, owner, _)) = all.iter().find(holds) {
            let address = affinity.cidr.addr().to_string();
            rows.push(vec![address, affinity.node.clone(), block.to_string(), (*owner).to_owned()]);
        }
    }
    output::boxed(&["IP", "BORROWING-NODE", "BLOCK", "BLOCK OWNER"], &rows)
}

/// Describes one address, in a line.
fn one(blocks: &Blocks, here: &LocalPods, address: IpAddr) -> String {
    let all = blocks.all();
    let pool = blocks.pools.iter().find(|pool| pool.cidr.contains(&address));
    let pool = pool.map_or_else(|| "in no IPPool".to_owned(), |pool| format!("in pool {}", pool.name));
    // The longest prefix determines the owner: a borrowed address is a block of its own.
    let block = all
        .iter()
        .filter(|(block, ..)| block.contains(&address))
        .max_by_key(|(block, ..)| block.prefix_len());
    match block {
        None => format!("IP {address} is not assigned: no node has a block with it ({pool})"),
        Some((block, node, _)) if *node == here.node => {
            let used = if here.used.contains(&address) { "in use" } else { "not assigned" };
            format!("IP {address} is {used}: block {block} of this node, {node} ({pool})")
        }
        Some((block, node, _)) => {
            format!(
                "IP {address} is in block {block} of node {node} ({pool}): whether a pod has it is known there"
            )
        }
    }
}

/// Returns the number of addresses of a prefix; saturates.
fn size(cidr: &IpNet) -> u128 {
    1u128.checked_shl(u32::from(cidr.max_prefix_len() - cidr.prefix_len())).unwrap_or(u128::MAX)
}

fn written(number: u128) -> String {
    if number < LARGEST_WRITTEN_OUT {
        return number.to_string();
    }
    let digits = number.to_string();
    let (first, rest) = digits.split_at(1);
    format!("{first}.{}e+{}", rest.get(..4).unwrap_or(rest), digits.len() - 1)
}

/// Formats a percentage, rounded to the nearest as in calicoctl.
fn percent(part: u128, whole: u128) -> u128 {
    // For the largest pools the last bits don't matter.
    let (part, whole) = if whole > u128::MAX / 200 { (part >> 8, whole >> 8) } else { (part, whole) };
    (part * 200 + whole).checked_div(whole * 2).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use resource::{Resource, parse_file};

    fn blocks() -> Blocks {
        const HEAD: &str = "---\napiVersion: projectcalico.org/v3\n";
        let affinity = |name: &str, cidr: &str, node: &str| {
            format!(
                "{HEAD}kind: BlockAffinity\nmetadata: {{name: {name}}}\nspec: {{node: {node}, cidr: '{cidr}', state: confirmed}}\n"
            )
        };
        let text = format!(
            "{HEAD}kind: IPPool\nmetadata: {{name: p}}\nspec: {{cidr: 10.1.0.0/16}}\n\
             {HEAD}kind: IPPool\nmetadata: {{name: p6}}\nspec: {{cidr: 'fd00::/48'}}\n\
             {HEAD}kind: Node\nmetadata: {{name: a}}\nspec: {{podCIDRs: [10.1.0.0/26]}}\n\
             {HEAD}kind: Node\nmetadata: {{name: b}}\n"
        ) + &affinity("x", "10.1.2.0/26", "b")
            + &affinity("y", "10.1.2.7/32", "a");
        let mut blocks = Blocks::default();
        let parsed = parse_file("f", &text);
        assert_eq!(parsed.mistakes, []);
        for document in parsed.documents {
            match document.resource {
                Resource::Node(node) => blocks.nodes.push(node),
                Resource::IpPool(pool) => blocks.pools.push(pool),
                Resource::BlockAffinity(affinity) => blocks.affinities.push(affinity),
                other => panic!("{other:?}"),
            }
        }
        blocks
    }

    fn here() -> LocalPods {
        LocalPods { node: "a".into(), used: vec!["10.1.0.5".parse().unwrap(), "10.1.2.7".parse().unwrap()] }
    }

    #[test]
    fn pools_and_blocks_are_in_calicoctls_table() {
        assert_eq!(
            table(&blocks(), None),
            "\
+----------+-------------+------------+------------+-------------------+
| GROUPING |    CIDR     | IPS TOTAL  | IPS IN USE |     IPS FREE      |
+----------+-------------+------------+------------+-------------------+
| IP Pool  | 10.1.0.0/16 | 65536      | 128 (0%)   | 65408 (100%)      |
| IP Pool  | fd00::/48   | 1.2089e+24 | 0 (0%)     | 1.2089e+24 (100%) |
+----------+-------------+------------+------------+-------------------+
"
        );
        let all = table(&blocks(), Some(&here()));
        assert!(
            all.contains(
                "| Block    | 10.1.0.0/26 | 64         | 1 (2%)     | 63 (98%)          | a            |"
            ),
            "{all}"
        );
        assert!(
            all.contains(
                "| Block    | 10.1.2.0/26 | 64         | -          | -                 | b            |"
            ),
            "{all}"
        );
    }

    #[test]
    fn borrowed_addresses_are_listed_with_both_nodes() {
        assert_eq!(
            borrowed(&blocks()),
            "\
+----------+----------------+-------------+-------------+
|    IP    | BORROWING-NODE |    BLOCK    | BLOCK OWNER |
+----------+----------------+-------------+-------------+
| 10.1.2.7 | a              | 10.1.2.0/26 | b           |
+----------+----------------+-------------+-------------+
"
        );
    }

    #[test]
    fn of_an_address_the_block_and_the_node_are_said() {
        let said = |address: &str| one(&blocks(), &here(), address.parse().unwrap());
        assert_eq!(said("10.1.0.5"), "IP 10.1.0.5 is in use: block 10.1.0.0/26 of this node, a (in pool p)");
        assert_eq!(
            said("10.1.0.6"),
            "IP 10.1.0.6 is not assigned: block 10.1.0.0/26 of this node, a (in pool p)"
        );
        assert_eq!(said("10.1.2.7"), "IP 10.1.2.7 is in use: block 10.1.2.7/32 of this node, a (in pool p)");
        assert_eq!(
            said("10.1.2.8"),
            "IP 10.1.2.8 is in block 10.1.2.0/26 of node b (in pool p): whether a pod has it is known there"
        );
        assert_eq!(said("10.1.9.1"), "IP 10.1.9.1 is not assigned: no node has a block with it (in pool p)");
        assert_eq!(
            said("10.2.0.1"),
            "IP 10.2.0.1 is not assigned: no node has a block with it (in no IPPool)"
        );
    }
}
