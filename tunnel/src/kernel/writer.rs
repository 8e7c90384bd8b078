//! The thread that writes and lists routes: the kernel needs a microsecond for each, within the
//! system call.

use std::{
    collections::VecDeque,
    io,
    sync::mpsc::{Receiver as WriterJobs, SyncSender, sync_channel},
    thread,
};

use tokio::sync::mpsc;

use super::translation::{listed_route, write_route};
use crate::{
    dataplane::{DataplaneError, ListedRoute, MAX_BATCH, MAX_IN_FLIGHT},
    fib::RouteOp,
    netlink::{RequestSocket, numbers::ENOTCONN, routes, wire::Batch},
};

/// Routes of a listing that are passed on together.
const LISTING_PART: usize = 4096;
/// Changes that the caller writes itself while the thread is idle: two context switches cost more
/// than that.
const MAX_INLINE: usize = 16;
/// Parts of a listing that may be queued: they are processed faster than the kernel produces them.
const QUEUED_PARTS: usize = 4;

enum WriterJob {
    Write(Batch),
    List(u8),
}

/// The errors of a batch, and the batch for reuse.
struct CompletedBatch {
    batch: Batch,
    errors: Vec<(usize, DataplaneError)>,
}

/// A handle to the thread, which ends when this is dropped.
pub(super) struct Writer {
    jobs: SyncSender<WriterJob>,
    written: mpsc::Receiver<CompletedBatch>,
    listed: mpsc::Receiver<Result<Option<Vec<ListedRoute>>, DataplaneError>>,
    port: u32,
    sequence: u32,
    spare: Vec<Batch>,
    /// Number of batches that the thread has.
    queued: usize,
    /// Errors of batches that the caller wrote, all older than those that the thread has.
    inline: VecDeque<Vec<(usize, DataplaneError)>>,
}

impl Writer {
    /// Starts the thread in the calling thread's network namespace.
    ///
    /// # Errors
    /// Those of `socket`, `bind` and `clone`.
    pub(super) fn start() -> io::Result<Self> {
        let socket = RequestSocket::open()?;
        let port = socket.port();
        let (jobs, queue) = sync_channel(MAX_IN_FLIGHT);
        let (written_sender, written) = mpsc::channel(MAX_IN_FLIGHT);
        let (listed_sender, listed) = mpsc::channel(QUEUED_PARTS);
        thread::Builder::new()
            .name("routes".to_owned())
            .spawn(move || work(socket, &queue, &written_sender, &listed_sender))?;
        let (spare, inline) = (Vec::new(), VecDeque::new());
        Ok(Self { jobs, written, listed, port, sequence: 0, spare, queued: 0, inline })
    }

    /// Returns the socket's port, the `nlmsg_pid` of events caused through it.
    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// Writes changes; a few of them at once through `socket`.
    pub(super) fn submit(&mut self, socket: &mut RequestSocket, protocol: u8, ops: &[RouteOp]) {
        let mut batch = self.spare.pop().unwrap_or_default();
        batch.clear(self.sequence.wrapping_add(1));
        for op in ops {
            write_route(&mut batch, op, protocol);
        }
        batch.acknowledge();
        self.sequence = self.sequence.wrapping_add(batch.count());
        if ops.len() <= MAX_INLINE && self.queued == 0 {
            self.inline.push_back(execute(socket, &batch));
            self.spare.push(batch);
            return;
        }
        self.queued += 1;
        // If the thread has ended, `completed` reports that.
        let _ = self.jobs.send(WriterJob::Write(batch));
    }

    pub(super) async fn completed(&mut self) -> Vec<(usize, DataplaneError)> {
        if let Some(errors) = self.inline.pop_front() {
            return errors;
        }
        match self.written.recv().await {
            Some(written) => self.take_back(written),
            None => (0..MAX_BATCH).map(|i| (i, ended())).collect(),
        }
    }

    pub(super) fn try_completed(&mut self) -> Option<Vec<(usize, DataplaneError)>> {
        self.inline
            .pop_front()
            .or_else(|| self.written.try_recv().ok().map(|written| self.take_back(written)))
    }

    fn take_back(&mut self, written: CompletedBatch) -> Vec<(usize, DataplaneError)> {
        self.queued -= 1;
        if self.spare.len() < MAX_IN_FLIGHT {
            self.spare.push(written.batch);
        }
        written.errors
    }

    pub(super) fn list(&mut self, protocol: u8) {
        let _ = self.jobs.send(WriterJob::List(protocol));
    }

    pub(super) async fn listed(&mut self) -> Result<Option<Vec<ListedRoute>>, DataplaneError> {
        self.listed.recv().await.unwrap_or_else(|| Err(ended()))
    }
}

fn execute(socket: &mut RequestSocket, batch: &Batch) -> Vec<(usize, DataplaneError)> {
    let mut errors = Vec::new();
    let count = usize::try_from(batch.count()).unwrap_or(usize::MAX);
    socket.execute_encoded(batch.bytes(), batch.first(), count, &mut errors);
    errors.into_iter().map(|(position, error)| (position, error.into())).collect()
}

fn ended() -> DataplaneError {
    DataplaneError {
        errno: ENOTCONN,
        message: "the thread that writes routes has ended: restart routed".to_owned(),
    }
}

fn work(
    mut socket: RequestSocket,
    jobs: &WriterJobs<WriterJob>,
    written: &mpsc::Sender<CompletedBatch>,
    listed: &mpsc::Sender<Result<Option<Vec<ListedRoute>>, DataplaneError>>,
) {
    while let Ok(job) = jobs.recv() {
        // A failed send means that the receiver is gone, and with it the need for more.
        let sent = match job {
            WriterJob::Write(batch) => {
                let errors = execute(&mut socket, &batch);
                written.blocking_send(CompletedBatch { batch, errors }).is_ok()
            }
            WriterJob::List(protocol) => {
                let mut part = Vec::with_capacity(LISTING_PART);
                let outcome = routes::list_routes(&mut socket, protocol, |route| {
                    part.push(listed_route(&route));
                    if part.len() == LISTING_PART {
                        let full = std::mem::replace(&mut part, Vec::with_capacity(LISTING_PART));
                        let _ = listed.blocking_send(Ok(Some(full)));
                    }
                });
                let last = match outcome {
                    Ok(()) => {
                        listed.blocking_send(Ok(Some(part))).and_then(|()| listed.blocking_send(Ok(None)))
                    }
                    Err(error) => listed.blocking_send(Err(error.into())),
                };
                last.is_ok()
            }
        };
        if !sent {
            return;
        }
    }
}
