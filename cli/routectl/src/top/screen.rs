//! The terminal of a full-screen command. It is restored when the command ends, however it ends.

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

/// The capacity of the queue of keys.
const KEYS: usize = 8;
/// The bytes of Ctrl-C and Ctrl-D in raw mode.
const ENDS: [u8; 2] = [3, 4];
/// The columns and rows of a terminal of unknown size.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// An event of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScreenEvent {
    /// A key or signal that ends the command.
    Quit,
    /// A change of the size.
    Resized,
}

/// The alternate screen.
pub(super) struct Screen {
    typed: mpsc::Receiver<u8>,
    resized: Signal,
    ending: [Signal; 3],
}

impl Screen {
    /// Switches the terminal to the alternate screen and raw mode.
    ///
    /// # Errors
    /// The terminal can't be written to.
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
            // Keys are delivered one by one, without echo.
            enable_raw_mode()?;
            // The thread ends with the process: a read can't be cancelled.
            thread::spawn(move || {
                let mut key = [0];
                while io::stdin().read_exact(&mut key).is_ok() && keys.blocking_send(key[0]).is_ok() {}
            });
        }
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// Returns the columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        let (columns, rows) = size().unwrap_or(USUAL_SIZE);
        (columns.into(), rows.into())
    }

    /// Replaces the lines on the screen.
    ///
    /// # Errors
    /// The terminal is closed.
    pub(super) fn show(&mut self, lines: &[String]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        for (row, line) in (0u16..).zip(lines) {
            // Lines overwrite the previous ones: clearing the screen flickers.
            queue!(stdout, MoveTo(0, row), Print(line), Clear(ClearType::UntilNewLine))?;
        }
        queue!(stdout, Clear(ClearType::FromCursorDown))?;
        stdout.flush()
    }

    /// Waits for an event. Cancel safe.
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
        // A closed terminal needs no restoration.
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}
