//! `routectl datastore`: export and migration of all resources of a store.

use crate::usage::usage;
use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use serde_json::Value as Json;

use super::{Failure, output};
use api::ListResponse;
use api::client::Client;
use datastore::{Contents, EtcdSettings, EtcdStore, FileStore, Manifest, Store, StoreError, host_and_port};
use resource::{Document, Key, Kind, parse_file};
use resource::{to_yaml, without_version};

/// The commands of `datastore`.
#[derive(Debug, Subcommand)]
pub(super) enum Datastore {
    /// Write every resource as YAML that `routectl apply -f -` accepts.
    #[command(after_help = "Examples:
  routectl datastore export > cluster.yaml
  routectl datastore export --from etcd:http://10.0.0.1:2379")]
    Export(Export),
    /// Copy every resource from one datastore to another, and compare the result.
    #[command(after_help = "Examples:
  routectl datastore migrate --from file:/etc/routed/resources --to etcd:http://10.0.0.1:2379,http://10.0.0.2:2379

The target has to be empty. Then change `datastore` in every node's routed.yaml and restart routed: sessions and
routes stay over a restart.")]
    Migrate(Migrate),
}

/// The arguments of `export`.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// The store, as `file:DIRECTORY` or `etcd:URL[,URL]`. The default is the store of the
    /// daemon.
    #[arg(long, value_name = "STORE")]
    from: Option<String>,
    #[command(flatten)]
    etcd: EtcdOptions,
}

/// The arguments of `migrate`.
#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// The source, as `file:DIRECTORY` or `etcd:URL[,URL]`.
    #[arg(long, value_name = "STORE")]
    from: String,
    /// The destination.
    #[arg(long, value_name = "STORE")]
    to: String,
    #[command(flatten)]
    etcd: EtcdOptions,
}

/// Options of the connection to etcd, as in routed.yaml.
#[derive(Debug, Args)]
struct EtcdOptions {
    /// The prefix of all keys.
    #[arg(long, default_value = EtcdSettings::PREFIX)]
    prefix: String,
    /// The CA certificates of the members, PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The certificate of this client, PEM.
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The key of the certificate, PEM.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The user name.
    #[arg(long)]
    username: Option<String>,
    /// A file with the user's password.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl EtcdOptions {
    fn open(&self, argument: &str, store: &str) -> Result<Box<dyn Store>, Failure> {
        let refuse = |rule: &dyn std::fmt::Display| Failure::Usage(usage!("{argument} {store}: {rule}"));
        if let Some(directory) = store.strip_prefix("file:") {
            let store = FileStore::open(directory).map_err(|mistake| Failure::Mistakes(vec![mistake]))?;
            return Ok(Box::new(store));
        }
        let Some(urls) = store.strip_prefix("etcd:") else {
            return Err(refuse(&"must be file:DIRECTORY or etcd:URL[,URL]"));
        };
        let endpoints: Vec<String> = urls.split(',').map(ToOwned::to_owned).collect();
        for endpoint in &endpoints {
            host_and_port(endpoint).map_err(|rule| refuse(&rule))?;
        }
        if !self.prefix.starts_with('/') {
            return Err(Failure::Usage(usage!("--prefix {}: must begin with /", self.prefix)));
        }
        let settings = EtcdSettings {
            endpoints,
            prefix: self.prefix.trim_end_matches('/').to_owned(),
            ca: self.ca.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            username: self.username.clone(),
            password_file: self.password_file.clone(),
        };
        settings.check().map_err(|(field, rule)| refuse(&format!("{field}: {rule}")))?;
        Ok(Box::new(EtcdStore::open(settings, None)))
    }
}

fn failure(error: StoreError) -> Failure {
    match error {
        StoreError::Invalid(mistakes) => Failure::Mistakes(mistakes),
        error => Failure::Io(error.into()),
    }
}

/// Loads all resources. Refused ones are a failure.
async fn whole(store: &dyn Store) -> Result<Contents, Failure> {
    let contents = store.load().await.map_err(failure)?;
    if contents.state.refused.is_empty() {
        Ok(contents)
    } else {
        Err(Failure::Mistakes(contents.state.refused))
    }
}

/// Returns manifests in the order in which they can be applied: pools before the blocks in them.
fn in_order(documents: &[Document]) -> BTreeMap<Key, Json> {
    documents.iter().map(|document| (document.key(), without_version(document.manifest.clone()))).collect()
}

impl Datastore {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        match self {
            Datastore::Export(export) => export.run(client).await,
            Datastore::Migrate(migrate) => migrate.run().await,
        }
    }
}

impl Export {
    async fn run(&self, client: &Client) -> Result<(), Failure> {
        let mut documents = Vec::new();
        match &self.from {
            Some(from) => {
                let contents = whole(self.etcd.open("--from", from)?.as_ref()).await?;
                documents.extend(in_order(&contents.documents).values().map(to_yaml));
            }
            None => {
                for kind in Kind::ALL {
                    let list: ListResponse = client.get(&format!("/v1/resources/{}", kind.plural())).await?;
                    documents.extend(list.items.into_iter().map(|item| to_yaml(&without_version(item))));
                }
            }
        }
        output::print(&documents.join("---\n"))
    }
}

impl Migrate {
    async fn run(&self) -> Result<(), Failure> {
        let from = self.etcd.open("--from", &self.from)?;
        let to = self.etcd.open("--to", &self.to)?;
        let source = in_order(&whole(from.as_ref()).await?.documents);
        let target = whole(to.as_ref()).await?;
        if let Some(document) = target.documents.first() {
            let Key { kind, name } = document.key();
            let found = format!("{} {name:?}", kind.name());
            return Err(Failure::Io(anyhow!(
                "{} is not empty (it has {found}): nothing was copied",
                self.to
            )));
        }
        let mut manifests = Vec::with_capacity(source.len());
        for (key, manifest) in &source {
            let text = to_yaml(manifest);
            let mut parsed = parse_file(&format!("{}/{}", key.kind.plural(), key.name), &text);
            match parsed.documents.pop() {
                Some(document) if parsed.mistakes.is_empty() => manifests.push(Manifest { document, text }),
                _ => return Err(Failure::Mistakes(parsed.mistakes)),
            }
        }
        let count = manifests.len();
        if count > 0 {
            to.put(manifests, Some(target.state.revision)).await.map_err(failure)?;
        }
        let copied = in_order(&whole(to.as_ref()).await?.documents);
        let differs = source.iter().find(|(key, manifest)| copied.get(*key) != Some(*manifest));
        let extra = copied.keys().find(|key| !source.contains_key(key));
        if let Some(key) = differs.map(|(key, _)| key).or(extra) {
            let what = format!("{} {:?}", key.kind.name(), key.name);
            return Err(anyhow!(
                "{what} is not the same in both afterwards: did somebody change it meanwhile?"
            ))
            .with_context(|| format!("comparing {} with {}", self.from, self.to))
            .map_err(Failure::Io);
        }
        output::print(&format!(
            "Copied {count} resource(s) from {} to {}, and they are the same\n",
            self.from, self.to
        ))
    }
}
