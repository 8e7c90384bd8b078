//! The task that owns the journal, and its handle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc, oneshot};

use api::view::{Event, EventKind};
use api::{ControlError, EventHistory, EventSource};
use timing::sleep_until;

use crate::journal::{Journal, RouteSummary};

/// The capacity of the command queue. Events beyond it are counted as lost; recording never blocks.
const COMMAND_QUEUE: usize = 512;
/// The number of events that a follower may lag behind; a slower follower is disconnected.
const FOLLOWER_LAG: usize = 1024;
/// The maximum number of followers: an operator has a few terminals.
const MAX_FOLLOWERS: usize = 16;

enum JournalCommand {
    Event {
        kind: EventKind,
        what: &'static str,
        subject: Option<String>,
        text: String,
    },
    Routes(RouteSummary),
    Read {
        since: Option<Timestamp>,
        follows: bool,
        answer: oneshot::Sender<Result<EventHistory, ControlError>>,
    },
}

/// The handle of the journal's task. Clones refer to the same journal.
#[derive(Clone, Debug)]
pub(crate) struct JournalHandle {
    commands: mpsc::Sender<JournalCommand>,
    missed: Arc<AtomicU64>,
}

impl std::fmt::Debug for JournalCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JournalCommand")
    }
}

impl JournalHandle {
    /// Starts the journal's task, which ends with the last handle.
    pub(crate) fn start() -> Self {
        let (commands, received) = mpsc::channel(COMMAND_QUEUE);
        let missed = Arc::<AtomicU64>::default();
        tokio::spawn(run(received, Arc::clone(&missed)));
        JournalHandle { commands, missed }
    }

    /// Records an event, without waiting.
    pub(crate) fn record(
        &self,
        kind: EventKind,
        what: &'static str,
        subject: Option<&str>,
        text: impl ToString,
    ) {
        let (subject, text) = (subject.map(ToOwned::to_owned), text.to_string());
        self.send(JournalCommand::Event { kind, what, subject, text });
    }

    /// Records a batch of changed best paths, without waiting.
    pub(crate) fn record_routes(&self, summary: RouteSummary) {
        if !summary.is_empty() {
            self.send(JournalCommand::Routes(summary));
        }
    }

    fn send(&self, command: JournalCommand) {
        if self.commands.try_send(command).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl EventSource for JournalHandle {
    fn events(
        &self,
        since: Option<Timestamp>,
        follows: bool,
    ) -> BoxFuture<'_, Result<EventHistory, ControlError>> {
        async move {
            let (answer, answered) = oneshot::channel();
            self.commands
                .send(JournalCommand::Read { since, follows, answer })
                .await
                .map_err(|_| ControlError::Ending)?;
            answered.await.map_err(|_| ControlError::Ending)?
        }
        .boxed()
    }
}

async fn run(mut commands: mpsc::Receiver<JournalCommand>, missed: Arc<AtomicU64>) {
    let mut journal = Journal::new(Instant::now());
    // A broadcast channel allocates its full capacity, so it is created for the first follower.
    let mut followers: Option<broadcast::Sender<Arc<Event>>> = None;
    loop {
        let deadline = journal.deadline();
        let command = tokio::select! {
            command = commands.recv() => match command {
                Some(command) => Some(command),
                None => return,
            },
            () = sleep_until(deadline) => None,
        };
        let when = (Timestamp::now(), Instant::now());
        followers = followers.filter(|followers| followers.receiver_count() > 0);
        let publish = |event: &Event| {
            if let Some(followers) = &followers {
                // The last follower may have just disconnected.
                let _ = followers.send(Arc::new(event.clone()));
            }
        };
        let lost = missed.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let text = format!("{lost} events came too fast to be noted");
            journal.record(EventKind::Daemon, "missed", None, text, when).into_iter().for_each(publish);
        }
        journal.summarize(when).iter().for_each(publish);
        match command {
            Some(JournalCommand::Event { kind, what, subject, text }) => {
                journal.record(kind, what, subject, text, when).into_iter().for_each(publish);
            }
            Some(JournalCommand::Routes(routes)) => {
                journal.record_routes(&routes, when).into_iter().for_each(publish)
            }
            Some(JournalCommand::Read { since, follows, answer }) => {
                let count = followers.as_ref().map_or(0, broadcast::Sender::receiver_count);
                let history = if follows && count >= MAX_FOLLOWERS {
                    Err(ControlError::TooManyFollowers(MAX_FOLLOWERS))
                } else {
                    // The channel and the history start at the same event, so that none is
                    // duplicated or lost.
                    let next = follows.then(|| {
                        followers.get_or_insert_with(|| broadcast::Sender::new(FOLLOWER_LAG)).subscribe()
                    });
                    Ok(EventHistory { events: journal.since(since), next })
                };
                // The client may have disconnected.
                let _ = answer.send(history);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn followers_receive_new_events_and_their_number_is_limited() {
        let journal = JournalHandle::start();
        journal.record(EventKind::Daemon, "one", None, "before");
        let mut all = Vec::new();
        for _ in 0..MAX_FOLLOWERS {
            all.push(journal.events(None, true).await.unwrap().next.unwrap());
        }
        let refused = journal.events(None, true).await.unwrap_err();
        assert!(refused.to_string().contains("16 others follow"), "{refused}");
        journal.record(EventKind::Daemon, "two", None, "after");
        for follower in &mut all {
            assert_eq!(follower.recv().await.unwrap().text, "after");
        }
        // Dropped followers free their places.
        all.clear();
        assert!(journal.events(None, true).await.is_ok());
    }

    #[tokio::test]
    async fn events_beyond_the_queue_are_counted_without_waiting() {
        let journal = JournalHandle::start();
        // The journal's task does not run meanwhile.
        for number in 0..COMMAND_QUEUE + 70 {
            journal.record(EventKind::Session, "up", None, number);
        }
        let events = journal.events(None, false).await.unwrap().events;
        let missed = events.iter().find(|event| event.what == "missed").unwrap();
        assert_eq!(missed.text, "70 events came too fast to be noted");
    }
}
