//! The socket for what changes seldom, links and their addresses, driven by the `rtnetlink` crate.

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
    links::Change,
    socket::{EIO, ENOTCONN, ETIMEDOUT, KernelError, extended_ack},
};

/// The kernel answers inside the system call that asks. Only an answer for which it had no memory never comes.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// `struct nlmsghdr` of the refused request; the extended acknowledgement follows.
const REQUEST_HEADER_LEN: usize = 16;

/// Carries out requests one by one. Reading the kernel's state is left to [`super::Socket`]: the types of
/// `rtnetlink` refuse a message whose attributes a newer kernel has changed, and an observation must not fail
/// for something that it does not even look at.
#[derive(Debug)]
pub struct Connection {
    handle: Handle,
    task: JoinHandle<()>,
    port: u32,
    /// Errors carry the extended acknowledgement.
    explained: bool,
}

impl Connection {
    /// Opens one in the calling thread's network namespace, inside a tokio runtime, which drives it.
    ///
    /// # Errors
    /// Those of `socket` and `bind`.
    pub fn open() -> io::Result<Self> {
        Self::open_at(0)
    }

    fn open_at(port: u32) -> io::Result<Self> {
        let (mut connection, handle, _unsolicited) = new_connection()?;
        // An answer that never came must be told from an acknowledgement.
        connection.set_forward_ack(true);
        let socket = connection.socket_mut().socket_mut();
        socket.bind(&SocketAddr::new(port, 0))?;
        let mut bound = SocketAddr::new(0, 0);
        socket.get_address(&mut bound)?;
        // Without the first one (before Linux 4.3) the request's length would have to be known to find the second's.
        let explained = socket.set_cap_ack(true).and_then(|()| socket.set_ext_ack(true)).is_ok();
        Ok(Self { handle, task: tokio::spawn(connection), port: bound.port_number(), explained })
    }

    /// The socket's port: events caused through it carry it as `nlmsg_pid`. It never changes.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Carries out a change.
    ///
    /// # Errors
    /// As those of [`Self::execute`].
    pub async fn change(&mut self, change: Change) -> Result<(), KernelError> {
        match change {
            Change::CreateLink(message) => self.execute(|h| h.link().add(message).execute()).await,
            Change::SetLink(message) => self.execute(|h| h.link().change(message).execute()).await,
            Change::DeleteLink { index } => self.execute(|h| h.link().del(index).execute()).await,
            Change::AddAddress { index, address } => {
                self.execute(|h| {
                    let mut request = h.address().add(index, address.addr(), address.prefix_len()).replace();
                    if address.addr().is_ipv6() {
                        // A tunnel has no neighbours that could have the address as well.
                        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
                    }
                    request.execute()
                })
                .await
            }
            Change::DeleteAddress { index, address } => {
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

    /// Carries out any request of `rtnetlink` that is answered by an acknowledgement.
    ///
    /// # Errors
    /// The kernel's; `ENOTCONN` if the socket broke, `ETIMEDOUT` if the answer was lost: whether the request was
    /// carried out is unknown then. A broken socket is replaced by the next call.
    pub async fn execute<F>(&mut self, request: impl FnOnce(&Handle) -> F) -> Result<(), KernelError>
    where
        F: Future<Output = Result<(), Error>>,
    {
        if self.task.is_finished() {
            *self = Self::open_at(self.port)?;
        }
        let Ok(outcome) = timeout(ANSWER_WITHIN, request(&self.handle)).await else {
            return Err(KernelError { errno: ETIMEDOUT, message: "the answer was lost".to_owned() });
        };
        match outcome {
            Err(Error::NetlinkError(answer)) => match answer.code {
                None => Ok(()),
                Some(code) => {
                    let text = answer.header.get(REQUEST_HEADER_LEN..).filter(|_| self.explained);
                    let message = text.map(extended_ack).unwrap_or_default();
                    Err(KernelError { errno: code.get().saturating_neg(), message })
                }
            },
            // The answers ended without one.
            Ok(()) | Err(Error::RequestFailed) => {
                Err(KernelError { errno: ENOTCONN, message: "the netlink socket broke".to_owned() })
            }
            Err(error) => Err(KernelError { errno: EIO, message: error.to_string() }),
        }
    }
}
