//! A node in a cluster with a shared store: its registration, and the blocks it claims and
//! releases.

pub mod autodetect;
pub(crate) mod block_claims;
pub(crate) mod block_release;
pub(crate) mod registration;
