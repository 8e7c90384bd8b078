//! Network namespaces, each entered by one thread of its own that works in it on request.

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

/// One job at a time: whoever asks waits for the answer.
const JOBS: usize = 1;
/// The namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";
/// Where `ip netns` looks for names.
const NAMES: &str = "/run/netns";

/// A network namespace. It lives as long as this value and the processes started in it, or as its name if it
/// was given one.
pub struct Namespace {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    file: File,
}

impl Namespace {
    /// Makes a new one.
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

    /// Runs `work` on a thread of its own in a new namespace, which is gone afterwards unless a process or a socket of
    /// it stays.
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

    /// Runs something in the namespace and waits for its answer. Processes that it starts are in the namespace too.
    ///
    /// # Errors
    /// When the work panicked, now or at an earlier call.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let gone = || io::Error::other("the namespace's thread ended");
        let (answer, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move || {
            // Whoever asked waits until it hears.
            let _ = answer.send(work());
        });
        self.jobs.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())
    }

    /// Returns the descriptor that stands for it in netlink messages.
    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Gives it a name, by which it outlives this process and `ip netns exec` finds it.
    ///
    /// # Errors
    /// Those of the file system, and when the name is taken.
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

    /// Takes a name away again.
    ///
    /// # Errors
    /// Those of the file system.
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
