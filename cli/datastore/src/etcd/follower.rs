//! The follower: delivers the state of the store to the daemon, and writes the snapshot of the
//! running state.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use timing::{Jitter, optional, sleep_until};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::backend::{Backend, Listing};
use super::feed::{FEED_QUEUE, Feed, FeedEvent};
use super::keys::Keys;
use super::replica::{Replica, ReplicaChange, ValidationResult};
use super::snapshot_cache::{SnapshotCache, SnapshotError};
use crate::{StoreHealth, StoreUpdate};

/// The time for which the store may be silent at the start before the snapshot on disk is used.
const SNAPSHOT_AFTER: Duration = Duration::from_secs(1);
/// The quiet time after a change before the check, so that several changes together become one
/// state.
const QUIET: Duration = Duration::from_millis(3);
/// The longest delay of a check while changes keep coming.
const PATIENCE: Duration = Duration::from_millis(250);
/// The shortest interval between two writes of the snapshot.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// The delay before the next listing after one was refused.
const RELIST_DELAY: Duration = Duration::from_secs(5);

/// The follower of a store.
pub(super) struct Follower {
    replica: Replica,
    events: mpsc::Receiver<FeedEvent>,
    relist_requests: mpsc::Sender<()>,
    updates: mpsc::Sender<StoreUpdate>,
    health: watch::Sender<StoreHealth>,
    cache: Option<SnapshotCache>,
    backend: Arc<dyn Backend>,
    /// True if a listing was requested. Events before it are ignored.
    awaits_listing: bool,
    /// The time of the next listing, after one was refused.
    relist_at: Option<Instant>,
    /// The time of the next check, and its latest time. `None` if nothing has changed.
    check_at: Option<(Instant, Instant)>,
    /// The time to use the snapshot if the store stays silent. `None` after the first listing.
    snapshot_at: Option<Instant>,
    /// True if the snapshot must be written.
    snapshot_outdated: bool,
    last_write: Instant,
    writing: Option<JoinHandle<Result<(), SnapshotError>>>,
}

/// Starts a follower, which runs until the receiver of updates is dropped.
pub(super) fn start<B: Backend>(
    backend: Arc<B>,
    keys: Keys,
    cache: Option<SnapshotCache>,
    health: watch::Sender<StoreHealth>,
    seed: u64,
) -> mpsc::Receiver<StoreUpdate> {
    // One state waits while the daemon applies the last one; newer ones are checked when it is
    // received.
    let (updates, receiver) = mpsc::channel(1);
    let (event_sender, events) = mpsc::channel(FEED_QUEUE);
    // Capacity 1: further requests for the same listing are redundant.
    let (relist_requests, relist_receiver) = mpsc::channel(1);
    let prefix = keys.resources().to_owned();
    let feed = Feed {
        backend: Arc::clone(&backend),
        prefix,
        events: event_sender,
        relist_requests: relist_receiver,
        jitter: Jitter::new(seed),
    };
    let now = Instant::now();
    let mut follower = Follower {
        replica: Replica::new(keys),
        events,
        relist_requests,
        updates,
        health,
        cache,
        backend,
        awaits_listing: true,
        relist_at: None,
        check_at: None,
        snapshot_at: None,
        snapshot_outdated: false,
        last_write: now - WRITE_INTERVAL,
        writing: None,
    };
    tokio::spawn(async move {
        follower.read_snapshot().await;
        tokio::spawn(feed.run());
        follower.run().await;
    });
    receiver
}

impl Follower {
    /// Reads the snapshot into the replica, so that the first listing is compared with it.
    async fn read_snapshot(&mut self) {
        let Some(cache) = self.cache.clone() else { return };
        let read = tokio::task::spawn_blocking(move || cache.read()).await;
        let listing = match read {
            Ok(Ok(Some(listing))) => listing,
            Ok(Ok(None)) | Err(_) => return,
            Ok(Err(problem)) => {
                tracing::error!("{problem}");
                return;
            }
        };
        if let Err(error) = self.replica.relist(listing) {
            tracing::error!("the snapshot in stateDir: {error}");
            return;
        }
        self.snapshot_at = Some(Instant::now() + SNAPSHOT_AFTER);
    }

