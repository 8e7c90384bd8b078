//! The socket for rare changes, those of links and their addresses, driven by the `rtnetlink`
//! crate.

use std::{
    future::Future,
    io,
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipnet::IpNet;
use netlink_sys::{AsyncSocket, SocketAddr};
use rtnetlink::{
    AddressMessageBuilder, Error, Handle, new_connection, packet_route::address::AddressHeaderFlags,
};
use tokio::{task::JoinHandle, time::timeout};

use super::{
    links::LinkChange,
    numbers::{EIO, ENOTCONN, ETIMEDOUT},
    socket::{KernelError, extended_ack},
};

/// Timeout of a response. The kernel responds within the system call that sends the request; only a
/// response that it had no memory for never arrives.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Length of the refused request's `struct nlmsghdr`; the extended acknowledgement follows it.
const REQUEST_HEADER_LEN: usize = 16;

/// A connection that executes requests one by one.
///
/// Kernel state is read through [`super::RequestSocket`]: the types of `rtnetlink` reject a message
/// whose attributes a newer kernel has changed, and an observation must not fail for an attribute
/// that it does not use.
#[derive(Debug)]
pub struct LinkConnection {
    handle: Handle,
    task: JoinHandle<()>,
    port: u32,
    /// True if errors carry the extended acknowledgement.
    extended: bool,
}

impl LinkConnection {
    /// Opens a connection in the calling thread's network namespace, inside a tokio runtime, which
    /// drives it.
    ///
    /// # Errors
    /// Those of `socket` and `bind`.
    pub fn open() -> io::Result<Self> {
        Self::open_at(0)
    }

    fn open_at(port: u32) -> io::Result<Self> {
        let (mut connection, handle, _unsolicited) = new_connection()?;
        // A missing response must be distinguishable from an acknowledgement.
        connection.set_forward_ack(true);
        let socket = connection.socket_mut().socket_mut();
        socket.bind(&SocketAddr::new(port, 0))?;
        let mut bound = SocketAddr::new(0, 0);
        socket.get_address(&mut bound)?;
        // Without NETLINK_CAP_ACK (before Linux 4.3) the position of the text depends on the request's length.
        let extended = socket.set_cap_ack(true).and_then(|()| socket.set_ext_ack(true)).is_ok();
        Ok(Self { handle, task: tokio::spawn(connection), port: bound.port_number(), extended })
    }

    /// Returns the socket's port, the `nlmsg_pid` of events caused through it. It never changes.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Executes a change of a link or of its addresses.
    ///
    /// # Errors
    /// Those of [`Self::execute`].
    pub async fn change(&mut self, change: LinkChange) -> Result<(), KernelError> {
        match change {
            LinkChange::CreateLink(message) => self.execute(|h| h.link().add(message).execute()).await,
            LinkChange::SetLink(message) => self.execute(|h| h.link().change(message).execute()).await,
            LinkChange::DeleteLink { index } => self.execute(|h| h.link().del(index).execute()).await,
            LinkChange::AddAddress { index, address } => {
                self.execute(|h| {
                    let mut request = h.address().add(index, address.addr(), address.prefix_len()).replace();
                    if address.addr().is_ipv6() {
                        // A tunnel has no neighbors that could have the same address.
                        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
                    }
                    request.execute()
                })
                .await
            }
            LinkChange::DeleteAddress { index, address } => {
                let message = match address {
                    IpNet::V4(net) => AddressMessageBuilder::<Ipv4Addr>::new()
                        .index(index)
                        .address(net.addr(), net.prefix_len())
                        .build(),
                    IpNet::V6(net) => AddressMessageBuilder::<Ipv6Addr>::new()
                        .index(index)
                        .address(net.addr(), net.prefix_len())
                        .build(),
                };
                self.execute(|h| h.address().del(message).execute()).await
            }
        }
    }

    /// Executes any request of `rtnetlink` that is acknowledged.
    ///
    /// # Errors
    /// The kernel's; `ENOTCONN` if the socket broke, `ETIMEDOUT` if the response was lost: it is
    /// unknown then if the request took effect. The next call replaces a broken socket.
    pub async fn execute<F>(&mut self, request: impl FnOnce(&Handle) -> F) -> Result<(), KernelError>
    where
        F: Future<Output = Result<(), Error>>,
    {
        if self.task.is_finished() {
            *self = Self::open_at(self.port)?;
        }
        let Ok(outcome) = timeout(RESPONSE_TIMEOUT, request(&self.handle)).await else {
            return Err(KernelError { errno: ETIMEDOUT, message: "the answer was lost".to_owned() });
        };
        match outcome {
            Err(Error::NetlinkError(answer)) => match answer.code {
                None => Ok(()),
                Some(code) => {
                    let text = answer.header.get(REQUEST_HEADER_LEN..).filter(|_| self.extended);
                    let message = text.map(extended_ack).unwrap_or_default();
                    Err(KernelError { errno: code.get().saturating_neg(), message })
                }
            },
            // The stream of responses ended without an acknowledgement.
            Ok(()) | Err(Error::RequestFailed) => {
                Err(KernelError { errno: ENOTCONN, message: "the netlink socket broke".to_owned() })
            }
            Err(error) => Err(KernelError { errno: EIO, message: error.to_string() }),
        }
    }
}
