//! Resources through the control API: what is given becomes manifests, and manifests go to the store.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::resource::{
    API_VERSION, ClusterConfiguration, Document, Encapsulation, IpPool, Key, Kind, Mistake, Mode as PoolMode,
    Resource, Warning, parse_file, pool_manifest,
};
use crate::store::{Contents, Manifest, Revision, Store, StoreError};

/// Changes against a store that others change too are tried this often.
const ATTEMPTS: u32 = 20;
/// The pause before the next try, times the number of tries so far.
const PAUSE: Duration = Duration::from_millis(10);

/// What putting a resource means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// It is made, or replaces what is there whatever that is.
    #[default]
    Apply,
    /// It replaces what is there, if that is still what `metadata.resourceVersion` says.
    Replace,
}

/// Files as a user gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// The files, in order.
    pub files: Vec<GivenFile>,
}

/// One file and its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenFile {
    /// What mistakes call it.
    pub name: String,
    /// Any number of YAML documents.
    pub text: String,
}

/// What `PUT /v1/resources` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyResponse {
    /// The resources, in the order given.
    pub applied: Vec<Key>,
    /// What the user should know of.
    pub warnings: Vec<Warning>,
    /// The store's revision afterwards.
    pub revision: Revision,
}

/// What `DELETE /v1/resources` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteResponse {
    /// The resources that are gone.
    pub deleted: Vec<Key>,
    /// The store's revision afterwards.
    pub revision: Revision,
}

/// What `GET /v1/resources/KIND` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListResponse {
    /// The resources as stored, by name.
    pub items: Vec<Json>,
    /// What the user should know of these.
    pub warnings: Vec<Warning>,
    /// The cluster's AS number, which nodes without one inherit.
    pub as_number: u32,
    /// The cluster's encapsulation, which pools without one inherit.
    pub encapsulation: Encapsulation,
    /// The store's revision.
    pub revision: Revision,
}

/// The resources of a kind, or one of them.
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
    let configuration = &contents.loaded.snapshot.configuration;
    Ok(ListResponse {
        warnings: warnings_of(contents, &found),
        items: found.iter().map(|document| document.manifest.clone()).collect(),
        as_number: configuration.as_number,
        encapsulation: configuration.routed.encapsulation,
        revision: contents.loaded.revision.clone(),
    })
}

/// The warnings whose line lies in one of the documents.
fn warnings_of(contents: &Contents, documents: &[&Document]) -> Vec<Warning> {
    // In each file, the document of a line is the last that begins at or before it.
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
    contents.loaded.warnings.iter().filter(|warning| owner(warning).is_some()).cloned().collect()
}

/// Files, parsed.
struct Given {
    documents: Vec<(Document, String)>,
    clusters: Vec<ClusterConfiguration>,
    warnings: Vec<Warning>,
}

fn parse(files: &Files) -> Result<Given, StoreError> {
    let mut given = Given { documents: Vec::new(), clusters: Vec::new(), warnings: Vec::new() };
    let mut mistakes = Vec::new();
    for file in &files.files {
        let parsed = parse_file(&file.name, &file.text);
        mistakes.extend(parsed.mistakes);
        given.warnings.extend(parsed.warnings);
        given.clusters.extend(parsed.clusters);
        given.documents.extend(parsed.documents.into_iter().map(|document| {
            let text = file.text.get(document.range.clone()).unwrap_or("").to_owned();
            (document, text)
        }));
    }
    if given.documents.is_empty() && given.clusters.is_empty() && mistakes.is_empty() {
        let name = files.files.first().map_or("request", |file| file.name.as_str());
        mistakes.push(Mistake {
            file: name.to_owned(),
            line: 0,
            field: String::new(),
            rule: "holds no resource".into(),
        });
    }
    if mistakes.is_empty() { Ok(given) } else { Err(StoreError::Invalid(mistakes)) }
}

