//! Properties that hold for every input from a peer: no panic, no hang, no allocation far beyond
//! the size of the input, and a decoded message has the same meaning after it is encoded again.
//!
//! Each function takes one input. The fuzzers (`fuzz_targets/`) search for inputs that violate a
//! property; `tests/replay.rs` runs the known ones.

mod bfd;
mod bounds;
mod codec;
mod session;

pub use bfd::bfd;
pub use codec::{attribute, frame, notification, open, update};
pub use session::session;

/// Function that processes an input.
pub type FuzzTarget = fn(&[u8]);

/// All targets with their names.
pub const TARGETS: [(&str, FuzzTarget); 7] = [
    ("bfd", bfd),
    ("frame", frame),
    ("open", open),
    ("update", update),
    ("attribute", attribute),
    ("notification", notification),
    ("session", session),
];
