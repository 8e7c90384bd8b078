//! CPU use of an idle listener.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bgp::net::Listener;

/// Returns the processor time that this thread has used.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn an_idle_listener_uses_no_cpu_time() {
    let listener = Listener::bind(&[([127, 0, 0, 1], 0).into()]).unwrap();
    // The reactor is polled every few dozen turns of the tasks, so it has seen the socket by then.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    listener.open().await;
    let (before, started) = (cpu(), Instant::now());
    tokio::time::sleep(Duration::from_secs(1)).await; // why: rest is a length of time
    let took = cpu() - before;
    assert!(took < started.elapsed() / 4, "{took:?} of processor time at rest");
}
