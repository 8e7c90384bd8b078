//! What holds for every input from a peer: no panic, no hang, no allocation far beyond its size, and
//! what was understood is understood again after it was written.
//!
//! Each function takes one input. The fuzzers (`fuzz_targets/`) look for inputs that break it,
//! `tests/replay.rs` hands in those that are known.

mod bfd;
mod bounds;
mod codec;
mod session;

pub use bfd::bfd;
pub use codec::{attribute, frame, notification, open, update};
pub use session::session;

/// A function that takes an input.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 7] = [
    ("bfd", bfd),
    ("frame", frame),
    ("open", open),
    ("update", update),
    ("attribute", attribute),
    ("notification", notification),
    ("session", session),
];
