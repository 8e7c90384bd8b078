//! The load of a cluster: every client announces a few /26 blocks.

use std::{net::Ipv4Addr, rc::Rc};

use super::{
    client::client_address,
    universe::{Origin, PROBER, Universe},
    wire::{self, Attributes},
};

/// The first block.
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

/// Returns the UPDATE that announces one probe.
#[must_use]
pub fn probe(universe: &Universe, number: u32) -> Rc<[u8]> {
    let attributes = Attributes { local_pref: 100, ..Attributes::default() }.encode(client_address(PROBER));
    let mut script = Vec::new();
    wire::announce(&attributes, [universe.prefix(number)], &mut script);
    script.into()
}

/// Two senders of the same blocks.
pub struct Senders {
    /// The blocks.
    pub universe: Universe,
    /// The messages of the first sender.
    pub first: Rc<[u8]>,
    /// The messages of the second sender: paths with a lower LOCAL_PREF and a longer AS_PATH.
    pub worse: Rc<[u8]>,
}

impl Senders {
    /// Returns the load of so many blocks.
    #[must_use]
    pub fn of_blocks(blocks: u32) -> Self {
        let universe = Universe::new(&[(BASE, 26, blocks)], Origin::Senders);
        let script = |client, attributes: Attributes| {
            let attributes = attributes.encode(client_address(client));
            let mut script = Vec::new();
            wire::announce(&attributes, (0..blocks).map(|number| universe.prefix(number)), &mut script);
            script.into()
        };
        let first = script(0, Attributes { local_pref: 100, ..Attributes::default() });
        let worse = script(1, Attributes { local_pref: 50, as_path: vec![65_001], ..Attributes::default() });
        Self { universe, first, worse }
    }
}
