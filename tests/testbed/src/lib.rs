//! The test bed that tests, benchmarks, kernel tests and `routectl lab` share: namespaces, processes, guests, etcd
//! members and real BGP speakers.
//!
//! Parts that `routectl lab` uses return errors; the others panic, since a test that can't run must not pass.

pub mod bed;
pub mod daemon;
pub mod etcd;
pub mod etcd_cluster;
pub mod guest;
pub mod namespace;
pub mod patience;
pub mod process;
pub mod programs;
pub mod proxy;

pub use bed::Testbed;
pub use guest::{Guest, run_in_guest, with_ipip};
pub use namespace::Namespace;
pub use patience::{Patience, eventually, eventually_or};
pub use process::{Process, run};
pub use programs::product;
