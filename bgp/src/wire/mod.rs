//! Encoding and decoding of BGP messages. Decoding borrows from the receive buffer; encoding
//! appends to a buffer that is reused. No state, no clock, no sockets.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions))]

pub mod as_path;
pub mod attribute;
pub mod capability;
mod cursor;
pub mod encode;
pub mod error;
pub mod frame;
pub mod nlri;
pub mod notification;
pub mod open;
pub mod refresh;
pub mod update;

pub use error::WireError;
