//! The daemon: its own configuration and how its parts are put together.

pub mod config;
