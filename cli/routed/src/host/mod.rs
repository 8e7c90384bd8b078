//! The host: file descriptors, memory, cloud detection, and the address of the tunnel devices.

pub(crate) mod cloud;
pub(crate) mod descriptors;
pub(crate) mod memory;
pub(crate) mod tunnel_address;