/// Stores all resources of the files, or none.
pub(super) async fn apply(
    store: &dyn Store,
    files: &Files,
    expected: Option<Revision>,
    mode: Mode,
) -> Result<ApplyResponse, StoreError> {
    let given = parse(files)?;
    let mut attempt = 1;
    loop {
        let contents = store.load().await?;
        let against = expected.clone().unwrap_or_else(|| contents.loaded.revision.clone());
        if mode == Mode::Replace {
            unchanged_since_read(&given, &contents)?;
        }
        let manifests = resolve(&given, &contents)?;
        let applied = manifests.iter().map(|manifest| manifest.document.key()).collect();
        match store.put(manifests, Some(against)).await {
            Ok(revision) => {
                let ignored = given.clusters.iter().flat_map(|cluster| cluster.ignored.iter().cloned());
                let warnings = given.warnings.iter().cloned().chain(ignored).collect();
                return Ok(ApplyResponse { applied, warnings, revision });
            }
            // Only a caller who named a revision cares that another came between.
            Err(StoreError::Conflict { .. }) if expected.is_none() && attempt < ATTEMPTS => {
                tokio::time::sleep(PAUSE * attempt).await; // why: who writes at once must not meet again
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether every resource is there, and as the caller read it.
fn unchanged_since_read(given: &Given, contents: &Contents) -> Result<(), StoreError> {
    let stored: HashMap<Key, &Document> =
        contents.documents.iter().map(|document| (document.key(), document)).collect();
    for (document, _) in &given.documents {
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

/// Deletes all resources that the files name, or none.
pub(super) async fn delete(
    store: &dyn Store,
    files: &Files,
    expected: Option<Revision>,
) -> Result<DeleteResponse, StoreError> {
    let given = parse(files)?;
    if let Some(cluster) = given.clusters.first() {
        let rule = "ClusterConfiguration is no resource and can't be deleted: delete the BGPConfiguration";
        return Err(invalid(&cluster.origin.file, cluster.origin.line, "kind", rule.into()));
    }
    let contents = store.load().await?;
    let deleted: Vec<Key> = given
        .documents
        .iter()
        .map(|(document, _)| same_pool(document, &contents).map_or_else(|| document.key(), Document::key))
        .collect();
    let revision = store.delete(deleted.clone(), expected).await?;
    Ok(DeleteResponse { deleted, revision })
}

fn invalid(file: &str, line: u64, field: &str, rule: String) -> StoreError {
    StoreError::Invalid(vec![Mistake { file: file.to_owned(), line, field: field.to_owned(), rule }])
}

/// The stored pool that a v1 pool means: it has no name, so its cidr decides.
fn same_pool<'a>(document: &Document, contents: &'a Contents) -> Option<&'a Document> {
    let wanted = match &document.resource {
        Resource::IpPool(pool) if document.is_v1 => pool.cidr,
        _ => return None,
    };
    contents.documents.iter().find(|document| match &document.resource {
        Resource::IpPool(pool) => pool.cidr == wanted,
        _ => false,
    })
}

/// What is to be stored: v1 forms in their v3 form, cluster configurations as the field they set.
fn resolve(given: &Given, contents: &Contents) -> Result<Vec<Manifest>, StoreError> {
    let stored: HashMap<Key, &Document> =
        contents.documents.iter().map(|document| (document.key(), document)).collect();
    let mut manifests = Vec::new();
    for (document, text) in &given.documents {
        if let (Resource::IpPool(new), Some(old)) = (&document.resource, stored.get(&document.key()))
            && let Resource::IpPool(old) = &old.resource
        {
            unchanged(document, new, old)?;
        }
        if document.resource_version().is_some() {
            // The store's own, which stands in no text of it.
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
    for cluster in &given.clusters {
        let key = Key { kind: Kind::BgpConfiguration, name: "default".into() };
        let given_here = manifests.iter().position(|manifest| manifest.document.key() == key);
        let base = match given_here {
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

/// Addresses are already assigned from a pool: its range and the size of its blocks stay.
fn unchanged(document: &Document, new: &IpPool, old: &IpPool) -> Result<(), StoreError> {
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

/// A stored pool with the settings that the v1 form has; what it has no field for stays.
fn merged_pool(pool: &IpPool, old: &Json) -> Json {
    let name = old["metadata"]["name"].as_str().unwrap_or(&pool.name).to_owned();
    let settings = pool_manifest(pool, &name);
    let mut manifest = old.clone();
    let Some(spec) = manifest["spec"].as_object_mut() else { return settings };
    spec.insert("ipipMode".into(), settings["spec"]["ipipMode"].clone());
    spec.insert("natOutgoing".into(), pool.nat_outgoing.into());
    spec.insert("disabled".into(), pool.disabled.into());
    if pool.ipip_mode.is_some_and(|mode| mode != PoolMode::Never) {
        spec.remove("vxlanMode");
    }
    manifest
}

/// A manifest without the revision that the store gave it.
pub(crate) fn without_version(mut manifest: Json) -> Json {
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Json::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    manifest
}

fn empty_configuration() -> Json {
    json!({ "apiVersion": API_VERSION, "kind": "BGPConfiguration", "metadata": { "name": "default" }, "spec": {} })
}

fn with_encapsulation(mut configuration: Json, encapsulation: Encapsulation) -> Json {
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

/// A manifest as text, parsed again so that what is checked is what is stored; its mistakes are
/// those of the document it was made from.
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

/// A manifest as one YAML document.
pub(crate) fn to_yaml(manifest: &Json) -> String {
    // Serialising a JSON value can't fail: it has no keys but strings.
    serde_saphyr::to_string(manifest).unwrap_or_default()
}
