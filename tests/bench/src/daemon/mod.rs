//! The daemons under load: each is started from a generated configuration, and stopped with its owner.

mod process;
mod usage;

pub use process::{Daemon, listening};
pub use usage::{Cpu, Memory};
