//! Runs a command in a guest: a kernel with the modules that this one may lack, as a process.
//! User-Mode Linux starts in half a second; QEMU has the features that it lacks.
//!
//! The guest's init is this executable ([`init::become_init_if_asked`]). It sees the host's whole
//! root, copy on write: its writes go to guest memory and are lost at the end.

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
/// The package that contains [`PROGRAM`].
pub const PACKAGE: &str = "user-mode-linux";

/// The library that is preloaded into [`PROGRAM`], which otherwise fails on processors with more
/// registers than it supports (`cli/lab/preload`). Empty if the library was not built.
const REGISTERS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/registers.so"));

/// The variable with the work directory for the guest's init, on the kernel's command line.
const WORK_VARIABLE: &str = "ROUTED_GUEST";
/// The variable with the share of the host's root, under QEMU.
const ROOT_VARIABLE: &str = "ROUTED_GUEST_ROOT";
/// Files in the work directory.
const COMMAND: &str = "command";
const ENVIRONMENT: &str = "environment";
const DIRECTORY: &str = "directory";
const TERMINAL: &str = "terminal";
const STATUS: &str = "status";
const LIMIT: &str = "limit";
const KERNEL_LOG: &str = "kernel.log";
/// The number of lines of the kernel log that are shown when the guest ended without a status.
const LOG_TAIL: usize = 20;

/// The additional time after which the guest ends by itself.
const OWN_LIMIT_LATER: Duration = Duration::from_secs(10);

/// The machine that runs the guest's kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Machine {
    /// User-Mode Linux: fast, without nftables but for bridges
    Uml,
    /// QEMU with a kernel of /boot: slow, with all that distributions have
    Qemu,
}

/// A command to run in a guest, with its limits.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The machine.
    pub machine: Machine,
    /// Program and arguments. The program is looked up in the guest's `PATH`.
    pub command: Vec<OsString>,
    /// Environment variables in addition to those of this process.
    pub environment: Vec<(OsString, OsString)>,
    /// Memory of the guest, in the kernel's notation (`1G`).
    pub memory: String,
    /// The time limit, after which the guest is ended.
    pub time_limit: Duration,
}

/// The default memory of a guest. It is allocated on use only.
pub const DEFAULT_MEMORY: &str = "1G";
/// The default time limit of a guest, in seconds.
pub const DEFAULT_SECONDS: u64 = 300;

/// The reason why a guest had no exit status.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// There is no guest kernel.
    #[error("{PROGRAM} is not installed: apt-get install {PACKAGE}")]
    NotInstalled,
    /// A program or file that QEMU needs is missing.
    #[error("{what} is missing: apt-get install {package}")]
    Missing {
        /// The program or file.
        what: &'static str,
        /// The package that contains it.
        package: &'static str,
    },
    /// The command is empty.
    #[error("no command given: routectl guest -- COMMAND [ARGUMENT]...")]
    NoCommand,
    /// The work directory, a pipe or the program failed.
    #[error("the guest cannot be started: {what}: {source}")]
    Start {
        /// The operation.
        what: &'static str,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The time limit passed.
    #[error("the guest was ended after {0:?}: give it more with --seconds")]
    TimeOut(Duration),
    /// This process received a signal to end.
    #[error("interrupted; the guest was ended")]
    Interrupted,
    /// The guest ended without a status: its kernel panicked or the init failed.
    #[error("the guest ended without an exit status; its kernel's last words:\n{0}")]
    NoStatus(String),
}

impl GuestError {
    fn start(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| GuestError::Start { what, source }
    }

    /// Returns the exit status for the error, with the numbers of `timeout` and shells.
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
    /// Machine that runs the guest's kernel
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
    find(PROGRAM)
}

/// Returns the path of a program in `PATH`, if it is installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    env::split_paths(&path).map(|directory| directory.join(program)).find(|program| program.is_file())
}

impl Guest {
    /// Runs the command and returns its exit status; 128 and the signal's number if a signal ended
    /// it.
    ///
    /// # Errors
    /// There is no guest kernel, or the guest can't be started, runs too long, or dies.
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
            // Best effort, like the pinning.
            let _ = sched_setaffinity(Pid::from_raw(0), &before);
        }
        child
    }

    /// Writes the files for the init, since a kernel's command line is short and has no
    /// quoting.
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
        // If this process is killed, the guest ends itself a little later.
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
                        // Without this option the boot takes two seconds longer for a measurement
                        // that no guest needs.
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

/// A temporary directory, removed on drop.
struct WorkDir(PathBuf);

impl WorkDir {
    fn create() -> io::Result<Self> {
        // Not TMPDIR: the guest hides /tmp-like places it mounts itself, and reads this one through
        // hostfs.
        Ok(Self(mkdtemp("/var/tmp/routed-guest.XXXXXX")?))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // A failure leaves the directory behind.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The process of the guest. The kernel is a session leader whose processes outlive it if it is
/// killed alone, so the whole group is killed.
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

/// Creates a pipe whose writing end a child inherits under the same number.
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

/// Pins the guest to one CPU. Its kernel and programs are processes that switch at each system
/// call, which is up to twice as fast on one CPU. Returns the affinity to restore.
fn pin_to_one_cpu() -> Option<CpuSet> {
    let before = sched_getaffinity(Pid::from_raw(0)).ok()?;
    let allowed: Vec<usize> = (0..CpuSet::count()).filter(|i| before.is_set(*i) == Ok(true)).collect();
    // In turn, so that parallel guests use different CPUs.
    let turn = usize::try_from(getpid().as_raw()).ok()? % allowed.len().max(1);
    let mut one = CpuSet::new();
    one.set(*allowed.get(turn)?).ok()?;
    sched_setaffinity(Pid::from_raw(0), &one).ok()?;
    Some(before)
}

fn log_tail(work: &Path) -> String {
    // The output of QEMU and the file server comes last.
    let logs = [KERNEL_LOG, qemu::LOG, qemu::FILE_SERVER_LOG];
    let log = logs.map(|name| fs::read(work.join(name)).unwrap_or_default()).concat();
    let text = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LOG_TAIL)..).unwrap_or_default().join("\n")
}
