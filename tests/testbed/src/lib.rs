//! The test bed of tests, benchmarks, kernel tests and `routectl lab`.
//!
//! | Module | Contents |
//! |---|---|
//! | [`bed`], [`namespace`] | Directories, network namespaces and links |
//! | [`process`], [`programs`] | Processes, and the programs of the product |
//! | [`daemon`] | A `routed` process without a dataplane |
//! | [`etcd`], [`etcd_cluster`], [`proxy`] | Members and clusters of etcd, and a proxy in front of a member |
//! | [`mod@guest`] | Tests that run again in a guest |
//! | [`manifest`] | Texts of resources |
//! | [`patience`] | Waiting for other programs |
//!
//! Parts that `routectl lab` uses return errors; the others panic, since a test that can't run must
//! not pass.

pub mod bed;
pub mod daemon;
pub mod etcd;
pub mod etcd_cluster;
pub mod guest;
pub mod manifest;
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
