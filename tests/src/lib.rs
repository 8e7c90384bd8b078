//! What the test programs share.

pub mod bed;
pub mod interop;
