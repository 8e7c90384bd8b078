//! S6g: a hundred thousand blocks behind two thousand exit points on one tunnel device; then one node's blocks take
//! another encapsulation.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};
use tunnel::{kernel::query_reach, netlink::RequestSocket, resolve::Reach};

use super::{
    change_count::Changes,
    install::Install,
    kernel_limit::{Form, Limit, Order},
    node::{self, Exits},
    route_count::Watch,
};
use crate::{
    contender::Speaker,
    load::{Fleet, HOLD_TIME, NextHopLoad, Origin, Role, Universe},
    record::{Measurement, Outcome},
    scenario::{Scenario, Trial},
};

/// Exit points, and blocks behind each.
const EXITS: u16 = 2000;
const EACH: u32 = 50;
/// The client that sends.
const SENDER: usize = 0;
/// The node whose blocks move.
const MOVING: usize = 7;
/// The device of BIRD and of the floor; routed makes its own.
const DEVICE: &str = "tunnel0";
/// The interval of the checks without events of the kernel.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// They.
pub(super) fn scenarios() -> [Scenario; 2] {
    [
        Scenario {
            name: "S6g",
            about: "100k blocks, in turn, behind 2,000 exit points of one tunnel device; one takes another encapsulation",
            speakers: SPEAKERS,
            run: |trial| run(trial, "S6g", NextHopLoad::announce_in_turn),
        },
        Scenario {
            name: "S6r",
            about: "the same where all blocks of an exit point come together",
            speakers: SPEAKERS,
            run: |trial| run(trial, "S6r", NextHopLoad::announce),
        },
    ]
}

const SPEAKERS: &[Speaker] = &[Speaker::Routed, Speaker::Bird, Speaker::Floor];

fn run(trial: &Trial<'_>, row: &str, announce: fn(&NextHopLoad) -> Rc<[u8]>) -> Result<Vec<Measurement>> {
    let blocks = NextHopLoad { first: Ipv4Addr::new(20, 0, 0, 0), next_hops: nodes(), each: EACH };
    Exits::wire(trial.bed)?;
    if trial.contender.speaker != Speaker::Routed {
        // Next hops are neighbours inside the tunnel, else BIRD would not find the device.
        trial.bed.ip(&format!(
            "link add {DEVICE} type vxlan id 7 dstport 4790 dev bench0 local 10.255.0.1 nolearning"
        ))?;
        trial.bed.ip(&format!("address add 172.30.255.254/16 dev {DEVICE}"))?;
        trial.bed.ip(&format!("link set {DEVICE} up"))?;
    }
    if trial.contender.speaker == Speaker::Floor {
        limits(&blocks, row)
    } else {
        daemon(trial, &blocks, row, announce(&blocks))
    }
}

/// The nodes' addresses: in 172.30.0.0/16, where [`Exits`] has 172.31.0.0/16.
fn nodes() -> Vec<Ipv4Addr> {
    let inside = |exit: Ipv4Addr| {
        let [a, _, c, d] = exit.octets();
        Ipv4Addr::new(a, 30, c, d)
    };
    Exits::next_hops(EXITS).into_iter().map(inside).collect()
}

/// The node's address after the move: a neighbour on a link.
fn moved() -> Result<Ipv4Addr> {
    Exits::next_hops(EXITS).get(MOVING).copied().ok_or_else(|| anyhow!("there are {EXITS} nodes"))
}

fn limits(blocks: &NextHopLoad, row: &str) -> Result<Vec<Measurement>> {
    std::fs::write("/proc/sys/net/ipv4/nexthop_compat_mode", "0")?;
    let index = nix::net::if_::if_nametoindex(DEVICE)?;
    let mut limit = Limit::of(blocks, index, Form::Objects, Order::Scattered)?;
    let mut measured = vec![limit.install(&format!("{row} install"))?];
    limit.remove(row)?;
    limit.end()?;
    let mut limit = Limit::of(blocks, index, Form::Gateways, Order::Sequence)?;
    measured.push(limit.install(&format!("{row} install, plain gateways"))?);
    limit.remove(row)?;
    limit.end()?;
    Ok(measured)
}

