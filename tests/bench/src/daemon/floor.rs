//! The null reflector: this program, started again.

use anyhow::Result;

use super::{Daemon, Reflector};
use crate::{bed::Bed, contender::Contender};

/// Starts it.
pub(super) fn start(contender: &Contender, bed: &Bed, reflector: &Reflector) -> Result<Daemon> {
    // It accepts every connection.
    let Reflector { clients: _ } = reflector;
    Daemon::start(&contender.program, ["null-reflector"], bed.path("floor.log"))
}
