//! `routectl events`: past and new events of the daemon.

use crate::usage::UsageError;
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::{Failure, output};
use api::client::Client;
use api::view::{Event, EventKind};
use resource::parse_duration;

/// The output format of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum EventFormat {
    /// A line of text.
    #[default]
    Table,
    /// A JSON object per line.
    Json,
}

/// The arguments.
#[derive(Debug, Args)]
pub(super) struct Events {
    /// Wait for new events until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    /// Show events since a time such as 2026-01-31T12:00:00Z, or since a duration ago, such as
    /// 10m or 1h30m.
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// Show only these kinds, separated by commas.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<EventKind>,
    /// The output format: lines of text, or a JSON object per line.
    #[arg(short, long, value_enum, default_value_t)]
    output: EventFormat,
}

/// Parses `--since`, for clap.
fn since(text: &str) -> Result<Timestamp, UsageError> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let ago = parse_duration(text).and_then(|ago| Timestamp::now().checked_sub(ago).ok());
    ago.ok_or_else(|| "a time such as 2026-01-31T12:00:00Z, or how long ago, as 30s, 10m or 1h30m".into())
}

/// The last line of a stream that the daemon ended, with the number of missed events.
#[derive(serde::Deserialize)]
struct MissedEvents {
    missed: u64,
}

impl Events {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let since = self.since.map(|since| format!("&since={since}")).unwrap_or_default();
        let path = format!("/v1/events?follow={}{since}", self.follow);
        client.lines(&path, |line| self.show(line)).await??;
        if self.follow {
            return Err(Failure::Io(anyhow::anyhow!("the daemon has ended")));
        }
        Ok(())
    }

    fn show(&self, line: &str) -> Result<(), Failure> {
        if let Ok(MissedEvents { missed }) = serde_json::from_str(line) {
            let text = "events were missed, as they were not read fast enough: `routectl events --since` has what is kept";
            return Err(Failure::Io(anyhow::anyhow!("{missed} {text}")));
        }
        let event: Event = serde_json::from_str(line)
            .map_err(|error| Failure::Io(anyhow::anyhow!("no event of routed's ({error}): {line}")))?;
        if !self.kind.is_empty() && !self.kind.contains(&event.kind) {
            return Ok(());
        }
        match self.output {
            EventFormat::Json => output::print(&format!("{line}\n")),
            EventFormat::Table => output::print(&text(&event)),
        }
    }
}

/// Formats an event: `2026-01-31T12:00:00.123Z  session        node-2  up: 10.0.0.2: Established`
fn text(event: &Event) -> String {
    let Event { at, kind, what, subject, text, .. } = event;
    let subject = subject.as_ref().map(|subject| format!("{subject}  ")).unwrap_or_default();
    let what = match &**what {
        "down" | "failed" | "refused" | "problem" | "away" | "blocked" | "unanswered" | "unreached"
        | "blind" | "missed" => output::painted("31", what),
        "up" | "back" | "connected" | "in_sync" | "passes" | "valid" | "reached" => {
            output::painted("32", what)
        }
        what => what.to_owned(),
    };
    output::clean(&format!("{at:.3}  {:13}  {subject}", kind.name()))
        + &what
        + ": "
        + &output::clean(text)
        + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_people_says_when_what_and_to_whom() {
        let at = "2026-01-31T12:00:00.123456Z".parse().unwrap();
        let event = Event {
            seq: 1,
            at,
            kind: EventKind::Session,
            what: "up".into(),
            subject: Some("node-2".into()),
            text: "10.0.0.2: Established\u{1b}[2J".into(),
        };
        assert_eq!(
            text(&event),
            "2026-01-31T12:00:00.123Z  session        node-2  up: 10.0.0.2: Established\u{fffd}[2J\n"
        );
    }

    #[test]
    fn a_time_is_read_in_both_forms() {
        assert_eq!(since("1970-01-01T00:00:05Z"), Ok(Timestamp::from_second(5).unwrap()));
        let ago = Timestamp::now().duration_since(since("10m").unwrap()).as_secs();
        assert!((595..610).contains(&ago), "{ago}");
        assert!(since("yesterday").unwrap_err().to_string().contains("10m"));
    }
}
