//! The watch of a directory of resources, which yields each state that differs from the last.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout_at};

use super::directory::{self, DirectoryTree, SourceFile, io_error};
use super::{StoreError, StoreUpdate};
use resource::{Document, ParseCache};

/// The capacity of the channel. One state waits while the daemon applies the last one; newer ones
/// are read when it is received.
const UPDATES: usize = 1;
/// The quiet time after one file was replaced, or written and closed, before it is read. Mostly
/// this is a complete change, but a user who moves several files moves them in quick succession.
const BRIEF: Duration = Duration::from_micros(300);
/// The quiet time after several events, so that files written together become one state.
const QUIET: Duration = Duration::from_millis(3);
/// The quiet time while a file has been created and not closed.
const UNFINISHED: Duration = Duration::from_millis(50);
/// The longest delay of a reading while files keep changing.
const PATIENCE: Duration = Duration::from_secs(1);

/// A wrapper that implements `AsRawFd`, which `AsyncFd` needs and nix's type lacks.
struct InotifyFd(Inotify);

impl AsRawFd for InotifyFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Starts to watch `directory`. `previous` was read before. The directory is not read while
/// `writing` is locked.
pub(super) fn start(
    directory: PathBuf,
    previous: DirectoryTree,
    writing: Arc<Mutex<()>>,
) -> Result<mpsc::Receiver<StoreUpdate>, StoreError> {
    let fail = || io_error("watching (raise fs.inotify.max_user_instances?)", &directory);
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
        .map_err(|errno| fail()(errno.into()))?;
    // `register`, its successor, is unsafe to call: its contract is the one that `InotifyFd`
    // keeps anyway, one descriptor, owned and open for its lifetime.
    #[allow(deprecated)]
    let watches = Arc::new(AsyncFd::new(InotifyFd(inotify)).map_err(fail())?);
    let (updates, receiver) = mpsc::channel(UPDATES);
    let DirectoryTree { files, directories, .. } = previous;
    let reader = DirectoryReader { directory, watches, directories, cache: ParseCache::default() };
    tokio::spawn(run(reader, files, writing, updates));
    Ok(receiver)
}

async fn run(
    mut reader: DirectoryReader,
    mut previous: Vec<SourceFile>,
    writing: Arc<Mutex<()>>,
    updates: mpsc::Sender<StoreUpdate>,
) {
    let (directory, watches) = (reader.directory.clone(), Arc::clone(&reader.watches));
    // The parent reports the replacement of the directory; its events about other names are
    // ignored.
    let parent = directory.parent().and_then(|parent| add(&watches, parent));
    let is_noise = |event: &InotifyEvent| is_noise(event, parent, &directory);
    let mut last: Option<StoreUpdate> = None;
    loop {
        let update = {
            // The files that the store itself writes together are one change.
            let _nobody_writes = writing.lock().await;
            match reader.read(std::mem::take(&mut previous)).await {
                Some(update) => update,
                None => return,
            }
        };
        if !same(last.as_ref(), &update) {
            last = Some(update.clone());
            if updates.send(update).await.is_err() {
                return;
            }
        }
        let first = tokio::select! {
            () = updates.closed() => return,
            events = changed(&watches, &is_noise) => match events {
                Ok(events) => events,
                Err(error) => {
                    tracing::error!(%error, directory = %directory.display(), "resources are no longer watched");
                    return;
                }
            },
        };
        if !is_one_step(&first) || more_follows(&watches).await {
            settle(&watches, &is_noise, first).await;
        }
    }
}

/// Returns whether the events are about one file that was renamed into place, or written and
/// closed.
fn is_one_step(events: &[InotifyEvent]) -> bool {
    let whole = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
    // The old name of a renamed file does not matter.
    let mut put = events.iter().filter(|event| !event.mask.contains(AddWatchFlags::IN_MOVED_FROM));
    put.next().is_some_and(|event| event.mask.intersects(whole)) && put.next().is_none()
}

