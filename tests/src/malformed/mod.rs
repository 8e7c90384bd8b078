//! Malformed and borderline messages, each with the outcome that the RFCs ask for, sent to a live
//! BGP speaker over TCP: `routed`, and for comparison the packaged ones.
//!
//! Three testers (an eBGP peer, a client of the reflector, an eBGP peer with two-octet AS numbers)
//! send the cases, two observers see what is passed on, and a bystander must not be disturbed.

pub mod case;
mod connection;
mod judge;
mod observer;
pub mod own_cases;
pub mod report;
mod run;
mod scene;
pub mod speaker;

pub use judge::{AcceptedOutcome, Outcome};
pub use run::{CaseResult, SpeakerResults, run};
