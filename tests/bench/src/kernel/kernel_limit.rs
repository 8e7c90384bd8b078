//! The kernel's own limit: routes written and deleted by one socket, encoded before the clock starts.

use std::time::Instant;

use anyhow::{Result, bail};
use ipnet::{IpNet, Ipv4Net};
use tunnel::{
    dataplane::MAX_BATCH,
    desired::RouteKey,
    netlink::{
        KernelError, RequestSocket, nexthops,
        routes::{RouteEdit, RouteVia, write_route},
        wire::{Batch, RequestMessage},
    },
};

use crate::{
    daemon::{Cpu, Memory},
    load::{BLOCK_LENGTH, NextHopLoad},
    record::{Measurement, Outcome},
};

/// `rtm_protocol` of these routes.
const PROTOCOL: u8 = 179;
/// The first id of the next-hop objects.
const FIRST_ID: u32 = 1000;

/// The form in which routes refer to their next hops.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// By next-hop objects, which exist before the clock starts.
    Objects,
    /// By gateway and device.
    Gateways,
}

/// The routes, encoded.
pub(super) struct Limit {
    socket: RequestSocket,
    install: Vec<Batch>,
    remove: Vec<Batch>,
    objects: Vec<u32>,
}

/// In which order routes are written and deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// One prefix after the other.
    Sequence,
    /// In no order that a prefix has.
    Scattered,
}

/// In another order, always the same: by Fibonacci hashing.
fn scatter<T>(routes: Vec<T>) -> Vec<T> {
    let mut keyed: Vec<(u32, T)> =
        (0u32..).map(|number| number.wrapping_mul(0x9e37_79b9)).zip(routes).collect();
    keyed.sort_unstable_by_key(|(at, _)| *at);
    keyed.into_iter().map(|(_, route)| route).collect()
}

impl Limit {
    /// Prepares the routes of these blocks behind neighbours on the device `index`, and creates the
    /// objects.
    pub(super) fn of(blocks: &NextHopLoad, index: u32, form: Form, order: Order) -> Result<Self> {
        let mut socket = RequestSocket::open()?;
        let mut objects = Vec::new();
        let mut routes = Vec::new();
        for (number, (block, next_hop)) in (0u32..).zip(blocks.iter()) {
            let via = match form {
                Form::Objects => RouteVia::Nexthop(FIRST_ID + number / blocks.each),
                Form::Gateways => RouteVia::Gateway { gateway: next_hop.into(), index },
            };
            let prefix = IpNet::V4(Ipv4Net::new(block, BLOCK_LENGTH)?);
            routes.push((RouteKey { prefix, metric: 512 }, via));
        }
        if form == Form::Objects {
            let hops = (FIRST_ID..).zip(&blocks.next_hops);
            objects = hops.clone().map(|(id, _)| id).collect();
            let set = hops.map(|(id, hop)| nexthops::set_nexthop(id, (*hop).into(), index, PROTOCOL, false));
            all_done(socket.execute(set.collect()))?;
        }
        let mut sequence = 1_000_000;
        let mut install: Vec<_> = routes.iter().map(|(key, via)| (*key, RouteEdit::Add(*via))).collect();
        let mut remove: Vec<_> = routes.iter().map(|(key, _)| (*key, RouteEdit::Delete)).collect();
        if order == Order::Scattered {
            (install, remove) = (scatter(install), scatter(remove));
        }
        let install = batches(&mut sequence, install);
        let remove = batches(&mut sequence, remove);
        Ok(Self { socket, install, remove, objects })
    }

    /// Writes all routes.
    pub(super) fn install(&mut self, row: &str) -> Result<Measurement> {
        execute(&mut self.socket, &self.install, row)
    }

    /// Deletes all routes.
    pub(super) fn remove(&mut self, row: &str) -> Result<Measurement> {
        execute(&mut self.socket, &self.remove, row)
    }

    /// The socket, and the next-hop objects.
    pub(super) fn end(mut self) -> Result<()> {
        let delete: Vec<RequestMessage> =
            self.objects.iter().map(|id| nexthops::delete_nexthop(*id)).collect();
        all_done(self.socket.execute(delete))
    }
}

fn all_done(results: Vec<Result<(), KernelError>>) -> Result<()> {
    match results.into_iter().find_map(Result::err) {
        Some(error) => bail!("the kernel refuses: {error}"),
        None => Ok(()),
    }
}

fn batches(sequence: &mut u32, routes: Vec<(RouteKey, RouteEdit)>) -> Vec<Batch> {
    let limit = u32::try_from(MAX_BATCH).unwrap_or(u32::MAX);
    let mut all: Vec<Batch> = Vec::new();
    for (key, edit) in routes {
        if all.last().is_none_or(|batch| batch.count() == limit) {
            let mut batch = Batch::default();
            batch.clear(*sequence);
            all.push(batch);
        }
        if let Some(batch) = all.last_mut() {
            write_route(batch, key.prefix, key.metric, &edit, PROTOCOL);
            *sequence += 1;
        }
    }
    all.iter_mut().for_each(Batch::acknowledge);
    all
}

fn execute(socket: &mut RequestSocket, batches: &[Batch], row: &str) -> Result<Measurement> {
    let own = std::process::id();
    let cpu = Cpu::of(own);
    let began = Instant::now();
    let mut errors = Vec::new();
    for batch in batches {
        let count = usize::try_from(batch.count())?;
        socket.execute_encoded(batch.bytes(), batch.first(), count, &mut errors);
    }
    let wall = began.elapsed();
    let spent = Cpu::of(own).since(&cpu);
    if let Some((_, error)) = errors.first() {
        bail!("{row}: the kernel refuses {} routes, the first with: {error}", errors.len());
    }
    let memory = Memory::of(own);
    let count: u32 = batches.iter().map(Batch::count).sum();
    let each = wall.as_secs_f64() * 1e6 / f64::from(count);
    Ok(Measurement {
        row: row.to_owned(),
        outcome: Outcome::Done,
        wall_s: wall.as_secs_f64(),
        cpu_s: spent.as_secs_f64(),
        rss: memory.rss,
        peak_rss: memory.peak,
        more: [("route_us".to_owned(), each)].into(),
    })
}
