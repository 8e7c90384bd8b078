//! Requests about resources: files are parsed to manifests, and manifests are stored.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use datastore::{Contents, Manifest, Revision, Store, StoreError};
use resource::{
    API_VERSION, ClusterConfiguration, Document, EncapsulationKind, EncapsulationMode, IpPool, Key, Kind,
    Mistake, Resource, Warning, parse_file, pool_manifest,
};
use resource::{to_yaml, without_version};
use timing::Retry;

/// The number of attempts to change a store that others change at the same time.
pub(super) const ATTEMPTS: u32 = 20;
/// The pause before the next attempt, times the number of attempts so far.
pub(super) const PAUSE: Duration = Duration::from_millis(10);

/// The mode of a PUT request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PutMode {
    /// The resource is created or replaced.
    #[default]
    Apply,
    /// The resource is replaced if it still has its `metadata.resourceVersion`.
    Replace,
    /// The resource is created; an existing one is refused.
    Create,
    /// The resource is created; an existing one is left unchanged.
    CreateMissing,
}

/// Files with resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// The files, in order.
    pub files: Vec<ResourceFile>,
}

/// A file and its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceFile {
    /// The name of the file in mistakes.
    pub name: String,
    /// The text, any number of YAML documents.
    pub text: String,
}

/// The result of `PUT /v1/resources`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyResponse {
    /// The stored resources, in the order of the files.
    pub applied: Vec<Key>,
    /// The existing resources that were left unchanged.
    #[serde(default)]
    pub skipped: Vec<Key>,
    /// Warnings about the resources.
    pub warnings: Vec<Warning>,
    /// The store's revision after the change.
    pub revision: Revision,
}

/// The body of `DELETE /v1/resources`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteRequest {
    /// Files with the resources to delete.
    #[serde(default)]
    pub files: Vec<ResourceFile>,
    /// Keys of the resources to delete.
    #[serde(default)]
    pub keys: Vec<Key>,
    /// True if missing resources are skipped instead of refused.
    #[serde(default)]
    pub skip_missing: bool,
}

/// The result of `DELETE /v1/resources`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteResponse {
    /// The deleted resources.
    pub deleted: Vec<Key>,
    /// The resources that were missing.
    #[serde(default)]
    pub skipped: Vec<Key>,
    /// The store's revision after the change.
    pub revision: Revision,
}

/// The result of `GET /v1/resources/KIND`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListResponse {
    /// The resources as stored, by name.
    pub items: Vec<Json>,
    /// Warnings about these resources.
    pub warnings: Vec<Warning>,
    /// The cluster's AS number, which nodes without one inherit.
    pub as_number: u32,
    /// The cluster's encapsulation, which pools without one inherit.
    pub encapsulation: EncapsulationKind,
    /// The store's revision.
    pub revision: Revision,
}

/// Returns the resources of a kind, or one of them.
pub(super) fn list(contents: &Contents, kind: Kind, name: Option<&str>) -> Result<ListResponse, StoreError> {
    let mut found: Vec<&Document> = contents
        .documents
        .iter()
        .filter(|document| {
            let key = document.key();
            key.kind == kind && name.is_none_or(|name| name == key.name)
        })
        .collect();
    if let (Some(name), true) = (name, found.is_empty()) {
        return Err(StoreError::NotFound(Key { kind, name: name.to_owned() }));
    }
    found.sort_by_key(|document| document.key());
    let configuration = &contents.state.snapshot.configuration;
    Ok(ListResponse {
        warnings: warnings_of(contents, &found),
        items: found.iter().map(|document| document.manifest.clone()).collect(),
        as_number: configuration.as_number,
        encapsulation: configuration.routed.encapsulation,
        revision: contents.state.revision.clone(),
    })
}

/// Returns the warnings whose line is in one of the documents.
fn warnings_of(contents: &Contents, documents: &[&Document]) -> Vec<Warning> {
    // The document of a line is the last one of its file that begins at or before the line.
    let mut starts: HashMap<&str, BTreeMap<u64, Key>> = HashMap::new();
    for document in &contents.documents {
        let origin = document.resource.origin();
        starts.entry(&origin.file).or_default().insert(origin.line, document.key());
    }
    let wanted: Vec<Key> = documents.iter().map(|document| document.key()).collect();
    let owner = |warning: &&Warning| {
        let key = starts.get(warning.at.file.as_str())?.range(..=warning.at.line).next_back()?.1;
        wanted.binary_search(key).ok()
    };
    contents.state.warnings.iter().filter(|warning| owner(warning).is_some()).cloned().collect()
}

