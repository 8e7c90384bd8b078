//! The task that maintains this node's own nftables table, `inet routed`: one transaction for each
//! change, read back afterwards; changes by other programs are repaired when the kernel reports
//! them. No other table is ever read.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use timing::sleep_until;

use crate::{
    desired::{VXLAN_PORT, VXLAN_VNI},
    firewall::{Firewall, Tunnels},
    ledger::retry_pause,
};
use netlink::nftables::{
    DROPPED_IPIP, DROPPED_VXLAN, FirewallTable, Skeleton, TableChange, TableListing, TableMonitor,
    VxlanSelector, element_changes, removal, replacement, {self as nft},
};
pub use netlink::nftables::{NODE_SETS, NftError, TABLE, TableListingError};

/// Interval of checks where the kernel does not report changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Minimum pause between two repairs, so that related changes are repaired together.
const SHORT_PAUSE: Duration = Duration::from_millis(10);
/// Number of consecutive repairs before the pause doubles, so that two programs that disagree do
/// not occupy the processor.
const FAST_REPAIRS: u32 = 16;
/// Maximum pause.
const LONG_PAUSE: Duration = Duration::from_secs(5);
/// Time without changes after which the pause is short again.
const QUIET_PERIOD: Duration = Duration::from_secs(30);
/// Requests that may be queued; further ones are answered without counters.
const REQUESTS: usize = 16;
/// Time for which counters are reused.
const COUNTERS_LIFETIME: Duration = Duration::from_secs(1);
/// Timeout of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Plans for one desired table: the first, and those for changes made meanwhile.
const PASSES: u32 = 4;

/// The state of the table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FirewallReport {
    /// True if there is something to do.
    pub wanted: bool,
    /// True if the kernel has the desired table.
    pub installed: bool,
    /// True if IP-in-IP packets are accepted from known nodes only.
    pub guards_ipip: bool,
    /// True if VXLAN packets are accepted from known nodes only.
    pub guards_vxlan: bool,
    /// Number of accepted sources.
    pub nodes: usize,
    /// Pools whose packets to the outside get this node's address.
    pub masqueraded: Vec<IpNet>,
    /// Number of repairs after another program changed the table, since the start.
    pub drift: u64,
    /// Number of IP-in-IP packets dropped since the table was created; `None` if unknown.
    pub dropped_ipip: Option<u64>,
    /// Number of VXLAN packets dropped since the table was created; `None` if unknown.
    pub dropped_vxlan: Option<u64>,
    /// Problem that keeps the table from being as desired, with its remedy.
    pub problem: Option<String>,
}

/// A handle to the task that maintains the table; the task ends with the last clone and leaves the
/// table as it is.
#[derive(Debug, Clone)]
pub struct FirewallHandle {
    wanted: watch::Sender<Option<Firewall>>,
    reports: watch::Receiver<FirewallReport>,
    requests: mpsc::Sender<ReportRequest>,
}

/// A request for a report with counters.
type ReportRequest = oneshot::Sender<FirewallReport>;

impl FirewallHandle {
    /// Starts the task in the calling thread's network namespace, inside a tokio runtime whose
    /// threads are all in that namespace. The task touches nothing until it is configured. It
    /// follows the state of the tunnels.
    pub fn spawn(tunnels: watch::Receiver<Tunnels>) -> (Self, JoinHandle<()>) {
        let (wanted, desired) = watch::channel(None);
        let (report, reports) = watch::channel(FirewallReport::default());
        let (requests, queue) = mpsc::channel(REQUESTS);
        let task = tokio::spawn(run(desired, tunnels, queue, report));
        (Self { wanted, reports, requests }, task)
    }

    /// Sets the desired contents of the table.
    pub fn configure(&self, firewall: Firewall) {
        self.wanted.send_if_modified(|wanted| {
            let news = wanted.as_ref() != Some(&firewall);
            if news {
                *wanted = Some(firewall);
            }
            news
        });
    }

    /// Returns the state, without counters.
    pub fn watch(&self) -> watch::Receiver<FirewallReport> {
        self.reports.clone()
    }

    /// Returns the current state. Counters are at most a second old, for any number of callers;
    /// they are missing if `nft` takes too long.
    pub async fn report(&self) -> FirewallReport {
        let (sender, receiver) = oneshot::channel();
        if self.requests.try_send(sender).is_ok()
            && let Ok(Ok(report)) = timeout(REQUEST_TIMEOUT, receiver).await
        {
            return report;
        }
        self.reports.borrow().clone()
    }
}

/// Deletes the table. Returns whether there was one.
///
/// # Errors
/// [`NftError`].
pub async fn flush() -> Result<bool, NftError> {
    match nft::list().await? {
        Some(_) => nft::apply(&removal()).await.map(|()| true),
        None => Ok(false),
    }
}

/// The present failure.
struct FirewallFailure {
    text: String,
    attempts: u32,
}

