//! The journal: a bounded log of the daemon's events.
//!
//! Memory is bounded: each kind of event has its own buffer, so that many events of one kind do not
//! displace another kind, and texts are truncated. All buffers together take at most 2 MiB. The
//! rate of each kind is limited; events above the rate are counted and summarized.

mod ring;
mod route_summary;
pub(crate) mod sources;
mod task;

pub(crate) use ring::Journal;
pub(crate) use route_summary::RouteSummary;
pub(crate) use task::JournalHandle;
