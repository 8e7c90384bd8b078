//! `routectl get`: stored resources.

use crate::usage::{UsageError, usage};
use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value as Json, json};

use super::columns::{self, Columns};
use super::files::OptionalFiles;
use super::template::Template;
use super::{Failure, kind, output};
use api::ListResponse;
use api::client::{Client, ClientError};
use datastore::StoreError;
use resource::{HOST_ANNOTATION, Key, Kind, Resource, Selector, parse_file};
use resource::{to_yaml, without_version};

/// The arguments of `get`.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// The kind: nodes, ippools, bgppeers, bgpconfigurations, bgpfilters or blockaffinities.
    #[arg(value_parser = kind, required_unless_present = "file")]
    kind: Option<Kind>,
    /// Names of resources. The default is all resources of the kind.
    #[arg(value_parser = name)]
    name: Vec<String>,
    #[command(flatten)]
    files: OptionalFiles,
    /// The output format: ps, wide, yaml, json, custom-columns=NAME,CIDR,
    /// custom-columns=HEADING:.PATH,... or jsonpath=TEMPLATE.
    #[arg(short, long, default_value = "ps", value_parser = GetFormat::parse, value_name = "FORMAT")]
    output: GetFormat,
    /// A label selector: zone == 'a' && has(rack), or zone=a,rack.
    #[arg(short = 'l', long, value_parser = Selector::parse_either, value_name = "SELECTOR")]
    selector: Option<Selector>,
    /// Remove fields of this cluster: versions, identifiers, times and the registering host.
    #[arg(long)]
    export: bool,
}

/// The output format of resources.
#[derive(Clone, Debug)]
enum GetFormat {
    /// A few columns.
    Ps,
    /// More columns.
    Wide,
    /// The resources as YAML documents.
    Yaml,
    /// The resources as JSON: an array, or a single named resource.
    Json,
    /// Columns that the user names.
    Columns(Columns),
    /// A JSONPath template.
    Template(Template),
}

impl GetFormat {
    fn parse(text: &str) -> Result<Self, UsageError> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("ps", None) => Ok(GetFormat::Ps),
            ("wide", None) => Ok(GetFormat::Wide),
            ("yaml" | "yml", None) => Ok(GetFormat::Yaml),
            ("json", None) => Ok(GetFormat::Json),
            ("custom-columns", Some(value)) => Columns::parse(value).map(GetFormat::Columns),
            ("jsonpath", Some(value)) => Template::parse(value).map(GetFormat::Template),
            ("go-template" | "go-template-file" | "jsonpath-file", _) => Err(usage!(
                "{name} is not built in: use -o jsonpath='{{range .items[*]}}{{.metadata.name}}{{\"\\n\"}}{{end}}'"
            )),
            _ => Err("there are ps, wide, yaml, json, custom-columns=... and jsonpath=...".into()),
        }
    }
}

/// Parses a name that can be part of a request path. No resource has another name.
pub(super) fn name(text: &str) -> Result<String, UsageError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !text.is_empty() && text.len() <= 253 && text.chars().all(fits) && !text.starts_with('.') {
        Ok(text.to_owned())
    } else {
        Err("a name is letters, digits, '.', '_' and '-'".into())
    }
}

/// The selected resources of one kind.
struct Selection {
    kind: Kind,
    /// The names; empty selects all.
    names: Vec<String>,
    /// The cidrs of v1 pools, which have no name.
    cidrs: Vec<String>,
}

impl Selection {
    fn all(kind: Kind) -> Self {
        Selection { kind, names: Vec::new(), cidrs: Vec::new() }
    }

    /// The names that are missing in `items`.
    fn missing(&self, items: &[Json]) -> Vec<Key> {
        let named = |name: &String| items.iter().any(|item| item["metadata"]["name"] == **name);
        let at = |cidr: &String| items.iter().any(|item| item["spec"]["cidr"] == **cidr);
        let names = self.names.iter().filter(|name| !named(name));
        let cidrs = self.cidrs.iter().filter(|cidr| !at(cidr));
        names.chain(cidrs).map(|name| Key { kind: self.kind, name: name.clone() }).collect()
    }
}

