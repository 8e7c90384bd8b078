//! Several paths to a prefix in one session (RFC 7911), in both directions.

pub(crate) mod receive;
pub(crate) mod send;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::path::SourceIx;

/// Maximum number of paths to one prefix that are accepted from one session; later ones are
/// ignored.
pub(crate) const MAX_PATHS: usize = 16;

/// Path identifiers by place and source, of the paths that have one.
pub(crate) type PathIds = HashMap<(u32, SourceIx), u32, FixedState>;
