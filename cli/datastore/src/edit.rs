//! New texts of files for a put or a delete. Pure: nothing is written here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::directory::{DirectoryTree, SourceFile};
use super::{Manifest, StoreError};
use resource::{Document, Key, ParseCache, assemble, parse_file_cached};

/// New texts of files. `None` deletes the file.
pub(super) type FileChanges = BTreeMap<PathBuf, Option<String>>;

/// A replacement in one file.
struct TextEdit {
    range: Range<usize>,
    text: String,
}

/// Returns the file changes that store `manifests`.
///
/// # Errors
/// The result would not be valid.
pub(super) fn put(
    directory: &Path,
    tree: &DirectoryTree,
    manifests: &[Manifest],
) -> Result<FileChanges, StoreError> {
    let keys: Vec<Key> = manifests.iter().map(|manifest| manifest.document.key()).collect();
    let new: Vec<&Document> = manifests.iter().map(|manifest| &manifest.document).collect();
    validate(tree, &keys, &new)?;

    let places = places(tree);
    let mut edits: BTreeMap<PathBuf, Vec<TextEdit>> = BTreeMap::new();
    let mut appended: BTreeMap<PathBuf, String> = BTreeMap::new();
    for (manifest, key) in manifests.iter().zip(&keys) {
        let mut text = manifest.text.clone();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        match places.get(key) {
            Some((file, document)) => {
                let old = file.text.get(document.range.clone()).unwrap_or("");
                // The marker was on the first line of the document: the new text
                // needs one above it.
                if old.starts_with("---") && !text.starts_with("---") {
                    text.insert_str(0, "---\n");
                }
                edits
                    .entry(file.path.clone())
                    .or_default()
                    .push(TextEdit { range: document.range.clone(), text });
            }
            None => {
                let path = directory.join(format!("{}-{}.yaml", key.kind.name(), key.name));
                let all = appended.entry(path).or_default();
                if !all.is_empty() {
                    all.push_str("---\n");
                }
                all.push_str(&text);
            }
        }
    }
    let mut changes = FileChanges::new();
    for file in &tree.files {
        let edits = edits.remove(&file.path);
        let appended = appended.remove(&file.path);
        if edits.is_none() && appended.is_none() {
            continue;
        }
        let mut text = splice(&file.text, edits.unwrap_or_default());
        if let Some(more) = appended {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str("---\n");
            text.push_str(&more);
        }
        changes.insert(file.path.clone(), Some(text));
    }
    changes.extend(appended.into_iter().map(|(path, text)| (path, Some(text))));
    Ok(changes)
}

/// Returns the file changes that delete `keys`.
///
/// # Errors
/// One of them doesn't exist, or the rest would not be valid.
pub(super) fn delete(tree: &DirectoryTree, keys: &[Key]) -> Result<FileChanges, StoreError> {
    let places = places(tree);
    let mut edits: BTreeMap<PathBuf, Vec<TextEdit>> = BTreeMap::new();
    for key in keys.iter().collect::<HashSet<_>>() {
        let (file, document) = places.get(key).ok_or_else(|| StoreError::NotFound(key.clone()))?;
        let range = with_marker(&file.text, document.range.clone());
        edits.entry(file.path.clone()).or_default().push(TextEdit { range, text: String::new() });
    }
    validate(tree, keys, &[])?;
    let mut changes = FileChanges::new();
    for file in &tree.files {
        let Some(edits) = edits.remove(&file.path) else { continue };
        let empties = file.parsed.documents.iter().all(|document| keys.contains(&document.key()));
        changes.insert(file.path.clone(), (!empties).then(|| splice(&file.text, edits)));
    }
    Ok(changes)
}

/// Checks the result of a change: all documents without `replaced`, and `new` as the newest ones.
fn validate(tree: &DirectoryTree, replaced: &[Key], new: &[&Document]) -> Result<(), StoreError> {
    let replaced: HashSet<&Key> = replaced.iter().collect();
    let kept = tree.documents().filter(|document| !replaced.contains(&document.key()));
    let mut mistakes = tree.file_mistakes();
    mistakes.extend(assemble(kept.chain(new.iter().copied())).mistakes);
    if mistakes.is_empty() { Ok(()) } else { Err(StoreError::Invalid(mistakes)) }
}

/// Returns the file and document of each resource.
fn places(tree: &DirectoryTree) -> HashMap<Key, (&SourceFile, &Document)> {
    let all =
        tree.files.iter().flat_map(|file| file.parsed.documents.iter().map(move |document| (file, document)));
    all.map(|(file, document)| (document.key(), (file, document))).collect()
}

/// Extends the range by the `---` line above it, so that no empty document remains.
fn with_marker(text: &str, range: Range<usize>) -> Range<usize> {
    let above = text.get(..range.start).unwrap_or("");
    let start = above.trim_end_matches('\n').rfind('\n').map_or(0, |at| at + 1);
    let is_marker = above.get(start..).is_some_and(|line| line.starts_with("---"));
    if is_marker { start..range.end } else { range }
}

