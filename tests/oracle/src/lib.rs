//! Our decoder and two others', each bringing a message into the same form, so that a test can ask
//! whether they agree. The others were written by other people from the same documents, which makes
//! them witnesses that our own tests can't be.

pub mod bgp_rs_reader;
pub mod bgpkit_reader;
pub mod case;
pub mod contender;
pub mod message;
pub mod our_reader;
