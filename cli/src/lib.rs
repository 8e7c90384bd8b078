//! Both programs: resources, datastores, daemon, control API, routectl.

pub mod resource;
