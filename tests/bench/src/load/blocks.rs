//! The load of a cluster: every client announces a few /26 blocks.

use std::{net::Ipv4Addr, rc::Rc};

use super::{
    client::client_address,
    universe::{Origin, Universe},
    wire::{self, Attributes},
};

/// Where blocks begin.
const BASE: Ipv4Addr = Ipv4Addr::new(20, 0, 0, 0);

/// The blocks of `clients` clients, `per_client` each, and what each client sends to announce its own.
#[must_use]
pub fn blocks(clients: u32, per_client: u32) -> (Universe, Vec<Rc<[u8]>>) {
    let universe = Universe::new(&[(BASE, 26, clients * per_client)], Origin::EachClient { per_client });
    let scripts = (0..clients as usize).map(|client| {
        let attributes =
            Attributes { local_pref: 100, ..Attributes::default() }.encode(client_address(client));
        let mut script = Vec::new();
        let own = universe.own(client).map(|number| universe.prefix(number));
        wire::announce(&attributes, own, &mut script);
        script.into()
    });
    let scripts = scripts.collect();
    (universe, scripts)
}
