//! What an operator sees: everything that can go wrong on the way to a pod, done to a cluster and recognised.
//!
//! With IP-in-IP these run in a User-Mode Linux guest where this kernel has no such device.

mod advertised_routes;
mod doctor;
mod events;
mod explain;
mod fixture;
mod plan;
mod top;
