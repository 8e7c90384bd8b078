//! The key `datastore` of `routed.yaml`, and the store that it names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datastore::{EtcdSettings, EtcdStore, FileStore, Store, host_and_port};
use resource::Mistake;
use resource::reader::{Fields, Report};
use resource::scalar;
use resource::tree::Value;

use crate::config::{DaemonConfig, absolute_path};

/// The maximum number of endpoints.
const MAX_ENDPOINTS: usize = 32;

/// The source of the resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datastore {
    /// The `*.yaml` files below a directory, given as an absolute path.
    File(PathBuf),
    /// An etcd cluster that all nodes share, with one key for each resource.
    Etcd(EtcdSettings),
}

impl Datastore {
    /// Returns the name of the store in `show status`.
    pub(crate) fn describe(&self) -> String {
        match self {
            Datastore::File(directory) => format!("file:{}", directory.display()),
            Datastore::Etcd(settings) => settings.describe(),
        }
    }
}

/// Parses the key `datastore` of `routed.yaml`.
pub(crate) fn read(fields: &mut Fields<'_>, report: &mut Report) -> Option<Datastore> {
    let before = report.mistakes.len();
    let line = fields.line("datastore");
    let Some(mut datastore) = fields.fields("datastore", report) else {
        if report.mistakes.len() == before {
            report.mistake(line, "datastore", "is required, such as { file: /etc/routed/resources }");
        }
        return None;
    };
    datastore.unsupported("kubernetes", report, |_| false);
    let file = datastore.optional("file", report, absolute_path);
    let etcd_line = datastore.line("etcd");
    let etcd = datastore.fields("etcd", report).map(|etcd| read_etcd(etcd, report));
    datastore.finish(report);
    match (file, etcd) {
        (Some(_), Some(_)) => {
            report.mistake(etcd_line, "datastore.etcd", "must not stand beside file: there is one datastore");
            None
        }
        (Some(file), None) => Some(Datastore::File(file)),
        (None, Some(etcd)) => etcd.map(Datastore::Etcd),
        (None, None) => {
            if report.mistakes.len() == before {
                report.mistake(line, "datastore", "must have file or etcd");
            }
            None
        }
    }
}

fn read_etcd(mut etcd: Fields<'_>, report: &mut Report) -> Option<EtcdSettings> {
    let before = report.mistakes.len();
    let line = etcd.line("endpoints");
    let endpoints = etcd.list("endpoints", report, |value| {
        let endpoint = scalar::text(value)?;
        host_and_port(&endpoint)?;
        Ok(endpoint.trim_end_matches('/').to_owned())
    });
    if report.mistakes.len() == before && !(1..=MAX_ENDPOINTS).contains(&endpoints.len()) {
        let rule = format!(
            "must be 1 to {MAX_ENDPOINTS} URLs, such as [http://10.0.0.1:2379] (got {})",
            endpoints.len()
        );
        report.mistake(line, "datastore.etcd.endpoints", rule);
    }
    let prefix = etcd.optional("prefix", report, |value| {
        let prefix = scalar::text(value)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
        let is_path = prefix.starts_with('/') && prefix.len() <= 200 && prefix.chars().all(fits);
        let prefix = prefix.trim_end_matches('/');
        if is_path && !prefix.is_empty() {
            Ok(prefix.to_owned())
        } else {
            Err("must begin with / and be letters, digits, '/', '.', '_' and '-' (at most 200)".into())
        }
    });
    let settings = EtcdSettings {
        prefix: prefix.unwrap_or_else(|| EtcdSettings::PREFIX.to_owned()),
        ca: etcd.optional("ca", report, absolute_path),
        cert: etcd.optional("cert", report, absolute_path),
        key: etcd.optional("key", report, absolute_path),
        username: etcd.optional("username", report, |value: &Value| {
            let name = scalar::text(value)?;
            if name.is_empty() { Err("must not be empty".into()) } else { Ok(name) }
        }),
        password_file: etcd.optional("passwordFile", report, absolute_path),
        endpoints,
    };
    if report.mistakes.len() == before
        && let Err((field, rule)) = settings.check()
    {
        report.mistake(etcd.line(field), &format!("datastore.etcd.{field}"), rule);
    }
    etcd.finish(report);
    (report.mistakes.len() == before).then_some(settings)
}

