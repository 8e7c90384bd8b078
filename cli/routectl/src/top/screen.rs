//! The terminal while a full-screen command runs; as it was before once that ends, however it ends.

use std::io::{self, IsTerminal, Read, Write};
use std::thread;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::execute;
use crossterm::queue;
use crossterm::style::Print;
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Keys that may wait: people type slowly.
const KEYS: usize = 8;
/// What Ctrl-C and Ctrl-D are in raw mode.
const ENDS: [u8; 2] = [3, 4];
/// Columns and rows where the terminal doesn't say.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// What a person or the system wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScreenEvent {
    /// To end.
    Quit,
    /// A frame of the new size.
    Resized,
}

/// The alternate screen.
pub(super) struct Screen {
    typed: mpsc::Receiver<u8>,
    resized: Signal,
    ending: [Signal; 3],
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// It can't be written to.
    pub(super) fn open() -> io::Result<Self> {
        let (keys, typed) = mpsc::channel(KEYS);
        let ending = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = ending.map(signal);
        let screen = Screen {
            typed,
            resized: signal(SignalKind::window_change())?,
            ending: [interrupt?, terminate?, hangup?],
        };
        if io::stdin().is_terminal() {
            // Keys come one by one, and are not written out.
            enable_raw_mode()?;
            // Ends with the process: reading can't be given up.
            thread::spawn(move || {
                let mut key = [0];
                while io::stdin().read_exact(&mut key).is_ok() && keys.blocking_send(key[0]).is_ok() {}
            });
        }
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        let (columns, rows) = size().unwrap_or(USUAL_SIZE);
        (columns.into(), rows.into())
    }

    /// Shows lines in place of those before.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn show(&mut self, lines: &[String]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        for (row, line) in (0u16..).zip(lines) {
            // Line by line over what was there: a cleared screen flickers.
            queue!(stdout, MoveTo(0, row), Print(line), Clear(ClearType::UntilNewLine))?;
        }
        queue!(stdout, Clear(ClearType::FromCursorDown))?;
        stdout.flush()
    }

    /// Waits for what is wanted. May be dropped and called again.
    pub(super) async fn key(&mut self) -> ScreenEvent {
        let Screen { typed, resized, ending: [interrupt, terminate, hangup] } = self;
        loop {
            tokio::select! {
                _ = interrupt.recv() => return ScreenEvent::Quit,
                _ = terminate.recv() => return ScreenEvent::Quit,
                _ = hangup.recv() => return ScreenEvent::Quit,
                _ = resized.recv() => return ScreenEvent::Resized,
                Some(key) = typed.recv() => {
                    if key.eq_ignore_ascii_case(&b'q') || ENDS.contains(&key) {
                        return ScreenEvent::Quit;
                    }
                }
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where the terminal is gone there is nothing to put back.
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}
