//! Exit points beside a network that drops things: fallback and return, without losing what the network let through.
//!
//! With IP-in-IP these run in a User-Mode Linux guest where this kernel has no such device.

mod drain_and_flush;
mod drift;
mod fallback;
mod matrix;
mod multipath;
mod outage;
mod probes;
mod restart;
mod switches;
