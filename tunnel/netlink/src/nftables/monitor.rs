//! Notification of changes to the nftables table.

use std::io;

use super::ruleset::TABLE;
use crate::{
    events::{EventSocket, SocketEvent, Subsystem},
    numbers::{NFNL_SUBSYS_NFTABLES, NFNLGRP_NFTABLES, NFPROTO_INET, NFTA_TABLE_NAME},
    wire::{ReceivedMessage, attributes, string},
};

/// Length of `struct nfgenmsg` in octets: family, version, resource.
const NFGENMSG_LEN: usize = 4;

/// The event socket of nftables.
pub struct TableMonitor {
    socket: EventSocket,
}

impl TableMonitor {
    /// Opens the socket in the calling thread's network namespace, inside a tokio runtime.
    ///
    /// # Errors
    /// Those of [`EventSocket::open`].
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: EventSocket::open(Subsystem::Netfilter, &[NFNLGRP_NFTABLES], None, &[])? })
    }

    /// Waits until the table has changed or may have changed: lost events count as well, and so do
    /// changes of this process, since events do not name their cause. Queued events are consumed.
    ///
    /// # Errors
    /// Those of the socket, which is unusable then.
    pub async fn changed(&mut self) -> io::Result<()> {
        let relevant = |notification: SocketEvent<'_>| match notification {
            SocketEvent::RequestMessage(message) => is_ours(&message).then_some(()),
            SocketEvent::Overrun => Some(()),
        };
        self.socket.receive(usize::MAX, relevant).await.map(drop)
    }
}

fn is_ours(message: &ReceivedMessage<'_>) -> bool {
    let (Some(family), Some(rest)) = (message.payload.first(), message.payload.get(NFGENMSG_LEN..)) else {
        return false;
    };
    message.kind >> 8 == NFNL_SUBSYS_NFTABLES
        && *family == NFPROTO_INET
        && attributes(rest).any(|(kind, value)| kind == NFTA_TABLE_NAME && string(value) == TABLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{RequestMessage, messages};

    fn message(kind: u16, family: u8, table: &[u8]) -> Vec<u8> {
        RequestMessage::new(kind, 0, &[family, 0, 0, 0]).attribute(NFTA_TABLE_NAME, table).finish(1)
    }

    fn ours(bytes: &[u8]) -> bool {
        messages(bytes).any(|message| is_ours(&message))
    }

    #[test]
    fn only_our_table_of_the_inet_family_counts() {
        assert!(ours(&message(0x0a06, NFPROTO_INET, b"routed\0")));
        assert!(!ours(&message(0x0a06, NFPROTO_INET, b"filter\0")));
        assert!(!ours(&message(0x0a06, 2, b"routed\0")), "the ip family");
        assert!(!ours(&message(0x0206, NFPROTO_INET, b"routed\0")), "another subsystem");
        assert!(!ours(&message(0x0a06, NFPROTO_INET, b"")));
        for cut in 0..message(0x0a06, NFPROTO_INET, b"routed\0").len() {
            ours(&message(0x0a06, NFPROTO_INET, b"routed\0")[..cut]);
        }
    }
}
