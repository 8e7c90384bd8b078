//! A daemon's processes: start, wait for the port, measure, stop.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use testbed::Process;

use super::usage::{Cpu, Memory};

/// Time in which a daemon must listen, or become quiet.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time in which a daemon must end its sessions.
const GOODBYE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// A daemon is quiet if it used less than `QUIET_CPU` of CPU during `QUIET_FOR`.
const QUIET_FOR: Duration = Duration::from_millis(250);
const QUIET_CPU: Duration = Duration::from_millis(5);
/// Bytes of its log that are shown when it failed.
const LOG_TAIL: usize = 600;

/// A running daemon. Ended when dropped.
pub struct Daemon {
    process: Process,
    name: String,
}

impl Daemon {
    /// Starts a program in the calling thread's namespace; its output goes to `log`.
    ///
    /// # Errors
    /// The program is missing.
    pub fn start(
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        log: PathBuf,
    ) -> Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !program.is_file() {
            bail!("{} is missing: install it (`make bench` does) or build it", program.display());
        }
        // setpriv becomes the program: it ends with this thread, even if that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments).env("NO_COLOR", "1");
        Ok(Self { process: Process::start(&name, command, log), name })
    }

    /// Returns the id of its first process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Checks that the daemon still runs.
    ///
    /// # Errors
    /// It has ended; with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        match self.process.exit_status()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}): {}", self.name, self.log_tail()),
        }
    }

    /// Returns the end of its log, in one line.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = self.process.output();
        let from = text.char_indices().rev().nth(LOG_TAIL).map_or(0, |(at, _)| at);
        text.get(from..).unwrap_or_default().trim().replace('\n', " | ")
    }

    /// Waits until something listens on `port`.
    ///
    /// # Errors
    /// When the daemon ended or took too long.
    pub fn wait_until_listening(&mut self, port: u16) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !listening(port)? {
            self.check()?;
            if Instant::now() > deadline {
                bail!("{} doesn't listen on port {port} after {PATIENCE:?}: {}", self.name, self.log_tail());
            }
            // why: a listening socket of another program makes no event.
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Waits until it uses (nearly) no CPU, so that what comes before a measurement isn't in it.
    ///
    /// # Errors
    /// When it ended or never became quiet.
    pub fn wait_until_quiet(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut before = self.cpu();
        loop {
            // why: this is the interval over which CPU time is looked at.
            thread::sleep(QUIET_FOR);
            self.check()?;
            let now = self.cpu();
            if now.since(&before) < QUIET_CPU {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} is still busy after {PATIENCE:?} without a load", self.name);
            }
            before = now;
        }
    }

    /// The CPU time used so far, by the process and its children.
    #[must_use]
    pub fn cpu(&self) -> Cpu {
        Cpu::of(self.pid())
    }

    /// The memory in use, by the process and its children.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory::of(self.pid())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.process.is_running() {
            self.process.signal(Signal::SIGTERM);
        }
        let deadline = Instant::now() + GOODBYE;
        while self.process.is_running() && Instant::now() < deadline {
            // why: std waits for a child without a deadline or not at all.
            thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Returns whether a TCP socket listens on `port`, in the calling thread's namespace.
///
/// # Errors
/// When /proc can't be read.
pub fn listening(port: u16) -> Result<bool> {
    /// TCP_LISTEN in the kernel's `enum tcp_state`.
    const LISTEN: &str = "0A";
    let wanted = format!(":{port:04X}");
    for file in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        let text = fs::read_to_string(file).with_context(|| format!("can't read {file}"))?;
        let found = text.lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().is_some_and(|local| local.ends_with(&wanted));
            local && fields.nth(1) == Some(LISTEN)
        });
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}
