//! A route as one end shows it.

use std::collections::BTreeSet;

/// The properties of a route that tests assert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ShownRoute {
    pub(super) next_hop: String,
    pub(super) as_path: Vec<u32>,
    pub(super) large: BTreeSet<String>,
    pub(super) originator: Option<String>,
    pub(super) clusters: Vec<String>,
}

/// The whole numbers in a text.
pub(super) fn numbers(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// The large communities in a text, however they are punctuated.
pub(super) fn large(text: &str) -> BTreeSet<String> {
    numbers(text).chunks_exact(3).map(|parts| format!("{}:{}:{}", parts[0], parts[1], parts[2])).collect()
}
