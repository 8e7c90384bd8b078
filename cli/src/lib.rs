//! Both programs: resources, datastores, daemon, control API, routectl.

pub mod control;
pub mod ctl;
pub mod daemon;
pub mod doctor;
pub mod explain;
pub mod ipam;
pub mod journal;
pub mod lab;
pub mod resource;
pub mod store;
