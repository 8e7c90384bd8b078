//! The task against a real kernel, in network namespaces.

mod cluster;
mod connection;
mod edge_cases;
mod firewall;
mod harness;
mod many_routes;
mod multipath;
mod namespaces;
mod packets;
