//! Rules between resources.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;

use ipnet::IpNet;
use tunnel::node::vtep_mac;

use super::document::Document;
use super::filter::BgpFilter;
use super::mistake::{Mistake, Warning};
use super::node::{Node, default_tunnel_address};
use super::pool::EncapsulationMode;
use super::snapshot::Snapshot;
use super::{Key, Resource};

/// Checks documents, older ones first, against each other. `snapshot` has the same resources.
pub(super) fn check(documents: &[&Document], snapshot: &Snapshot) -> (Vec<Mistake>, Vec<Warning>) {
    let mut mistakes = Vec::new();
    unique_names(documents, &mut mistakes);
    let pools = outermost_pools(documents, &mut mistakes);
    unique_addresses(documents, snapshot, &mut mistakes);
    let blocks = blocks(documents);
    unique_blocks(&blocks, &mut mistakes);
    blocks_in_pools(&blocks, &pools, &mut mistakes);
    let mut warnings = Vec::new();
    subnets_known(documents, snapshot, &mut warnings);
    owners_known(documents, snapshot, &mut warnings);
    filters_known(documents, snapshot, &mut warnings);
    (mistakes, warnings)
}

fn at(document: &Document, field: &str, rule: String) -> Mistake {
    let file = document.resource.origin().file.clone();
    Mistake { file, line: document.line(field), field: field.to_owned(), rule }
}

/// Returns `FILE:LINE` of a field, for the older side of a conflict.
fn place(document: &Document, field: &str) -> String {
    format!("{}:{}", document.resource.origin().file, document.line(field))
}

fn unique_names(documents: &[&Document], mistakes: &mut Vec<Mistake>) {
    let mut seen: HashMap<Key, &Document> = HashMap::new();
    for document in documents {
        match seen.entry(document.key()) {
            Entry::Vacant(entry) => {
                entry.insert(document);
            }
            // The name of a v1 pool is its cidr: the overlap is reported already.
            Entry::Occupied(entry) if document.is_v1 && entry.get().is_v1 => {}
            Entry::Occupied(entry) => {
                let Key { kind, name } = entry.key();
                let rule = format!(
                    "must be unique: {} {name:?} is also at {}",
                    kind.name(),
                    place(entry.get(), "metadata.name")
                );
                mistakes.push(at(document, "metadata.name", rule));
            }
        }
    }
}

/// Reports overlapping pools. Returns the pools that are inside no other, sorted.
///
/// Prefixes nest or are disjoint, so in order of (address, length) one pass with a stack finds
/// every overlap.
fn outermost_pools(documents: &[&Document], mistakes: &mut Vec<Mistake>) -> Vec<IpNet> {
    let mut pools: Vec<(IpNet, usize, &Document)> = documents
        .iter()
        .enumerate()
        .filter_map(|(age, document)| match &document.resource {
            Resource::IpPool(pool) => Some((pool.cidr, age, *document)),
            _ => None,
        })
        .collect();
    pools.sort_by_key(|(cidr, age, _)| (*cidr, *age));
    let mut outermost: Vec<IpNet> = Vec::new();
    let mut stack: Vec<(IpNet, usize, &Document)> = Vec::new();
    for (cidr, age, document) in pools {
        while stack.last().is_some_and(|(outer, ..)| !outer.contains(&cidr)) {
            stack.pop();
        }
        match stack.last() {
            None => outermost.push(cidr),
            Some((outer, outer_age, other)) => {
                let (newer, older, older_cidr) =
                    if age > *outer_age { (document, *other, *outer) } else { (*other, document, cidr) };
                let field = |document: &Document| if document.is_v1 { "metadata.cidr" } else { "spec.cidr" };
                let rule = format!(
                    "must not overlap another pool: {older_cidr} of {:?} is at {}",
                    older.key().name,
                    place(older, field(older))
                );
                mistakes.push(at(newer, field(newer), rule));
            }
        }
        stack.push((cidr, age, document));
    }
    outermost
}

