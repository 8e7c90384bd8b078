//! How late the daemon's loop gives everybody their turn: what stalls it delays sessions, routes and answers alike.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep_until;
use tunnel::latency::Latency;

use crate::journal::JournalHandle;
use api::view::EventKind;

/// Between two turns that are timed: rare enough to cost nothing, often enough to meet what takes seconds.
const EVERY: Duration = Duration::from_secs(1);
/// What is worth a line: a third of the shortest hold time.
const LONG: Duration = Duration::from_secs(1);

/// Begins to time turns.
pub(crate) fn start(journal: JournalHandle) -> watch::Receiver<Latency> {
    let (sender, receiver) = watch::channel(Latency::default());
    tokio::spawn(async move {
        let mut latency = Latency::default();
        while !sender.is_closed() {
            let due = Instant::now() + EVERY;
            sleep_until(due.into()).await; // why: what is measured is when it ends
            let late = due.elapsed();
            latency.note(late);
            sender.send_replace(latency);
            if late >= LONG {
                let text =
                    format!("nobody had a turn for {} ms: is the machine out of CPU time?", late.as_millis());
                tracing::warn!("{text}");
                journal.note(EventKind::Daemon, "stalled", None, text);
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Journalled;

    #[tokio::test]
    async fn a_loop_that_is_held_up_is_seen_and_said() {
        let journal = JournalHandle::start();
        let mut seen = start(journal.clone());
        tokio::task::yield_now().await;
        // The one thread of this runtime stands still meanwhile.
        std::thread::sleep(EVERY + LONG + Duration::from_millis(200)); // why: the stall itself
        seen.changed().await.unwrap();
        assert_eq!(seen.borrow().longer_than(LONG), 1);
        tokio::time::timeout(Duration::from_secs(5), async {
            while journal.events(None, false).await.unwrap().events.is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        let events = journal.events(None, false).await.unwrap().events;
        assert!(
            events[0].what == "stalled" && events[0].text.starts_with("nobody had a turn for 1"),
            "{events:?}"
        );
    }
}
