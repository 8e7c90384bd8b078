//! What `nft` says there is, compared with what there is to be.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::ruleset::{self, NODE_SETS};
use crate::firewall::Firewall;

/// All of a table but its sets' elements and what counts on by itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Skeleton {
    /// Chains, sets, counters and whatever else has a name, by kind and name.
    named: BTreeMap<(String, String), Value>,
    /// Rules by chain, in their order.
    rules: BTreeMap<String, Vec<Value>>,
}

/// A table.
///
/// Read as plain JSON rather than by the types of the `nftables` crate, which refuse a whole listing for one
/// statement that they don't know, and counters beyond 32 bits.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Listing {
    /// Everything but elements.
    pub(super) skeleton: Skeleton,
    /// Elements by set; `None` where one of them is no address and no prefix.
    elements: BTreeMap<String, Option<BTreeSet<IpNet>>>,
    /// Packets by counter.
    counted: BTreeMap<String, u64>,
}

impl Skeleton {
    /// Whether the other has objects of the same kinds and names and as many rules in each chain.
    pub(super) fn has_the_parts_of(&self, other: &Skeleton) -> bool {
        let rules = |skeleton: &Skeleton| -> Vec<(String, usize)> {
            skeleton.rules.iter().map(|(chain, rules)| (chain.clone(), rules.len())).collect()
        };
        self.named.keys().eq(other.named.keys()) && rules(self) == rules(other)
    }
}

/// What has to be done to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// It has to be made anew.
    Replace,
    /// Some elements have to come and some to go, by set.
    Elements {
        /// To be added.
        add: Vec<(String, Vec<IpNet>)>,
        /// To be deleted.
        delete: Vec<(String, Vec<IpNet>)>,
    },
}

/// The output of `nft -j` is not what it is documented to be (libnftables-json(5)).
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// It is no JSON.
    #[error("nft's answer is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It has no list of objects.
    #[error("nft's answer has no list \"nftables\"")]
    NoList,
}

impl Listing {
    /// Reads the output of `nft -j list table`.
    ///
    /// # Errors
    /// [`ListingError`].
    pub(super) fn parse(text: &str) -> Result<Self, ListingError> {
        let document: Value = serde_json::from_str(text)?;
        let objects = document.get("nftables").and_then(Value::as_array).ok_or(ListingError::NoList)?;
        let mut listing = Self::default();
        for object in objects {
            listing.take(object);
        }
        Ok(listing)
    }

    /// What the listing of a table says that was just made of `firewall`, as far as this `nft` spells it alike.
    pub(super) fn of(firewall: &Firewall) -> Self {
        let mut listing = Self::default();
        for object in ruleset::objects(firewall) {
            // Its types are plain data with text as keys, which is all that could fail.
            listing.take(&serde_json::to_value(object).unwrap_or_default());
        }
        listing
    }

