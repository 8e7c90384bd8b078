//! The table of fields beside the readers, and beside Calico's own schema.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::*;
use crate::reader::requested_fields;
use crate::{Document, ParsedFile, parse_file, yaml_as_json};

/// Calico's fields, from its custom resource definitions and, of a Node, its API.
const CALICO: &[(Kind, &str)] = &[
    (
        Kind::IpPool,
        "cidr vxlanMode ipipMode natOutgoing disabled disableBGPExport blockSize nodeSelector namespaceSelector ipip \
         nat-outgoing allowedUses assignmentMode",
    ),
    (
        Kind::Node,
        "bgp bgp.asNumber bgp.ipv4Address bgp.ipv6Address bgp.ipv4IPIPTunnelAddr bgp.routeReflectorClusterID \
         ipv4VXLANTunnelAddr vxlanTunnelMACAddr ipv6VXLANTunnelAddr vxlanTunnelMACAddrV6 orchRefs wireguard addresses \
         interfaces",
    ),
    (
        Kind::BgpPeer,
        "node nodeSelector peerIP asNumber localASNumber peerSelector keepOriginalNextHop nextHopMode password \
         sourceAddress maxRestartTime keepaliveTime numAllowedLocalASNumbers ttlSecurity reachableBy filters \
         localWorkloadSelector reversePeering",
    ),
    (
        Kind::BgpConfiguration,
        "logSeverityScreen nodeToNodeMeshEnabled asNumber serviceLoadBalancerIPs serviceLoadBalancerAggregation \
         serviceExternalIPs serviceClusterIPs communities communities[].name communities[].value prefixAdvertisements \
         prefixAdvertisements[].cidr prefixAdvertisements[].communities listenPort bindMode ignoredInterfaces \
         nodeMeshPassword nodeMeshMaxRestartTime localWorkloadPeeringIPV4 localWorkloadPeeringIPV6 \
         programClusterRoutes",
    ),
    (
        Kind::BgpFilter,
        "exportV4 importV4 exportV6 importV6 importV4[].cidr importV4[].prefixLength importV4[].prefixLength.min \
         importV4[].prefixLength.max importV4[].source importV4[].interface importV4[].matchOperator importV4[].peerType \
         importV4[].communities importV4[].communities.values importV4[].asPathPrefix importV4[].priority \
         importV4[].action importV4[].operations importV4[].operations[].addCommunity \
         importV4[].operations[].addCommunity.value importV4[].operations[].prependASPath \
         importV4[].operations[].prependASPath.prefix importV4[].operations[].setPriority \
         importV4[].operations[].setPriority.value",
    ),
    (Kind::BlockAffinity, "cidr node state deleted type"),
];

fn all() -> impl Iterator<Item = (Kind, &'static Field)> {
    Kind::ALL.into_iter().flat_map(|kind| fields(kind).iter().map(move |field| (kind, field)))
}

fn manifest(kind: Kind, metadata: Json, spec: Json) -> Json {
    json!({"apiVersion": API_VERSION, "kind": kind.name(), "metadata": metadata, "spec": spec})
}

use crate::API_VERSION;

fn parsed(manifest: &Json) -> ParsedFile {
    parse_file("f", &manifest.to_string())
}

fn example(kind: Kind, field: &Field) -> Json {
    let example = yaml_as_json(field.example).unwrap_or_else(|error| panic!("{}: {error}", field.path));
    match field.path.starts_with("metadata") {
        true => manifest(kind, example, json!({})),
        false => manifest(kind, json!({"name": "default"}), example),
    }
}

/// Does something to the value at a path; whether there is one.
fn at(value: &mut Json, path: &str, change: &dyn Fn(&mut Json, &str)) -> bool {
    match path.split_once('.') {
        None => {
            let name = path.trim_end_matches("[]");
            let there = value.get(name).is_some();
            change(value, name);
            there
        }
        Some((first, rest)) => match (first.strip_suffix("[]"), value) {
            (Some(name), value) => {
                let items = value.get_mut(name).and_then(Json::as_array_mut).into_iter().flatten();
                items.fold(false, |any, item| at(item, rest, change) | any)
            }
            (None, value) => value.get_mut(first).is_some_and(|value| at(value, rest, change)),
        },
    }
}

