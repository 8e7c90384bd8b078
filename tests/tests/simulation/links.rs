//! Connections between nodes: latency, order, and what is lost.

use std::time::Instant;

use bgp::session::{Admission, PeerInput, Side};
use bgp::wire::frame;
use bgp::wire::notification::Notification;

use crate::world::{Event, World};

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct End {
    pub(crate) node: usize,
    pub(crate) peer: usize,
    pub(crate) side: Side,
}

pub(crate) struct Connection {
    pub(crate) ends: [End; 2],
    pub(crate) open: [bool; 2],
    /// The link is silent: octets are lost without an error.
    pub(crate) silent: bool,
    /// When the last octets towards each end arrive: TCP keeps the order.
    last: [Instant; 2],
    received: [Vec<u8>; 2],
}

impl World {
    pub(crate) fn dialled(&mut self, from: usize, to: usize, attempt: u64, lost: bool) {
        let current = self.nodes[from].attempts.get(&to) == Some(&attempt) && self.nodes[from].alive;
        if !current || lost || self.nodes[from].cut_off || self.nodes[to].cut_off {
            return;
        }
        if !self.nodes[to].alive {
            return self.feed(from, to, PeerInput::ConnectFailed);
        }
        self.nodes[from].attempts.remove(&to);
        let connection = self.connections.len();
        let ends = [
            End { node: from, peer: to, side: Side::Outgoing },
            End { node: to, peer: from, side: Side::Incoming },
        ];
        self.connections.push(Connection {
            ends,
            open: [true, true],
            silent: false,
            last: [self.now; 2],
            received: [Vec::new(), Vec::new()],
        });
        self.nodes[from].sockets.insert((to, true), connection);
        let admission = self.nodes[to].peers[&from].admission();
        if let Admission::Reject(code) = admission {
            let mut message = Vec::new();
            Notification::new(code).encode(&mut message);
            self.send(connection, 0, message);
            self.connections[connection].open[1] = false;
            self.close_towards(connection, 0);
        } else {
            if admission == Admission::AcceptSecond {
                self.swap_sides(to, from);
            }
            if let Some(old) = self.nodes[to].sockets.insert((from, false), connection) {
                let end = self.end_of(old, to);
                self.connections[old].open[end] = false;
                self.close_towards(old, 1 - end);
            }
            self.feed(to, from, PeerInput::Connected(Side::Incoming));
        }
        self.feed(from, to, PeerInput::Connected(Side::Outgoing));
    }

    pub(crate) fn end_of(&self, connection: usize, node: usize) -> usize {
        self.connections[connection].ends.iter().position(|end| end.node == node).unwrap()
    }

    pub(crate) fn send(&mut self, connection: usize, to: usize, octets: Vec<u8>) {
        if self.connections[connection].silent {
            return;
        }
        let latency = self.random.millis(1, 200);
        let at = (self.now + latency).max(self.connections[connection].last[to]);
        self.connections[connection].last[to] = at;
        self.at(at, Event::Octets { connection, to, octets });
    }

    pub(crate) fn close_towards(&mut self, connection: usize, to: usize) {
        if self.connections[connection].silent {
            return;
        }
        let latency = self.random.millis(1, 200);
        let at = (self.now + latency).max(self.connections[connection].last[to]);
        self.at(at, Event::Closed { connection, to });
    }

    pub(crate) fn octets(&mut self, connection: usize, to: usize, octets: &[u8]) {
        if !self.connections[connection].open[to] || self.connections[connection].silent {
            return;
        }
        let End { node, peer, side } = self.connections[connection].ends[to];
        // As in TCP, the pieces need not be those that were written.
        let mut buffer = std::mem::take(&mut self.connections[connection].received[to]);
        buffer.extend_from_slice(octets);
        let mut at = 0;
        while self.connections[connection].open[to] {
            let max = self.nodes[node].peers[&peer].max_len(side);
            let Some(message) = frame::next(&buffer[at..], max).unwrap() else { break };
            at += message.len();
            self.message(node, peer, side, message);
        }
        buffer.drain(..at);
        self.connections[connection].received[to] = buffer;
    }

    /// The connections of a node with a peer change sides.
    fn swap_sides(&mut self, node: usize, peer: usize) {
        self.nodes[node].peers.get_mut(&peer).unwrap().swap_sides();
        let sockets = [true, false].map(|outgoing| self.nodes[node].sockets.remove(&(peer, outgoing)));
        for (connection, outgoing) in sockets.into_iter().zip([false, true]) {
            let Some(connection) = connection else { continue };
            self.nodes[node].sockets.insert((peer, outgoing), connection);
            let end = self.end_of(connection, node);
            self.connections[connection].ends[end].side =
                if outgoing { Side::Outgoing } else { Side::Incoming };
        }
    }
}
