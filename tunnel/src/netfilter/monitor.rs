//! Tells when somebody changes our table.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};
use tokio::io::unix::AsyncFd;

use super::ruleset::TABLE;
use crate::netlink::wire::{Received, attributes, messages, string};

/// `NFNLGRP_NFTABLES` of `linux/netfilter/nfnetlink.h`.
const GROUP: u32 = 7;
/// `NFNL_SUBSYS_NFTABLES`, the upper octet of a message's kind.
const SUBSYSTEM: u16 = 10;
/// `NFPROTO_INET`
const FAMILY_INET: u8 = 1;
/// `struct nfgenmsg`: family, version, resource.
const HEADER: usize = 4;
/// The attribute that names the table, in messages of tables, chains, rules, sets, elements and objects alike.
const TABLE_ATTRIBUTE: u16 = 1;
/// Flags that share the 16 bits of an attribute's kind (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const KIND: u16 = 0x3fff;
/// Octets of one receive; of what is longer the head is enough.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// The event socket of nftables.
pub(super) struct Monitor {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Opens one in the calling thread's network namespace, inside a tokio runtime.
    ///
    /// # Errors
    /// Those of `socket` and `bind`: `EPERM` without CAP_NET_ADMIN, `EPROTONOSUPPORT` without nfnetlink.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 1 << (GROUP - 1)))?;
        // What `new` is deprecated for, a type whose descriptor changes, an OwnedFd is not; its successor is unsafe.
        #[allow(deprecated)]
        let socket = AsyncFd::new(socket)?;
        Ok(Self { socket, buffer: vec![0; RECEIVE_BUFFER] })
    }

    /// Waits until our table has changed, or may have: events that were lost count as well. Ours count too, since
    /// nothing in them says who made them. What is queued is taken in.
    ///
    /// # Errors
    /// Those of the socket; it is of no use any more then.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            let mut ours = false;
            loop {
                let received = ready
                    .try_io(|fd| Ok(recvfrom::<NetlinkAddr>(fd.get_ref().as_raw_fd(), &mut self.buffer)?));
                match received {
                    // Nothing more is queued.
                    Err(_would_block) => break,
                    // Only the kernel is believed.
                    Ok(Ok((length, Some(from)))) if from.pid() == 0 => {
                        let datagram = self.buffer.get(..length).unwrap_or_default();
                        ours |= messages(datagram).any(|message| is_ours(&message));
                    }
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) if error.raw_os_error() == Some(crate::netlink::socket::ENOBUFS) => {
                        ours = true;
                    }
                    Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(Err(error)) => return Err(error),
                }
            }
            if ours {
                return Ok(());
            }
        }
    }
}

fn is_ours(message: &Received<'_>) -> bool {
    let (Some(family), Some(rest)) = (message.payload.first(), message.payload.get(HEADER..)) else {
        return false;
    };
    message.kind >> 8 == SUBSYSTEM
        && *family == FAMILY_INET
        && attributes(rest).any(|(kind, value)| kind & KIND == TABLE_ATTRIBUTE && string(value) == TABLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::wire::Message;

    fn message(kind: u16, family: u8, table: &[u8]) -> Vec<u8> {
        Message::new(kind, 0, &[family, 0, 0, 0]).attribute(TABLE_ATTRIBUTE, table).finish(1)
    }

    fn ours(bytes: &[u8]) -> bool {
        messages(bytes).any(|message| is_ours(&message))
    }

    #[test]
    fn only_our_table_of_the_inet_family_counts() {
        assert!(ours(&message(0x0a06, FAMILY_INET, b"routed\0")));
        assert!(!ours(&message(0x0a06, FAMILY_INET, b"filter\0")));
        assert!(!ours(&message(0x0a06, 2, b"routed\0")), "the ip family");
        assert!(!ours(&message(0x0206, FAMILY_INET, b"routed\0")), "another subsystem");
        assert!(!ours(&message(0x0a06, FAMILY_INET, b"")));
        for cut in 0..message(0x0a06, FAMILY_INET, b"routed\0").len() {
            ours(&message(0x0a06, FAMILY_INET, b"routed\0")[..cut]);
        }
    }
}
