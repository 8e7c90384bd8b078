//! Whole clusters: `routectl lab` and the guest it runs in, as people run them.

mod clusters;
mod guest;
mod programs;