/// Parsed files.
#[derive(Default)]
pub(super) struct ParsedFiles {
    pub(super) documents: Vec<(Document, String)>,
    clusters: Vec<ClusterConfiguration>,
    pub(super) warnings: Vec<Warning>,
}

/// Parses files on a thread of its own, because megabytes take a while.
pub(super) async fn parse_files(files: &[ResourceFile]) -> Result<ParsedFiles, StoreError> {
    let files = files.to_vec();
    tokio::task::spawn_blocking(move || parse(&files)).await.map_err(|_| StoreError::Ended)?
}

fn parse(files: &[ResourceFile]) -> Result<ParsedFiles, StoreError> {
    let mut parsed_files = ParsedFiles::default();
    let mut mistakes = Vec::new();
    for file in files {
        let parsed = parse_file(&file.name, &file.text);
        mistakes.extend(parsed.mistakes);
        parsed_files.warnings.extend(parsed.warnings);
        parsed_files.clusters.extend(parsed.clusters);
        parsed_files.documents.extend(parsed.documents.into_iter().map(|document| {
            let text = file.text.get(document.range.clone()).unwrap_or("").to_owned();
            (document, text)
        }));
    }
    if parsed_files.documents.is_empty() && parsed_files.clusters.is_empty() && mistakes.is_empty() {
        let name = files.first().map_or("request", |file| file.name.as_str());
        mistakes.push(Mistake {
            file: name.to_owned(),
            line: 0,
            field: String::new(),
            rule: "holds no resource".into(),
        });
    }
    if mistakes.is_empty() { Ok(parsed_files) } else { Err(StoreError::Invalid(mistakes)) }
}

/// Stores all resources of the files, or none.
pub(super) async fn apply(
    store: &dyn Store,
    files: &Files,
    expected: Option<Revision>,
    mode: PutMode,
) -> Result<ApplyResponse, StoreError> {
    let parsed_files = parse_files(&files.files).await?;
    let mut retry = Retry::new(ATTEMPTS, PAUSE, PAUSE * ATTEMPTS);
    loop {
        let contents = store.load().await?;
        let against = expected.clone().unwrap_or_else(|| contents.state.revision.clone());
        if mode == PutMode::Replace {
            unchanged_since_read(&parsed_files, &contents)?;
        }
        let existing = match mode {
            PutMode::Create | PutMode::CreateMissing => already_there(&parsed_files, &contents)?,
            PutMode::Apply | PutMode::Replace => Vec::new(),
        };
        if mode == PutMode::Create && !existing.is_empty() {
            return Err(exists(&parsed_files, &existing));
        }
        let manifests = resolve(&parsed_files, &existing, &contents)?;
        let applied: Vec<Key> = manifests.iter().map(|manifest| manifest.document.key()).collect();
        let put = match applied.is_empty() {
            true => Ok(contents.state.revision.clone()),
            false => store.put(manifests, Some(against)).await,
        };
        match put {
            Ok(revision) => {
                let ignored =
                    parsed_files.clusters.iter().flat_map(|cluster| cluster.ignored.iter().cloned());
                let warnings = parsed_files.warnings.iter().cloned().chain(ignored).collect();
                return Ok(ApplyResponse { applied, skipped: existing, warnings, revision });
            }
            // Only a caller that named a revision has to know about another change.
            Err(StoreError::Conflict { .. }) if expected.is_none() && retry.pause().await => {}
            Err(error) => return Err(error),
        }
    }
}

/// Returns the keys of the files' resources that exist in the store.
fn already_there(parsed_files: &ParsedFiles, contents: &Contents) -> Result<Vec<Key>, StoreError> {
    if let Some(cluster) = parsed_files.clusters.first() {
        let rule = "ClusterConfiguration is no resource and can't be created: apply it, which sets the encapsulation";
        return Err(invalid(&cluster.origin.file, cluster.origin.line, "kind", rule.into()));
    }
    let stored: HashSet<Key> = contents.documents.iter().map(Document::key).collect();
    let existing = parsed_files
        .documents
        .iter()
        .filter(|(document, _)| stored.contains(&document.key()) || same_pool(document, contents).is_some());
    Ok(existing.map(|(document, _)| document.key()).collect())
}

