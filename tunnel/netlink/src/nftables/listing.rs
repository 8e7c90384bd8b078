//! The listing of the table by `nft`, compared with the desired table.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::ruleset::{self, FirewallTable, NODE_SETS};

/// Everything of a table except the elements of its sets and the values of its counters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Skeleton {
    /// Chains, sets, counters and other named objects, by kind and name.
    named: BTreeMap<(String, String), Value>,
    /// Rules by chain, in order.
    rules: BTreeMap<String, Vec<Value>>,
}

/// The contents of a table.
///
/// Parsed from plain JSON and not by the types of the `nftables` crate, which reject a whole
/// listing for one unknown statement, and counters beyond 32 bits.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableListing {
    /// Everything except elements.
    pub skeleton: Skeleton,
    /// Elements by set; `None` if one of them is neither an address nor a prefix.
    elements: BTreeMap<String, Option<BTreeSet<IpNet>>>,
    /// Packets by counter.
    counted: BTreeMap<String, u64>,
}

impl Skeleton {
    /// Returns whether both have objects of the same kinds and names, and as many rules in each
    /// chain.
    pub fn has_same_objects(&self, other: &Skeleton) -> bool {
        let rules = |skeleton: &Skeleton| -> Vec<(String, usize)> {
            skeleton.rules.iter().map(|(chain, rules)| (chain.clone(), rules.len())).collect()
        };
        self.named.keys().eq(other.named.keys()) && rules(self) == rules(other)
    }
}

/// The change that makes one table equal to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableChange {
    /// No change.
    None,
    /// Replacement of the whole table.
    Replace,
    /// Additions and deletions of elements, by set.
    Elements {
        /// Elements to add.
        add: Vec<(String, Vec<IpNet>)>,
        /// Elements to delete.
        delete: Vec<(String, Vec<IpNet>)>,
    },
}

/// An output of `nft -j` that does not follow its documentation (libnftables-json(5)).
#[derive(Debug, thiserror::Error)]
pub enum TableListingError {
    /// Output that is not JSON.
    #[error("nft's answer is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Output without a list of objects.
    #[error("nft's answer has no list \"nftables\"")]
    NoList,
}

impl TableListing {
    /// Parses the output of `nft -j list table`.
    ///
    /// # Errors
    /// [`TableListingError`].
    pub fn parse(text: &str) -> Result<Self, TableListingError> {
        let document: Value = serde_json::from_str(text)?;
        let objects = document.get("nftables").and_then(Value::as_array).ok_or(TableListingError::NoList)?;
        let mut listing = Self::default();
        for object in objects {
            listing.insert(object);
        }
        Ok(listing)
    }

    /// Returns the expected listing of `table`, as far as this `nft` spells it alike.
    pub fn of(table: &FirewallTable) -> Self {
        let mut listing = Self::default();
        for object in ruleset::objects(table) {
            // Serialization could fail only for map keys that are not text, which these types do not have.
            listing.insert(&serde_json::to_value(object).unwrap_or_default());
        }
        listing
    }

    fn insert(&mut self, object: &Value) {
        let Some((kind, content)) = object.as_object().and_then(|object| object.iter().next()) else {
            return;
        };
        let Some(content) = content.as_object() else { return };
        let text = |key: &str| content.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        match kind.as_str() {
            "metainfo" => {}
            "rule" => {
                let expressions = content.get("expr").map(normalized).unwrap_or_default();
                self.skeleton.rules.entry(text("chain")).or_default().push(expressions);
            }
            _ => {
                if kind == "set" {
                    self.elements.insert(text("name"), elements(content.get("elem")));
                }
                if kind == "counter" {
                    let packets = content.get("packets").and_then(Value::as_u64).unwrap_or(0);
                    self.counted.insert(text("name"), packets);
                }
                self.skeleton.named.insert((kind.clone(), text("name")), definition(kind, content));
            }
        }
    }

