//! Computes the contents of the store after a change, without storing it.

use std::collections::HashMap;

use datastore::{Store, StoreError};
use resource::{Document, Key, Warning, assemble};

use super::Proposal;
use super::resources::{Files, parse_files, resolve, same_pool};
use super::view::{ChangeKind, ResourceChange};

/// Returns the resources that the store would have after applying or deleting the resources in the
/// files.
pub(super) async fn propose(store: &dyn Store, files: &Files, deletes: bool) -> Result<Proposal, StoreError> {
    let parsed_files = parse_files(&files.files).await?;
    let contents = store.load().await?;
    let stored: HashMap<Key, &Document> =
        contents.documents.iter().map(|document| (document.key(), document)).collect();
    let (keys, new): (Vec<Key>, Vec<Document>) = if deletes {
        let key = |document: &Document| {
            same_pool(document, &contents).map_or_else(|| document.key(), Document::key)
        };
        let keys: Vec<Key> = parsed_files.documents.iter().map(|(document, _)| key(document)).collect();
        if let Some(missing) = keys.iter().find(|key| !stored.contains_key(*key)) {
            return Err(StoreError::NotFound(missing.clone()));
        }
        (keys, Vec::new())
    } else {
        let manifests = resolve(&parsed_files, &[], &contents)?;
        manifests.into_iter().map(|manifest| (manifest.document.key(), manifest.document)).unzip()
    };
    let changes = keys
        .iter()
        .map(|key| {
            let (old, new) = (stored.get(key), new.iter().find(|document| document.key() == *key));
            let change = match (old, new) {
                (Some(old), Some(new)) if old.resource == new.resource => None,
                (Some(_), Some(_)) => Some(ChangeKind::Replace),
                (None, _) => Some(ChangeKind::Add),
                (Some(_), None) => Some(ChangeKind::Remove),
            };
            ResourceChange { change, key: key.clone() }
        })
        .collect();
    let unchanged = contents.documents.iter().filter(|document| !keys.contains(&document.key()));
    let assembled = assemble(unchanged.chain(&new));
    if !assembled.mistakes.is_empty() {
        return Err(StoreError::Invalid(assembled.mistakes));
    }
    let of_given = |warning: &Warning| files.files.iter().any(|file| file.name == warning.at.file);
    let mut warnings = parsed_files.warnings.clone();
    warnings.extend(assembled.warnings.into_iter().filter(of_given));
    Ok(Proposal { snapshot: assembled.snapshot, changes, warnings })
}
