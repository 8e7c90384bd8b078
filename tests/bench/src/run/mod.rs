//! The scenarios of the protocol: loads on a reflector that installs nothing.

mod phase;
mod reflector;

pub use reflector::scenarios;