impl Get {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let Some(wanted) = self.wanted()? else { return output::print(output::NO_RESOURCES) };
        let mut lists = Vec::new();
        let mut missing = Vec::new();
        for wanted in &wanted {
            let mut list = fetch(client, wanted).await?;
            missing.extend(wanted.missing(&list.items));
            if let Some(selector) = &self.selector {
                list.items.retain(|item| selector.matches(&labels(item)));
            }
            if self.export {
                list.items = list.items.into_iter().map(exported).collect();
            }
            lists.push((wanted.kind, list));
        }
        let named = match wanted.as_slice() {
            [Selection { names, cidrs, .. }] => names.len() + cidrs.len() == 1,
            _ => false,
        };
        if missing.is_empty() || lists.iter().any(|(_, list)| !list.items.is_empty()) {
            self.print(&lists, named)?;
        }
        for (_, list) in &lists {
            for warning in &list.warnings {
                eprintln!("{}", output::clean(&warning.to_string()));
            }
        }
        match missing.split_last() {
            None => Ok(()),
            Some((last, others)) => {
                for key in others {
                    eprintln!("routectl: {}", StoreError::NotFound(key.clone()));
                }
                let error = StoreError::NotFound(last.clone()).to_string();
                Err(Failure::Client(ClientError::Refused { error, mistakes: Vec::new() }))
            }
        }
    }

    fn wanted(&self) -> Result<Option<Vec<Selection>>, Failure> {
        if let Some(kind) = self.kind {
            return Ok(Some(vec![Selection { names: self.name.clone(), ..Selection::all(kind) }]));
        }
        let Some(files) = self.files.read()? else { return Ok(None) };
        let mut wanted: Vec<Selection> = Vec::new();
        for document in files.iter().flat_map(|file| parse_file(&file.name, &file.text).documents) {
            let key = document.key();
            let at = wanted.iter().position(|wanted| wanted.kind == key.kind).unwrap_or_else(|| {
                wanted.push(Selection::all(key.kind));
                wanted.len() - 1
            });
            let Some(wanted) = wanted.get_mut(at) else { continue };
            match &document.resource {
                Resource::IpPool(pool) if document.is_v1 => wanted.cidrs.push(pool.cidr.to_string()),
                _ => wanted.names.push(key.name),
            }
        }
        Ok(Some(wanted))
    }

    fn print(&self, lists: &[(Kind, ListResponse)], named: bool) -> Result<(), Failure> {
        let items: Vec<&Json> = lists.iter().flat_map(|(_, list)| &list.items).collect();
        match &self.output {
            GetFormat::Json => match items.as_slice() {
                [one] if named => output::json(one),
                _ => output::json(&items),
            },
            GetFormat::Yaml => {
                let documents: Vec<String> = items.iter().map(|item| to_yaml(item)).collect();
                output::print(&documents.join("---\n"))
            }
            GetFormat::Template(template) => {
                let root = match items.as_slice() {
                    [one] if named => (*one).clone(),
                    _ => json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items }),
                };
                output::print(&output::clean_text(&template.render(&root)))
            }
            GetFormat::Ps => tables(lists, &Columns::Few),
            GetFormat::Wide => tables(lists, &Columns::Wide),
            GetFormat::Columns(columns) => tables(lists, columns),
        }
    }
}

fn tables(lists: &[(Kind, ListResponse)], columns: &Columns) -> Result<(), Failure> {
    let tables: Result<Vec<String>, UsageError> =
        lists.iter().map(|(kind, list)| columns::table(*kind, list, columns)).collect();
    output::print(&tables.map_err(Failure::Usage)?.join("\n"))
}

/// Returns the selected resources that exist.
async fn fetch(client: &Client, wanted: &Selection) -> Result<ListResponse, Failure> {
    let path = format!("/v1/resources/{}", wanted.kind.plural());
    if let ([name], []) = (wanted.names.as_slice(), wanted.cidrs.as_slice()) {
        return Ok(client.get(&format!("{path}/{name}")).await?);
    }
    let mut list: ListResponse = client.get(&path).await?;
    if wanted.names.is_empty() && wanted.cidrs.is_empty() {
        return Ok(list);
    }
    let is =
        |list: &[String], value: &Json| value.as_str().is_some_and(|text| list.iter().any(|one| one == text));
    list.items.retain(|item| {
        is(&wanted.names, &item["metadata"]["name"]) || is(&wanted.cidrs, &item["spec"]["cidr"])
    });
    Ok(list)
}

fn labels(item: &Json) -> BTreeMap<String, String> {
    let labels = item["metadata"]["labels"].as_object().into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Removes the fields of this cluster from a resource.
pub(super) fn exported(item: Json) -> Json {
    let mut item = without_version(item);
    if let Some(metadata) = item.get_mut("metadata").and_then(Json::as_object_mut) {
        for own in ["uid", "creationTimestamp", "generation", "selfLink", "managedFields", "ownerReferences"]
        {
            metadata.remove(own);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Json::as_object_mut) {
            annotations.remove(HOST_ANNOTATION);
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    if let Some(fields) = item.as_object_mut() {
        fields.remove("status");
    }
    item
}