/// Returns the error for existing resources, each with its place in the files.
fn exists(parsed_files: &ParsedFiles, existing: &[Key]) -> StoreError {
    let documents = parsed_files.documents.iter().map(|(document, _)| document);
    let mistake = |document: &Document| {
        let (origin, key) = (document.resource.origin(), document.key());
        let field = if document.is_v1 { "metadata" } else { "metadata.name" };
        let rule = format!(
            "{} {:?} is there already: `routectl apply` changes it, --skip-exists leaves it as it is",
            key.kind.name(),
            key.name
        );
        Mistake { file: origin.file.clone(), line: document.line(field), field: field.into(), rule }
    };
    StoreError::Exists(documents.filter(|document| existing.contains(&document.key())).map(mistake).collect())
}

/// Checks that every resource exists with the version that the caller has read.
fn unchanged_since_read(parsed_files: &ParsedFiles, contents: &Contents) -> Result<(), StoreError> {
    let stored: HashMap<Key, &Document> =
        contents.documents.iter().map(|document| (document.key(), document)).collect();
    for (document, _) in &parsed_files.documents {
        let key = document.key();
        let Some(current) = stored.get(&key).and_then(|stored| stored.resource_version()) else {
            return Err(StoreError::NotFound(key));
        };
        if let Some(given) = document.resource_version()
            && given != current
        {
            return Err(StoreError::Outdated { key, given: given.to_owned(), current: current.to_owned() });
        }
    }
    Ok(())
}

/// Deletes all named resources, or none.
pub(super) async fn delete(
    store: &dyn Store,
    request: &DeleteRequest,
    expected: Option<Revision>,
) -> Result<DeleteResponse, StoreError> {
    let parsed_files = match (request.files.is_empty(), request.keys.is_empty()) {
        (true, false) => ParsedFiles::default(),
        _ => parse_files(&request.files).await?,
    };
    if let Some(cluster) = parsed_files.clusters.first() {
        let rule = "ClusterConfiguration is no resource and can't be deleted: delete the BGPConfiguration";
        return Err(invalid(&cluster.origin.file, cluster.origin.line, "kind", rule.into()));
    }
    let documents = parsed_files.documents.iter().map(|(document, _)| document);
    // The store is loaded only if necessary: a store with an unreadable resource is repaired by
    // deleting that resource.
    let mut keys: Vec<Key> = match parsed_files.documents.iter().any(|(document, _)| document.is_v1) {
        false => documents.map(Document::key).collect(),
        true => {
            let contents = store.load().await?;
            let stored = |document: &Document| same_pool(document, &contents).map(Document::key);
            documents.map(|document| stored(document).unwrap_or_else(|| document.key())).collect()
        }
    };
    keys.extend(request.keys.iter().cloned());
    let mut seen = HashSet::new();
    keys.retain(|key| seen.insert(key.clone()));
    let mut skipped = Vec::new();
    loop {
        if keys.is_empty() {
            let revision = store.load().await?.state.revision;
            return Ok(DeleteResponse { deleted: keys, skipped, revision });
        }
        match store.delete(keys.clone(), expected.clone()).await {
            Ok(revision) => return Ok(DeleteResponse { deleted: keys, skipped, revision }),
            Err(StoreError::NotFound(missing)) if request.skip_missing && keys.contains(&missing) => {
                keys.retain(|key| *key != missing);
                skipped.push(missing);
            }
            Err(error) => return Err(error),
        }
    }
}

fn invalid(file: &str, line: u64, field: &str, rule: String) -> StoreError {
    StoreError::Invalid(vec![Mistake { file: file.to_owned(), line, field: field.to_owned(), rule }])
}

/// Returns the stored pool that a v1 pool refers to. It has no name, so the cidr decides.
pub(super) fn same_pool<'a>(document: &Document, contents: &'a Contents) -> Option<&'a Document> {
    let wanted = match &document.resource {
        Resource::IpPool(pool) if document.is_v1 => pool.cidr,
        _ => return None,
    };
    contents.documents.iter().find(|document| match &document.resource {
        Resource::IpPool(pool) => pool.cidr == wanted,
        _ => false,
    })
}

