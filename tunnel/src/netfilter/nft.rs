//! Runs the `nft` program.

use std::{io, process::Stdio, time::Duration};

use nftables::schema::Nftables;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use super::{
    listing::{Listing, ListingError},
    ruleset::TABLE,
};

/// The program, looked up in `PATH`.
const PROGRAM: &str = "nft";
/// It takes some 10 ms; on a machine without processor or memory to spare longer.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// Its standard input by a path that there is wherever `/proc` is: `-` opens `/dev/stdin`, which small
/// containers don't have.
const STANDARD_INPUT: &str = "/proc/self/fd/0";

/// Why `nft` did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// There is no such program.
    #[error("the program nft is missing: install the package nftables")]
    Missing,
    /// We or it may not.
    #[error("no CAP_NET_ADMIN: nft may not change the firewall ({0}); run routed as root or grant it")]
    Denied(String),
    /// The kernel has no such tables.
    #[error(
        "this kernel has no nftables of family inet ({0}): load nf_tables (modprobe nf_tables), or use a kernel with \
         CONFIG_NF_TABLES_INET"
    )]
    Unsupported(String),
    /// Anything else that it says.
    #[error("nft: {0}")]
    Refused(String),
    /// It doesn't end.
    #[error("nft did not end within {ENDS_WITHIN:?}")]
    Hangs,
    /// It can't be run.
    #[error("nft can't be run: {0}")]
    Run(#[from] io::Error),
    /// It answers something else.
    #[error(transparent)]
    Listing(#[from] ListingError),
    /// The types of the `nftables` crate could not be written.
    #[error("the rules can't be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Our table; `None` if there is none. In the calling thread's network namespace.
///
/// # Errors
/// [`NftError`].
pub(super) async fn list() -> Result<Option<Listing>, NftError> {
    let arguments = ["--json", "--numeric", "list", "table", "inet", TABLE];
    match run(&arguments, String::new()).await {
        Ok(text) => Ok(Some(Listing::parse(&text)?)),
        Err(NftError::Refused(text)) if text.contains("No such file or directory") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Carries commands out, all or none, in the calling thread's network namespace.
///
/// # Errors
/// [`NftError`].
pub(super) async fn apply(commands: &Nftables<'_>) -> Result<(), NftError> {
    let text = serde_json::to_string(commands)?;
    run(&["--json", "--file", STANDARD_INPUT], text).await.map(drop)
}

// Not the crate's own runner: it leaves the program's error messages to our standard error and waits for ever.
async fn run(arguments: &[&str], input: String) -> Result<String, NftError> {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).kill_on_drop(true);
    // Messages are compared below.
    command.env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let spawned = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => NftError::Missing,
        _ => NftError::Run(error),
    });
    let mut child = spawned?;
    let stdin = child.stdin.take();
    let write = async move {
        if let Some(mut stdin) = stdin {
            // It may end without reading all: what it says then tells more than a broken pipe.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let both = async { tokio::join!(write, child.wait_with_output()).1 };
    let output = timeout(ENDS_WITHIN, both).await.map_err(|_| NftError::Hangs)??;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(refusal(&String::from_utf8_lossy(&output.stderr)))
}

/// Tells the reasons that somebody can do something about from the rest.
fn refusal(stderr: &str) -> NftError {
    // The first line has the cause, those below are mostly its consequences.
    let first = stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("it failed without a word");
    let text = first.rsplit("Error: ").next().unwrap_or(first).trim().to_owned();
    if text.contains("Operation not permitted") {
        NftError::Denied(text)
    } else if text.contains("not supported") || text.contains("Protocol not available") {
        NftError::Unsupported(text)
    } else {
        NftError::Refused(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nft_says_is_told_apart() {
        let denied = "netlink: Error: cache initialization failed: Operation not permitted\nOperation not permitted (you must be root)\n";
        assert!(matches!(refusal(denied), NftError::Denied(_)));
        let unsupported = "internal:0:0-0: Error: Could not process rule: Operation not supported\n\ninternal:0:0-0: Error: No such file or directory\n";
        assert!(
            matches!(refusal(unsupported), NftError::Unsupported(text) if text == "Could not process rule: Operation not supported")
        );
        assert!(
            matches!(refusal("Error: No such file or directory\nlist table\n"), NftError::Refused(text) if text == "No such file or directory")
        );
        assert!(matches!(refusal(""), NftError::Refused(_)));
    }
}