/// Checks that addresses and VTEP MAC addresses are unique, defaults included: two nodes with the
/// same one would receive each other's packets.
fn unique_addresses(documents: &[&Document], snapshot: &Snapshot, mistakes: &mut Vec<Mistake>) {
    let mut hosts: Owners<'_, IpAddr> = HashMap::new();
    let mut tunnels: Owners<'_, IpAddr> = HashMap::new();
    let mut macs: Owners<'_, MacText> = HashMap::new();
    let blocks = snapshot.blocks();
    for document in documents {
        let Resource::Node(node) = &document.resource else { continue };
        for (address, field) in host_addresses(node) {
            add_owner(&mut hosts, address, document, field, mistakes);
        }
        for (address, field) in tunnel_addresses(node) {
            add_owner(&mut tunnels, address, document, field, mistakes);
        }
        if node.ipip_tunnel_address.or(node.vxlan_tunnel_address).is_none()
            && let Some(address) =
                blocks.get(node.name.as_str()).and_then(|blocks| default_tunnel_address(blocks))
        {
            add_owner(&mut tunnels, address.into(), document, BLOCKS, mistakes);
        }
        let mac = MacText(node.vxlan_mac.unwrap_or_else(|| vtep_mac(&node.name)));
        add_owner(&mut macs, mac, document, "spec.vxlanTunnelMACAddr", mistakes);
    }
}

/// The field that a default tunnel address is derived from.
const BLOCKS: &str = "spec.podCIDRs";

/// Owners of unique values: the document and the field.
type Owners<'a, K> = HashMap<K, (&'a Document, &'static str)>;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct MacText([u8; 6]);

impl fmt::Display for MacText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.map(|octet| format!("{octet:02x}")).join(":"))
    }
}

fn host_addresses(node: &Node) -> impl Iterator<Item = (IpAddr, &'static str)> {
    let v4 = node.ipv4.map(|net| (IpAddr::V4(net.addr()), "spec.bgp.ipv4Address"));
    let v6 = node.ipv6.map(|net| (IpAddr::V6(net.addr()), "spec.bgp.ipv6Address"));
    v4.into_iter().chain(v6)
}

fn tunnel_addresses(node: &Node) -> impl Iterator<Item = (IpAddr, &'static str)> {
    let ipip = node.ipip_tunnel_address.map(|address| (IpAddr::V4(address), "spec.bgp.ipv4IPIPTunnelAddr"));
    let vxlan = node.vxlan_tunnel_address.map(|address| (IpAddr::V4(address), "spec.ipv4VXLANTunnelAddr"));
    let v6 = node.vxlan_tunnel_address_v6.map(|address| (IpAddr::V6(address), "spec.ipv6VXLANTunnelAddr"));
    ipip.into_iter().chain(vxlan).chain(v6)
}

/// Records the owner of an address. A second owner is a mistake; one node may use an address twice.
fn add_owner<'a, K: Copy + Eq + Hash + fmt::Display>(
    owners: &mut Owners<'a, K>,
    address: K,
    document: &'a Document,
    field: &'static str,
    mistakes: &mut Vec<Mistake>,
) {
    match owners.entry(address) {
        Entry::Vacant(entry) => {
            entry.insert((document, field));
        }
        Entry::Occupied(entry) => {
            let (other, other_field) = *entry.get();
            // Another rule reports two resources with one name or one block.
            if other.key() == document.key() || (field, other_field) == (BLOCKS, BLOCKS) {
                return;
            }
            let rule = format!(
                "must be unique: {address} is also {}'s, at {}",
                other.key().name,
                place(other, other_field)
            );
            mistakes.push(at(document, field, rule));
        }
    }
}

/// A block that a document assigns to a node.
struct Block<'a> {
    cidr: IpNet,
    node: &'a str,
    document: &'a Document,
    field: String,
}

fn blocks<'a>(documents: &[&'a Document]) -> Vec<Block<'a>> {
    let mut blocks = Vec::new();
    for document in documents.iter().copied() {
        match &document.resource {
            Resource::Node(node) => {
                blocks.extend(node.pod_cidrs.iter().enumerate().map(|(index, cidr)| Block {
                    cidr: *cidr,
                    node: &node.name,
                    document,
                    field: format!("spec.podCIDRs[{index}]"),
                }));
            }
            Resource::BlockAffinity(affinity) if affinity.is_confirmed() => blocks.push(Block {
                cidr: affinity.cidr,
                node: &affinity.node,
                document,
                field: "spec.cidr".into(),
            }),
            _ => {}
        }
    }
    blocks
}

