//! The daemons under load: each is started from a generated configuration, and stopped with its owner.

mod bird;
mod floor;
mod frr;
mod gobgp;
mod openbgpd;
mod process;
pub(crate) mod routed;
mod usage;

use std::{net::Ipv4Addr, path::PathBuf};

use anyhow::Result;

pub use process::{Daemon, listening};
pub use usage::{Cpu, Memory};

use crate::{
    bed::Bed,
    contender::{Contender, Speaker},
    load::{PORT, client_address},
};

/// The configuration of a daemon: a route reflector at [`crate::bed::DAEMON`] whose clients connect
/// to it. It installs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reflector {
    /// The number of clients.
    pub clients: usize,
}

impl Reflector {
    /// Returns its clients' numbers and addresses.
    fn clients(&self) -> impl Iterator<Item = (usize, Ipv4Addr)> + use<> {
        (0..self.clients).map(|number| (number, client_address(number)))
    }

    /// Starts a contender as this reflector, and waits until it listens and has nothing more to do.
    ///
    /// # Errors
    /// When it is missing, ends, or takes too long.
    pub fn start(&self, contender: &Contender, bed: &Bed) -> Result<Daemon> {
        let mut daemon = match contender.speaker {
            Speaker::Routed => routed::start(contender, bed, self)?,
            Speaker::Bird => bird::start(contender, bed, self)?,
            Speaker::Frr => frr::start(contender, bed, self)?,
            Speaker::Gobgp => gobgp::start(contender, bed, self)?,
            Speaker::Openbgpd => openbgpd::start(contender, bed, self)?,
            Speaker::Floor => floor::start(contender, bed, self)?,
        };
        daemon.wait_until_listening(PORT)?;
        daemon.wait_until_quiet()?;
        Ok(daemon)
    }
}

/// The control socket of a `routed` that was started in a bed.
#[must_use]
pub fn control_socket(bed: &Bed) -> PathBuf {
    bed.path(routed::SOCKET)
}
