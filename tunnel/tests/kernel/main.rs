//! The task against a real kernel, in network namespaces.

mod cluster;
mod connection;
mod edges;
mod harness;
mod many;
