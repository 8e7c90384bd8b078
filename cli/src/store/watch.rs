//! Watches a directory of resources and yields each state that differs from the last.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::tree::{self, SourceFile, Tree, io_error};
use super::{StoreError, Update};

/// One state waits while the daemon works on the last; newer ones are read when it is taken.
const UPDATES: usize = 1;
/// Quiet time after a change before files are read, so that several written together are one state.
const QUIET: Duration = Duration::from_millis(3);
/// The same while a file is there that is not written to its end.
const UNFINISHED: Duration = Duration::from_millis(50);
/// Reading is put off no longer than this however long files keep changing.
const PATIENCE: Duration = Duration::from_secs(1);

/// `AsyncFd` wants `AsRawFd`, which nix's type doesn't have.
struct Watches(Inotify);

impl AsRawFd for Watches {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

pub(super) fn start(directory: PathBuf, seen: Vec<SourceFile>) -> Result<mpsc::Receiver<Update>, StoreError> {
    let fail = || io_error("watching (raise fs.inotify.max_user_instances?)", &directory);
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
        .map_err(|errno| fail()(errno.into()))?;
    // `register`, its successor, is unsafe to call: it has the caller promise what `Watches` gives
    // anyway, one descriptor, owned and open for as long as it lives.
    #[allow(deprecated)]
    let watches = AsyncFd::new(Watches(inotify)).map_err(fail())?;
    let (updates, receiver) = mpsc::channel(UPDATES);
    tokio::spawn(run(directory, seen, watches, updates));
    Ok(receiver)
}

async fn run(
    directory: PathBuf,
    mut seen: Vec<SourceFile>,
    watches: AsyncFd<Watches>,
    updates: mpsc::Sender<Update>,
) {
    // The directory's own parent tells of its being replaced; events there about other names are noise.
    let parent = directory.parent().and_then(|parent| add(&watches, parent));
    let mut last: Option<Update> = None;
    loop {
        let mut watched = HashSet::new();
        // Kept no longer than the start: thousands of files in memory would be for nothing.
        let seen = std::mem::take(&mut seen);
        let update = match read(&directory, seen, &watches, &mut watched).await {
            Some(tree) => tree.contents().map(|contents| contents.loaded),
            None => return,
        };
        if !same(last.as_ref(), &update) {
            last = Some(update.clone());
            if updates.send(update).await.is_err() {
                return;
            }
        }
        let first = loop {
            tokio::select! {
                () = updates.closed() => return,
                events = changed(&watches) => match events {
                    Ok(events) if events.iter().all(|event| is_noise(event, parent, &directory)) => {}
                    Ok(events) => break events,
                    Err(error) => {
                        tracing::error!(%error, directory = %directory.display(), "resources are no longer watched");
                        return;
                    }
                },
            }
        };
        settle(&watches, first).await;
    }
}

/// Reads the tree with every directory of it watched from before it was read.
async fn read(
    directory: &Path,
    mut seen: Vec<SourceFile>,
    watches: &AsyncFd<Watches>,
    watched: &mut HashSet<PathBuf>,
) -> Option<Tree> {
    add(watches, directory);
    loop {
        let root = directory.to_owned();
        let tree = tokio::task::spawn_blocking(move || tree::read(&root, seen)).await.ok()?;
        let new: Vec<&PathBuf> = tree.directories.iter().filter(|path| !watched.contains(*path)).collect();
        if new.is_empty() {
            return Some(tree);
        }
        for path in new {
            if add(watches, path).is_none() {
                tracing::warn!(directory = %path.display(), "can't be watched: raise fs.inotify.max_user_watches");
            }
            watched.insert(path.clone());
        }
        seen = tree.files;
    }
}

fn add(watches: &AsyncFd<Watches>, path: &Path) -> Option<WatchDescriptor> {
    let what = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_DELETE_SELF;
    watches.get_ref().0.add_watch(path, what).ok()
}

/// The next events; waits for at least one.
async fn changed(watches: &AsyncFd<Watches>) -> std::io::Result<Vec<InotifyEvent>> {
    loop {
        let mut ready = watches.readable().await?;
        match watches.get_ref().0.read_events() {
            Ok(events) => return Ok(events),
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Takes further events until none has come for [`QUIET`], or for [`UNFINISHED`] while a file was made
/// and not closed; at most [`PATIENCE`].
async fn settle(watches: &AsyncFd<Watches>, first: Vec<InotifyEvent>) {
    let latest = Instant::now() + PATIENCE;
    let mut unfinished = HashSet::new();
    let mut events = first;
    loop {
        for event in events {
            let file = (event.wd, event.name);
            if event.mask.contains(AddWatchFlags::IN_CREATE) {
                unfinished.insert(file);
            } else {
                unfinished.remove(&file);
            }
        }
        let quiet = if unfinished.is_empty() { QUIET } else { UNFINISHED };
        events = match timeout_at(latest.min(Instant::now() + quiet), changed(watches)).await {
            Ok(Ok(more)) if Instant::now() < latest => more,
            _ => return,
        };
    }
}

fn is_noise(event: &InotifyEvent, parent: Option<WatchDescriptor>, directory: &Path) -> bool {
    let elsewhere = event.name.as_deref() != directory.file_name();
    let bookkeeping = event.mask.intersects(AddWatchFlags::IN_IGNORED);
    bookkeeping || (Some(event.wd) == parent && elsewhere)
}

/// Whether an update tells nothing new.
fn same(last: Option<&Update>, update: &Update) -> bool {
    match (last, update) {
        (Some(Ok(last)), Ok(loaded)) => last.revision == loaded.revision,
        (Some(Err(last)), Err(mistakes)) => last == mistakes,
        _ => false,
    }
}
