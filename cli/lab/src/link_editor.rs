//! Changes of links, addresses and routes in the calling thread's network namespace.

use nix::{errno::Errno, net::if_::if_nametoindex};
use rtnetlink::packet_route::route::RouteMessage;
use tokio::runtime::Runtime;
use tunnel::netlink::{KernelError, LinkConnection, links::LinkChange};

use super::error::LabError;

/// A netlink connection with its runtime. Both stay in the namespace in which they were created.
pub(super) struct LinkEditor {
    runtime: Runtime,
    connection: LinkConnection,
}

impl LinkEditor {
    /// Opens a connection.
    ///
    /// # Errors
    /// The errors of the socket.
    pub(super) fn open() -> Result<Self, LabError> {
        // One thread: other threads might not be in this namespace.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(LabError::system("runtime"))?;
        let inside = runtime.enter();
        let connection = LinkConnection::open().map_err(LabError::system("netlink"))?;
        drop(inside);
        Ok(Self { runtime, connection })
    }

    /// Makes one change.
    ///
    /// # Errors
    /// The errors of the kernel.
    pub(super) fn change(&mut self, change: LinkChange) -> Result<(), KernelError> {
        self.runtime.block_on(self.connection.change(change))
    }

    /// Makes changes until one is refused. `what` names them in errors.
    ///
    /// # Errors
    /// The errors of the kernel.
    pub(super) fn change_all(
        &mut self,
        what: &'static str,
        changes: impl IntoIterator<Item = LinkChange>,
    ) -> Result<(), LabError> {
        changes
            .into_iter()
            .try_for_each(|change| self.change(change))
            .map_err(|source| LabError::Kernel { what, source })
    }

    /// Adds routes until one is refused. `what` names them in errors.
    ///
    /// # Errors
    /// The errors of the kernel.
    pub(super) fn add_routes(
        &mut self,
        what: &'static str,
        routes: impl IntoIterator<Item = RouteMessage>,
    ) -> Result<(), LabError> {
        routes
            .into_iter()
            .try_for_each(|route| {
                self.runtime.block_on(self.connection.execute(|h| h.route().add(route).execute()))
            })
            .map_err(|source| LabError::Kernel { what, source })
    }
}

/// Returns the index of an interface of the calling thread's namespace.
///
/// # Errors
/// There is no interface of that name.
pub(super) fn index_of(name: &str) -> Result<u32, LabError> {
    if_nametoindex(name).map_err(|errno| match errno {
        Errno::ENODEV => LabError::NoInterface(name.to_owned()),
        errno => LabError::System { what: "interfaces", source: errno.into() },
    })
}
