//! Waits for what may not exist: a branch of `select!` that is off.

use std::future::{Future, pending};

use tokio::time::Instant;

/// Waits for the future, or forever if there is none. Safe to cancel if the future is.
pub async fn optional<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// Waits until the deadline, or forever if there is none. Safe to cancel.
pub async fn sleep_until(deadline: Option<impl Into<Instant>>) {
    optional(deadline.map(|deadline| tokio::time::sleep_until(deadline.into()))).await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_ends_the_wait_and_none_never_does() {
        let begin = Instant::now();
        tokio::select! {
            () = sleep_until(None::<Instant>) => panic!("there is no deadline"),
            () = sleep_until(Some(begin + Duration::from_secs(3))) => {}
        }
        assert_eq!(begin.elapsed(), Duration::from_secs(3));
    }
}