    /// Returns the elements of a set, if all are addresses or prefixes.
    pub fn elements_of(&self, set: &str) -> impl Iterator<Item = &IpNet> {
        self.elements.get(set).into_iter().flatten().flatten()
    }

    /// Returns the packet count of a counter.
    pub fn packets(&self, counter: &str) -> Option<u64> {
        self.counted.get(counter).copied()
    }

    /// Returns the change from `found` to this table. With `keep`, surplus nodes stay. `reference`
    /// is this `nft`'s spelling of our table, if it is known.
    pub fn change_from(
        &self,
        found: Option<&TableListing>,
        reference: Option<&Skeleton>,
        keep: bool,
    ) -> TableChange {
        let Some(found) = found else { return TableChange::Replace };
        if found.skeleton != self.skeleton && reference != Some(&found.skeleton) {
            return TableChange::Replace;
        }
        let (mut add, mut delete) = (Vec::new(), Vec::new());
        for (name, wanted) in &self.elements {
            let found = found.elements.get(name).unwrap_or(&None);
            let (Some(wanted), Some(found)) = (wanted, found) else { return TableChange::Replace };
            if wanted == found {
                continue;
            }
            if !NODE_SETS.contains(&name.as_str()) {
                // Intervals: an added element may overlap a deleted one.
                return TableChange::Replace;
            }
            let missing: Vec<IpNet> = wanted.difference(found).copied().collect();
            let extra: Vec<IpNet> = found.difference(wanted).copied().collect();
            if !missing.is_empty() {
                add.push((name.clone(), missing));
            }
            if !extra.is_empty() && !keep {
                delete.push((name.clone(), extra));
            }
        }
        if add.is_empty() && delete.is_empty() {
            TableChange::None
        } else {
            TableChange::Elements { add, delete }
        }
    }
}

/// Returns the definition of an object: without handles, counter values and elements.
fn definition(kind: &str, content: &Map<String, Value>) -> Value {
    let mut kept = Map::new();
    for (key, value) in content {
        let counts = kind == "counter" && matches!(key.as_str(), "packets" | "bytes");
        if key == "handle" || key == "elem" || counts || value.is_null() {
            continue;
        }
        kept.insert(key.clone(), normalized(value));
        if key == "flags" {
            kept.insert(key.clone(), as_list(value));
        }
    }
    Value::Object(kept)
}

/// Returns flags as a sorted list; a single flag may be written as text or as a list.
fn as_list(value: &Value) -> Value {
    match value {
        Value::String(_) => Value::Array(vec![value.clone()]),
        Value::Array(items) => {
            let mut items = items.clone();
            items.sort_by_key(ToString::to_string);
            Value::Array(items)
        }
        _ => value.clone(),
    }
}

/// Returns the value with every `flags` as a list, at any depth.
fn normalized(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(normalized).collect()),
        Value::Object(object) => {
            let alike = |(key, value): (&String, &Value)| {
                let value = if key == "flags" { as_list(value) } else { normalized(value) };
                (key.clone(), value)
            };
            Value::Object(object.iter().map(alike).collect())
        }
        _ => value.clone(),
    }
}

fn elements(list: Option<&Value>) -> Option<BTreeSet<IpNet>> {
    match list {
        None | Some(Value::Null) => Some(BTreeSet::new()),
        Some(Value::Array(items)) => items.iter().map(element).collect(),
        Some(_) => None,
    }
}

