//! Changes of one stored resource: patches and labels. The result is checked as if it had been
//! applied, and stored only if the resource has not changed meanwhile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use datastore::{Manifest, Revision, Store, StoreError};
use resource::{Document, Key, Mistake, Resource, parse_file};
use resource::{to_yaml, without_version};
use timing::Retry;

use super::patch_error::PatchError;
use super::resources::{ATTEMPTS, PAUSE, check_pool_unchanged};

/// The maximum number of labels in one request.
pub(super) const MAX_LABELS: usize = 256;

/// A patch in one of the supported forms.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Patch {
    /// A JSON merge patch (RFC 7386): fields are replaced, and null removes a field.
    Merge(Json),
    /// A JSON patch (RFC 6902): a sequence of operations.
    Json(json_patch::Patch),
}

/// The result of a patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchResponse {
    /// The resource.
    pub key: Key,
    /// True if the resource has changed.
    pub changed: bool,
    /// The store's revision after the change.
    pub revision: Revision,
}

/// A change of labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelChange {
    /// Labels to set, with their values.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Labels to remove.
    #[serde(default)]
    pub remove: Vec<String>,
    /// True if an existing label may get another value.
    #[serde(default)]
    pub overwrite: bool,
}

/// The result for one label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelOutcome {
    /// The label was added.
    Set,
    /// The label existed, with this value or another.
    Updated,
    /// The label was removed.
    Removed,
}

/// The result of a change of labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelResponse {
    /// The resource.
    pub key: Key,
    /// Each label and its result.
    pub labels: Vec<(String, LabelOutcome)>,
    /// The store's revision after the change.
    pub revision: Revision,
}

impl Patch {
    /// Parses the body of a request. The content type determines the form, as in Kubernetes.
    ///
    /// # Errors
    /// The form is unknown, or the body does not have it.
    pub(super) fn read(content_type: &str, body: &[u8]) -> Result<Self, PatchError> {
        match content_type {
            "application/json-patch+json" => serde_json::from_slice(body)
                .map(Patch::Json)
                .map_err(|error| PatchError::NotJsonPatch(error.to_string())),
            "application/merge-patch+json" | "application/json" => Patch::merge(body),
            "application/strategic-merge-patch+json" => {
                let patch = Patch::merge(body)?;
                if let Patch::Merge(json) = &patch
                    && let Some(directive) = directive(json)
                {
                    return Err(PatchError::Directive(directive.to_owned()));
                }
                Ok(patch)
            }
            other => Err(PatchError::UnknownType(other.to_owned())),
        }
    }

    fn merge(body: &[u8]) -> Result<Self, PatchError> {
        let json: Json =
            serde_json::from_slice(body).map_err(|error| PatchError::NotJson(error.to_string()))?;
        match json.is_object() {
            true => Ok(Patch::Merge(json)),
            false => Err(PatchError::NotMapping),
        }
    }

    /// Returns the patched manifest.
    fn of(&self, manifest: &Json) -> Result<Json, PatchError> {
        let mut patched = manifest.clone();
        match self {
            Patch::Merge(patch) => json_patch::merge(&mut patched, patch),
            Patch::Json(patch) => {
                json_patch::patch(&mut patched, patch)
                    .map_err(|error| PatchError::Failed(error.to_string()))?;
            }
        }
        Ok(patched)
    }
}

fn forbidden(error: PatchError) -> StoreError {
    StoreError::Forbidden(error.to_string())
}

/// Returns a directive of a strategic merge patch, if there is one.
fn directive(patch: &Json) -> Option<&str> {
    match patch {
        Json::Object(fields) => {
            fields.iter().find_map(
                |(key, value)| if key.starts_with('$') { Some(key.as_str()) } else { directive(value) },
            )
        }
        Json::Array(items) => items.iter().find_map(directive),
        _ => None,
    }
}

/// Patches a resource.
pub(super) async fn patch(
    store: &dyn Store,
    key: Key,
    patch: &Patch,
    expected: Option<Revision>,
) -> Result<PatchResponse, StoreError> {
    let edit = edit_manifest(store, &key, expected, |manifest| {
        let patched = patch.of(manifest)?;
        let same = |pointer: &str| patched.pointer(pointer) == manifest.pointer(pointer);
        match ["/apiVersion", "/kind", "/metadata/name"].into_iter().find(|pointer| !same(pointer)) {
            Some(pointer) => Err(PatchError::Immutable(pointer[1..].replace('/', "."))),
            None => Ok((patched, ())),
        }
    })
    .await?;
    Ok(PatchResponse { key, changed: edit.changed, revision: edit.revision })
}

