//! Several paths to a prefix in one session (RFC 7911), in both directions.

pub(crate) mod receive;
pub(crate) mod send;
