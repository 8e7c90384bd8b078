//! `routectl create`, `apply`, `replace` and `delete`.

use clap::Args;
use hyper::Method;

use super::files::{Files, OptionalFiles};
use super::{Failure, get, kind, output, report};
use api::client::{Client, ClientError};
use api::{ApplyResponse, DeleteRequest, DeleteResponse, Files as Request};
use resource::{Key, Kind};

/// The refusal to delete a pool that is in use, with the remedy.
const BLOCKS_FIRST: &str = "nodes have blocks of the pool, and pods may have addresses of these: disable it (`routectl \
                            patch ippool NAME -p '{\"spec\":{\"disabled\":true}}'`), and when no pod uses them any more release \
                            the blocks (`routectl ipam release BLOCK`, or podCIDRs of the Node) before it is deleted";

/// The arguments of `create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    files: Files,
    /// Skip resources that exist already.
    #[arg(long)]
    skip_exists: bool,
}

/// The arguments of `delete`.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The kind of the named resources.
    #[arg(value_parser = kind, requires = "name", required_unless_present = "file")]
    kind: Option<Kind>,
    /// The names of the resources.
    #[arg(value_parser = get::name)]
    name: Vec<String>,
    #[command(flatten)]
    files: OptionalFiles,
    /// Skip resources that don't exist.
    #[arg(short, long)]
    skip_not_exists: bool,
}

pub(super) async fn apply(files: &Files, client: &Client) -> Result<(), Failure> {
    put(files, client, "/v1/resources", "applied").await
}

/// Replaces existing resources, and only if the stored version is the `resourceVersion` of the
/// files.
pub(super) async fn replace(files: &Files, client: &Client) -> Result<(), Failure> {
    put(files, client, "/v1/resources?mode=replace", "replaced").await
}

impl Create {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let mode = if self.skip_exists { "create_missing" } else { "create" };
        put(&self.files, client, &format!("/v1/resources?mode={mode}"), "created").await
    }
}

async fn put(files: &Files, client: &Client, path: &str, done: &str) -> Result<(), Failure> {
    let Some(files) = files.read()? else { return output::print(output::NO_RESOURCES) };
    let response: ApplyResponse = client.request(Method::PUT, path, Some(&Request { files })).await?;
    for warning in &response.warnings {
        eprintln!("{}", output::clean(&warning.to_string()));
    }
    output::print(&success(done, &response.applied, &response.skipped))
}

impl Delete {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let mut request = DeleteRequest { skip_missing: self.skip_not_exists, ..DeleteRequest::default() };
        match self.kind {
            Some(kind) => {
                request.keys = self.name.iter().map(|name| Key { kind, name: name.clone() }).collect()
            }
            None => match self.files.read()? {
                Some(files) => request.files = files,
                None => return output::print(output::NO_RESOURCES),
            },
        }
        let answer = client.request(Method::DELETE, "/v1/resources", Some(&request)).await;
        if let (Some(Kind::IpPool), Err(ClientError::Refused { mistakes, .. })) = (self.kind, &answer)
            && !mistakes.is_empty()
        {
            report(mistakes);
            eprintln!("routectl: {BLOCKS_FIRST}");
            return Err(Failure::Reported);
        }
        let response: DeleteResponse = answer?;
        output::print(&success("deleted", &response.deleted, &response.skipped))
    }
}

/// Prints calicoctl's line. It names the kind if there is only one, and counts skipped resources.
fn success(done: &str, keys: &[Key], skipped: &[Key]) -> String {
    let count = keys.len() + skipped.len();
    let all = || keys.iter().chain(skipped);
    match all().next() {
        Some(first) if all().all(|key| key.kind == first.kind) => {
            format!("Successfully {done} {count} '{}' resource(s)\n", first.kind.name())
        }
        _ => format!("Successfully {done} {count} resource(s)\n"),
    }
}
