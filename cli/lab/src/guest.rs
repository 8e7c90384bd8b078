//! Runs a command in a guest: a real kernel, with the modules this one may lack, as a process. User-Mode Linux starts
//! in half a second; QEMU has what that lacks ([`qemu`]).
//!
//! The guest's init is this very executable ([`init::become_init_if_asked`]). It sees the host's whole
//! root as it is, copy on write: what it writes goes to guest memory and is gone at the end.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{self, IsTerminal, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::signal::{Signal, kill, killpg},
    unistd::{Pid, getpid, mkdtemp, pipe2},
};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

pub mod init;
mod initramfs;
mod modules;
mod qemu;

/// The guest kernel's program, in Debian's package of the same name as [`PACKAGE`].
pub const PROGRAM: &str = "linux.uml";
/// The package that brings [`PROGRAM`].
pub const PACKAGE: &str = "user-mode-linux";

/// Loaded into [`PROGRAM`], which could not run on processors with more registers than it knows (`cli/preload`); empty
/// where there is no such program.
const REGISTERS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/registers.so"));

/// Names the work directory to the guest's init, by way of the kernel's command line.
const WORK_VARIABLE: &str = "ROUTED_GUEST";
/// Under QEMU, names the share with the host's root likewise.
const ROOT_VARIABLE: &str = "ROUTED_GUEST_ROOT";
/// Files in the work directory.
const COMMAND: &str = "command";
const ENVIRONMENT: &str = "environment";
const DIRECTORY: &str = "directory";
const TERMINAL: &str = "terminal";
const STATUS: &str = "status";
const LIMIT: &str = "limit";
const KERNEL_LOG: &str = "kernel.log";
/// Lines of the kernel's log that are shown when the guest ended without a status.
const LOG_TAIL: usize = 20;

/// How much later than by us the guest is ended by itself.
const OWN_LIMIT_LATER: Duration = Duration::from_secs(10);

/// What runs the guest's kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Machine {
    /// User-Mode Linux: fast, without nftables but for bridges
    Uml,
    /// QEMU with a kernel of /boot: slow, with all that distributions have
    Qemu,
}

/// What to run, and within which bounds.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Where it runs.
    pub machine: Machine,
    /// Program and arguments; the program is looked up in the guest's `PATH`.
    pub command: Vec<OsString>,
    /// Variables set beside those of this process.
    pub environment: Vec<(OsString, OsString)>,
    /// Memory of the guest, as the kernel reads it (`1G`).
    pub memory: String,
    /// After this long the guest is ended.
    pub time_limit: Duration,
}

/// Memory given to a guest unless asked otherwise. It is taken only as it is touched.
pub const DEFAULT_MEMORY: &str = "1G";
/// Time given to a guest unless asked otherwise, in seconds.
pub const DEFAULT_SECONDS: u64 = 300;

/// Why a guest gave no exit status.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// There is no guest kernel.
    #[error("{PROGRAM} is not installed: apt-get install {PACKAGE}")]
    NotInstalled,
    /// Something that QEMU needs is not there.
    #[error("{what} is missing: apt-get install {package}")]
    Missing {
        /// The program or file.
        what: &'static str,
        /// The package that brings it.
        package: &'static str,
    },
    /// There is nothing to run.
    #[error("no command given: routectl guest -- COMMAND [ARGUMENT]...")]
    NoCommand,
    /// The work directory, a pipe or the program failed.
    #[error("the guest cannot be started: {what}: {source}")]
    Start {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The time limit passed.
    #[error("the guest was ended after {0:?}: give it more with --seconds")]
    TimeOut(Duration),
    /// This process was told to end.
    #[error("interrupted; the guest was ended")]
    Interrupted,
    /// The guest ended without telling a status: its kernel panicked or the init failed.
    #[error("the guest ended without an exit status; its kernel's last words:\n{0}")]
    NoStatus(String),
}

impl GuestError {
    fn start(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| GuestError::Start { what, source }
    }

    /// Returns the exit status that stands for it, as `timeout` and shells number them.
    pub fn exit_status(&self) -> u8 {
        match self {
            GuestError::TimeOut(_) => 124,
            GuestError::Interrupted => 130,
            GuestError::NotInstalled | GuestError::Missing { .. } | GuestError::NoCommand => 2,
            GuestError::Start { .. } | GuestError::NoStatus(_) => 125,
        }
    }
}