/// Returns whether further events come within [`BRIEF`], which is below the resolution of the
/// runtime's clock.
async fn more_follows(watches: &Arc<AsyncFd<InotifyFd>>) -> bool {
    let watches = Arc::clone(watches);
    let wait = move || {
        let events = PollFd::new(watches.get_ref().0.as_fd(), PollFlags::POLLIN);
        ppoll(&mut [events], Some(BRIEF.into()), None).is_ok_and(|ready| ready > 0)
    };
    tokio::task::spawn_blocking(wait).await.unwrap_or(true)
}

/// The reader of the directory.
struct DirectoryReader {
    directory: PathBuf,
    watches: Arc<AsyncFd<InotifyFd>>,
    /// The directories of the last reading.
    directories: Vec<PathBuf>,
    /// The documents of the last reading, without their texts.
    cache: ParseCache,
}

impl DirectoryReader {
    /// Reads the tree. Every directory is watched before it is read. `previous` are files that
    /// were read before. Returns `None` if the runtime ends.
    async fn read(&mut self, mut previous: Vec<SourceFile>) -> Option<StoreUpdate> {
        // All of them are watched again: a directory that was deleted and created is a
        // different one.
        let all = std::mem::take(&mut self.directories).into_iter().chain([self.directory.clone()]);
        let mut watched: HashSet<PathBuf> = all.filter(|path| add(&self.watches, path).is_some()).collect();
        loop {
            let (root, cache) = (self.directory.clone(), std::mem::take(&mut self.cache));
            let (tree, update) =
                tokio::task::spawn_blocking(move || read_whole(&root, previous, &cache)).await.ok()?;
            let new: Vec<PathBuf> =
                tree.directories.iter().filter(|path| !watched.contains(*path)).cloned().collect();
            if new.is_empty() {
                self.directories.clone_from(&tree.directories);
                self.cache = tree.into_parse_cache();
                return Some(update);
            }
            for path in new {
                if add(&self.watches, &path).is_none() {
                    tracing::warn!(directory = %path.display(), "can't be watched: raise fs.inotify.max_user_watches");
                }
                watched.insert(path);
            }
            previous = tree.files;
        }
    }
}

fn read_whole(
    directory: &Path,
    previous: Vec<SourceFile>,
    cache: &ParseCache,
) -> (DirectoryTree, StoreUpdate) {
    let tree = directory::read_cached(directory, previous, cache);
    let update = tree.state();
    let is_clean = update.as_ref().is_ok_and(|state| state.warnings.is_empty());
    if is_clean || !tree.documents().any(Document::is_cached) {
        return (tree, update);
    }
    // Mistakes and warnings need the lines, which cached documents lack.
    let tree = directory::read(directory, Vec::new());
    let update = tree.state();
    (tree, update)
}

fn add(watches: &AsyncFd<InotifyFd>, path: &Path) -> Option<WatchDescriptor> {
    let what = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_DELETE_SELF;
    watches.get_ref().0.add_watch(path, what).ok()
}

/// Waits for at least one event and returns the events without noise.
async fn changed(
    watches: &AsyncFd<InotifyFd>,
    is_noise: &impl Fn(&InotifyEvent) -> bool,
) -> std::io::Result<Vec<InotifyEvent>> {
    loop {
        let mut ready = watches.readable().await?;
        match watches.get_ref().0.read_events() {
            Ok(mut events) => {
                events.retain(|event| !is_noise(event));
                if !events.is_empty() {
                    return Ok(events);
                }
            }
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Consumes further events until none has come for [`QUIET`], or for [`UNFINISHED`] while a file
/// was created and not closed; at most for [`PATIENCE`].
async fn settle(
    watches: &AsyncFd<InotifyFd>,
    is_noise: &impl Fn(&InotifyEvent) -> bool,
    first: Vec<InotifyEvent>,
) {
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
        events = match timeout_at(latest.min(Instant::now() + quiet), changed(watches, is_noise)).await {
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

/// Returns whether an update equals the last one.
fn same(last: Option<&StoreUpdate>, update: &StoreUpdate) -> bool {
    match (last, update) {
        (Some(Ok(last)), Ok(state)) => last.revision == state.revision,
        (Some(Err(last)), Err(mistakes)) => last == mistakes,
        _ => false,
    }
}
