//! The cluster on one machine, and the guest kernel it runs in where this one cannot carry it.

pub mod guest;
