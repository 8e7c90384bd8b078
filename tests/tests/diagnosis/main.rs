//! Diagnosis: every fault on the way to a pod is provoked in a cluster and recognized.
//!
//! Tests of IP-in-IP run in a User-Mode Linux guest if this kernel has no such device.

mod advertised_routes;
mod doctor;
mod events;
mod explain;
mod fixture;
mod plan;
mod top;
