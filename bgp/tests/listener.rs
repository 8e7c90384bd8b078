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
    // The reactor is asked for events every few dozen turns of the tasks: it has seen the socket by then, if ever.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    listener.open().await;
    let (before, started) = (cpu(), Instant::now());
    tokio::time::sleep(Duration::from_secs(1)).await; // why: rest is a length of time
    let took = cpu() - before;
    assert!(took < started.elapsed() / 4, "{took:?} of processor time at rest");
}
