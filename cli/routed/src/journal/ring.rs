//! The buffers of events, with a rate limit for each kind. No I/O, no clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use api::view::{Event, EventKind};

use super::route_summary::RouteSummary;

/// The longest text, in octets.
const MAX_TEXT: usize = 240;
/// The longest subject, in octets.
const MAX_SUBJECT: usize = 64;
/// The number of events of a kind that are accepted at once.
const BURST: u32 = 256;
/// The number of events of a kind that are accepted per second on average.
const RATE_PER_SECOND: u32 = 16;
/// The time after which suppressed events are summarized.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(1);

/// The events of one kind, and their token bucket.
#[derive(Debug)]
struct KindBuffer {
    kind: EventKind,
    events: VecDeque<Event>,
    /// The available tokens, in thousandths.
    tokens: u64,
    filled_at: Instant,
    /// The number of suppressed events, and the time of the first.
    suppressed: Option<(u64, Instant)>,
    routes: RouteSummary,
}

impl KindBuffer {
    /// Takes a token; returns whether there was one.
    fn take_token(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled_at).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(u64::from(RATE_PER_SECOND));
        self.tokens = self.tokens.saturating_add(passed).min(u64::from(BURST) * 1000);
        self.filled_at = now;
        // After a gap the summary comes first, so that the order of events is right.
        if self.suppressed.is_some() || self.tokens < 1000 {
            return false;
        }
        self.tokens -= 1000;
        true
    }

    fn suppress(&mut self, now: Instant) {
        let (count, _) = self.suppressed.get_or_insert((0, now));
        *count += 1;
    }
}

/// The journal. Events are numbered in the order in which they are recorded.
#[derive(Debug)]
pub(crate) struct Journal {
    buffers: Vec<KindBuffer>,
    seq: u64,
}

impl Journal {
    /// Returns an empty journal.
    pub(crate) fn new(now: Instant) -> Self {
        let buffer = |kind| KindBuffer {
            kind,
            events: VecDeque::new(),
            tokens: u64::from(BURST) * 1000,
            filled_at: now,
            suppressed: None,
            routes: RouteSummary::default(),
        };
        Journal { buffers: EventKind::ALL.into_iter().map(buffer).collect(), seq: 0 }
    }

    /// Records an event. Returns `None` if the rate limit suppresses it.
    pub(crate) fn record(
        &mut self,
        kind: EventKind,
        what: &'static str,
        subject: Option<String>,
        text: String,
        (at, now): (Timestamp, Instant),
    ) -> Option<&Event> {
        let buffer = self.buffers.iter_mut().find(|buffer| buffer.kind == kind)?;
        if !buffer.take_token(now) {
            buffer.suppress(now);
            return None;
        }
        Some(append(buffer, &mut self.seq, at, what, subject, text))
    }

    /// Records a batch of changed best paths. A suppressed batch is added to the summary.
    pub(crate) fn record_routes(
        &mut self,
        summary: &RouteSummary,
        (at, now): (Timestamp, Instant),
    ) -> Option<&Event> {
        let buffer = self.buffers.iter_mut().find(|buffer| buffer.kind == EventKind::Route)?;
        if !buffer.take_token(now) {
            buffer.suppress(now);
            buffer.routes.add(summary);
            return None;
        }
        Some(append(buffer, &mut self.seq, at, summary.what(), None, summary.text()))
    }

    /// Returns the time at which [`Journal::summarize`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.buffers.iter().filter_map(|buffer| Some(buffer.suppressed?.1 + SUMMARY_INTERVAL)).min()
    }

    /// Records a summary of the suppressed events of each kind, one second after the first of them.
    pub(crate) fn summarize(&mut self, (at, now): (Timestamp, Instant)) -> Vec<Event> {
        let mut summaries = Vec::new();
        for buffer in &mut self.buffers {
            let Some((count, since)) =
                buffer.suppressed.filter(|(_, since)| now >= *since + SUMMARY_INTERVAL)
            else {
                continue;
            };
            buffer.suppressed = None;
            let routes = std::mem::take(&mut buffer.routes);
            let seconds = now.saturating_duration_since(since).as_secs().max(1);
            let kind = buffer.kind.name();
            let (what, text) = if routes.is_empty() {
                ("more", format!("and {count} more {kind} events within {seconds} s"))
            } else {
                (routes.what(), format!("within {seconds} s, in {count} batches: {}", routes.text()))
            };
            summaries.push(append(buffer, &mut self.seq, at, what, None, text).clone());
        }
        summaries
    }

    /// Returns the events since a time, in order.
    pub(crate) fn since(&self, from: Option<Timestamp>) -> Vec<Event> {
        let all = self.buffers.iter().flat_map(|buffer| &buffer.events);
        let mut events: Vec<Event> =
            all.filter(|event| from.is_none_or(|from| event.at >= from)).cloned().collect();
        events.sort_by_key(|event| event.seq);
        events
    }
}

fn append<'a>(
    buffer: &'a mut KindBuffer,
    seq: &mut u64,
    at: Timestamp,
    what: &'static str,
    subject: Option<String>,
    text: String,
) -> &'a Event {
    *seq += 1;
    if buffer.events.len() == capacity(buffer.kind) {
        buffer.events.pop_front();
    }
    let event = event((*seq, at), buffer.kind, what, subject, text);
    let place = buffer.events.len();
    buffer.events.push_back(event);
    &buffer.events[place]
}

/// Returns the capacity of a kind's buffer.
fn capacity(kind: EventKind) -> usize {
    match kind {
        EventKind::Session | EventKind::Route | EventKind::Tunnel => 1024,
        EventKind::Drift
        | EventKind::Kernel
        | EventKind::Store
        | EventKind::Configuration
        | EventKind::Block => 256,
        EventKind::Daemon => 64,
    }
}

