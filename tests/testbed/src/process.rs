//! Programs that a test runs, to their end or in the background.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::patience::eventually;

/// Runs a command to its end and returns its output.
///
/// # Panics
/// The command can't be run or fails.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}: install it (`make test` does)"));
    assert!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A program that runs in a bed, killed on drop.
pub struct Process {
    name: String,
    child: Option<Child>,
    log: PathBuf,
}

impl Process {
    /// Starts a program. Its output goes to `log`, which is shown if the test fails.
    ///
    /// # Panics
    /// The program can't be started.
    pub fn start(name: &str, mut command: Command, log: PathBuf) -> Process {
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a log file")).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Process { name: name.to_owned(), child: Some(child), log }
    }

    /// Returns the process id.
    ///
    /// # Panics
    /// The program has ended.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("a running program").id()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// The program has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.id()).expect("a process id");
        // `ip netns exec` becomes the program, so its id is the program's.
        kill(Pid::from_raw(pid), signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Sends SIGTERM, waits for the end and returns the exit status.
    ///
    /// # Panics
    /// The program doesn't end in time.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        let mut child = self.child.take().expect("a running program");
        let ended = eventually(&format!("{} to end", self.name), Duration::from_secs(20), || {
            child.try_wait().expect("its state")
        });
        ended.code()
    }

    /// Returns the exit status of a program that has ended.
    ///
    /// # Errors
    /// The errors of `waitpid`.
    pub fn exit_status(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.as_mut().map_or(Ok(None), Child::try_wait)
    }

    /// Returns whether the program has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Returns the output so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _: io::Result<()> = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {} wrote:\n{}", self.name, self.output());
        }
    }
}