fn without(manifest: &Json, path: &str) -> Json {
    let mut manifest = manifest.clone();
    at(&mut manifest, path, &|parent, name| {
        parent.as_object_mut().unwrap().remove(name);
    });
    manifest
}

/// Indices as `[]`, and the four lists of filters, whose rules are the same, as one.
fn general(path: &str) -> String {
    let mut general = String::new();
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => {
                inside = true;
                general.push_str("[]");
            }
            ']' => inside = false,
            c if !inside => general.push(c),
            _ => {}
        }
    }
    for other in ["exportV4[]", "importV6[]", "exportV6[]"] {
        general = general.replace(other, "importV4[]");
    }
    general
}

fn only(parsed: &ParsedFile) -> &Document {
    assert_eq!(parsed.mistakes, []);
    assert_eq!(parsed.documents.len(), 1);
    &parsed.documents[0]
}

#[test]
fn every_field_is_honoured_kept_warned_of_or_refused_as_the_table_says() {
    let metadata = METADATA.iter().map(|field| (Kind::Node, field));
    for (kind, field) in all().chain(metadata) {
        let whole = example(kind, field);
        let mut probe = whole.clone();
        assert!(
            at(&mut probe, field.path, &|_, _| {}),
            "{} is not in its example {}",
            field.path,
            field.example
        );
        let (with, bare) = (parsed(&whole), parsed(&without(&whole, field.path)));
        let warnings: Vec<&str> = with.warnings.iter().map(|warning| warning.at.field.as_str()).collect();
        let place = field.path.trim_end_matches("[]");
        match field.support {
            FieldSupport::Honoured => {
                let document = only(&with);
                assert!(!warnings.contains(&place), "{}: {warnings:?}", field.path);
                let same = bare.documents.first().is_some_and(|bare| bare.resource == document.resource);
                let noted = bare.mistakes.is_empty() && !same;
                assert!(noted || !bare.mistakes.is_empty(), "{}: nothing follows from it", field.path);
            }
            FieldSupport::Stored => {
                assert!(warnings.is_empty(), "{}: {warnings:?}", field.path);
                assert_eq!(only(&with).resource, only(&bare).resource, "{}", field.path);
                assert_ne!(only(&with).manifest, only(&bare).manifest, "{}: is lost", field.path);
            }
            FieldSupport::Warned => {
                only(&with);
                assert_eq!(warnings, [place], "{}", field.path);
            }
            FieldSupport::Refused => {
                let mistakes: Vec<(&str, &str)> = with
                    .mistakes
                    .iter()
                    .map(|mistake| (mistake.field.as_str(), mistake.rule.as_str()))
                    .collect();
                assert!(
                    matches!(mistakes.as_slice(), [(path, rule)] if *path == place && rule.contains(field.meaning)),
                    "{}: {mistakes:?}",
                    field.path
                );
                only(&bare);
            }
        }
    }
}

#[test]
fn every_field_that_means_something_refuses_what_it_can_not_hold() {
    for (kind, field) in all().filter(|(_, field)| field.support == FieldSupport::Honoured) {
        let mut wrong = example(kind, field);
        at(&mut wrong, field.path, &|parent, name| {
            let nonsense = match parent[name].is_object() {
                true => json!("nonsense"),
                false => json!({ "nonsense": true }),
            };
            parent[name] = nonsense;
        });
        let mistakes = parsed(&wrong).mistakes;
        let place = field.path.trim_end_matches("[]");
        let named = mistakes.iter().any(|mistake| general(&mistake.field).starts_with(place));
        assert!(named, "{}: {mistakes:?}", field.path);
    }
}

