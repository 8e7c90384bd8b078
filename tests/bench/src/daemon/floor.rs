//! The null reflector: this program, run once more.

use anyhow::Result;

use super::{Daemon, Reflector};
use crate::{bed::Bed, contender::Contender};

/// Starts it.
pub(super) fn start(contender: &Contender, bed: &Bed, reflector: &Reflector) -> Result<Daemon> {
    // It takes whoever calls.
    let Reflector { clients: _ } = reflector;
    Daemon::start(&contender.program, ["null-reflector"], bed.path("floor.log"))
}