/// Sets and removes labels of a resource.
pub(super) async fn label(
    store: &dyn Store,
    key: Key,
    change: &LabelChange,
    expected: Option<Revision>,
) -> Result<LabelResponse, StoreError> {
    check_labels(change).map_err(forbidden)?;
    let edit = edit_manifest(store, &key, expected, |manifest| apply_labels(&key, manifest, change)).await?;
    Ok(LabelResponse { key, labels: edit.outcome, revision: edit.revision })
}

/// The result of a change of a manifest.
struct ManifestEdit<T> {
    changed: bool,
    revision: Revision,
    outcome: T,
}

/// Changes a manifest and stores it. Retries if the store has changed meanwhile, unless the caller
/// named a revision.
async fn edit_manifest<T>(
    store: &dyn Store,
    key: &Key,
    expected: Option<Revision>,
    change: impl Fn(&Json) -> Result<(Json, T), PatchError>,
) -> Result<ManifestEdit<T>, StoreError> {
    let mut retry = Retry::new(ATTEMPTS, PAUSE, PAUSE * ATTEMPTS);
    loop {
        let contents = store.load().await?;
        let revision = contents.state.revision;
        let Some(old) = contents.documents.iter().find(|document| document.key() == *key) else {
            return Err(StoreError::NotFound(key.clone()));
        };
        let (manifest, outcome) = change(&old.manifest).map_err(forbidden)?;
        check_version(key, &manifest, old)?;
        if manifest == old.manifest {
            return Ok(ManifestEdit { changed: false, revision, outcome });
        }
        let manifest = render_edited(key, manifest)?;
        if let (Resource::IpPool(new), Resource::IpPool(old)) = (&manifest.document.resource, &old.resource) {
            check_pool_unchanged(&manifest.document, new, old)?;
        }
        let against = expected.clone().unwrap_or(revision);
        match store.put(vec![manifest], Some(against)).await {
            Ok(revision) => return Ok(ManifestEdit { changed: true, revision, outcome }),
            Err(StoreError::Conflict { .. }) if expected.is_none() && retry.pause().await => {}
            Err(error) => return Err(error),
        }
    }
}

