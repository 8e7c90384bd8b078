//! `routectl drain` and `routectl flush`: draining a node, and removing its kernel objects.

use crate::usage::UsageError;
use std::time::{Duration, Instant};

use clap::Args;
use hyper::Method;
use tunnel::netfilter::NftError;

use super::Failure;
use api::client::{Client, ClientError};

/// The additional timeout for the withdrawal and the end of the sessions.
const ENDS_WITHIN: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The arguments of `drain`.
#[derive(Debug, Args)]
pub(super) struct Drain {
    /// The time for which own blocks are advertised with GRACEFUL_SHUTDOWN before they are withdrawn.
    #[arg(long, default_value = "5s", value_parser = wait, value_name = "TIME")]
    wait: Duration,
}

fn wait(text: &str) -> Result<Duration, UsageError> {
    let time = resource::parse_duration(text).filter(|time| *time <= Duration::from_secs(3600));
    time.ok_or_else(|| "a duration such as 5s, 500ms or 1m30s, at most 1h".into())
}

impl Drain {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let path = format!("/v1/drain?wait_ms={}", self.wait.as_millis());
        let _: serde_json::Value = client.request(Method::POST, &path, None::<&()>).await?;
        eprintln!("draining: announced as going away for {:?}, then withdrawn, then routed ends", self.wait);
        let deadline = Instant::now() + self.wait + ENDS_WITHIN;
        while Instant::now() < deadline {
            match client.get::<serde_json::Value>("/v1/status").await {
                Err(ClientError::NoDaemon { .. }) => {
                    println!(
                        "Drained: routed has ended; routes in the kernel stay (routectl flush removes them)"
                    );
                    return Ok(());
                }
                _ => tokio::time::sleep(LOOK_AGAIN).await, // why: another program's end has no event here
            }
        }
        Err(Failure::Io(anyhow::anyhow!(
            "routed has not ended in time: see its log, and stop it with systemctl stop routed"
        )))
    }
}

/// The arguments of `flush`.
#[derive(Debug, Args)]
pub(super) struct Flush {
    /// The protocol number of routed's routes and next-hop objects (`routeProtocol` of
    /// routed.yaml).
    #[arg(long, default_value_t = 179, value_name = "NUMBER")]
    route_protocol: u8,
}

impl Flush {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        match client.get::<serde_json::Value>("/v1/status").await {
            Err(ClientError::NoDaemon { .. }) => {}
            _ => {
                return Err(Failure::Io(anyhow::anyhow!(
                    "routed is running here and would write everything again: stop it first (systemctl stop routed)"
                )));
            }
        }
        let protocol = self.route_protocol;
        let flushed = tunnel::kernel::flush(protocol).await.map_err(|error| Failure::Io(error.into()))?;
        println!("Removed {flushed}");
        match tunnel::netfilter::flush().await {
            Ok(true) => println!("Removed the nftables table inet {}", tunnel::netfilter::TABLE),
            // Without the program or the tables there is nothing to remove.
            Ok(false) | Err(NftError::Missing | NftError::Unsupported(_)) => {}
            Err(error) => return Err(Failure::Io(error.into())),
        }
        Ok(())
    }
}