/// An open store.
#[derive(Clone)]
pub(crate) enum OpenStore {
    File(Arc<FileStore>),
    Etcd(Arc<EtcdStore>),
}

impl OpenStore {
    /// Opens the store of a configuration. An etcd store does not connect yet.
    ///
    /// # Errors
    /// The directory does not exist.
    pub(crate) fn open(config: &DaemonConfig) -> Result<Self, Mistake> {
        Ok(match &config.datastore {
            Datastore::File(directory) => OpenStore::File(Arc::new(FileStore::open(directory)?)),
            Datastore::Etcd(settings) => {
                let state_dir: &Path = &config.state_dir;
                OpenStore::Etcd(Arc::new(EtcdStore::open(settings.clone(), Some(state_dir))))
            }
        })
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            OpenStore::File(store) => store.clone(),
            OpenStore::Etcd(store) => store.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        parse("routed.yaml", text, Some("host-1")).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_key_of_etcd_is_read() {
        let text = "datastore:\n  etcd:\n    endpoints: [https://a:1/, 'https://[fd00::1]:2']\n    prefix: /x/y/\n    ca: /ca\n    \
                    cert: /cert\n    key: /key\n    username: u\n    passwordFile: /p\n";
        let config = parse("routed.yaml", text, Some("a")).unwrap();
        let expected = EtcdSettings {
            endpoints: vec!["https://a:1".into(), "https://[fd00::1]:2".into()],
            prefix: "/x/y".into(),
            ca: Some("/ca".into()),
            cert: Some("/cert".into()),
            key: Some("/key".into()),
            username: Some("u".into()),
            password_file: Some("/p".into()),
        };
        assert_eq!(config.datastore, Datastore::Etcd(expected));
        let least = parse("r", "datastore: {etcd: {endpoints: [http://a:2379]}}\n", Some("a")).unwrap();
        assert_eq!(least.datastore, Datastore::Etcd(EtcdSettings::plain(vec!["http://a:2379".into()])));
    }

    #[test]
    fn each_mistake_in_etcd_has_its_line_and_field() {
        assert_eq!(
            mistakes(
                "datastore:\n  etcd:\n    endpoints: [a:1]\n    prefix: x\n    ca: rel\n    certs: /c\n"
            ),
            [
                "routed.yaml:3: datastore.etcd.endpoints[0]: must be http://HOST:PORT or https://HOST:PORT, such as \
                 http://10.0.0.1:2379 (got \"a:1\")",
                "routed.yaml:4: datastore.etcd.prefix: must begin with / and be letters, digits, '/', '.', '_' and '-' \
                 (at most 200) (got \"x\")",
                "routed.yaml:5: datastore.etcd.ca: must be an absolute path (got \"rel\")",
                "routed.yaml:6: datastore.etcd.certs: unknown field (did you mean cert?)",
            ]
        );
        assert_eq!(
            mistakes("datastore:\n  etcd: {endpoints: []}\n"),
            [
                "routed.yaml:2: datastore.etcd.endpoints: must be 1 to 32 URLs, such as [http://10.0.0.1:2379] (got 0)"
            ]
        );
        assert_eq!(
            mistakes("datastore:\n  etcd:\n    endpoints: [https://a:1]\n"),
            ["routed.yaml:3: datastore.etcd.ca: is required with https:// endpoints"]
        );
        assert_eq!(
            mistakes("datastore:\n  file: /r\n  etcd: {endpoints: [http://a:1]}\n"),
            ["routed.yaml:3: datastore.etcd: must not stand beside file: there is one datastore"]
        );
        assert_eq!(mistakes("datastore: {}\n"), ["routed.yaml:1: datastore: must have file or etcd"]);
    }
}
