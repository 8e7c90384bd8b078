//! Exit points on a network that drops packets: fallback and return, without further loss.
//!
//! Tests of IP-in-IP run in a User-Mode Linux guest if this kernel has no such device.

mod drain_and_flush;
mod drift;
mod fallback;
mod matrix;
mod multipath;
mod outage;
mod probes;
mod restart;
mod switches;
