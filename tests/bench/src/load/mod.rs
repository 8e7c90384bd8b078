//! The load tool: one process plays all senders and receivers of a trial.
//!
//! Everything that is sent is encoded before the clock starts; what is received is scanned without an
//! allocation and kept as one bit per prefix and receiver, so that duplicates don't count. Receivers are
//! complete when they hold exactly the wanted set; a prefix that nobody announced, or one with
//! another's next hop, fails the trial.

mod blocks;
mod client;
mod fleet;
mod full_table;
mod next_hops;
mod random;
mod received_prefixes;
mod scan;
mod universe;
mod wire;

pub use blocks::{Senders, blocks, probe};
pub use client::{AS_NUMBER, client_address};
pub use fleet::{Fleet, Goal, HOLD_TIME, PORT, Role, SessionFailure};
pub use full_table::{FullTable, full_table};
pub use next_hops::{BLOCK_LENGTH, NextHopLoad};
pub use received_prefixes::ReceivedPrefixes;
pub use scan::{ScanResult, scan};
pub use universe::{Origin, PROBER, Universe};
pub use wire::{handshake, pieces};
