//! A cache of parsed documents by their texts, so that a change of one document costs the parsing
//! of one.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::Resource;
use super::document::{Document, ParsedFile};
use super::mistake::Origin;
use super::stream::{self, DocumentText};

/// A cached document.
#[derive(Clone, Debug)]
struct CachedDocument {
    resource: Resource,
    is_v1: bool,
    /// The number of lines from the beginning of its text to its first key.
    lead: u64,
}

/// The documents of the last reading that had neither mistake nor warning.
#[derive(Clone, Debug, Default)]
pub struct ParseCache {
    // Two hashers with random keys: 128 bits, so that no two texts collide.
    hashers: [RandomState; 2],
    documents: HashMap<[u64; 2], CachedDocument>,
}

impl ParseCache {
    fn key(&self, text: &str) -> [u64; 2] {
        [self.hashers[0].hash_one(text), self.hashers[1].hash_one(text)]
    }

    /// Adds the documents of a file.
    pub fn insert(&mut self, text: &str, parsed: ParsedFile) {
        if !parsed.mistakes.is_empty() {
            return;
        }
        let parts = stream::split(text);
        let mut documents = parsed.documents.into_iter().peekable();
        for part in &parts {
            let Some(document) = documents.next_if(|document| document.range == part.range) else { continue };
            let lines = part.first_line..=part.first_line + part.text.lines().count() as u64;
            if parsed.warnings.iter().any(|warning| lines.contains(&warning.at.line)) {
                continue;
            }
            let Document { resource, is_v1, .. } = document;
            let lead = resource.origin().line.saturating_sub(part.first_line);
            self.documents.insert(self.key(part.text), CachedDocument { resource, is_v1, lead });
        }
    }

    /// Returns the cached document of a text, without its manifest and the lines of its fields.
    pub(super) fn get(&self, file: &str, part: &DocumentText<'_>) -> Option<Document> {
        let CachedDocument { resource, is_v1, lead } = self.documents.get(&self.key(part.text))?;
        let mut resource = resource.clone();
        resource.set_origin(Origin { file: file.to_owned(), line: part.first_line + lead });
        let (manifest, lines) = (serde_json::Value::Null, HashMap::new());
        let range = part.range.clone();
        Some(Document { resource, manifest, is_v1: *is_v1, needs_rewrite: false, range, lines })
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::{parse_file, parse_file_cached};
    use super::*;

    const NODE: &str = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: { name: a }\n";
    const POOL: &str = "# a comment\napiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: { name: p }\nspec: { cidr: 10.0.0.0/16 }\n";

    fn known(text: &str) -> ParseCache {
        let mut known = ParseCache::default();
        known.insert(text, parse_file("old.yaml", text));
        known
    }

    #[test]
    fn an_unchanged_document_is_cached_and_has_its_new_position() {
        let known = known(&format!("{NODE}---\n{POOL}"));
        let text =
            format!("{POOL}---\nkind: Node\nmetadata: {{ name: b }}\napiVersion: projectcalico.org/v3\n");
        let (cached, read) = (parse_file_cached("new.yaml", &text, &known), parse_file("new.yaml", &text));
        assert_eq!((cached.mistakes.len(), cached.documents.len()), (0, 2));
        let is_cached: Vec<bool> = cached.documents.iter().map(Document::is_cached).collect();
        assert_eq!(is_cached, [true, false], "the node is a different one");
        for (cached, read) in cached.documents.iter().zip(&read.documents) {
            assert_eq!((&cached.resource, &cached.range), (&read.resource, &read.range));
            assert_eq!(cached.resource.origin().to_string(), read.resource.origin().to_string());
        }
    }

    #[test]
    fn documents_with_a_warning_and_files_with_a_mistake_are_not_cached() {
        let warned = "apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: { name: default }\n\
                      spec: { logSeverityScreen: Debug }\n";
        let text = format!("{NODE}---\n{warned}");
        let parsed = parse_file("x.yaml", &text);
        assert_eq!((parsed.mistakes.len(), parsed.warnings.len()), (0, 1), "{parsed:?}");
        let again = parse_file_cached("x.yaml", &text, &known(&text));
        let is_cached: Vec<bool> = again.documents.iter().map(Document::is_cached).collect();
        assert_eq!((is_cached, again.warnings.len()), (vec![true, false], 1));
        let mistaken = format!("{NODE}---\nkind: Node\n");
        let again = parse_file_cached("x.yaml", &mistaken, &known(&mistaken));
        assert!(!again.mistakes.is_empty() && !again.documents.iter().any(Document::is_cached));
    }
}