fn element(value: &Value) -> Option<IpNet> {
    if let Some(text) = value.as_str() {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    }
    let prefix = value.get("prefix")?;
    let address: IpAddr = prefix.get("addr")?.as_str()?.parse().ok()?;
    IpNet::new(address, u8::try_from(prefix.get("len")?.as_u64()?).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::nftables::ruleset::VxlanSelector;

    /// As `nft` 1.0.6 lists the table of [`firewall`].
    const LISTED: &str = include_str!("listed.json");

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a prefix")).collect()
    }

    fn firewall() -> FirewallTable {
        FirewallTable {
            guards_ipip: true,
            guarded_vxlan: Some(VxlanSelector { port: 4789, vni: 4096 }),
            nodes: BTreeSet::from([
                [192, 168, 0, 2].into(),
                [192, 168, 0, 3].into(),
                "fd00::2".parse().expect("address"),
            ]),
            pools: nets(&["10.1.0.0/16", "10.2.0.7/32", "fd10::/64"]),
            masqueraded: nets(&["10.1.0.0/16"]),
        }
    }

    fn found() -> TableListing {
        TableListing::parse(LISTED).expect("a listing")
    }

    #[test]
    fn the_listing_of_our_table_equals_the_written_one() {
        assert_eq!(TableListing::of(&firewall()).skeleton, found().skeleton);
        assert_eq!(TableListing::of(&firewall()).change_from(Some(&found()), None, false), TableChange::None);
        assert_eq!(found().packets("dropped_vxlan"), Some(5_000_000_000), "more than 32 bits");
    }

    #[test]
    fn added_and_removed_nodes_are_element_changes_and_removal_is_optional() {
        let mut firewall = firewall();
        firewall.nodes.remove(&IpAddr::from([192, 168, 0, 3]));
        firewall.nodes.insert([192, 168, 0, 4].into());
        let wanted = TableListing::of(&firewall);
        let add = vec![("nodes4".to_owned(), nets(&["192.168.0.4/32"]))];
        let delete = vec![("nodes4".to_owned(), nets(&["192.168.0.3/32"]))];
        assert_eq!(
            wanted.change_from(Some(&found()), None, false),
            TableChange::Elements { add: add.clone(), delete }
        );
        assert_eq!(
            wanted.change_from(Some(&found()), None, true),
            TableChange::Elements { add, delete: Vec::new() }
        );
    }

    #[test]
    fn any_other_difference_replaces_the_table() {
        let wanted = TableListing::of(&firewall());
        assert_eq!(wanted.change_from(None, None, false), TableChange::Replace);
        let mut pools = firewall();
        pools.pools = nets(&["10.1.0.0/16", "fd10::/64"]);
        assert_eq!(TableListing::of(&pools).change_from(Some(&found()), None, false), TableChange::Replace);
        for (from, to) in [
            ("\"drop\": null", "\"accept\": null"),
            ("\"prio\": -150", "\"prio\": -151"),
            ("\"192.168.0.2\"", "{\"range\": [\"192.168.0.0\", \"192.168.0.9\"]}"),
            ("\"flags\": \"fully-random\"", "\"flags\": \"random\""),
            ("4096", "4097"),
        ] {
            assert!(LISTED.contains(from), "{from}");
            let tampered = TableListing::parse(&LISTED.replacen(from, to, 1)).expect("a listing");
            assert_eq!(wanted.change_from(Some(&tampered), None, true), TableChange::Replace, "{from}");
        }
        let mut rules = found();
        rules.skeleton.rules.get_mut("tunnels").expect("the chain").reverse();
        assert_eq!(wanted.change_from(Some(&rules), None, false), TableChange::Replace, "order matters");
    }

    #[test]
    fn a_known_different_spelling_is_no_difference() {
        let text = LISTED.replace("\"right\": 4789", "\"right\": \"vxlan\"");
        let other = TableListing::parse(&text).expect("a listing");
        let wanted = TableListing::of(&firewall());
        assert_eq!(wanted.change_from(Some(&other), None, false), TableChange::Replace);
        assert_eq!(wanted.change_from(Some(&other), Some(&other.skeleton), false), TableChange::None);
    }

    #[test]
    fn output_that_is_no_listing_is_an_error() {
        for text in ["", "{", "[]", "{\"nftables\": 1}"] {
            assert!(TableListing::parse(text).is_err(), "{text:?}");
        }
        let odd = "{\"nftables\": [1, {}, {\"set\": 2}, {\"rule\": {}}, {\"set\": {\"elem\": {}}}]}";
        assert!(TableListing::parse(odd).is_ok());
    }
}
