//! The task against a real kernel, in network namespaces.

mod cluster;
mod connection;
mod edges;
mod firewall;
mod harness;
mod many;
mod packets;
mod rooms;
mod shared;
