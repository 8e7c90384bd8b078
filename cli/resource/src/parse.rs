//! Parsing of a file's text into resources, with every mistake in it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::cluster;
use super::document::{Document, ParsedFile};
use super::kind::Kind;
use super::mistake::Origin;
use super::parse_cache::ParseCache;
use super::reader::{Fields, Report};
use super::stream;
use super::tree::{self, LocatedValue, Value};
use super::{API_VERSION, Resource, affinity, configuration, filter, node, peer, pool, reference, scalar};

/// The largest file, in bytes.
pub const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;

/// The version under which Kubernetes stores Calico's resources, which have the same fields.
const CRD_VERSION: &str = "crd.projectcalico.org/v1";

/// The largest number of mistakes that are reported for one file.
const MAX_MISTAKES: usize = 1000;

/// Parses a file of any number of resource documents. `file` is its name in mistakes.
///
/// Lists of resources (`kind: NodeList`, `kind: List`, or a plain list) count as their items.
pub fn parse_file(file: &str, text: &str) -> ParsedFile {
    parse(file, text, &ParseCache::default(), true)
}

/// Parses a file of a store. Documents that are in the cache are not parsed again.
///
/// Lists are refused, since their items have no text of their own that could be replaced.
pub fn parse_file_cached(file: &str, text: &str, cache: &ParseCache) -> ParsedFile {
    parse(file, text, cache, false)
}

fn parse(file: &str, text: &str, cache: &ParseCache, allow_lists: bool) -> ParsedFile {
    let mut report = Report::new(file);
    let mut parsed = ParsedFile::default();
    if text.len() > MAX_FILE_BYTES {
        report.mistake(0, "", format!("must be at most {MAX_FILE_BYTES} bytes (got {})", text.len()));
    } else {
        for part in stream::split(text) {
            if let Some(document) = cache.get(file, &part) {
                parsed.documents.push(document);
                continue;
            }
            match tree::parse(part.text, part.first_line) {
                Ok(None) => {}
                Ok(Some(located)) => match items(&located, &mut report) {
                    None => {
                        read_document(&located, part.range, false, &mut parsed, &mut report);
                        report.lines.clear();
                    }
                    Some(_) if !allow_lists => {
                        let rule = "is a list: give it to `routectl apply -f`, or write its items as documents of their own";
                        report.mistake(located.line, "", rule);
                    }
                    Some(items) => {
                        for item in items {
                            read_document(item, part.range.clone(), true, &mut parsed, &mut report);
                            report.lines.clear();
                        }
                    }
                },
                Err(error) => report.mistake(error.line, "", error.rule),
            }
            if report.mistakes.len() > MAX_MISTAKES {
                break;
            }
        }
    }
    report.mistakes.truncate(MAX_MISTAKES);
    // Within a document the rules that span fields come last; a reader goes from top to bottom.
    report.mistakes.sort_by_key(|mistake| mistake.line);
    parsed.mistakes = report.mistakes;
    parsed.warnings = report.warnings;
    parsed
}

/// Returns the items, if this is a list: a plain one as calicoctl writes several resources, or one
/// of Kubernetes'.
fn items<'a>(located: &'a LocatedValue, report: &mut Report) -> Option<&'a [LocatedValue]> {
    if let Value::List(items) = &located.value {
        return Some(items);
    }
    let Value::Text(kind) = &located.find("kind")?.value else { return None };
    let of = kind.strip_suffix("List")?;
    if !of.is_empty() && Kind::from_manifest(of).is_none() {
        return None; // an unknown kind, which `read_document_form` reports
    }
    match located.find("items").map(|items| (items.line, &items.value)) {
        None | Some((_, Value::Null)) => Some(&[]),
        Some((_, Value::List(items))) => Some(items),
        Some((line, other)) => {
            report.mistake(line, "items", format!("must be a list (got {})", other.quoted()));
            Some(&[])
        }
    }
}

/// The form of a document, as `apiVersion` and `kind` determine it.
enum DocumentForm {
    V3(Kind),
    V1Pool,
    V1Node,
    V1Peer,
    Cluster,
}

