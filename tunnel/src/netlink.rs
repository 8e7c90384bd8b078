//! The kernel through rtnetlink.

mod kernel;
pub mod links;
pub mod monitor;
pub mod neighbours;
pub mod nexthops;
pub mod routes;
pub mod socket;
pub mod wire;

pub use kernel::Kernel;
pub use socket::{KernelError, Socket};