/// The state of the task.
#[derive(Default)]
struct TableKeeper {
    monitor: Option<TableMonitor>,
    /// This `nft`'s spelling of our table, if it differs from ours.
    spelling: Option<Skeleton>,
    /// Table of the last success, and whether all routes were known.
    settled: Option<(Firewall, bool)>,
    failure: Option<FirewallFailure>,
    drift: u64,
    /// Time of the last repair, and the number of consecutive repairs.
    repairs: Option<(Instant, u32)>,
    /// Time of the last read of the counters, and their values for IP-in-IP and VXLAN.
    counters: Option<(Instant, [Option<u64>; 2])>,
}

async fn run(
    mut wanted: watch::Receiver<Option<Firewall>>,
    mut tunnels: watch::Receiver<Tunnels>,
    mut requests: mpsc::Receiver<ReportRequest>,
    report: watch::Sender<FirewallReport>,
) {
    let mut keeper = TableKeeper::default();
    let mut tunnels_open = true;
    // Time of the next check, if a table is desired.
    let mut check_at = Some(Instant::now());
    loop {
        let firewall = wanted.borrow_and_update().clone();
        let is_configured = firewall.is_some();
        if let Some(firewall) = firewall
            && check_at.is_some_and(|at| at <= Instant::now())
        {
            let tunnels = tunnels.borrow_and_update().clone();
            let firewall = firewall.with(&tunnels);
            check_at = keeper.maintain(&firewall, tunnels.whole).await;
            report.send_replace(keeper.report(&firewall));
        }
        tokio::select! {
            changed = wanted.changed() => {
                // Every handle is dropped.
                if changed.is_err() {
                    return;
                }
                check_at = Some(Instant::now());
            }
            changed = tunnels.changed(), if tunnels_open => {
                tunnels_open = changed.is_ok();
                // A failure for another reason does not go away with this change.
                if keeper.failure.is_none() {
                    check_at = Some(Instant::now());
                }
            }
            Some(request) = requests.recv() => {
                keeper.read_counters().await;
                let mut report = report.borrow().clone();
                if let Some((_, [ipip, vxlan])) = keeper.counters.filter(|_| report.installed) {
                    (report.dropped_ipip, report.dropped_vxlan) = (ipip, vxlan);
                }
                // The receiver may be gone.
                let _ = request.send(report);
            }
            () = keeper.changed() => check_at = Some(keeper.not_before()),
            // Before the first configuration there is nothing to check.
            () = sleep_until(check_at.filter(|_| is_configured)) => {}
        }
    }
}

impl TableKeeper {
    /// Brings the table closer to the desired one and returns the time of the next check. Until all
    /// routes are known (`whole`), sources that were accepted before stay accepted.
    async fn maintain(&mut self, firewall: &Firewall, whole: bool) -> Option<Instant> {
        // First: changes after the check are reported.
        self.listen(firewall);
        let outcome =
            if firewall.is_empty() { self.remove().await } else { self.install(firewall, whole).await };
        match outcome {
            Ok(()) => {
                if let Some(failure) = self.failure.take() {
                    tracing::info!(after = failure.attempts, "the firewall is installed");
                }
                self.settled = Some((firewall.clone(), whole));
                // Where the kernel reports changes, no check is needed.
                (self.monitor.is_none() && !firewall.is_empty()).then(|| Instant::now() + CHECK_INTERVAL)
            }
            Err(error) => Some(self.fail(&error)),
        }
    }

    fn listen(&mut self, firewall: &Firewall) {
        if firewall.is_empty() {
            self.monitor = None;
        } else if self.monitor.is_none() {
            match TableMonitor::open() {
                Ok(monitor) => self.monitor = Some(monitor),
                Err(error) => {
                    tracing::debug!(%error, "no nftables events are available: the table is checked every {CHECK_INTERVAL:?}");
                }
            }
        }
    }