fn read_document(
    located: &LocatedValue,
    range: Range<usize>,
    in_list: bool,
    parsed: &mut ParsedFile,
    report: &mut Report,
) {
    let Some(mut top) = Fields::from_value(located, "", report) else { return };
    let Some((form, is_crd)) = read_document_form(&mut top, report) else { return };
    if let DocumentForm::Cluster = form {
        parsed.clusters.push(cluster::read(located, report));
        return;
    }
    let origin = Origin { file: report.file.clone(), line: located.line };
    // Marked as known here; their contents are read below.
    top.ignore(&["metadata", "spec", "status"], report);
    top.finish(report);
    if let Some(at) = located.find("status").and_then(|status| status.find("podCIDRs"))
        && located.find("spec").is_none_or(|spec| spec.find("podCIDRs").is_none())
    {
        let rule = "is what Calico reports and gives the node no blocks: write them in spec.podCIDRs, or as BlockAffinity";
        report.warning(at.line, "status.podCIDRs", rule);
    }
    let before = report.mistakes.len();
    let spec = pool::spec_fields(located, report);
    if spec.is_none() && report.mistakes.len() > before {
        return; // `spec` is not a mapping, which has been reported
    }
    let metadata = match located.find("metadata").filter(|metadata| metadata.value != Value::Null) {
        None => {
            report.mistake(located.line, "metadata", "is required");
            return;
        }
        Some(metadata) => match Fields::from_value(metadata, "metadata", report) {
            Some(fields) => fields,
            None => return,
        },
    };
    let found = match form {
        DocumentForm::V3(kind) => read_v3(kind, origin, metadata, spec, report)
            .map(|resource| (resource, v3_manifest(located), false)),
        DocumentForm::V1Node => read_v3(Kind::Node, origin, metadata, spec, report)
            .map(|resource| (resource, v3_manifest(located), true)),
        DocumentForm::V1Pool => {
            let mut metadata = metadata;
            let cidr = metadata.required("cidr", report, scalar::prefix);
            let line = metadata.line("cidr");
            metadata.finish(report);
            pool::read_v1(origin, cidr, line, spec, report).map(|pool| {
                let manifest = pool::v3_manifest(&pool, &pool.name);
                (Resource::IpPool(pool), manifest, true)
            })
        }
        DocumentForm::V1Peer => peer::read_v1(origin, metadata, spec, report).map(|peer| {
            let manifest = peer::v3_manifest(&peer);
            (Resource::BgpPeer(peer), manifest, true)
        }),
        DocumentForm::Cluster => None,
    };
    if let Some((resource, manifest, is_v1)) = found {
        let lines = std::mem::take(&mut report.lines);
        let needs_rewrite = in_list || is_crd;
        parsed.documents.push(Document { resource, manifest, is_v1, needs_rewrite, range, lines });
    }
}

/// Returns the form, and whether it is the one in which Kubernetes stores Calico's resources.
fn read_document_form(top: &mut Fields<'_>, report: &mut Report) -> Option<(DocumentForm, bool)> {
    let version = top.required("apiVersion", report, scalar::text);
    let kind = top.required("kind", report, scalar::text);
    let (version, kind) = (version?, kind?);
    if kind == "ClusterConfiguration" {
        if version.starts_with("kubeadm.k8s.io/") {
            let rule = format!(
                "is kubeadm's own cluster configuration, which names no encapsulation (got {version:?})"
            );
            report.mistake(top.line("apiVersion"), "apiVersion", rule);
            return None;
        }
        return Some((DocumentForm::Cluster, false));
    }
    let form = match version.as_str() {
        API_VERSION | CRD_VERSION => Kind::from_manifest(&kind).map(DocumentForm::V3),
        "v1" => match kind.as_str() {
            "ipPool" => Some(DocumentForm::V1Pool),
            "node" => Some(DocumentForm::V1Node),
            "bgpPeer" => Some(DocumentForm::V1Peer),
            _ => None,
        },
        _ => {
            let rule = format!("must be {API_VERSION}, or v1 for ipPool, node and bgpPeer (got {version:?})");
            report.mistake(top.line("apiVersion"), "apiVersion", rule);
            return None;
        }
    };
    if form.is_none() {
        let rule = match (version.as_str(), kind.as_str()) {
            ("v1", "Node") => format!("Kubernetes' own Node is not read: write a Node of {API_VERSION}"),
            (_, other) if reference::is_calico_kind(other) => {
                format!(
                    "{other} is Calico's and not about routes: keep it where Calico's policy is run, and out of this file"
                )
            }
            ("v1", _) => format!("must be one of ipPool, node, bgpPeer in v1 (got {kind:?})"),
            _ => {
                let names = Kind::ALL.map(Kind::name).join(", ");
                format!("must be one of {names} (got {kind:?})")
            }
        };
        report.mistake(top.line("kind"), "kind", rule);
    }
    form.map(|form| (form, version == CRD_VERSION))
}

