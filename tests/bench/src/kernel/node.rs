//! Contenders as a cluster's node that installs what it learns from one peer.

use anyhow::{Result, bail};

use crate::{
    bed::{Bed, DAEMON},
    contender::{Contender, Speaker},
    daemon::{
        Daemon,
        routed::{caller, start_with},
    },
    load::{AS_NUMBER, PORT, client_address},
};

/// The device that next hops are neighbours on, made by [`Exits::wire`].
pub(super) const DEVICE: &str = "exits0";
/// The first octets of their subnet. The bed's own 10.0.0.0/8 is local everywhere, so no gateway can be in it.
const SUBNET: [u8; 2] = [172, 31];
/// The last octets of the node's own address there.
const OWN: [u8; 2] = [255, 254];

/// The subnet of the next hops.
pub(super) struct Exits;

impl Exits {
    /// Makes the device.
    pub(super) fn wire(bed: &Bed) -> Result<()> {
        let [a, b] = SUBNET;
        let [c, d] = OWN;
        bed.ip(&format!("link add {DEVICE} type veth peer name exits1"))?;
        bed.ip("link set exits1 up")?;
        bed.ip(&format!("address add {a}.{b}.{c}.{d}/16 dev {DEVICE}"))?;
        bed.ip(&format!("link set {DEVICE} up"))?;
        Ok(())
    }

    /// The device's index in the calling thread's namespace.
    pub(super) fn index() -> Result<u32> {
        Ok(nix::net::if_::if_nametoindex(DEVICE)?)
    }

    /// The addresses of so many next hops, at most some ten thousand.
    pub(super) fn next_hops(count: u16) -> Vec<std::net::Ipv4Addr> {
        let [a, b] = SUBNET;
        (0..count)
            .map(|number| {
                // No address ends in 0 or 255.
                let [c, d] = [number / 250, number % 250 + 1].map(|octet| u8::try_from(octet).unwrap_or(1));
                [a, b, c, d].into()
            })
            .collect()
    }
}

/// Starts a contender as a node whose one peer is client 0, and waits until it listens and is quiet. `resources` are
/// routed's pools and nodes, its own first; `devices` are those that BIRD knows the subnets of.
pub(super) fn start(contender: &Contender, bed: &Bed, resources: &str, devices: &[&str]) -> Result<Daemon> {
    let mut daemon = match contender.speaker {
        Speaker::Routed => routed(contender, bed, resources)?,
        Speaker::Bird => bird(contender, bed, devices)?,
        other => bail!("{} installs nothing here", other.name()),
    };
    daemon.wait_until_listening(PORT)?;
    daemon.wait_until_quiet()?;
    Ok(daemon)
}

/// A node and a pool that contains none of the blocks, so that they are routed plainly, as BIRD does.
pub(super) fn plain() -> String {
    format!(
        "---\n\
         apiVersion: projectcalico.org/v3\n\
         kind: IPPool\n\
         metadata: {{ name: elsewhere }}\n\
         spec: {{ cidr: 192.0.2.0/24, ipipMode: Never }}\n\
         ---\n\
         apiVersion: projectcalico.org/v3\n\
         kind: Node\n\
         metadata: {{ name: node }}\n\
         spec: {{ bgp: {{ ipv4Address: {DAEMON}/8 }} }}\n"
    )
}

fn routed(contender: &Contender, bed: &Bed, resources: &str) -> Result<Daemon> {
    let resources = caller("sender", client_address(0)) + resources;
    start_with(contender, bed, "node", "kernel", &resources)
}

fn bird(contender: &Contender, bed: &Bed, devices: &[&str]) -> Result<Daemon> {
    let devices = devices.iter().map(|device| format!("\"{device}\"")).collect::<Vec<_>>().join(", ");
    let config = format!(
        "router id {DAEMON};\n\
         log stderr {{ warning, error, fatal, bug }};\n\
         protocol device {{}}\n\
         protocol direct {{ ipv4; interface {devices}; }}\n\
         protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n\
         protocol bgp sender {{\n  \
           local {DAEMON} as {AS_NUMBER};\n  neighbor {} as {AS_NUMBER};\n  direct;\n  passive yes;\n  \
           ipv4 {{ import all; export none; }};\n\
         }}\n",
        client_address(0)
    );
    let path = bed.write("bird.conf", &config)?;
    let (control, pid) = (bed.path("bird.ctl"), bed.path("bird.pid"));
    let arguments =
        ["-f".as_ref(), "-c".as_ref(), path.as_path(), "-s".as_ref(), &control, "-P".as_ref(), &pid];
    Daemon::start(&contender.program, arguments, bed.path("bird.log"))
}