fn splice(text: &str, mut edits: Vec<TextEdit>) -> String {
    edits.sort_by_key(|edit| edit.range.start);
    let mut result = String::with_capacity(text.len());
    let mut at = 0;
    for edit in edits {
        result.push_str(text.get(at..edit.range.start).unwrap_or(""));
        result.push_str(&edit.text);
        at = edit.range.end;
    }
    result.push_str(text.get(at..).unwrap_or(""));
    result
}

/// Parses the changed texts as a reader of the files does, so that a text that the replacement
/// breaks is refused before it is written.
pub(super) fn verify(changes: &FileChanges) -> Result<(), StoreError> {
    let texts = changes.iter().filter_map(|(path, text)| text.as_ref().map(|text| (path, text)));
    let mistakes: Vec<_> = texts
        .flat_map(|(path, text)| {
            parse_file_cached(&path.display().to_string(), text, &ParseCache::default()).mistakes
        })
        .collect();
    if mistakes.is_empty() { Ok(()) } else { Err(StoreError::Invalid(mistakes)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use resource::parse_file;

    const HEAD: &str = "apiVersion: projectcalico.org/v3\n";

    fn node(name: &str, note: &str) -> String {
        format!("{HEAD}kind: Node # {note}\nmetadata: {{name: {name}}}\n")
    }

    fn tree(text: &str) -> DirectoryTree {
        let path = PathBuf::from("/d/all.yaml");
        let parsed = parse_file("/d/all.yaml", text);
        assert_eq!(parsed.mistakes, []);
        DirectoryTree {
            files: vec![SourceFile { path, text: text.into(), parsed }],
            ..DirectoryTree::default()
        }
    }

    fn manifests(text: &str) -> Vec<Manifest> {
        let parsed = parse_file("given.yaml", text);
        assert_eq!(parsed.mistakes, []);
        let cut = |range: &Range<usize>| text[range.clone()].to_owned();
        parsed
            .documents
            .into_iter()
            .map(|document| Manifest { text: cut(&document.range), document })
            .collect()
    }

    #[test]
    fn a_known_resource_is_replaced_in_place_and_the_others_kept_byte_for_byte() {
        let text = format!(
            "# head\n---\n{}---  # b\n{}...\n---\n{}",
            node("a", "1"),
            node("b", "1"),
            node("c", "1")
        );
        let changes = put(Path::new("/d"), &tree(&text), &manifests(&node("b", "two"))).unwrap();
        let expected = text.replace(&node("b", "1"), &node("b", "two"));
        assert_ne!(expected, text);
        assert_eq!(changes, [(PathBuf::from("/d/all.yaml"), Some(expected))].into());
    }

    #[test]
    fn a_new_resource_gets_a_file_of_its_own() {
        let changes = put(Path::new("/d"), &tree(&node("a", "1")), &manifests(&node("b", "1"))).unwrap();
        assert_eq!(changes, [(PathBuf::from("/d/Node-b.yaml"), Some(node("b", "1")))].into());
    }

    #[test]
    fn a_document_on_its_markers_line_keeps_a_marker() {
        let text = format!(
            "{}--- {{apiVersion: projectcalico.org/v3, kind: Node, metadata: {{name: b}}}}\n",
            node("a", "1")
        );
        let changes = put(Path::new("/d"), &tree(&text), &manifests(&node("b", "1"))).unwrap();
        assert_eq!(
            changes.values().next().unwrap().as_deref(),
            Some(format!("{}---\n{}", node("a", "1"), node("b", "1")).as_str())
        );
        verify(&changes).unwrap();
    }

    #[test]
    fn a_deleted_document_takes_its_marker_along_and_the_last_one_its_file() {
        let text = format!("{}---\n{}---\n{}", node("a", "1"), node("b", "1"), node("c", "1"));
        let key = |name: &str| Key { kind: resource::Kind::Node, name: name.into() };
        let changes = delete(&tree(&text), &[key("b")]).unwrap();
        let left = format!("{}---\n{}", node("a", "1"), node("c", "1"));
        assert_eq!(changes.values().next().unwrap().as_deref(), Some(left.as_str()));
        let all = delete(&tree(&text), &[key("a"), key("b"), key("c")]).unwrap();
        assert_eq!(all, [(PathBuf::from("/d/all.yaml"), None)].into());
        assert!(matches!(delete(&tree(&text), &[key("d")]), Err(StoreError::NotFound(_))));
    }

    #[test]
    fn a_change_that_breaks_a_rule_is_the_new_documents_mistake() {
        let pool = |name: &str, cidr: &str| {
            format!("{HEAD}kind: IPPool\nmetadata: {{name: {name}}}\nspec: {{cidr: {cidr}}}\n")
        };
        let error =
            put(Path::new("/d"), &tree(&pool("a", "10.0.0.0/8")), &manifests(&pool("b", "10.1.0.0/16")));
        let Err(StoreError::Invalid(mistakes)) = error else { panic!("{error:?}") };
        assert_eq!(
            mistakes[0].to_string(),
            "given.yaml:4: spec.cidr: must not overlap another pool: 10.0.0.0/8 of \"a\" is at /d/all.yaml:4"
        );
    }
}