fn read_v3(
    kind: Kind,
    origin: Origin,
    mut metadata: Fields<'_>,
    spec: Option<Fields<'_>>,
    report: &mut Report,
) -> Option<Resource> {
    let name = metadata.required("name", report, scalar::name);
    let labels = read_labels(&mut metadata, report);
    let host = read_host(&mut metadata, report);
    // Kubernetes and calicoctl add these fields.
    metadata.ignore(
        &[
            "creationTimestamp",
            "generation",
            "managedFields",
            "ownerReferences",
            "finalizers",
            "resourceVersion",
            "selfLink",
            "uid",
        ],
        report,
    );
    metadata.finish(report);
    // Without a name the spec is still read, to report its mistakes.
    let known = name.is_some();
    let name = name.unwrap_or_default();
    let resource = match kind {
        Kind::IpPool => pool::read_v3(origin, name, spec, report).map(Resource::IpPool),
        Kind::Node => node::read(origin, name, labels, spec, report)
            .map(|node| Resource::Node(node::Node { host, ..node })),
        Kind::BgpPeer => peer::read_v3(origin, name, spec, report).map(Resource::BgpPeer),
        Kind::BgpConfiguration if !known => None,
        Kind::BgpConfiguration => {
            configuration::read(origin, &name, spec, report).map(Resource::BgpConfiguration)
        }
        Kind::BgpFilter => filter::read(origin, name, spec, report).map(Resource::BgpFilter),
        Kind::BlockAffinity => affinity::read(origin, name, spec, report).map(Resource::BlockAffinity),
    };
    resource.filter(|_| known)
}

/// Returns the one annotation that means something here.
fn read_host(metadata: &mut Fields<'_>, report: &mut Report) -> Option<String> {
    match &metadata.take("annotations", report)?.find(node::HOST_ANNOTATION)?.value {
        Value::Text(host) => Some(host.clone()),
        _ => None,
    }
}

fn read_labels(metadata: &mut Fields<'_>, report: &mut Report) -> BTreeMap<String, String> {
    let Some(located) = metadata.take("labels", report) else { return BTreeMap::new() };
    let Value::Map(entries) = &located.value else {
        let rule = format!("must be a mapping (got {})", located.value.quoted());
        report.mistake(located.line, "metadata.labels", rule);
        return BTreeMap::new();
    };
    let mut labels = BTreeMap::new();
    for entry in entries {
        match scalar::text(&entry.value.value) {
            Ok(value) => {
                labels.insert(entry.key.clone(), value);
            }
            Err(rule) => {
                let field = format!("metadata.labels.{}", entry.key);
                report.mistake(entry.line, &field, format!("{rule} (got {})", entry.value.value.quoted()));
            }
        }
    }
    labels
}

/// Returns the document as JSON, with the v3 spelling of its version and kind.
fn v3_manifest(located: &LocatedValue) -> serde_json::Value {
    let mut manifest = located.value.to_json();
    if let Some(map) = manifest.as_object_mut() {
        let version = map.get("apiVersion").and_then(serde_json::Value::as_str).unwrap_or(API_VERSION);
        if version == "v1" {
            map.insert("kind".into(), Kind::Node.name().into());
        }
        map.insert("apiVersion".into(), API_VERSION.into());
    }
    manifest
}