#[test]
fn readers_ask_for_the_fields_of_the_table_and_for_no_others() {
    for kind in Kind::ALL {
        requested_fields::take();
        for field in fields(kind) {
            parsed(&example(kind, field));
        }
        let mut asked: BTreeSet<String> = requested_fields::take().iter().map(|path| general(path)).collect();
        asked.retain(|path| path.starts_with("spec."));
        let table: BTreeSet<String> =
            fields(kind).iter().map(|field| field.path.trim_end_matches("[]").to_owned()).collect();
        assert_eq!(asked, table, "{}", kind.name());
    }
    requested_fields::take();
    parsed(&example(Kind::Node, &METADATA[0]));
    let asked: BTreeSet<String> =
        requested_fields::take().into_iter().filter(|path| path.starts_with("metadata.")).collect();
    let table: BTreeSet<String> = METADATA.iter().map(|field| field.path.to_owned()).collect();
    assert_eq!(asked, table);
}

#[test]
fn every_field_of_calicos_is_in_the_table() {
    for (kind, names) in CALICO {
        for name in names.split_whitespace() {
            let path = format!("spec.{name}");
            assert!(fields(*kind).iter().any(|field| field.path == path), "{}: {path}", kind.name());
        }
        let ours =
            |path: &str| path.starts_with("spec.routed") || path == "spec.podCIDRs" || path.ends_with("[]");
        for field in fields(*kind).iter().filter(|field| !ours(field.path)) {
            let name = field.path.trim_start_matches("spec.");
            assert!(
                names.split_whitespace().any(|one| one == name),
                "{}: {name} is not Calico's",
                kind.name()
            );
        }
    }
}

#[test]
fn defaults_that_exported_files_spell_out_are_taken_of_refused_fields() {
    for (kind, spec) in [
        (
            Kind::BgpConfiguration,
            json!({"bindMode": "None", "serviceClusterIPs": [], "serviceExternalIPs": null, "serviceLoadBalancerIPs": [],
                "serviceLoadBalancerAggregation": "Enabled", "programClusterRoutes": "Enabled",
                "logSeverityScreen": "Info"}),
        ),
        (
            Kind::IpPool,
            json!({"cidr": "10.0.0.0/16", "namespaceSelector": "all()", "allowedUses": ["Workload", "Tunnel"]}),
        ),
        (
            Kind::BlockAffinity,
            json!({"cidr": "10.0.0.0/26", "node": "a", "state": "confirmed", "type": "host", "deleted": "false"}),
        ),
        (Kind::Node, json!({"wireguard": {}})),
        (
            Kind::BgpPeer,
            json!({"peerIP": "10.0.0.1", "asNumber": 1, "keepOriginalNextHop": false, "nextHopMode": "Auto"}),
        ),
    ] {
        let with = parsed(&manifest(kind, json!({"name": "default"}), spec));
        assert_eq!((with.mistakes.len(), with.warnings.len()), (0, 0), "{with:?}");
    }
}

#[test]
fn lists_and_kubernetes_own_form_are_read_as_the_resources_they_hold() {
    let node = |name: &str| manifest(Kind::Node, json!({"name": name}), json!({}));
    for list in [
        json!({"apiVersion": "projectcalico.org/v3", "kind": "NodeList", "metadata": {}, "items": [node("a"), node("b")]}),
        json!({"apiVersion": "v1", "kind": "List", "items": [node("a"), node("b")]}),
        json!([node("a"), node("b")]),
    ] {
        let read = parsed(&list);
        assert_eq!(read.mistakes, []);
        let names: Vec<String> = read.documents.iter().map(|document| document.key().name).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(read.documents.iter().all(|document| document.needs_rewrite));
        let stored = crate::parse_file_cached("f", &list.to_string(), &Default::default());
        assert!(stored.documents.is_empty() && stored.mistakes[0].rule.contains("is a list"), "{stored:?}");
    }
    assert_eq!(parsed(&json!({"kind": "NodeList", "items": {}})).mistakes.len(), 1);
    let mut crd = node("a");
    crd["apiVersion"] = "crd.projectcalico.org/v1".into();
    assert_eq!(only(&parsed(&crd)).manifest, node("a"));
    let mut policy = node("a");
    policy["kind"] = "GlobalNetworkPolicy".into();
    assert!(parsed(&policy).mistakes[0].rule.contains("not about routes"));
}

#[test]
fn the_page_of_the_reference_is_as_the_table_says() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/resources.md");
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/resources.md is not what the table of fields says; write it anew with: cargo run -p routectl -- \
         reference resources > docs/resources.md"
    );
}
