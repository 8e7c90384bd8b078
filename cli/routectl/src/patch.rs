//! `routectl patch` and `routectl label`.

use crate::usage::{UsageError, usage};
use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use hyper::Method;

use super::{Failure, get, output};
use api::client::Client;
use api::{LabelChange, LabelOutcome, LabelResponse, PatchResponse};
use resource::{Kind, yaml_as_json};

/// A kind with the user's spelling, which calicoctl repeats in its output.
#[derive(Clone, Debug)]
struct KindArgument {
    kind: Kind,
    text: String,
}

fn spelt(text: &str) -> Result<KindArgument, UsageError> {
    super::kind(text).map(|kind| KindArgument { kind, text: text.to_owned() })
}

/// The arguments of `patch`.
#[derive(Debug, Args)]
pub(super) struct Patch {
    /// The kind: nodes, ippools, bgppeers, ...
    #[arg(value_parser = super::kind)]
    kind: Kind,
    /// The resource's name.
    #[arg(value_parser = get::name)]
    name: String,
    /// The patch, JSON or YAML.
    #[arg(short, long, value_name = "PATCH")]
    patch: String,
    /// The type of the patch.
    #[arg(short, long, default_value = "strategic")]
    r#type: PatchType,
}

/// The types of patches, with calicoctl's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PatchType {
    /// A strategic merge patch. Equals merge, since no field of these kinds has a merge
    /// strategy.
    Strategic,
    /// A JSON merge patch (RFC 7386): named fields are replaced, null removes a field, lists
    /// are replaced whole.
    Merge,
    /// A JSON patch (RFC 6902): a list of operations. A mapping counts as a merge patch.
    Json,
}

impl Patch {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let patch = yaml_as_json(&self.patch)
            .map_err(|error| Failure::Usage(usage!("--patch: {}", output::clean(&error.to_string()))))?;
        let form = match self.r#type {
            // The example for this type in calicoctl's help is a merge patch.
            PatchType::Json if patch.is_object() => "application/merge-patch+json",
            PatchType::Json => "application/json-patch+json",
            PatchType::Merge => "application/merge-patch+json",
            PatchType::Strategic => "application/strategic-merge-patch+json",
        };
        let path = format!("/v1/resources/{}/{}", self.kind.plural(), self.name);
        let response: PatchResponse = client.request_as(Method::PATCH, &path, form, Some(&patch)).await?;
        output::print(&format!("Successfully patched 1 '{}' resource\n", response.key.kind.name()))
    }
}

/// The arguments of `label`.
#[derive(Debug, Args)]
pub(super) struct Label {
    /// The kind: nodes, ippools, bgppeers, ...
    #[arg(value_parser = spelt)]
    kind: KindArgument,
    /// The resource's name.
    #[arg(value_parser = get::name)]
    name: String,
    /// KEY=VALUE sets a label, KEY- removes it. With --remove just KEY.
    #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
    labels: Vec<String>,
    /// Overwrite labels that have another value.
    #[arg(long, conflicts_with = "remove")]
    overwrite: bool,
    /// Remove the labels.
    #[arg(long)]
    remove: bool,
}

impl Label {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let change = self.change().map_err(Failure::Usage)?;
        let path = format!("/v1/resources/{}/{}/labels", self.kind.kind.plural(), self.name);
        let response: LabelResponse = client.request(Method::POST, &path, Some(&change)).await?;
        let lines = response.labels.iter().map(|(label, done)| {
            let done = match done {
                LabelOutcome::Set => format!("set label {label} on"),
                LabelOutcome::Updated => format!("updated label {label} on"),
                LabelOutcome::Removed => format!("removed label {label} from"),
            };
            format!("Successfully {done} {} {}\n", self.kind.text, self.name)
        });
        output::print(&lines.collect::<String>())
    }

    fn change(&self) -> Result<LabelChange, UsageError> {
        let mut set = BTreeMap::new();
        let mut remove = Vec::new();
        for text in &self.labels {
            match (text.split_once('='), text.strip_suffix('-')) {
                (Some(_), _) if self.remove => {
                    return Err(usage!("{text}: with --remove just the label's name"));
                }
                (Some((key, value)), _) => {
                    if set.insert(key.to_owned(), value.to_owned()).is_some() {
                        return Err(usage!("{key}: given twice"));
                    }
                }
                (None, _) if self.remove => remove.push(text.clone()),
                (None, Some(key)) => remove.push(key.to_owned()),
                (None, None) => {
                    return Err(usage!("{text}: KEY=VALUE sets a label, KEY- or --remove removes it"));
                }
            }
        }
        Ok(LabelChange { set, remove, overwrite: self.overwrite })
    }
}
