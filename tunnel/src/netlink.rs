//! The kernel through rtnetlink.
//!
//! Two ways lead to it. Links and their addresses change seldom and go through the `rtnetlink` crate
//! ([`Connection`]). Routes, next-hop objects and neighbours come by the thousand and go through [`Socket`], many
//! to a system call, which that crate has no means for; so does all that is read. Routes, which come by the
//! hundred thousand, are written by a thread of their own, so that one batch is made while the kernel has another.

mod connection;
mod flush;
mod kernel;
pub mod links;
pub mod monitor;
pub mod neighbours;
pub mod nexthops;
pub mod policy;
pub mod routes;
pub mod sight;
pub mod socket;
pub mod wire;
mod writer;

pub use connection::Connection;
pub use flush::{Flushed, flush};
pub use kernel::Kernel;
pub use socket::{KernelError, Socket};
