//! `routectl apply` and `routectl delete`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use hyper::Method;

use super::{Failure, get, kind, output};
use crate::control::client::Client;
use crate::control::{ApplyResponse, DeleteResponse, Files as Request, GivenFile};
use crate::resource::{Key, Kind, MAX_FILE_BYTES, parse_file};

/// Files to read resources from.
#[derive(Debug, Args)]
pub(super) struct Files {
    /// A file of YAML or JSON documents, `-` for standard input; repeatable.
    #[arg(short, long = "filename", alias = "file", required = true, value_name = "FILE")]
    file: Vec<PathBuf>,
}

/// The arguments of `delete`.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The kind, with a name.
    #[arg(value_parser = kind, requires = "name", required_unless_present = "file")]
    kind: Option<Kind>,
    /// The resource's name.
    #[arg(value_parser = get::name)]
    name: Option<String>,
    /// Delete the resources that a file names instead, `-` for standard input; repeatable.
    #[arg(short, long = "filename", alias = "file", value_name = "FILE", conflicts_with = "kind")]
    file: Vec<PathBuf>,
}

/// Reads the files and refuses what the daemon would refuse by itself, with the user's own names.
fn read(paths: &[PathBuf]) -> Result<Request, Failure> {
    if paths.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        return Err(Failure::Usage("-f - can be given once".into()));
    }
    let mut request = Request::default();
    let mut mistakes = Vec::new();
    for path in paths {
        let file = read_file(path).map_err(Failure::Io)?;
        mistakes.extend(parse_file(&file.name, &file.text).mistakes);
        request.files.push(file);
    }
    if mistakes.is_empty() { Ok(request) } else { Err(Failure::Mistakes(mistakes)) }
}

/// A file's text, `-` for standard input, up to the size that a file may have.
pub(super) fn read_file(path: &Path) -> anyhow::Result<GivenFile> {
    let mut bytes = Vec::new();
    let limit = MAX_FILE_BYTES as u64 + 1;
    let name = if path.as_os_str() == "-" { "stdin".to_owned() } else { path.display().to_string() };
    if path.as_os_str() == "-" {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).context("stdin")?;
    } else {
        let file = std::fs::File::open(path).with_context(|| name.clone())?;
        file.take(limit).read_to_end(&mut bytes).with_context(|| name.clone())?;
    }
    // One byte over the bound is kept, so that the parser says what the bound is.
    let text = String::from_utf8(bytes).with_context(|| name.clone())?;
    Ok(GivenFile { name, text })
}

pub(super) async fn apply(files: &Files, client: &Client) -> Result<(), Failure> {
    put(files, client, "/v1/resources", "applied").await
}

/// Like [`apply`], but of what is there, and only if it is as the files' `resourceVersion` says.
pub(super) async fn replace(files: &Files, client: &Client) -> Result<(), Failure> {
    put(files, client, "/v1/resources?mode=replace", "replaced").await
}

async fn put(files: &Files, client: &Client, path: &str, done: &str) -> Result<(), Failure> {
    let request = read(&files.file)?;
    let response: ApplyResponse = client.request(Method::PUT, path, Some(&request)).await?;
    for warning in &response.warnings {
        eprintln!("{}", output::clean(&warning.to_string()));
    }
    output::print(&success(done, &response.applied))
}

impl Delete {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let response: DeleteResponse = match (self.kind, &self.name) {
            (Some(kind), Some(name)) => {
                let path = format!("/v1/resources/{}/{name}", kind.plural());
                client.request(Method::DELETE, &path, None::<&()>).await?
            }
            _ => {
                let request = read(&self.file)?;
                client.request(Method::DELETE, "/v1/resources", Some(&request)).await?
            }
        };
        output::print(&success("deleted", &response.deleted))
    }
}

/// calicoctl's line: the kind is named where there is one only.
fn success(done: &str, keys: &[Key]) -> String {
    let count = keys.len();
    match keys.first() {
        Some(first) if keys.iter().all(|key| key.kind == first.kind) => {
            format!("Successfully {done} {count} '{}' resource(s)\n", first.kind.name())
        }
        _ => format!("Successfully {done} {count} resource(s)\n"),
    }
}