/// Returns the manifests to store: v1 forms are converted to v3, cluster configurations to the
/// field that they set. The resources in `existing` are left out.
pub(super) fn resolve(
    parsed_files: &ParsedFiles,
    existing: &[Key],
    contents: &Contents,
) -> Result<Vec<Manifest>, StoreError> {
    let stored: HashMap<Key, &Document> =
        contents.documents.iter().map(|document| (document.key(), document)).collect();
    let mut manifests = Vec::new();
    for (document, text) in
        parsed_files.documents.iter().filter(|(document, _)| !existing.contains(&document.key()))
    {
        if let (Resource::IpPool(new), Some(old)) = (&document.resource, stored.get(&document.key()))
            && let Resource::IpPool(old) = &old.resource
        {
            check_pool_unchanged(document, new, old)?;
        }
        if document.resource_version().is_some() || (document.needs_rewrite && !document.is_v1) {
            // The version belongs to the store and is not in the text. An item of a list has no
            // text of its own.
            let manifest = without_version(document.manifest.clone());
            manifests.push(rendered(&manifest, document.resource.origin().file.as_str(), document)?);
            continue;
        }
        if !document.is_v1 {
            manifests.push(Manifest { document: document.clone(), text: text.clone() });
            continue;
        }
        let manifest = match (&document.resource, same_pool(document, contents)) {
            (Resource::IpPool(pool), Some(old)) => without_version(merged_pool(pool, &old.manifest)),
            _ => document.manifest.clone(),
        };
        manifests.push(rendered(&manifest, document.resource.origin().file.as_str(), document)?);
    }
    for cluster in &parsed_files.clusters {
        let key = Key { kind: Kind::BgpConfiguration, name: "default".into() };
        let in_files = manifests.iter().position(|manifest| manifest.document.key() == key);
        let base = match in_files {
            Some(at) => manifests.remove(at).document.manifest,
            None => stored.get(&key).map_or_else(empty_configuration, |old| old.manifest.clone()),
        };
        let text = to_yaml(&without_version(with_encapsulation(base, cluster.encapsulation)));
        let mut parsed = parse_file(&cluster.origin.file, &text);
        match parsed.documents.pop() {
            Some(document) if parsed.mistakes.is_empty() => manifests.push(Manifest { document, text }),
            _ => return Err(StoreError::Invalid(parsed.mistakes)),
        }
    }
    Ok(manifests)
}

/// Checks that a pool keeps its range and block size, because addresses are assigned from it.
pub(super) fn check_pool_unchanged(
    document: &Document,
    new: &IpPool,
    old: &IpPool,
) -> Result<(), StoreError> {
    let origin = document.resource.origin();
    let refuse = |field: &str, old: String| {
        let rule = format!("can't be changed (is {old}): delete the pool and apply it anew");
        Err(invalid(&origin.file, document.line(field), field, rule))
    };
    if new.cidr != old.cidr {
        return refuse("spec.cidr", old.cidr.to_string());
    }
    if new.block_size != old.block_size && !document.is_v1 {
        return refuse("spec.blockSize", old.block_size.to_string());
    }
    Ok(())
}

/// Returns a stored pool with the settings of the v1 form; other fields are kept.
fn merged_pool(pool: &IpPool, old: &Json) -> Json {
    let name = old["metadata"]["name"].as_str().unwrap_or(&pool.name).to_owned();
    let settings = pool_manifest(pool, &name);
    let mut manifest = old.clone();
    let Some(spec) = manifest["spec"].as_object_mut() else { return settings };
    spec.insert("ipipMode".into(), settings["spec"]["ipipMode"].clone());
    spec.insert("natOutgoing".into(), pool.nat_outgoing.into());
    spec.insert("disabled".into(), pool.disabled.into());
    if pool.ipip_mode.is_some_and(|mode| mode != EncapsulationMode::Never) {
        spec.remove("vxlanMode");
    }
    manifest
}

fn empty_configuration() -> Json {
    json!({ "apiVersion": API_VERSION, "kind": "BGPConfiguration", "metadata": { "name": "default" }, "spec": {} })
}

fn with_encapsulation(mut configuration: Json, encapsulation: EncapsulationKind) -> Json {
    let spec = &mut configuration["spec"];
    if !spec.is_object() {
        *spec = json!({});
    }
    if !spec["routed"].is_object() {
        spec["routed"] = json!({});
    }
    spec["routed"]["encapsulation"] = json!(encapsulation);
    configuration
}

/// Renders a manifest and parses it again, so that the stored form is the checked one. Mistakes
/// have the place of the original document.
fn rendered(manifest: &Json, file: &str, from: &Document) -> Result<Manifest, StoreError> {
    let text = to_yaml(manifest);
    let mut parsed = parse_file(file, &text);
    match parsed.documents.pop() {
        Some(mut document) if parsed.mistakes.is_empty() => {
            document.relocate(from);
            Ok(Manifest { document, text })
        }
        _ => Err(StoreError::Invalid(parsed.mistakes)),
    }
}
