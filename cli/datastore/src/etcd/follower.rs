//! Keeps the daemon at what the store says, and the snapshot on disk at what the daemon runs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use timing::{Jitter, optional, sleep_until};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::backend::{Backend, Listing};
use super::feed::{Feed, SAID, Said};
use super::keys::Keys;
use super::replica::{Answer, Replica, Step};
use super::snapshot_cache::{Cache, SnapshotError};
use crate::{StoreHealth, Update};

/// How long the store may take at the start before the snapshot on disk is run.
const SNAPSHOT_AFTER: Duration = Duration::from_secs(1);
/// Quiet time after a change before the whole is checked, so that several made together are one state.
const QUIET: Duration = Duration::from_millis(3);
/// Checking is put off no longer than this however long changes keep coming.
const PATIENCE: Duration = Duration::from_millis(250);
/// Between two writings of the snapshot.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// Between two listings that are not taken.
const AGAIN: Duration = Duration::from_secs(5);

/// Follows the store for the daemon.
pub(super) struct Follower {
    replica: Replica,
    said: mpsc::Receiver<Said>,
    orders: mpsc::Sender<()>,
    updates: mpsc::Sender<Update>,
    health: watch::Sender<StoreHealth>,
    cache: Option<Cache>,
    backend: Arc<dyn Backend>,
    /// A listing was asked for; events until it comes are of no use.
    awaits_listing: bool,
    /// When to list again, as what was listed was not taken.
    again_at: Option<Instant>,
    /// When to check the whole, as something has changed, and by when at the latest.
    due: Option<(Instant, Instant)>,
    /// When to run the snapshot, as the store has said nothing since the start.
    snapshot_at: Option<Instant>,
    /// The snapshot is to be written.
    unwritten: bool,
    written: Instant,
    writing: Option<JoinHandle<Result<(), SnapshotError>>>,
}

/// Begins to follow; ends when nobody takes updates any more.
pub(super) fn start<B: Backend>(
    backend: Arc<B>,
    keys: Keys,
    cache: Option<Cache>,
    health: watch::Sender<StoreHealth>,
    seed: u64,
) -> mpsc::Receiver<Update> {
    // One state waits while the daemon works on the last; newer ones are checked when it is taken.
    let (updates, receiver) = mpsc::channel(1);
    let (said_to, said) = mpsc::channel(SAID);
    // One is enough: who is to list anew needs to be told once.
    let (orders, taken) = mpsc::channel(1);
    let prefix = keys.resources().to_owned();
    let feed = Feed {
        backend: Arc::clone(&backend),
        prefix,
        said: said_to,
        orders: taken,
        jitter: Jitter::new(seed),
    };
    let now = Instant::now();
    let mut follower = Follower {
        replica: Replica::new(keys),
        said,
        orders,
        updates,
        health,
        cache,
        backend,
        awaits_listing: true,
        again_at: None,
        due: None,
        snapshot_at: None,
        unwritten: false,
        written: now - WRITE_EVERY,
        writing: None,
    };
    tokio::spawn(async move {
        follower.recall().await;
        tokio::spawn(feed.run());
        follower.run().await;
    });
    receiver
}

impl Follower {
    /// Reads the snapshot, so that what the store says is a change of that and not a beginning from nothing.
    async fn recall(&mut self) {
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
            let due = self.due.map(|(quiet, latest)| quiet.min(latest));
            let write_at = (self.unwritten && self.writing.is_none()).then(|| self.written + WRITE_EVERY);
            let updates = self.updates.clone();
            tokio::select! {
                () = updates.closed() => return,
                said = self.said.recv() => match said {
                    Some(said) => self.take(said),
                    None => return,
                },
                () = sleep_until(due) => {
                    // Whoever is to get it must be ready for it; until then changes come together.
                    let permit = tokio::select! {
                        permit = updates.reserve() => permit,
                        Some(said) = self.said.recv() => {
                            self.take(said);
                            continue;
                        }
                    };
                    let Ok(permit) = permit else { return };
                    let Some(answer) = self.check().await else { return };
                    self.due = None;
                    permit.send(Ok(answer.loaded));
                }
                () = sleep_until(self.snapshot_at) => {
                    self.snapshot_at = None;
                    tracing::warn!("the datastore is away: the last valid snapshot runs");
                    self.health.send_modify(|health| health.from_snapshot = true);
                    self.changed();
                }
                () = sleep_until(self.again_at) => {
                    self.again_at = None;
                    self.relist();
                }
                () = sleep_until(write_at) => self.write(),
                written = written(&mut self.writing) => {
                    self.writing = None;
                    if let Err(problem) = written {
                        tracing::error!("{problem}");
                    }
                }
            }
        }
    }

    /// Checks the whole and notes what runs.
    async fn check(&mut self) -> Option<Answer> {
        let question = self.replica.question();
        let answer = tokio::task::spawn_blocking(move || question.answer()).await.ok()?;
        self.replica.answered(&answer);
        self.unwritten = self.cache.is_some();
        Some(answer)
    }

    fn take(&mut self, said: Said) {
        match said {
            Said::Listed(listing) => {
                self.health.send_modify(|health| health.relists += 1);
                let first = self.snapshot_at.take().is_some() || self.replica.revision() == 0;
                let from_snapshot = self.health.borrow().from_snapshot;
                match self.replica.relist(listing) {
                    Ok(step) => {
                        self.awaits_listing = false;
                        if step == Step::Changed || first || from_snapshot {
                            self.changed();
                        }
                    }
                    Err(error) => {
                        self.awaits_listing = true;
                        self.again_at = Some(Instant::now() + AGAIN);
                        // What was known has to run all the same.
                        if first {
                            self.changed();
                        }
                        self.out_of_step(error.to_string());
                    }
                }
            }
            Said::InStep if !self.awaits_listing => self.in_step(),
            Said::Events(events) if !self.awaits_listing => match self.replica.apply(events) {
                Step::Changed => {
                    self.in_step();
                    self.changed();
                }
                Step::Same => {}
                Step::Doubtful => self.relist(),
            },
            Said::Checked(digest) if !self.awaits_listing => {
                if self.replica.agrees(&digest) {
                    self.in_step();
                } else {
                    self.relist();
                }
            }
            Said::InStep | Said::Events(_) | Said::Checked(_) => {}
            Said::Lost(reason) => self.out_of_step(reason),
        }
    }

    fn relist(&mut self) {
        self.awaits_listing = true;
        // One that waits does.
        let _ = self.orders.try_send(());
    }

    fn changed(&mut self) {
        let now = Instant::now();
        let latest = self.due.map_or(now + PATIENCE, |(_, latest)| latest);
        self.due = Some((now + QUIET, latest));
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
        (self.unwritten, self.written) = (false, Instant::now());
        let listing = Listing {
            cluster_id: self.replica.cluster_id(),
            revision: self.replica.revision(),
            entries: self.replica.ran().collect(),
        };
        self.writing = Some(tokio::task::spawn_blocking(move || cache.write(listing)));
    }
}

async fn written(writing: &mut Option<JoinHandle<Result<(), SnapshotError>>>) -> Result<(), SnapshotError> {
    optional(writing.as_mut()).await?
}