    fn take(&mut self, object: &Value) {
        let Some((kind, content)) = object.as_object().and_then(|object| object.iter().next()) else {
            return;
        };
        let Some(content) = content.as_object() else { return };
        let text = |key: &str| content.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        match kind.as_str() {
            "metainfo" => {}
            "rule" => {
                let expressions = content.get("expr").map(spelled_alike).unwrap_or_default();
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

    /// The elements of a set, as far as they are addresses and prefixes.
    pub(super) fn elements_of(&self, set: &str) -> impl Iterator<Item = &IpNet> {
        self.elements.get(set).into_iter().flatten().flatten()
    }

    /// The packets that a counter has counted.
    pub(super) fn packets(&self, counter: &str) -> Option<u64> {
        self.counted.get(counter).copied()
    }

    /// What leads from `found` to this. With `keep`, nodes that are too many stay. `reference` is how this `nft`
    /// was seen to spell our table.
    pub(super) fn change_from(
        &self,
        found: Option<&Listing>,
        reference: Option<&Skeleton>,
        keep: bool,
    ) -> Change {
        let Some(found) = found else { return Change::Replace };
        if found.skeleton != self.skeleton && reference != Some(&found.skeleton) {
            return Change::Replace;
        }
        let (mut add, mut delete) = (Vec::new(), Vec::new());
        for (name, wanted) in &self.elements {
            let found = found.elements.get(name).unwrap_or(&None);
            let (Some(wanted), Some(found)) = (wanted, found) else { return Change::Replace };
            if wanted == found {
                continue;
            }
            if !NODE_SETS.contains(&name.as_str()) {
                // Intervals: what is added may overlap what goes.
                return Change::Replace;
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
        if add.is_empty() && delete.is_empty() { Change::None } else { Change::Elements { add, delete } }
    }
}

/// What defines an object, without what the kernel numbers and counts, and without elements.
fn definition(kind: &str, content: &Map<String, Value>) -> Value {
    let mut kept = Map::new();
    for (key, value) in content {
        let counts = kind == "counter" && matches!(key.as_str(), "packets" | "bytes");
        if key == "handle" || key == "elem" || counts || value.is_null() {
            continue;
        }
        kept.insert(key.clone(), spelled_alike(value));
        if key == "flags" {
            kept.insert(key.clone(), as_list(value));
        }
    }
    Value::Object(kept)
}

/// One flag may be written as text or as a list.
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

/// The same with every `flags` as a list, however deep.
fn spelled_alike(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(spelled_alike).collect()),
        Value::Object(object) => {
            let alike = |(key, value): (&String, &Value)| {
                let value = if key == "flags" { as_list(value) } else { spelled_alike(value) };
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
    use crate::firewall::TunnelsFrom;

    /// As `nft` 1.0.6 lists the table of [`firewall`].
    const LISTED: &str = include_str!("listed.json");

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a prefix")).collect()
    }

    fn firewall() -> Firewall {
        Firewall {
            from: TunnelsFrom::Nodes,
            guards_ipip: true,
            guards_vxlan: true,
            nodes: BTreeSet::from([
                [192, 168, 0, 2].into(),
                [192, 168, 0, 3].into(),
                "fd00::2".parse().expect("address"),
            ]),
            pools: nets(&["10.1.0.0/16", "10.2.0.7/32", "fd10::/64"]),
            masqueraded: nets(&["10.1.0.0/16"]),
        }
    }

    fn found() -> Listing {
        Listing::parse(LISTED).expect("a listing")
    }

    #[test]
    fn what_nft_lists_of_our_table_is_what_we_wrote() {
        assert_eq!(Listing::of(&firewall()).skeleton, found().skeleton);
        assert_eq!(Listing::of(&firewall()).change_from(Some(&found()), None, false), Change::None);
        assert_eq!(found().packets("dropped_vxlan"), Some(5_000_000_000), "more than 32 bits");
    }

    #[test]
    fn a_node_that_comes_and_one_that_goes_are_elements_and_the_latter_may_be_kept() {
        let mut firewall = firewall();
        firewall.nodes.remove(&IpAddr::from([192, 168, 0, 3]));
        firewall.nodes.insert([192, 168, 0, 4].into());
        let wanted = Listing::of(&firewall);
        let add = vec![("nodes4".to_owned(), nets(&["192.168.0.4/32"]))];
        let delete = vec![("nodes4".to_owned(), nets(&["192.168.0.3/32"]))];
        assert_eq!(
            wanted.change_from(Some(&found()), None, false),
            Change::Elements { add: add.clone(), delete }
        );
        assert_eq!(
            wanted.change_from(Some(&found()), None, true),
            Change::Elements { add, delete: Vec::new() }
        );
    }

    #[test]
    fn whatever_else_differs_is_a_reason_to_replace() {
        let wanted = Listing::of(&firewall());
        assert_eq!(wanted.change_from(None, None, false), Change::Replace);
        let mut pools = firewall();
        pools.pools = nets(&["10.1.0.0/16", "fd10::/64"]);
        assert_eq!(Listing::of(&pools).change_from(Some(&found()), None, false), Change::Replace);
        for (from, to) in [
            ("\"drop\": null", "\"accept\": null"),
            ("\"prio\": -150", "\"prio\": -151"),
            ("\"192.168.0.2\"", "{\"range\": [\"192.168.0.0\", \"192.168.0.9\"]}"),
            ("\"flags\": \"fully-random\"", "\"flags\": \"random\""),
            ("4096", "4097"),
        ] {
            assert!(LISTED.contains(from), "{from}");
            let tampered = Listing::parse(&LISTED.replacen(from, to, 1)).expect("a listing");
            assert_eq!(wanted.change_from(Some(&tampered), None, true), Change::Replace, "{from}");
        }
        let mut rules = found();
        rules.skeleton.rules.get_mut("tunnels").expect("the chain").reverse();
        assert_eq!(wanted.change_from(Some(&rules), None, false), Change::Replace, "order matters");
    }

    #[test]
    fn another_spelling_that_was_seen_after_writing_is_no_difference() {
        let text = LISTED.replace("\"right\": 4789", "\"right\": \"vxlan\"");
        let other = Listing::parse(&text).expect("a listing");
        let wanted = Listing::of(&firewall());
        assert_eq!(wanted.change_from(Some(&other), None, false), Change::Replace);
        assert_eq!(wanted.change_from(Some(&other), Some(&other.skeleton), false), Change::None);
    }

    #[test]
    fn an_answer_that_is_no_listing_is_an_error() {
        for text in ["", "{", "[]", "{\"nftables\": 1}"] {
            assert!(Listing::parse(text).is_err(), "{text:?}");
        }
        let odd = "{\"nftables\": [1, {}, {\"set\": 2}, {\"rule\": {}}, {\"set\": {\"elem\": {}}}]}";
        assert!(Listing::parse(odd).is_ok());
    }
}
