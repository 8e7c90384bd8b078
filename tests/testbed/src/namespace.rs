//! Network namespaces, each with a thread that runs work in it on request.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, SyncSender},
    thread::{self, JoinHandle},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

type Job = Box<dyn FnOnce() + Send>;

/// A job for the thread. Callers wait for the result, so there is one at a time.
const JOBS: usize = 1;
/// The namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";
/// The directory of the names of `ip netns`.
const NAMES: &str = "/run/netns";

/// A network namespace. It exists as long as this value, the processes in it, or its name if it
/// has one.
pub struct Namespace {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    file: File,
}

impl Namespace {
    /// Creates a namespace.
    ///
    /// # Errors
    /// `EPERM` without the privilege.
    pub fn create() -> io::Result<Self> {
        let (jobs, work): (SyncSender<Job>, Receiver<Job>) = mpsc::sync_channel(JOBS);
        let (ready, started) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("namespace".into()).spawn(move || {
            let entered =
                unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from).and_then(|()| File::open(OWN));
            let failed = entered.is_err();
            if ready.send(entered).is_err() || failed {
                return;
            }
            for job in work {
                job();
            }
        })?;
        let file = started.recv().map_err(|_| io::Error::other("the namespace's thread ended"))??;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), file })
    }

    /// Runs `work` on a new thread in a new namespace, which is removed afterwards unless a
    /// process or a socket of it remains.
    ///
    /// # Errors
    /// `EPERM` without the privilege, and a thread that can't be started.
    ///
    /// # Panics
    /// `work` panics.
    pub fn scoped<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let entered = thread::Builder::new().name("namespace".into()).spawn_scoped(scope, || {
                unshare(CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            })?;
            entered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs work in the namespace and waits for its result. Processes that it starts are in the
    /// namespace too.
    ///
    /// # Errors
    /// The work panicked, now or in an earlier call.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let gone = || io::Error::other("the namespace's thread ended");
        let (answer, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move || {
            // The caller waits for the result.
            let _ = answer.send(work());
        });
        self.jobs.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())
    }

    /// Returns the file descriptor of the namespace, for netlink messages.
    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Assigns a name, with which the namespace outlives this process and `ip netns exec` finds
    /// it.
    ///
    /// # Errors
    /// The errors of the file system, and a name that exists.
    pub fn name(&self, name: &str) -> io::Result<PathBuf> {
        std::fs::create_dir_all(NAMES)?;
        let path = Path::new(NAMES).join(name);
        File::create_new(&path)?;
        let target = path.clone();
        let bound = self.run(move || {
            mount(Some(OWN), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(io::Error::from)
        })?;
        if let Err(error) = bound {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok(path)
    }

    /// Removes a name.
    ///
    /// # Errors
    /// The errors of the file system.
    pub fn unname(path: &Path) -> io::Result<()> {
        umount2(path, MntFlags::MNT_DETACH)?;
        std::fs::remove_file(path)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The thread ends with its last job.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