/// Returns an event with truncated texts.
fn event(
    (seq, at): (u64, Timestamp),
    kind: EventKind,
    what: &'static str,
    subject: Option<String>,
    text: String,
) -> Event {
    let subject = subject.map(|subject| truncate(subject, MAX_SUBJECT));
    Event { seq, at, kind, what: what.into(), subject, text: truncate(text, MAX_TEXT) }
}

fn truncate(mut text: String, longest: usize) -> String {
    if text.len() > longest {
        let ends = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= longest);
        text.truncate(ends.last().unwrap_or(0));
        text.push('…');
    }
    // The spare capacity of the string is released.
    text.shrink_to_fit();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(start: Instant, millis: u64) -> (Timestamp, Instant) {
        let at = Timestamp::from_millisecond(1_000_000 + millis.cast_signed()).unwrap();
        (at, start + Duration::from_millis(millis))
    }

    fn record(journal: &mut Journal, kind: EventKind, text: &str, when: (Timestamp, Instant)) -> bool {
        journal.record(kind, "up", Some("node-1".into()), text.into(), when).is_some()
    }

    #[test]
    fn many_events_of_one_kind_are_counted_and_displace_no_other_kind() {
        let start = Instant::now();
        let mut journal = Journal::new(start);
        assert!(record(&mut journal, EventKind::Store, "away", times(start, 0)));
        let mut accepted = 0;
        for number in 0..100_000u64 {
            accepted +=
                u64::from(record(&mut journal, EventKind::Session, "flap", times(start, number / 100)));
        }
        // The thousand events span one second: the burst is accepted, and nothing more until the
        // summary.
        assert_eq!(accepted, 256);
        assert_eq!(journal.deadline(), Some(times(start, 1002).1));
        let summaries = journal.summarize(times(start, 1100));
        assert_eq!(summaries.len(), 1);
        assert_eq!(summaries[0].text, "and 99744 more session events within 1 s");
        assert_eq!(journal.deadline(), None);
        // On average sixteen events per second are accepted.
        let later = |second: u64| times(start, 1100 + second * 1000);
        let accepted: usize = (0..100u64)
            .map(|second| {
                let accepted =
                    (0..50).filter(|_| record(&mut journal, EventKind::Session, "x", later(second))).count();
                journal.summarize(later(second + 1));
                accepted
            })
            .sum();
        assert!((1500..=1700).contains(&accepted), "{accepted}");
        let recorded = journal.since(None);
        assert_eq!(recorded.iter().filter(|event| event.kind == EventKind::Session).count(), 1024);
        assert_eq!(recorded.first().map(|event| event.text.as_str()), Some("away"));
        assert!(recorded.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    }

    #[test]
    fn texts_are_truncated_so_that_memory_is_bounded() {
        let start = Instant::now();
        let mut journal = Journal::new(start);
        let long = "ä".repeat(100_000);
        let size = |event: &Event| {
            size_of::<Event>() + event.text.capacity() + event.subject.as_ref().map_or(0, String::capacity)
        };
        let event =
            journal.record(EventKind::Session, "down", Some(long.clone()), long, times(start, 0)).unwrap();
        assert_eq!((event.text.chars().count(), event.subject.as_ref().unwrap().chars().count()), (121, 33));
        let size = size(event);
        let places: usize = EventKind::ALL.into_iter().map(capacity).sum();
        assert!(places * size < 2 << 20, "{places} places of {size} octets");
    }

    #[test]
    fn events_before_a_time_are_left_out() {
        let start = Instant::now();
        let mut journal = Journal::new(start);
        record(&mut journal, EventKind::Block, "one", times(start, 0));
        record(&mut journal, EventKind::Daemon, "two", times(start, 10));
        let texts = |from| journal.since(from).into_iter().map(|event| event.text).collect::<Vec<_>>();
        assert_eq!(texts(None), ["one", "two"]);
        assert_eq!(texts(Some(times(start, 5).0)), ["two"]);
        assert_eq!(texts(Some(times(start, 11).0)), Vec::<String>::new());
    }

    #[test]
    fn batches_of_routes_name_the_first_prefixes_and_are_summarized() {
        let start = Instant::now();
        let mut journal = Journal::new(start);
        let next_hop = Some("192.168.0.2".parse().unwrap());
        let batch = |from: u32, count: u32| {
            let mut summary = RouteSummary::default();
            for number in from..from + count {
                let prefix = format!("10.{}.{}.0/26", number / 256, number % 256).parse().unwrap();
                summary.count(prefix, next_hop.filter(|_| number % 10 != 3));
            }
            summary
        };
        let first = journal.record_routes(&batch(2, 2), times(start, 0)).unwrap();
        assert_eq!(
            first.text,
            "1 best path(s) changed, 1 prefix(es) withdrawn: 10.0.2.0/26 via 192.168.0.2, 10.0.3.0/26 withdrawn"
        );
        let many = journal.record_routes(&batch(0, 4096), times(start, 0)).unwrap();
        assert!(
            many.text.starts_with("3686 best path(s) changed, 410 prefix(es) withdrawn: 10.0.0.0/26 via")
        );
        assert!(many.text.ends_with("10.0.3.0/26 withdrawn and 4092 more"), "{}", many.text);
        let accepted =
            (0..1000).filter(|_| journal.record_routes(&batch(0, 10), times(start, 1)).is_some()).count();
        assert_eq!(accepted, 254);
        let summaries = journal.summarize(times(start, 1500));
        let text = &summaries[0].text;
        assert!(
            text.starts_with("within 1 s, in 746 batches: 6714 best path(s) changed, 746 prefix(es)"),
            "{text}"
        );
    }
}
