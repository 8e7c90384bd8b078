//! Path attributes, and the verdict on each error in one (RFC 7606).

mod context;
mod list;
mod read;
pub(in crate::wire) mod rule;
mod value;

pub use context::Context;
pub use list::{RawAttribute, RawAttributes, code, flag, push};
pub use read::Attributes;
pub use rule::{AttributeRule, Fault, RULES, UpdateVerdict};
pub use value::{Aggregator, MpReach, Origin, is_host, is_host_v4};
