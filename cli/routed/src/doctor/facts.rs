//! Gathers the facts for `routectl doctor`.

use std::process::Stdio;
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

use api::Control;
use api::ControlError;
use api::view::Diagnosis;
use tunnel::netlink::links::{self, LinkRecord};
use tunnel::netlink::routes::{self, RouteRecord, RouteVia};
use tunnel::netlink::rules::{self, RuleRecord};
use tunnel::netlink::{KernelError, RequestSocket};
use tunnel::report::DataplaneReport;

use crate::doctor::RulesetError;
use crate::doctor::{DoctorFacts, HostFacts, run_checks};
use crate::view::Views;
use crate::view::task_error;

/// The time limit for listing the nftables ruleset.
const LISTING_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest listing that is read, in octets: enough for a node with ten thousand services.
const MAX_LISTING: u64 = 64 * 1024 * 1024;
/// The maximum number of other programs' routes that are kept.
const MAX_FOREIGN_ROUTES: usize = 1000;

/// The objects that are read by netlink.
struct KernelRecords {
    links: Vec<LinkRecord>,
    parent: Option<u32>,
    foreign: Vec<RouteRecord>,
    pods: Vec<(u32, IpNet)>,
    rules: Vec<RuleRecord>,
}

impl Views {
    /// Gathers the facts and runs all checks.
    pub(crate) async fn diagnose(&self) -> Result<Diagnosis, ControlError> {
        let (status, peers, tunnels) = (self.status().await, self.peers().await, self.tunnels().await);
        let state = self.state();
        let may_use = |encapsulation| {
            state.node_config.as_ref().is_some_and(|node_config| node_config.tunnel.may_use(encapsulation))
        };
        let host = match self.summary().await {
            Some(report) => Some(self.host(report).await?),
            None => None,
        };
        Ok(run_checks(&DoctorFacts {
            status,
            peers,
            tunnels,
            snapshot: state.snapshot.clone(),
            uses_ipip: may_use(tunnel::Encapsulation::Ipip),
            uses_vxlan: state
                .node_config
                .as_ref()
                .is_some_and(|node_config| node_config.tunnel.needs_vxlan()),
            host,
        }))
    }

    async fn host(&self, report: DataplaneReport) -> Result<HostFacts, ControlError> {
        let state = self.state();
        let node_config = state.node_config.as_ref();
        let metric = node_config.map_or(0, |node_config| node_config.tunnel.route_metric);
        let own = node_config.map(|node_config| node_config.tunnel.local.blocks.clone()).unwrap_or_default();
        let address = node_config.and_then(|node_config| node_config.tunnel.local.underlay());
        let ranges: Vec<IpNet> = state.snapshot.blocks().into_values().flatten().collect();
        let protocol = self.config.route_protocol;
        let read = move || read_kernel(&ranges, &own, address, protocol);
        let records = tokio::task::spawn_blocking(read).await.map_err(task_error)?;
        let KernelRecords { links, parent, foreign, pods, rules } =
            records.map_err(|error| ControlError::Kernel(error.to_string()))?;
        Ok(HostFacts {
            sysctls: report.sysctls,
            failures: report.failures,
            problems: report.problems,
            links,
            parent,
            foreign,
            metric,
            pods,
            rules,
            ruleset: ruleset().await,
        })
    }
}

fn read_kernel(
    blocks: &[IpNet],
    own: &[IpNet],
    address: Option<std::net::IpAddr>,
    protocol: u8,
) -> Result<KernelRecords, KernelError> {
    let mut socket = RequestSocket::open()?;
    let links = links::dump_links(&mut socket)?;
    let addresses = links::dump_addresses(&mut socket)?;
    let parent = address.and_then(|address| {
        addresses.iter().find(|record| record.address.addr() == address).map(|record| record.index)
    });
    let (mut foreign, mut pods) = (Vec::new(), Vec::new());
    routes::list_all(&mut socket, |route| {
        let prefix = route.prefix;
        let inside = |blocks: &[IpNet]| blocks.iter().any(|block| block.contains(&prefix));
        if route.protocol == protocol || foreign.len() + pods.len() >= MAX_FOREIGN_ROUTES {
            return;
        }
        match route.via {
            RouteVia::Link(index) if prefix.prefix_len() == prefix.max_prefix_len() && inside(own) => {
                pods.push((index, prefix));
            }
            _ if inside(blocks) => foreign.push(route),
            _ => {}
        }
    })?;
    Ok(KernelRecords { rules: rules::dump_rules(&mut socket)?, links, parent, foreign, pods })
}

/// Lists the nftables ruleset, without the elements of sets, of which there may be a million.
async fn ruleset() -> Result<serde_json::Value, RulesetError> {
    let listing = async {
        let mut nft = Command::new("nft")
            .args(["-j", "-t", "list", "ruleset"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(RulesetError::NotStarted)?;
        let mut text = Vec::new();
        if let Some(stdout) = nft.stdout.take() {
            let read = stdout.take(MAX_LISTING + 1).read_to_end(&mut text).await;
            read?;
        }
        if text.len() as u64 > MAX_LISTING {
            return Err(RulesetError::TooLong);
        }
        let status = nft.wait().await?;
        if !status.success() {
            return Err(RulesetError::Failed(status));
        }
        Ok(serde_json::from_slice(&text)?)
    };
    timeout(LISTING_TIMEOUT, listing).await.unwrap_or(Err(RulesetError::TimedOut))
}