/// The node is in the subnet of the link: what is behind neighbours goes unwrapped, all else by VXLAN.
fn resources(blocks: &NextHopLoad) -> Result<String> {
    let mut text = String::from(
        "---\n\
         apiVersion: projectcalico.org/v3\n\
         kind: IPPool\n\
         metadata: { name: pods }\n\
         spec: { cidr: 20.0.0.0/8, vxlanMode: CrossSubnet }\n",
    );
    let mut node = |name: String, address: Ipv4Addr, vtep: Ipv4Addr| {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "---\n\
             apiVersion: projectcalico.org/v3\n\
             kind: Node\n\
             metadata: {{ name: {name} }}\n\
             spec: {{ bgp: {{ ipv4Address: {address}/16 }}, ipv4VXLANTunnelAddr: {vtep} }}\n"
        );
    };
    node("node".to_owned(), Ipv4Addr::new(172, 31, 255, 254), Ipv4Addr::new(30, 255, 0, 1));
    for (number, address) in blocks.next_hops.iter().enumerate() {
        let [.., c, d] = address.octets();
        node(format!("node-{number}"), *address, Ipv4Addr::new(30, 0, c, d));
    }
    Ok(text)
}

fn daemon(
    trial: &Trial<'_>,
    blocks: &NextHopLoad,
    row: &str,
    announce: Rc<[u8]>,
) -> Result<Vec<Measurement>> {
    let devices = [node::DEVICE, DEVICE];
    let daemon = node::start(trial.contender, trial.bed, &resources(blocks)?, &devices)?;
    let mut fleet = Fleet::new(Universe::new(&[], Origin::Senders), HOLD_TIME)?;
    fleet.add(Role::default());
    let mut install = Install { daemon, fleet, watch: Watch::of(blocks)?, limit: trial.limit };
    install.establish()?;
    let mut measured =
        vec![install.measure(&format!("{row} install"), true, |fleet| fleet.send(SENDER, announce))?];
    if measured.iter().any(|m| m.outcome == Outcome::CutOff) {
        return Ok(measured);
    }
    install.daemon.wait_until_quiet()?;
    measured.push(measure_move(&mut install, blocks, row)?);
    Ok(measured)
}

fn measure_move(install: &mut Install, blocks: &NextHopLoad, row: &str) -> Result<Measurement> {
    let gateway = IpAddr::V4(moved()?);
    let first = u32::try_from(MOVING)? * EACH;
    let moving: Vec<IpAddr> = (first..first + EACH).map(|number| blocks.block(number).into()).collect();
    let script = blocks.announce_one(MOVING, moved()?);
    let mut socket = RequestSocket::open()?;
    let mut changes = Changes::listen()?;
    let cpu = install.daemon.cpu();
    let began = Instant::now();
    install.fleet.send(SENDER, script)?;
    let mut left = moving.as_slice();
    while let Some(address) = left.first() {
        install.fleet.turn(Duration::ZERO)?;
        match query_reach(&mut socket, *address).map_err(|error| anyhow!("{error}"))? {
            Reach::Via { gateway: now, .. } if now == gateway => left = left.get(1..).unwrap_or_default(),
            _ if began.elapsed() > install.limit => bail!("{address} is not behind {gateway} in time"),
            // A busy loop would take the processor from the daemon.
            _ => changes.wait(LOOK_AGAIN)?,
        }
    }
    let wall = began.elapsed();
    let spent = install.daemon.cpu().since(&cpu);
    let counted = changes.count()?;
    let memory = install.daemon.memory();
    Ok(Measurement {
        row: format!("{row} move"),
        outcome: Outcome::Done,
        wall_s: wall.as_secs_f64(),
        cpu_s: spent.as_secs_f64(),
        rss: memory.rss,
        peak_rss: memory.peak,
        more: [
            ("nexthop_messages".to_owned(), f64::from(counted.nexthops)),
            ("route_messages".to_owned(), f64::from(counted.routes)),
        ]
        .into(),
    })
}
