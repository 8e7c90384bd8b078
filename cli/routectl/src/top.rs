//! `routectl top`: peers, tunnels and rates, refreshed periodically.

mod frame;
mod screen;

use crate::usage::UsageError;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::time::sleep;

use self::frame::{DaemonSample, frame};
use self::screen::{Screen, ScreenEvent};
use super::{Failure, output};
use api::client::{Client, ClientError};

/// The shortest interval. For each frame the daemon summarizes its state.
const LEAST: Duration = Duration::from_millis(200);
/// The longest interval.
const MOST: Duration = Duration::from_secs(3600);

/// The arguments.
#[derive(Debug, Args)]
pub(super) struct Top {
    /// The interval between frames, such as 500ms or 5s. Rates are averages over it.
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
}

/// Parses `--interval`, for clap.
fn interval(text: &str) -> Result<Duration, UsageError> {
    let time = resource::parse_duration(text).filter(|time| (LEAST..=MOST).contains(time));
    time.ok_or_else(|| "a time such as 1s, from 200ms to 1h".into())
}

impl Top {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        if !io::stdout().is_terminal() {
            return self.once(client).await;
        }
        let mut screen = Screen::open().map_err(|error| Failure::Io(error.into()))?;
        let mut before: Option<(DaemonSample, Instant)> = None;
        loop {
            let asked = sample(client);
            let answer = tokio::select! {
                answer = asked => answer,
                key = screen.key() => match key {
                    ScreenEvent::Quit => return Ok(()),
                    ScreenEvent::Resized => continue,
                },
            };
            let now = Instant::now();
            let size = screen.size();
            let lines = match &answer {
                Ok(sample) => {
                    let earlier = before.as_ref().map(|(sample, at)| (sample, now.duration_since(*at)));
                    frame(sample, earlier, Some(size), output::coloured())
                }
                Err(error) => vec![output::clean(&error.to_string()), "q quits; asked again".to_owned()],
            };
            screen.show(&lines).map_err(|error| Failure::Io(error.into()))?;
            // Counters from before an interruption give no rate.
            before = answer.ok().map(|sample| (sample, now));
            tokio::select! {
                () = sleep(self.interval) => {} // why: the interval is what is asked for
                key = screen.key() => match key {
                    ScreenEvent::Quit => return Ok(()),
                    ScreenEvent::Resized => {}
                },
            }
        }
    }

    /// Prints one frame as plain text.
    async fn once(&self, client: &Client) -> Result<(), Failure> {
        let begin = Instant::now();
        let before = sample(client).await?;
        sleep(self.interval).await; // why: rates are of this time
        let now = sample(client).await?;
        let lines = frame(&now, Some((&before, begin.elapsed())), None, false);
        output::print(&(lines.join("\n") + "\n"))
    }
}

async fn sample(client: &Client) -> Result<DaemonSample, ClientError> {
    Ok(DaemonSample {
        status: client.get("/v1/status").await?,
        peers: client.get("/v1/peers").await?,
        tunnels: client.get("/v1/tunnels").await?,
    })
}