    async fn remove(&mut self) -> Result<(), NftError> {
        self.spelling = None;
        match flush().await {
            // Without the program or kernel support there is no table of ours.
            Err(NftError::Missing | NftError::Unsupported(_)) => Ok(()),
            // Without the privilege to list it we never created it.
            Err(NftError::Denied(_)) if self.settled.is_none() => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    async fn install(&mut self, firewall: &Firewall, whole: bool) -> Result<(), NftError> {
        let known = self.settled.as_ref().is_some_and(|settled| settled == &(firewall.clone(), whole));
        let table = firewall.table();
        let wanted = TableListing::of(&table);
        let mut listed = nft::list().await?;
        for pass in 0..PASSES {
            let change = wanted.change_from(listed.as_ref(), self.spelling.as_ref(), !whole);
            let replaced = matches!(change, TableChange::Replace);
            match change {
                TableChange::None => return Ok(()),
                TableChange::Elements { add, delete } => {
                    let changes = element_changes(borrowed(&add), borrowed(&delete));
                    nft::apply(&changes).await?;
                }
                TableChange::Replace => {
                    let before = listed.iter().filter(|_| !whole).flat_map(listed_nodes).collect();
                    let mut table = table.clone();
                    table.nodes = &table.nodes | &before;
                    self.spelling = None;
                    nft::apply(&replacement(&table)).await?;
                }
            }
            if known && pass == 0 {
                self.record_repair(listed.is_none());
            }
            listed = nft::list().await?;
            if let Some(listed) = listed.as_ref().filter(|_| replaced)
                && listed.skeleton != wanted.skeleton
                && wanted.skeleton.has_same_objects(&listed.skeleton)
            {
                tracing::debug!("this nft spells our table differently; its spelling is stored");
                self.spelling = Some(listed.skeleton.clone());
            }
        }
        Err(NftError::Refused("the table does not stay as written: another program keeps changing it".into()))
    }

    fn record_repair(&mut self, was_deleted: bool) {
        let now = Instant::now();
        let before = self
            .repairs
            .filter(|(at, _)| now.duration_since(*at) < QUIET_PERIOD)
            .map_or(0, |(_, count)| count);
        self.repairs = Some((now, before.saturating_add(1)));
        if self.drift == 0 {
            let what = if was_deleted { "deleted" } else { "changed" };
            tracing::warn!(
                "another program {what} the nftables table inet {TABLE}: it is repaired; further changes are counted without a message"
            );
        }
        self.drift += 1;
    }

    /// Reads the counters, unless they were read just now.
    async fn read_counters(&mut self) {
        let settled = self.settled.as_ref().is_some_and(|(firewall, _)| !firewall.is_empty());
        let fresh = self.counters.is_some_and(|(at, _)| at.elapsed() < COUNTERS_LIFETIME);
        if settled
            && !fresh
            && let Ok(Some(listing)) = nft::list().await
        {
            let packets = [DROPPED_IPIP, DROPPED_VXLAN].map(|counter| listing.packets(counter));
            self.counters = Some((Instant::now(), packets));
        }
    }

    /// Returns the time of the next repair at the earliest.
    fn not_before(&self) -> Instant {
        let now = Instant::now();
        self.repairs.map_or(now, |(at, count)| (at + pause_after(count)).max(now))
    }

    fn fail(&mut self, error: &NftError) -> Instant {
        let text = error.to_string();
        let before = self.failure.take().filter(|failure| failure.text == text);
        let attempts = before.map_or(0, |failure| failure.attempts) + 1;
        if attempts == 1 {
            tracing::error!("the firewall cannot be installed, everything else continues: {text}");
        }
        let pause = retry_pause(attempts);
        self.settled = None;
        self.failure = Some(FirewallFailure { text, attempts });
        Instant::now() + pause
    }

    /// Waits until another program changes the table.
    async fn changed(&mut self) {
        match &mut self.monitor {
            // During a failure the retry time counts.
            Some(monitor) if self.failure.is_none() => {
                if let Err(error) = monitor.changed().await {
                    tracing::debug!(%error, "the nftables event socket failed");
                    self.monitor = None;
                }
            }
            _ => std::future::pending().await,
        }
    }

    fn report(&self, firewall: &Firewall) -> FirewallReport {
        FirewallReport {
            wanted: !firewall.is_empty(),
            installed: self.failure.is_none() && !firewall.is_empty(),
            guards_ipip: firewall.guards_ipip,
            guards_vxlan: firewall.guards_vxlan,
            nodes: firewall.nodes.len(),
            masqueraded: firewall.masqueraded.clone(),
            drift: self.drift,
            dropped_ipip: None,
            dropped_vxlan: None,
            problem: self.failure.as_ref().map(|failure| failure.text.clone()),
        }
    }
}

/// Returns the pause after so many consecutive repairs.
fn pause_after(count: u32) -> Duration {
    SHORT_PAUSE.saturating_mul(1 << count.saturating_sub(FAST_REPAIRS).min(16)).min(LONG_PAUSE)
}

fn borrowed(changes: &[(String, Vec<IpNet>)]) -> impl Iterator<Item = (&str, Vec<IpNet>)> {
    changes.iter().map(|(set, nets)| (set.as_str(), nets.clone()))
}

/// Returns the addresses in the sets of nodes.
fn listed_nodes(listing: &TableListing) -> BTreeSet<IpAddr> {
    NODE_SETS.iter().flat_map(|set| listing.elements_of(set)).map(|net| net.addr()).collect()
}

impl Firewall {
    /// Returns the contents of the table.
    fn table(&self) -> FirewallTable {
        let vxlan = VxlanSelector { port: VXLAN_PORT, vni: VXLAN_VNI };
        FirewallTable {
            guards_ipip: self.guards_ipip,
            guarded_vxlan: self.guards_vxlan.then_some(vxlan),
            nodes: self.nodes.clone(),
            pools: self.pools.clone(),
            masqueraded: self.masqueraded.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_changes_of_the_table_are_repaired_more_and_more_slowly() {
        let pauses = [1, 16, 17, 20, 25, 1000].map(|count| pause_after(count).as_millis());
        assert_eq!(pauses, [10, 10, 20, 160, 5000, 5000]);
    }
}
