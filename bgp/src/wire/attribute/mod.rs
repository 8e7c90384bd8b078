//! Path attributes: what each is, and one verdict for each that is wrong (RFC 7606).

mod list;
mod read;
mod value;
mod verdict;

pub use list::{RawAttribute, RawAttributes, code, flag, push};
pub use read::{Attributes, Context};
pub use value::{Aggregator, MpReach, Origin, is_host, is_host_v4};
pub use verdict::{Fault, Verdict};
