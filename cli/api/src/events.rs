//! `/v1/events`: the recorded events and optionally the following ones, one JSON object per line.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::future::BoxFuture;
use futures::{Stream, stream};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::ControlError;
use crate::view::Event;

use super::routes::ErrorBody;

/// The answer of the journal.
#[derive(Debug)]
pub struct EventHistory {
    /// The recorded events, in order.
    pub events: Vec<Event>,
    /// The receiver of the following events, if they are requested.
    pub next: Option<broadcast::Receiver<Arc<Event>>>,
}

/// A journal of events.
pub trait EventSource: Send + Sync + 'static {
    /// Returns the events since a time, and with `follows` a receiver of the following ones.
    ///
    /// The error is one line for the user.
    fn events(
        &self,
        since: Option<Timestamp>,
        follows: bool,
    ) -> BoxFuture<'_, Result<EventHistory, ControlError>>;
}

/// Returns the router of the events, for the control socket.
pub fn events_router(journal: Arc<dyn EventSource>) -> Router {
    Router::new().route("/v1/events", get(events)).with_state(journal)
}

#[derive(Deserialize)]
struct EventsQuery {
    since: Option<Timestamp>,
    #[serde(default)]
    follow: bool,
}

async fn events(
    State(journal): State<Arc<dyn EventSource>>,
    Query(EventsQuery { since, follow }): Query<EventsQuery>,
) -> Response {
    match journal.events(since, follow).await {
        Ok(history) => {
            let body = Body::from_stream(lines(history));
            ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
        }
        Err(error) => {
            let body = ErrorBody { error: error.to_string(), mistakes: Vec::new() };
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

/// Returns one line for each event. A reader that falls behind gets the number of lost events, and
/// the stream ends.
fn lines(history: EventHistory) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let state = (VecDeque::from(history.events), history.next);
    stream::unfold(state, async |(mut events, next)| {
        if let Some(event) = events.pop_front() {
            return Some((Ok(line(&event)), (events, next)));
        }
        let mut next = next?;
        match next.recv().await {
            Ok(event) => Some((Ok(line(&event)), (events, Some(next)))),
            Err(RecvError::Lagged(missed)) => {
                let line = serde_json::json!({ "missed": missed });
                Some((Ok(Bytes::from(format!("{line}\n"))), (events, None)))
            }
            Err(RecvError::Closed) => None,
        }
    })
}

fn line(event: &Event) -> Bytes {
    let mut text = serde_json::to_vec(event).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use crate::view::EventKind;

    use super::*;

    fn event(seq: u64) -> Event {
        let (at, subject) = (Timestamp::from_second(1).unwrap(), Some("node-1".to_owned()));
        Event { seq, at, kind: EventKind::Session, what: "up".into(), subject, text: "Established".into() }
    }

    #[tokio::test]
    async fn a_slow_reader_gets_the_number_of_missed_events_and_the_end() {
        let (sender, next) = broadcast::channel(4);
        let lines = lines(EventHistory { events: vec![event(1)], next: Some(next) });
        for seq in 2..20 {
            sender.send(Arc::new(event(seq))).unwrap();
        }
        let lines: Vec<_> =
            lines.map(|line| String::from_utf8(line.unwrap().to_vec()).unwrap()).collect().await;
        assert_eq!(
            lines,
            [
                "{\"seq\":1,\"at\":\"1970-01-01T00:00:01Z\",\"kind\":\"session\",\"what\":\"up\",\"subject\":\"node-1\",\
                 \"text\":\"Established\"}\n",
                "{\"missed\":14}\n"
            ]
        );
    }

    #[tokio::test]
    async fn new_events_follow_recorded_ones_until_the_journal_ends() {
        let (sender, next) = broadcast::channel(4);
        let mut lines = Box::pin(lines(EventHistory { events: vec![event(1)], next: Some(next) }));
        assert!(lines.next().await.is_some());
        sender.send(Arc::new(event(2))).unwrap();
        let second = lines.next().await.unwrap().unwrap();
        assert!(second.starts_with(b"{\"seq\":2,"), "{second:?}");
        drop(sender);
        assert_eq!(lines.next().await, None);
    }
}
