//! What has happened to the daemon, kept for whoever asks later. Pure: the time is an argument.
//!
//! Memory is bounded: each kind of event has a number of places of its own, so that a flood of one kind pushes out none of
//! another, and texts are cut. All together take 2 MiB at most. Each kind may have so many events a second; of the rest
//! the journal says how many there were.

mod ring;
mod route_summary;
pub(crate) mod sources;
mod task;

pub(crate) use ring::Journal;
pub(crate) use route_summary::RouteSummary;
pub(crate) use task::JournalHandle;
