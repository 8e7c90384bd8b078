//! The delay of the daemon's loop: how late a timer fires. A stall of the runtime delays
//! sessions, routes and API requests alike.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use api::view::EventKind;
use tunnel::latency::Latency;

use crate::journal::JournalHandle;

/// The interval between two measurements.
const INTERVAL: Duration = Duration::from_secs(1);
/// The delay that is logged: a third of the shortest hold time.
const REPORTED_DELAY: Duration = Duration::from_secs(1);

/// Starts to measure. The receiver has the delays since the start.
pub(crate) fn start(journal: JournalHandle) -> watch::Receiver<Latency> {
    let (sender, receiver) = watch::channel(Latency::default());
    tokio::spawn(async move {
        let mut latency = Latency::default();
        while !sender.is_closed() {
            let due = Instant::now() + INTERVAL;
            sleep_until(due).await; // why: the delay of this timer is measured
            let delay = due.elapsed();
            latency.note(delay);
            sender.send_replace(latency);
            if delay >= REPORTED_DELAY {
                let text = format!(
                    "nobody had a turn for {} ms: is the machine out of CPU time?",
                    delay.as_millis()
                );
                tracing::warn!("{text}");
                journal.record(EventKind::Daemon, "stalled", None, text);
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use api::EventSource;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stalled_loop_is_measured_and_recorded() {
        let journal = JournalHandle::start();
        let mut latency = start(journal.clone());
        tokio::task::yield_now().await;
        tokio::time::advance(INTERVAL + REPORTED_DELAY + Duration::from_millis(200)).await;
        latency.changed().await.unwrap();
        assert_eq!(latency.borrow().longer_than(REPORTED_DELAY), 1);
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
