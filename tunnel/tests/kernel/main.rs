//! The task against a real kernel, in network namespaces.

mod cluster;
mod edges;
mod harness;
