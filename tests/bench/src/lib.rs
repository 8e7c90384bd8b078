//! The benchmark: the same loads on `routed` and on the packaged BGP speakers, interleaved, side by side.
//!
//! A [`scenario::Scenario`] is run for one [`contender::Contender`] in a network namespace of its own
//! ([`bed::Bed`]) and answers with [`record::Measurement`]s.

pub mod bars;
pub mod bed;
pub mod contender;
pub mod daemon;
pub mod kernel;
pub mod load;
pub mod null_reflector;
pub mod plot;
pub mod record;
pub mod report;
pub mod run;
pub mod runner;
pub mod scenario;
pub mod setting;
pub mod statistics;
pub mod summary;