/// `routectl guest`: runs any command in the guest.
#[derive(Debug, clap::Args)]
pub struct GuestArgs {
    /// What runs the guest's kernel
    #[arg(long, value_enum, default_value_t = Machine::Uml)]
    machine: Machine,
    /// Memory of the guest
    #[arg(long, default_value = DEFAULT_MEMORY)]
    memory: String,
    /// Time limit in seconds
    #[arg(long, default_value_t = DEFAULT_SECONDS)]
    seconds: u64,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Runs `routectl guest` and ends with the command's exit status.
pub fn main(args: GuestArgs) -> ExitCode {
    let guest = Guest {
        machine: args.machine,
        command: args.command,
        environment: Vec::new(),
        memory: args.memory,
        time_limit: Duration::from_secs(args.seconds),
    };
    match guest.run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("routectl: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}

/// Returns the guest kernel's program, if it is installed.
pub fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    env::split_paths(&path).map(|dir| dir.join(PROGRAM)).find(|program| program.is_file())
}

impl Guest {
    /// Runs the command and returns its exit status; 128 and the signal's number if a signal ended it.
    ///
    /// # Errors
    /// When there is no guest, it cannot be started, runs too long, or dies.
    pub fn run(&self) -> Result<u8, GuestError> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(GuestError::start("runtime"))?
            .block_on(self.run_async())
    }

    async fn run_async(&self) -> Result<u8, GuestError> {
        if self.command.is_empty() {
            return Err(GuestError::NoCommand);
        }
        let work = WorkDir::create().map_err(GuestError::start("work directory"))?;
        self.write_files(&work.0).map_err(GuestError::start("work directory"))?;
        let (stdout, stdout_end) = inheritable_pipe().map_err(GuestError::start("pipe"))?;
        let (stderr, stderr_end) = inheritable_pipe().map_err(GuestError::start("pipe"))?;
        let mut terminate = signal(SignalKind::terminate()).map_err(GuestError::start("signal"))?;
        let (child, _files) = match self.machine {
            Machine::Uml => (self.start_uml(&work.0, &stdout_end, &stderr_end)?, None),
            Machine::Qemu => {
                let started = qemu::start(&work.0, &self.memory, &stdout_end, &stderr_end).await?;
                (started.child, Some(started.file_server))
            }
        };
        let mut guest = RunningGuest { child, work: work.0.clone() };
        // Only the guest holds the writing ends now, so that the relays end with it.
        drop((stdout_end, stderr_end));
        let relays = [
            std::thread::spawn(move || relay(stdout, io::stdout())),
            std::thread::spawn(move || relay(stderr, io::stderr())),
        ];
        let outcome = tokio::select! {
            status = guest.child.wait() => status.map(drop).map_err(GuestError::start(PROGRAM)),
            // why: this is the time limit itself.
            () = tokio::time::sleep(self.time_limit) => Err(GuestError::TimeOut(self.time_limit)),
            _ = tokio::signal::ctrl_c() => Err(GuestError::Interrupted),
            _ = terminate.recv() => Err(GuestError::Interrupted),
        };
        guest.end().await;
        for relay in relays {
            // A relay that panicked has lost output, which the guest's status does not depend on.
            let _ = relay.join();
        }
        outcome?;
        let status = fs::read_to_string(work.0.join(STATUS)).ok();
        match status.and_then(|text| text.trim().parse().ok()) {
            Some(status) => Ok(status),
            None => Err(GuestError::NoStatus(log_tail(&work.0))),
        }
    }

    fn start_uml(&self, work: &Path, stdout: &OwnedFd, stderr: &OwnedFd) -> Result<Child, GuestError> {
        let program = program().ok_or(GuestError::NotInstalled)?;
        let log = File::create(work.join(KERNEL_LOG)).map_err(GuestError::start("kernel log"))?;
        let mut command = self.kernel_command(&program, work, stdout, stderr);
        let log_too = log.try_clone().map_err(GuestError::start("kernel log"))?;
        if !REGISTERS.is_empty() {
            let library = work.join("registers.so");
            fs::write(&library, REGISTERS).map_err(GuestError::start("work directory"))?;
            command.env("LD_PRELOAD", library);
        }
        command.stdin(Stdio::null()).stdout(log_too).stderr(log).kill_on_drop(true);
        let affinity = pin_to_one_cpu();
        let child = command.spawn().map_err(GuestError::start(PROGRAM));
        if let Some(before) = affinity {
            // Best effort, as the pinning was.
            let _ = sched_setaffinity(Pid::from_raw(0), &before);
        }
        child
    }

    /// What the init reads, since a kernel's command line is short and knows no quoting.
    fn write_files(&self, work: &Path) -> io::Result<()> {
        let mut command = Vec::new();
        for word in &self.command {
            command.extend_from_slice(word.as_bytes());
            command.push(0);
        }
        fs::write(work.join(COMMAND), command)?;
        let mut environment = Vec::new();
        for (name, value) in env::vars_os().chain(self.environment.iter().cloned()) {
            environment.extend_from_slice(name.as_bytes());
            environment.push(b'=');
            environment.extend_from_slice(value.as_bytes());
            environment.push(0);
        }
        fs::write(work.join(ENVIRONMENT), environment)?;
        fs::write(work.join(DIRECTORY), env::current_dir()?.as_os_str().as_bytes())?;
        if io::stdout().is_terminal() {
            fs::write(work.join(TERMINAL), [])?;
        }
        // If this process is killed nobody is left to end the guest, so it ends itself a little later.
        let limit = self.time_limit.saturating_add(OWN_LIMIT_LATER);
        fs::write(work.join(LIMIT), limit.as_secs().to_string())?;
        Ok(())
    }

    fn kernel_command(&self, program: &Path, work: &Path, stdout: &OwnedFd, stderr: &OwnedFd) -> Command {
        let mut init = OsString::from("init=");
        init.push(env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into()));
        let mut variable = OsString::from(format!("{WORK_VARIABLE}="));
        variable.push(work);
        let mut command = Command::new(program);
        command
            .args(["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "ssl=null"])
            .arg(init)
            .arg(variable)
            .arg(format!("mem={}", self.memory))
            .arg(format!("umid={}", getpid()))
            // Two seconds of boot go into measuring what no guest needs.
            .args(["lpj=4000000", "pty.legacy_count=0"])
            .arg(
                "initcall_blacklist=raid6_select_algo,init_zswap,init_jfs_fs,init_btrfs_fs,calibrate_xor_blocks",
            )
            // Console 0 is the kernel's own, 1 and 2 are the command's output and errors.
            .args(["con=null", "con0=null,fd:2"])
            .arg(format!("con1=null,fd:{}", stdout.as_raw_fd()))
            .arg(format!("con2=null,fd:{}", stderr.as_raw_fd()))
            // The kernel keeps its pid file and control socket below HOME.
            .env("HOME", work);
        command
    }
}

/// A directory of our own, removed with the value.
struct WorkDir(PathBuf);

impl WorkDir {
    fn create() -> io::Result<Self> {
        // Not TMPDIR: the guest hides /tmp-like places it mounts itself, and reads this one through hostfs.
        Ok(Self(mkdtemp("/var/tmp/routed-guest.XXXXXX")?))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // Nothing to be done about it if it stays.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The guest's process. The kernel makes itself a session leader, and its processes outlive it if it is killed
/// alone: the whole group is ended.
struct RunningGuest {
    child: Child,
    work: PathBuf,
}

impl RunningGuest {
    async fn end(&mut self) {
        let Some(pid) = self.child.id() else { return };
        self.kill_group();
        if let Ok(pid) = i32::try_from(pid) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait().await;
    }

    fn kill_group(&self) {
        let Ok(entries) = fs::read_dir(self.work.join(".uml")) else { return };
        for entry in entries.flatten() {
            let pid = fs::read_to_string(entry.path().join("pid")).ok();
            if let Some(pid) = pid.and_then(|text| text.trim().parse::<i32>().ok()).filter(|pid| *pid > 1) {
                let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

impl Drop for RunningGuest {
    fn drop(&mut self) {
        if self.child.id().is_some() {
            self.kill_group();
        }
    }
}

/// Returns a pipe whose writing end a child inherits under the same number.
fn inheritable_pipe() -> io::Result<(File, OwnedFd)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&write, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok((File::from(read), write))
}

fn relay(mut from: File, mut to: impl Write) {
    let mut buffer = [0; 8192];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer) else { return };
        let Some(text) = buffer.get(..length) else { return };
        if to.write_all(text).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

/// Returns the guest has one CPU, but its kernel and its programs are processes of ours that hand over at each system
/// call: on one CPU of the host that is up to twice as fast. Returns the affinity to restore.
fn pin_to_one_cpu() -> Option<CpuSet> {
    let before = sched_getaffinity(Pid::from_raw(0)).ok()?;
    let allowed: Vec<usize> = (0..CpuSet::count()).filter(|i| before.is_set(*i) == Ok(true)).collect();
    // By turns, so that guests side by side do not share one.
    let turn = usize::try_from(getpid().as_raw()).ok()? % allowed.len().max(1);
    let mut one = CpuSet::new();
    one.set(*allowed.get(turn)?).ok()?;
    sched_setaffinity(Pid::from_raw(0), &one).ok()?;
    Some(before)
}

fn log_tail(work: &Path) -> String {
    // What QEMU and the file server say comes last.
    let logs = [KERNEL_LOG, qemu::LOG, qemu::FILE_SERVER_LOG];
    let log = logs.map(|name| fs::read(work.join(name)).unwrap_or_default()).concat();
    let text = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LOG_TAIL)..).unwrap_or_default().join("\n")
}
