//! The kernel through rtnetlink.
//!
//! Two ways lead to it. Links and their addresses change seldom and go through the `rtnetlink` crate
//! ([`Connection`]). Routes, next-hop objects and neighbours come by the thousand and go through [`Socket`], many
//! to a system call, which that crate has no means for; so does all that is read.

mod connection;
mod kernel;
pub mod links;
pub mod monitor;
pub mod neighbours;
pub mod nexthops;
pub mod routes;
pub mod socket;
pub mod wire;

pub use connection::Connection;
pub use kernel::Kernel;
pub use socket::{KernelError, Socket};
