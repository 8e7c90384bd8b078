//! The kernel through rtnetlink.
//!
//! Two ways lead to it. Links and their addresses change seldom and go through the `rtnetlink` crate
//! ([`Connection`]). Routes, next-hop objects and neighbours come by the thousand and go through [`Socket`], many
//! to a system call, which that crate has no means for; so does all that is read. Routes, which come by the
//! hundred thousand, are written by a thread of their own, so that one batch is made while the kernel has another.

pub mod connection;
pub mod events;
pub mod links;
pub mod lookup;
pub mod neighbours;
pub mod nexthops;
pub mod routes;
pub mod rules;
pub mod socket;
pub mod wire;

pub use crate::kernel::{Flushed, Kernel, flush};
pub use connection::Connection;
pub use socket::{KernelError, Socket};