/// Checks the resource version in a patch, as in Kubernetes.
fn check_version(key: &Key, manifest: &Json, old: &Document) -> Result<(), StoreError> {
    let given = manifest.pointer("/metadata/resourceVersion").and_then(Json::as_str);
    let current = old.resource_version();
    match (given, current) {
        (Some(given), Some(current)) if given != current => Err(StoreError::Outdated {
            key: key.clone(),
            given: given.to_owned(),
            current: current.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Parses a changed manifest again, so that the stored form is the checked one. The manifest is in
/// no file of the user, so mistakes name the resource and the field.
fn render_edited(key: &Key, manifest: Json) -> Result<Manifest, StoreError> {
    let place = format!("{} {}", key.kind.name(), key.name);
    let text = to_yaml(&without_version(manifest));
    let mut parsed = parse_file(&place, &text);
    match parsed.documents.pop() {
        Some(mut document) if parsed.mistakes.is_empty() => {
            document.forget_lines();
            Ok(Manifest { document, text })
        }
        _ => {
            let placed = parsed.mistakes.into_iter().map(|mistake| Mistake { line: 0, ..mistake });
            Err(StoreError::Invalid(placed.collect()))
        }
    }
}

fn apply_labels(
    key: &Key,
    manifest: &Json,
    change: &LabelChange,
) -> Result<(Json, Vec<(String, LabelOutcome)>), PatchError> {
    let mut manifest = manifest.clone();
    let place = format!("{} {:?}", key.kind.name(), key.name);
    let metadata = manifest.get_mut("metadata").and_then(Json::as_object_mut);
    let metadata = metadata.ok_or_else(|| PatchError::NoMetadata(place.clone()))?;
    let labels = metadata.entry("labels").or_insert_with(|| Json::Object(Map::new()));
    if labels.is_null() {
        *labels = Json::Object(Map::new());
    }
    let labels = labels.as_object_mut().ok_or_else(|| PatchError::LabelsNotMapping(place.clone()))?;
    let mut done = Vec::new();
    for name in &change.remove {
        if labels.remove(name).is_none() {
            return Err(PatchError::NoLabel { key: key.clone(), label: name.clone() });
        }
        done.push((name.clone(), LabelOutcome::Removed));
    }
    for (name, value) in &change.set {
        match labels.get(name) {
            None => done.push((name.clone(), LabelOutcome::Set)),
            Some(old) if old == value || change.overwrite => done.push((name.clone(), LabelOutcome::Updated)),
            Some(old) => {
                return Err(PatchError::LabelExists {
                    key: key.clone(),
                    label: name.clone(),
                    value: old.to_string(),
                });
            }
        }
        labels.insert(name.clone(), Json::String(value.clone()));
    }
    if labels.is_empty() {
        metadata.remove("labels");
    }
    Ok((manifest, done))
}

/// Checks labels against Kubernetes' syntax: a name of at most 63 characters after an optional
/// domain as prefix.
fn check_labels(change: &LabelChange) -> Result<(), PatchError> {
    if change.set.len() + change.remove.len() > MAX_LABELS {
        return Err(PatchError::TooManyLabels);
    }
    for (key, value) in &change.set {
        let (prefix, name) =
            key.rsplit_once('/').map_or((None, key.as_str()), |(prefix, name)| (Some(prefix), name));
        let domain = |prefix: &str| {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
            (1..=253).contains(&prefix.len()) && prefix.chars().all(fits) && ends_well(prefix)
        };
        if name.is_empty() || !is_label(name) || !prefix.is_none_or(domain) {
            return Err(PatchError::InvalidLabel(key.clone()));
        }
        if !is_label(value) {
            return Err(PatchError::InvalidValue { label: key.clone(), value: value.clone() });
        }
        if change.remove.contains(key) {
            return Err(PatchError::SetAndRemoved(key.clone()));
        }
    }
    Ok(())
}

fn is_label(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.len() <= 63 && text.chars().all(fits) && ends_well(text)
}

fn ends_well(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next()) && edge(text.chars().next_back())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use resource::Kind;

    use super::*;

    fn merged(manifest: Json, patch: Json) -> Json {
        Patch::read("application/merge-patch+json", patch.to_string().as_bytes())
            .unwrap()
            .of(&manifest)
            .unwrap()
    }

    #[test]
    fn a_merge_patch_replaces_named_fields_and_removes_null_fields() {
        // RFC 7386, appendix A, the cases whose target is a mapping.
        for (target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(merged(target.clone(), patch.clone()), result, "{target} {patch}");
        }
    }

    #[test]
    fn patches_of_other_forms_are_refused_with_a_remedy() {
        let read = |form: &str, text: &str| Patch::read(form, text.as_bytes());
        assert!(read("application/merge-patch+json", "[]").unwrap_err().to_string().contains("is a mapping"));
        assert!(read("application/merge-patch+json", "{").unwrap_err().to_string().contains("not JSON"));
        assert!(
            read("application/json-patch+json", "{}").unwrap_err().to_string().contains("list of operations")
        );
        assert!(read("text/plain", "{}").unwrap_err().to_string().contains("application/json-patch+json"));
        let strategic = "application/strategic-merge-patch+json";
        assert!(
            read(strategic, r#"{"spec": {"x": [{"$patch": "delete"}]}}"#)
                .unwrap_err()
                .to_string()
                .contains("$patch")
        );
        assert!(read(strategic, r#"{"spec": {}}"#).is_ok());
    }

    #[test]
    fn each_label_is_reported_as_set_updated_or_removed() {
        let key = Key { kind: Kind::Node, name: "a".into() };
        let node = json!({"metadata": {"name": "a", "labels": {"rack": "1", "zone": "x"}}});
        let change = |set: &[(&str, &str)], remove: &[&str], overwrite| LabelChange {
            set: set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            remove: remove.iter().map(|key| (*key).to_owned()).collect(),
            overwrite,
        };
        let (changed, done) =
            apply_labels(&key, &node, &change(&[("new", ""), ("rack", "2")], &["zone"], true)).unwrap();
        assert_eq!(changed["metadata"]["labels"], json!({"new": "", "rack": "2"}));
        let outcomes: Vec<LabelOutcome> = done.iter().map(|(_, done)| *done).collect();
        assert_eq!(outcomes, [LabelOutcome::Removed, LabelOutcome::Set, LabelOutcome::Updated]);
        let refused = apply_labels(&key, &node, &change(&[("rack", "2")], &[], false)).unwrap_err();
        assert!(refused.to_string().contains("--overwrite"), "{refused}");
        assert!(apply_labels(&key, &node, &change(&[("rack", "1")], &[], false)).is_ok());
        assert!(apply_labels(&key, &node, &change(&[], &["none"], false)).is_err());
        let (bare, _) = apply_labels(&key, &node, &change(&[], &["zone", "rack"], false)).unwrap();
        assert_eq!(bare["metadata"].get("labels"), None);
    }

    #[test]
    fn labels_have_kubernetes_syntax() {
        let check = |key: &str, value: &str| {
            check_labels(&LabelChange {
                set: [(key.to_owned(), value.to_owned())].into(),
                ..LabelChange::default()
            })
        };
        for (key, value) in [("a", ""), ("x.example/y-1", "A_b.c"), ("route-reflector", "true")] {
            assert_eq!(check(key, value), Ok(()), "{key}={value}");
        }
        let long = "x".repeat(64);
        for (key, value) in
            [("", "a"), ("-a", "b"), ("a/", "b"), ("/a", "b"), ("A B", "c"), ("a", "b c"), ("a", &long)]
        {
            assert!(check(key, value).is_err(), "{key}={value}");
        }
    }
}
