//! InotifyFd a directory of resources and yields each state that differs from the last.

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

/// One state waits while the daemon works on the last; newer ones are read when it is taken.
const UPDATES: usize = 1;
/// Quiet time after one file was replaced, or written to its end, before it is read: as it is one step it is mostly a
/// whole change, but who moves several files moves them one right after the other.
const BRIEF: Duration = Duration::from_micros(300);
/// The same after anything more, so that several written together are one state.
const QUIET: Duration = Duration::from_millis(3);
/// The same while a file is there that is not written to its end.
const UNFINISHED: Duration = Duration::from_millis(50);
/// Reading is put off no longer than this however long files keep changing.
const PATIENCE: Duration = Duration::from_secs(1);

/// `AsyncFd` wants `AsRawFd`, which nix's type doesn't have.
struct InotifyFd(Inotify);

impl AsRawFd for InotifyFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// InotifyFd `directory`, of which `previous` was read before. It is not read while `writing` is held.
pub(super) fn start(
    directory: PathBuf,
    previous: DirectoryTree,
    writing: Arc<Mutex<()>>,
) -> Result<mpsc::Receiver<StoreUpdate>, StoreError> {
    let fail = || io_error("watching (raise fs.inotify.max_user_instances?)", &directory);
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
        .map_err(|errno| fail()(errno.into()))?;
    // `register`, its successor, is unsafe to call: it has the caller promise what `InotifyFd` gives
    // anyway, one descriptor, owned and open for as long as it lives.
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
    // The directory's own parent tells of its being replaced; events there about other names are noise.
    let parent = directory.parent().and_then(|parent| add(&watches, parent));
    let is_noise = |event: &InotifyEvent| is_noise(event, parent, &directory);
    let mut last: Option<StoreUpdate> = None;
    loop {
        let update = {
            // What the store itself writes is one change, however many files it is.
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

/// Returns whether one file was put into place, or written to its end, and nothing else.
fn is_one_step(events: &[InotifyEvent]) -> bool {
    let whole = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
    // Where a file comes from, and what no reader looks at, is of no interest.
    let mut put = events.iter().filter(|event| !event.mask.contains(AddWatchFlags::IN_MOVED_FROM));
    put.next().is_some_and(|event| event.mask.intersects(whole)) && put.next().is_none()
}

/// Returns whether there are further events within [`BRIEF`], of which the runtime's clock knows nothing.
async fn more_follows(watches: &Arc<AsyncFd<InotifyFd>>) -> bool {
    let watches = Arc::clone(watches);
    let wait = move || {
        let events = PollFd::new(watches.get_ref().0.as_fd(), PollFlags::POLLIN);
        ppoll(&mut [events], Some(BRIEF.into()), None).is_ok_and(|ready| ready > 0)
    };
    tokio::task::spawn_blocking(wait).await.unwrap_or(true)
}

/// Reads the directory again and again.
struct DirectoryReader {
    directory: PathBuf,
    watches: Arc<AsyncFd<InotifyFd>>,
    /// The directories of the last reading.
    directories: Vec<PathBuf>,
    /// The documents of the last reading; not their texts, of which there may be thousands.
    cache: ParseCache,
}

impl DirectoryReader {
    /// Reads the tree with every directory of it watched from before it was read; `previous` are files that
    /// were read before. `None`: the runtime ends.
    async fn read(&mut self, mut previous: Vec<SourceFile>) -> Option<StoreUpdate> {
        // All of them, as one that was made anew is another.
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
    // There is something to be said of it, for which the lines are needed.
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

/// Returns the next events but for noise; waits for at least one.
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

/// Takes further events until none has come for [`QUIET`], or for [`UNFINISHED`] while a file was made
/// and not closed; at most [`PATIENCE`].
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

/// Returns whether an update tells nothing new.
fn same(last: Option<&StoreUpdate>, update: &StoreUpdate) -> bool {
    match (last, update) {
        (Some(Ok(last)), Ok(state)) => last.revision == state.revision,
        (Some(Err(last)), Err(mistakes)) => last == mistakes,
        _ => false,
    }
}