    async fn run(&mut self) {
        loop {
            let check_at = self.check_at.map(|(quiet, latest)| quiet.min(latest));
            let write_at =
                (self.snapshot_outdated && self.writing.is_none()).then(|| self.last_write + WRITE_INTERVAL);
            let updates = self.updates.clone();
            tokio::select! {
                () = updates.closed() => return,
                event = self.events.recv() => match event {
                    Some(event) => self.handle(event),
                    None => return,
                },
                () = sleep_until(check_at) => {
                                        // The check waits until the receiver is ready; changes
                                        // until then are combined.
                    let permit = tokio::select! {
                        permit = updates.reserve() => permit,
                        Some(event) = self.events.recv() => {
                            self.handle(event);
                            continue;
                        }
                    };
                    let Ok(permit) = permit else { return };
                    let Some(result) = self.check().await else { return };
                    self.check_at = None;
                    permit.send(Ok(result.state));
                }
                () = sleep_until(self.snapshot_at) => {
                    self.snapshot_at = None;
                    tracing::warn!("the datastore is away: the last valid snapshot runs");
                    self.health.send_modify(|health| health.from_snapshot = true);
                    self.schedule_check();
                }
                () = sleep_until(self.relist_at) => {
                    self.relist_at = None;
                    self.relist();
                }
                () = sleep_until(write_at) => self.write(),
                result = finished_write(&mut self.writing) => {
                    self.writing = None;
                    if let Err(problem) = result {
                        tracing::error!("{problem}");
                    }
                }
            }
        }
    }

    /// Validates the replica and records the resources that run.
    async fn check(&mut self) -> Option<ValidationResult> {
        let validation = self.replica.validation();
        let result = tokio::task::spawn_blocking(move || validation.run()).await.ok()?;
        self.replica.record(&result);
        self.snapshot_outdated = self.cache.is_some();
        Some(result)
    }

    fn handle(&mut self, event: FeedEvent) {
        match event {
            FeedEvent::Listing(listing) => {
                self.health.send_modify(|health| health.relists += 1);
                let first = self.snapshot_at.take().is_some() || self.replica.revision() == 0;
                let from_snapshot = self.health.borrow().from_snapshot;
                match self.replica.relist(listing) {
                    Ok(change) => {
                        self.awaits_listing = false;
                        if change == ReplicaChange::Changed || first || from_snapshot {
                            self.schedule_check();
                        }
                    }
                    Err(error) => {
                        self.awaits_listing = true;
                        self.relist_at = Some(Instant::now() + RELIST_DELAY);
                        // The known state still has to run.
                        if first {
                            self.schedule_check();
                        }
                        self.out_of_step(error.to_string());
                    }
                }
            }
            FeedEvent::InSync if !self.awaits_listing => self.in_step(),
            FeedEvent::Changes(events) if !self.awaits_listing => match self.replica.apply(events) {
                ReplicaChange::Changed => {
                    self.in_step();
                    self.schedule_check();
                }
                ReplicaChange::Unchanged => {}
                ReplicaChange::OutOfSync => self.relist(),
            },
            FeedEvent::Digest(digest) if !self.awaits_listing => {
                if self.replica.agrees(&digest) {
                    self.in_step();
                } else {
                    self.relist();
                }
            }
            FeedEvent::InSync | FeedEvent::Changes(_) | FeedEvent::Digest(_) => {}
            FeedEvent::Lost(reason) => self.out_of_step(reason),
        }
    }

    fn relist(&mut self) {
        self.awaits_listing = true;
        // A pending request suffices.
        let _ = self.relist_requests.try_send(());
    }

    fn schedule_check(&mut self) {
        let now = Instant::now();
        let latest = self.check_at.map_or(now + PATIENCE, |(_, latest)| latest);
        self.check_at = Some((now + QUIET, latest));
    }

    fn in_step(&mut self) {
        let endpoint = self.backend.endpoint();
        let now = Timestamp::now();
        self.health.send_modify(|health| {
            if !health.connected {
                tracing::info!(endpoint, "in step with the datastore");
                health.since = now;
            }
            health.connected = true;
            health.last_in_step = Some(now);
            health.endpoint = endpoint;
            health.problem = None;
            health.from_snapshot = false;
        });
    }

    fn out_of_step(&mut self, problem: String) {
        let endpoint = self.backend.endpoint();
        let now = Timestamp::now();
        self.health.send_modify(|health| {
            if health.connected {
                health.since = now;
            }
            if health.connected || health.problem.as_ref() != Some(&problem) {
                tracing::warn!(%problem, "out of step with the datastore: what was known runs on");
            }
            health.connected = false;
            health.endpoint = endpoint;
            health.problem = Some(problem);
        });
    }

    fn write(&mut self) {
        let Some(cache) = self.cache.clone() else { return };
        (self.snapshot_outdated, self.last_write) = (false, Instant::now());
        let listing = Listing {
            cluster_id: self.replica.cluster_id(),
            revision: self.replica.revision(),
            entries: self.replica.ran().collect(),
        };
        self.writing = Some(tokio::task::spawn_blocking(move || cache.write(listing)));
    }
}

async fn finished_write(
    writing: &mut Option<JoinHandle<Result<(), SnapshotError>>>,
) -> Result<(), SnapshotError> {
    optional(writing.as_mut()).await?
}