fn unique_blocks(blocks: &[Block<'_>], mistakes: &mut Vec<Mistake>) {
    let mut seen: HashMap<IpNet, &Block<'_>> = HashMap::new();
    for block in blocks {
        match seen.entry(block.cidr) {
            Entry::Vacant(entry) => {
                entry.insert(block);
            }
            Entry::Occupied(entry) => {
                let other = entry.get();
                // An affinity may assign a block that the node lists too. Only a duplicate in one
                // list is a mistake.
                let same_list = std::ptr::eq(other.document, block.document);
                if other.node == block.node && !same_list {
                    continue;
                }
                let rule = format!(
                    "must have one owner: {} is also {}'s, at {}",
                    block.cidr,
                    other.node,
                    place(other.document, &other.field)
                );
                mistakes.push(at(block.document, &block.field, rule));
            }
        }
    }
}

/// Reports blocks outside every pool, where there are pools of the block's address family.
fn blocks_in_pools(blocks: &[Block<'_>], pools: &[IpNet], mistakes: &mut Vec<Mistake>) {
    for block in blocks {
        let is_v4 = block.cidr.addr().is_ipv4();
        if !pools.iter().any(|pool| pool.addr().is_ipv4() == is_v4) {
            continue;
        }
        // The pools are sorted and disjoint: only the last one that begins at or before the block
        // can contain it.
        let after = pools.partition_point(|pool| *pool <= block.cidr);
        let inside =
            after.checked_sub(1).and_then(|at| pools.get(at)).is_some_and(|pool| pool.contains(&block.cidr));
        if !inside {
            let rule = format!("must lie inside an IPPool: no pool holds {}", block.cidr);
            mistakes.push(at(block.document, &block.field, rule));
        }
    }
}

/// Warns of nodes whose address is a /32 if a pool uses cross-subnet mode, which always tunnels to
/// and from them.
fn subnets_known(documents: &[&Document], snapshot: &Snapshot, warnings: &mut Vec<Warning>) {
    let cluster = snapshot.configuration.routed.encapsulation;
    let Some(pool) =
        snapshot.pools.iter().find(|pool| pool.effective(cluster).1 == EncapsulationMode::CrossSubnet)
    else {
        return;
    };
    for document in documents {
        let Resource::Node(node) = &document.resource else { continue };
        let Some(address) = node.ipv4.filter(|address| address.prefix_len() == 32) else { continue };
        let neighbour = snapshot
            .nodes
            .iter()
            .filter_map(|other| other.ipv4)
            .filter(|net| net.prefix_len() < 32 && net.contains(&address.addr()))
            .map(|net| net.prefix_len())
            .max();
        let length = neighbour.unwrap_or(24);
        let rule = format!(
            "{} has {address}, a subnet of one address: cross-subnet (pool {}) can never see it as a neighbour and \
             always tunnels; write its real subnet, such as {}/{length}",
            node.name,
            pool.name,
            address.addr()
        );
        warnings.push(Warning { at: at(document, "spec.bgp.ipv4Address", rule) });
    }
}

/// Warns of blocks whose node has no Node resource; they can be reached through BGP only.
fn owners_known(documents: &[&Document], snapshot: &Snapshot, warnings: &mut Vec<Warning>) {
    for document in documents {
        let Resource::BlockAffinity(affinity) = &document.resource else { continue };
        let known = snapshot.nodes.binary_search_by(|node| node.name.as_str().cmp(&affinity.node)).is_ok();
        if affinity.is_confirmed() && !known {
            let rule =
                format!("no Node {:?}: the block has no static path until there is one", affinity.node);
            warnings.push(Warning { at: at(document, "spec.node", rule) });
        }
    }
}

/// Warns of peers that name a missing filter, or whose filters import nothing. A peer with a
/// missing filter exchanges no routes in either direction: a missing route is safer than a leaked
/// one.
fn filters_known(documents: &[&Document], snapshot: &Snapshot, warnings: &mut Vec<Warning>) {
    for document in documents {
        let Resource::BgpPeer(peer) = &document.resource else { continue };
        for (index, name) in peer.policy.filters.iter().enumerate() {
            if snapshot.filter(name).is_none() {
                let field = format!("spec.filters[{index}]");
                let rule = format!(
                    "no BGPFilter {name:?}: nothing is imported from this peer and nothing exported to it until there \
                     is one"
                );
                warnings.push(Warning { at: at(document, &field, rule) });
            }
        }
        let found: Option<Vec<_>> = peer.policy.filters.iter().map(|name| snapshot.filter(name)).collect();
        let outside = peer.as_number.is_some_and(|asn| !snapshot.is_own_as(asn));
        let imports = |filters: &[&BgpFilter]| {
            filters.iter().any(|one| !one.filter.import_v4.is_empty() || !one.filter.import_v6.is_empty())
        };
        if outside && found.is_some_and(|found| !found.is_empty() && !imports(&found)) {
            let rule = "no import rule in any of them: nothing is imported from this peer outside the cluster's AS \
                        (RFC 8212); write importV4: [{action: Accept}] to import all";
            warnings.push(Warning { at: at(document, "spec.filters", rule.to_owned()) });
        }
    }
}
