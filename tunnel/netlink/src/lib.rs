//! Access to the kernel through rtnetlink.
//!
//! Changes of links and their addresses are rare and go through the `rtnetlink` crate
//! ([`LinkConnection`]). Routes, next-hop objects and neighbors are numerous and go through
//! [`RequestSocket`], many requests per system call, which that crate does not support; so does
//! everything that is read.

pub mod connection;
pub mod events;
pub mod links;
pub mod lookup;
pub mod neighbours;
pub mod nexthops;
pub mod nftables;
pub mod numbers;
pub mod routes;
pub mod rules;
pub mod socket;
pub mod wire;

pub use connection::LinkConnection;
pub use socket::{KernelError, RequestSocket};
