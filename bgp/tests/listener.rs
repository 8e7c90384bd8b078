//! The listener at rest.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bgp::net::Listener;

/// Processor time that this thread has taken.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_port_that_is_opened_late_is_waited_on_and_not_asked_again_and_again() {
    let listener = Listener::bind(&[([127, 0, 0, 1], 0).into()]).unwrap();
    // why: the reactor must have had its time with the socket before that listens.
    tokio::time::sleep(Duration::from_millis(50)).await;
    listener.open().await;
    let (before, started) = (cpu(), Instant::now());
    // why: rest is a length of time.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let took = cpu() - before;
    assert!(took < started.elapsed() / 4, "{took:?} of processor time at rest");
}
