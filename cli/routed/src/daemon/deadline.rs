//! What may have to be waited for: for ever, where there is nothing.

use std::time::Instant;

use tokio::sync::mpsc;

/// What comes next, if anything may come.
pub(crate) async fn next_of<T>(receiver: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match receiver {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

/// Until the routes are whole, if that is awaited.
pub(crate) async fn whole(receiver: &mut Option<mpsc::Receiver<()>>) {
    match receiver {
        Some(receiver) => _ = receiver.recv().await,
        None => std::future::pending().await,
    }
}

/// Until this node has caught up with its peers, if that is awaited.
pub(crate) async fn caught_up(receiver: &mut Option<(mpsc::Receiver<()>, Instant)>) {
    match receiver {
        Some((receiver, _)) => _ = receiver.recv().await,
        None => std::future::pending().await,
    }
}

/// Until then, if there is a time.
pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
