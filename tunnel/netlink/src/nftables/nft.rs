//! The `nft` program.

use std::{io, process::Stdio, time::Duration};

use nftables::schema::Nftables;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use super::{
    listing::{TableListing, TableListingError},
    ruleset::TABLE,
};

/// Name of the program, looked up in `PATH`.
const PROGRAM: &str = "nft";
/// Timeout of the program. It usually takes 10 ms; on an overloaded machine longer.
const RUN_TIMEOUT: Duration = Duration::from_secs(30);
/// Path of the standard input below `/proc`: `-` opens `/dev/stdin`, which small containers lack.
const STANDARD_INPUT: &str = "/proc/self/fd/0";

/// A failure of `nft`.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// Missing program.
    #[error("the program nft is missing: install the package nftables")]
    Missing,
    /// Missing privilege.
    #[error("no CAP_NET_ADMIN: nft may not change the firewall ({0}); run routed as root or grant it")]
    Denied(String),
    /// Missing kernel support.
    #[error(
        "this kernel has no nftables of family inet ({0}): load nf_tables (modprobe nf_tables), or use a kernel with \
         CONFIG_NF_TABLES_INET"
    )]
    Unsupported(String),
    /// Any other refusal, in the words of `nft`.
    #[error("nft: {0}")]
    Refused(String),
    /// Timeout.
    #[error("nft did not end within {RUN_TIMEOUT:?}")]
    Hangs,
    /// Failure to run the program.
    #[error("nft can't be run: {0}")]
    Run(#[from] io::Error),
    /// Unexpected output.
    #[error(transparent)]
    TableListing(#[from] TableListingError),
    /// Failure to serialize the rules.
    #[error("the rules can't be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Lists the table in the calling thread's network namespace; `None` if it does not exist.
///
/// # Errors
/// [`NftError`].
pub async fn list() -> Result<Option<TableListing>, NftError> {
    let arguments = ["--json", "--numeric", "list", "table", "inet", TABLE];
    match run(&arguments, String::new()).await {
        Ok(text) => Ok(Some(TableListing::parse(&text)?)),
        Err(NftError::Refused(text)) if text.contains("No such file or directory") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Executes commands as one transaction in the calling thread's network namespace.
///
/// # Errors
/// [`NftError`].
pub async fn apply(commands: &Nftables<'_>) -> Result<(), NftError> {
    let text = serde_json::to_string(commands)?;
    run(&["--json", "--file", STANDARD_INPUT], text).await.map(drop)
}

// The crate's own runner leaves the program's error messages to our standard error and has no timeout.
async fn run(arguments: &[&str], input: String) -> Result<String, NftError> {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).kill_on_drop(true);
    // Messages are matched below.
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
            // The program may end without reading everything; its message is more useful than a broken pipe.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let both = async { tokio::join!(write, child.wait_with_output()).1 };
    let output = timeout(RUN_TIMEOUT, both).await.map_err(|_| NftError::Hangs)??;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(refusal(&String::from_utf8_lossy(&output.stderr)))
}

/// Classifies an error message: missing privilege and missing support have a remedy.
fn refusal(stderr: &str) -> NftError {
    // The first line has the cause; the lines below are mostly its consequences.
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
    fn error_messages_are_classified() {
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
