//! Listens to etcd and passes on what it says; goes to another member, after a pause, when one fails.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use timing::{Jitter, optional};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::backend::{Backend, BackendError, Digest, Event, Listing};

/// Between two questions to the member whether it still belongs to a majority.
const ASK_EVERY: Duration = Duration::from_secs(4);
/// How long that answer, and the beginning of a watch, may take.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a whole listing may take.
const LISTING: Duration = Duration::from_secs(30);
/// Between two checks that nothing was lost unnoticed; each costs etcd a walk over all keys.
const CHECK_EVERY: Duration = Duration::from_secs(240);
/// The first pause after a failure, and the longest: what returns must be noticed within seconds.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// What waits for the follower: it takes them faster than etcd sends them, but for while it checks a state.
pub(super) const SAID: usize = 64;

/// What etcd said, or that it says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Listed(Listing),
    /// All that happens from here on will be told.
    InStep,
    Events(Vec<Event>),
    Checked(Digest),
    Lost(String),
}

/// Listens until nobody takes what it says. An order is to list anew.
pub(super) struct Feed<B> {
    pub(super) backend: Arc<B>,
    pub(super) prefix: String,
    pub(super) said: mpsc::Sender<Said>,
    pub(super) orders: mpsc::Receiver<()>,
    pub(super) jitter: Jitter,
}

/// Why a member is listened to no more.
enum End {
    /// It fails.
    Lost(String),
    /// Everything is to be read anew, from the same member.
    Relist,
    /// Nobody listens any more.
    Over,
}

impl From<BackendError> for End {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Compacted => End::Relist,
            BackendError::Away(reason) | BackendError::Refused(reason) => End::Lost(reason),
        }
    }
}

impl<B: Backend> Feed<B> {
    pub(super) async fn run(mut self) {
        // The revision up to which everything was passed on.
        let mut reached: Option<i64> = None;
        let mut pause = PAUSE.0;
        loop {
            let began = Instant::now();
            match self.listen(&mut reached).await {
                End::Over => return,
                End::Relist => reached = None,
                End::Lost(reason) => {
                    self.backend.fail_over();
                    if self.said.send(Said::Lost(reason)).await.is_err() {
                        return;
                    }
                }
            }
            // What held for a while gets a new first pause.
            pause = if began.elapsed() > ASK_EVERY * 2 { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
            tokio::select! {
                () = sleep(self.jitter.apply(pause)) => {} // why: a store that is away is not to be asked without pause
                () = self.said.closed() => return,
            }
        }
    }

    async fn say(&self, said: Said) -> Result<(), End> {
        self.said.send(said).await.map_err(|_| End::Over)
    }

    async fn listen(&mut self, reached: &mut Option<i64>) -> End {
        match self.listen_until(reached).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn listen_until(&mut self, reached: &mut Option<i64>) -> Result<std::convert::Infallible, End> {
        let from = match *reached {
            Some(revision) => revision,
            None => {
                while self.orders.try_recv().is_ok() {}
                let listing = in_time(LISTING, self.backend.list(&self.prefix)).await?;
                let revision = listing.revision;
                self.say(Said::Listed(listing)).await?;
                *reached = Some(revision);
                revision
            }
        };
        let mut events = in_time(ANSWER, self.backend.watch(&self.prefix, from + 1)).await?;
        // A watch from a revision that is yet to come is silent: the member must have come so far.
        if in_time(ANSWER, self.backend.revision()).await? < from {
            return Err(End::Relist);
        }
        self.say(Said::InStep).await?;
        let mut ask_at = Instant::now() + self.jitter.apply(ASK_EVERY);
        let mut check_at = Instant::now() + self.jitter.apply(CHECK_EVERY);
        let mut question: Option<BoxFuture<'static, Result<Asked, BackendError>>> = None;
        loop {
            let may_ask = question.is_none();
            let asked = optional(question.as_mut());
            tokio::select! {
                said = events.next() => {
                    let said = match said {
                        Some(said) => said?,
                        None => return Err(End::Lost("etcd ended the watch".into())),
                    };
                    let last = said.iter().map(|event| match event {
                        Event::Put(stored) => stored.mod_revision,
                        Event::Delete { mod_revision, .. } => *mod_revision,
                    });
                    if let Some(last) = last.max() {
                        *reached = (*reached).max(Some(last));
                        self.say(Said::Events(said)).await?;
                    }
                }
                answer = asked => {
                    question = None;
                    match answer? {
                        Asked::Revision(revision) if Some(revision) < *reached => return Err(End::Relist),
                        Asked::Revision(_) => {}
                        Asked::Digest(digest) => self.say(Said::Checked(digest)).await?,
                    }
                    ask_at = Instant::now() + self.jitter.apply(ASK_EVERY);
                }
                () = tokio::time::sleep_until(ask_at), if may_ask => {
                    let (backend, prefix) = (Arc::clone(&self.backend), self.prefix.clone());
                    let check = Instant::now() >= check_at;
                    if check {
                        check_at = Instant::now() + self.jitter.apply(CHECK_EVERY);
                    }
                    question = Some(async move {
                        in_time_raw(ANSWER, async {
                            if check {
                                backend.digest(&prefix).await.map(Asked::Digest)
                            } else {
                                backend.revision().await.map(Asked::Revision)
                            }
                        }).await
                    }.boxed());
                }
                order = self.orders.recv() => match order {
                    Some(()) => return Err(End::Relist),
                    None => return Err(End::Over),
                },
                () = self.said.closed() => return Err(End::Over),
            }
        }
    }
}

enum Asked {
    Revision(i64),
    Digest(Digest),
}

async fn in_time_raw<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, BackendError> {
    match timeout(limit, request).await {
        Ok(answer) => answer,
        Err(_) => Err(BackendError::Away(format!("no answer within {} s", limit.as_secs()))),
    }
}

async fn in_time<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, End> {
    Ok(in_time_raw(limit, request).await?)
}
