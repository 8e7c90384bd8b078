//! The feed of changes from etcd. If a member fails, it switches to another one after a pause.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use timing::{Jitter, optional};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::backend::{Backend, BackendError, Digest, KeyEvent, Listing};

/// The interval of the polls that check whether the member still belongs to a majority.
const POLL_INTERVAL: Duration = Duration::from_secs(4);
/// The timeout for a poll and for the start of a watch.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// The timeout for a complete listing.
const LISTING_TIMEOUT: Duration = Duration::from_secs(30);
/// The interval of the checks for lost events. Each makes etcd visit all keys.
const CHECK_INTERVAL: Duration = Duration::from_secs(240);
/// The first and the longest pause after a failure. A member that returns must be noticed within
/// seconds.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// The capacity of the queue to the follower, which receives faster than etcd sends, except during
/// a check.
pub(super) const FEED_QUEUE: usize = 64;

/// An event of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FeedEvent {
    Listing(Listing),
    /// The watch has started: all later changes will be delivered.
    InSync,
    Changes(Vec<KeyEvent>),
    Digest(Digest),
    Lost(String),
}

/// The feed. It runs until the receiver of its events is dropped.
pub(super) struct Feed<B> {
    pub(super) backend: Arc<B>,
    pub(super) prefix: String,
    pub(super) events: mpsc::Sender<FeedEvent>,
    pub(super) relist_requests: mpsc::Receiver<()>,
    pub(super) jitter: Jitter,
}

/// The reason why following a member ended.
enum FeedEnd {
    /// The member failed.
    Lost(String),
    /// A new listing is required, from the same member.
    Relist,
    /// The receiver was dropped.
    Closed,
}

impl From<BackendError> for FeedEnd {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Compacted => FeedEnd::Relist,
            BackendError::Away(reason) | BackendError::Refused(reason) => FeedEnd::Lost(reason),
        }
    }
}

impl<B: Backend> Feed<B> {
    pub(super) async fn run(mut self) {
        // The revision up to which all changes were delivered.
        let mut revision_passed: Option<i64> = None;
        let mut pause = PAUSE.0;
        loop {
            let began = Instant::now();
            match self.follow_until_end(&mut revision_passed).await {
                FeedEnd::Closed => return,
                FeedEnd::Relist => revision_passed = None,
                FeedEnd::Lost(reason) => {
                    self.backend.fail_over();
                    if self.events.send(FeedEvent::Lost(reason)).await.is_err() {
                        return;
                    }
                }
            }
            // After a period of stable operation the pauses start again from the first.
            pause = if began.elapsed() > POLL_INTERVAL * 2 { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
            tokio::select! {
                () = sleep(self.jitter.apply(pause)) => {} // why: a store that is away is not to be poll without pause
                () = self.events.closed() => return,
            }
        }
    }

    async fn send(&self, event: FeedEvent) -> Result<(), FeedEnd> {
        self.events.send(event).await.map_err(|_| FeedEnd::Closed)
    }

    async fn follow_until_end(&mut self, revision_passed: &mut Option<i64>) -> FeedEnd {
        match self.follow_member(revision_passed).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn follow_member(
        &mut self,
        revision_passed: &mut Option<i64>,
    ) -> Result<std::convert::Infallible, FeedEnd> {
        let from = match *revision_passed {
            Some(revision) => revision,
            None => {
                while self.relist_requests.try_recv().is_ok() {}
                let listing = feed_request_within(LISTING_TIMEOUT, self.backend.list(&self.prefix)).await?;
                let revision = listing.revision;
                self.send(FeedEvent::Listing(listing)).await?;
                *revision_passed = Some(revision);
                revision
            }
        };
        let mut events =
            feed_request_within(REQUEST_TIMEOUT, self.backend.watch(&self.prefix, from + 1)).await?;
        // A watch from a future revision is silent, so the member must have reached the
        // revision.
        if feed_request_within(REQUEST_TIMEOUT, self.backend.revision()).await? < from {
            return Err(FeedEnd::Relist);
        }
        self.send(FeedEvent::InSync).await?;
        let mut poll_at = Instant::now() + self.jitter.apply(POLL_INTERVAL);
        let mut check_at = Instant::now() + self.jitter.apply(CHECK_INTERVAL);
        let mut pending_poll: Option<BoxFuture<'static, Result<PollResponse, BackendError>>> = None;
        loop {
            let may_poll = pending_poll.is_none();
            let poll = optional(pending_poll.as_mut());
            tokio::select! {
                changes = events.next() => {
                    let changes = match changes {
                        Some(changes) => changes?,
                        None => return Err(FeedEnd::Lost("etcd ended the watch".into())),
                    };
                    let last = changes.iter().map(|event| match event {
                        KeyEvent::Put(stored) => stored.mod_revision,
                        KeyEvent::Delete { mod_revision, .. } => *mod_revision,
                    });
                    if let Some(last) = last.max() {
                        *revision_passed = (*revision_passed).max(Some(last));
                        self.send(FeedEvent::Changes(changes)).await?;
                    }
                }
                response = poll => {
                    pending_poll = None;
                    match response? {
                        PollResponse::Revision(revision) if Some(revision) < *revision_passed => return Err(FeedEnd::Relist),
                        PollResponse::Revision(_) => {}
                        PollResponse::Digest(digest) => self.send(FeedEvent::Digest(digest)).await?,
                    }
                    poll_at = Instant::now() + self.jitter.apply(POLL_INTERVAL);
                }
                () = tokio::time::sleep_until(poll_at), if may_poll => {
                    let (backend, prefix) = (Arc::clone(&self.backend), self.prefix.clone());
                    let check = Instant::now() >= check_at;
                    if check {
                        check_at = Instant::now() + self.jitter.apply(CHECK_INTERVAL);
                    }
                    pending_poll = Some(async move {
                        request_within(REQUEST_TIMEOUT, async {
                            if check {
                                backend.digest(&prefix).await.map(PollResponse::Digest)
                            } else {
                                backend.revision().await.map(PollResponse::Revision)
                            }
                        }).await
                    }.boxed());
                }
                order = self.relist_requests.recv() => match order {
                    Some(()) => return Err(FeedEnd::Relist),
                    None => return Err(FeedEnd::Closed),
                },
                () = self.events.closed() => return Err(FeedEnd::Closed),
            }
        }
    }
}

enum PollResponse {
    Revision(i64),
    Digest(Digest),
}

async fn request_within<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, BackendError> {
    match timeout(limit, request).await {
        Ok(response) => response,
        Err(_) => Err(BackendError::Away(format!("no answer within {} s", limit.as_secs()))),
    }
}

async fn feed_request_within<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, FeedEnd> {
    Ok(request_within(limit, request).await?)
}
