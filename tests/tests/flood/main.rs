//! Everything at once: strangers that connect 10,000 times a second, half-open sessions, slow-loris
//! peers, a million prefixes past a limit, a peer that flaps and one that never reads. Well-behaved
//! configured peers keep their hold time, memory stays within its limit, and `routectl` is
//! answered.

mod attack;

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use attack::{Stop, announcements};
use serde_json::Value;
use testbed::{Process, Testbed, eventually, product};

const ASN: u32 = 64512;
/// routed on node `a`.
const ROUTED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// BIRD, the well-behaved peer, on node `b`.
const GOOD: &str = "10.0.0.2";
const HOLD_TIME: u32 = 3;
/// The other peers that are configured.
const LORIS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);
const SILENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 12);
const TOO_MANY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 13);
const FLAPPING: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 14);
const DEAF: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 15);
const TABLE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 16);
/// Addresses without a configured peer: 10.0.1.1 to 10.0.1.16.
const STRANGERS: u8 = 16;
/// Neighbours of the range 10.0.2.0/24 that call: more than it may have.
const NEIGHBOURS: u8 = 100;
const PEER_LIMIT: usize = 40;
const LIMIT: u64 = 1000;

const PER_SECOND: u32 = 10_000;
const FLOOD: Duration = Duration::from_secs(8);
/// Prefixes of a table that the deaf peer does not read.
const PREFIXES: u32 = 100_000;
/// The limit of routed's memory, in KiB, as in docs/operating.md.
const MEMORY: u64 = 128 * 1024;
/// `routectl show peers` answers within this, with both processors busy.
const ANSWER: Duration = Duration::from_secs(3);

fn peer(name: &str, address: Ipv4Addr, more: &str) -> String {
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {{ name: {name} }}\nspec: {{ peerIP: {address}, \
         asNumber: {ASN}{more} }}\n"
    )
}

fn start_routed(bed: &Testbed) -> Process {
    let max = format!(", routed: {{ maxPrefixes: {{ limit: {LIMIT}, restartAfter: 1s }} }}");
    let resources = format!(
        "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{ name: node-a }}\nspec: {{ bgp: {{ ipv4Address: \
         {ROUTED}/16, routeReflectorClusterID: 10.0.0.100 }}, podCIDRs: [10.1.1.0/26] }}\n---\napiVersion: \
         projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {{ name: default }}\nspec: {{ nodeToNodeMeshEnabled: false, \
         routed: {{ holdTime: {HOLD_TIME}s }} }}\n---\napiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {{ name: \
         range }}\nspec: {{ routed: {{ peerRange: 10.0.2.0/24, peerLimit: {PEER_LIMIT} }} }}\n"
    ) + &peer("good", Ipv4Addr::new(10, 0, 0, 2), "")
        + &peer("loris", LORIS, "")
        + &peer("silent", SILENT, "")
        + &peer("too-many", TOO_MANY, &max)
        + &peer("flapping", FLAPPING, "")
        + &peer("deaf", DEAF, "")
        + &peer("table", TABLE, "");
    bed.write("resources/cluster.yaml", &resources);
    let text = format!(
        "node: node-a\nsocket: {}\nstateDir: {}\nstatus: off\ndataplane: none\nlog: warn\ndatastore: {{ file: {} }}\n",
        bed.path("routed.sock").display(),
        bed.path("state").display(),
        bed.path("resources").display()
    );
    let config = bed.write("routed.yaml", &text);
    let program = product("routed");
    bed.start("a", program.to_str().expect("UTF-8"), &["--config", config.to_str().expect("UTF-8")])
}

fn start_bird(bed: &Testbed) -> Process {
    let config = bed.write(
        "bird.conf",
        &format!(
            "router id {GOOD};\nprotocol device {{}}\nprotocol static {{ ipv4; route 10.1.2.0/26 blackhole; }}\nprotocol bgp \
             good {{\n  local {GOOD} as {ASN};\n  neighbor {ROUTED} as {ASN};\n  hold time {HOLD_TIME};\n  connect delay time \
             1;\n  connect retry time 1;\n  error wait time 1, 2;\n  ipv4 {{ import all; export where source = RTS_STATIC; next \
             hop self; }};\n}}\n"
        ),
    );
    let (control, pid) = (bed.path("bird.ctl"), bed.path("bird.pid"));
    let text = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    bed.start("b", "bird", &["-f", "-c", &text(&config), "-s", &text(&control), "-P", &text(&pid)])
}

/// The sessions, and how long the answer took.
fn peers(bed: &Testbed) -> Option<(Vec<Value>, Duration)> {
    let begin = Instant::now();
    let output = Command::new(product("routectl"))
        .args(["show", "peers", "-o", "json"])
        .env("ROUTED_SOCKET", bed.path("routed.sock"))
        .output()
        .expect("routectl to run");
    let peers: Vec<Value> =
        serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())?;
    Some((peers, begin.elapsed()))
}

fn named(peers: &[Value], name: &str) -> Value {
    peers.iter().find(|peer| peer["name"] == name).cloned().unwrap_or_default()
}

/// A line of `/proc/PID/status`, in KiB.
fn memory(process: &Process, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("its status");
    let found = status.lines().find_map(|text| text.strip_prefix(line)).expect("the line");
    found.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
}

#[test]
fn a_flood_of_everything_costs_a_good_session_nothing() {
    let bed = Testbed::with_two_nodes();
    // One subnet for all.
    bed.ip("a", "address delete 10.0.0.1/24 dev eth0");
    bed.ip("a", "address add 10.0.0.1/16 dev eth0");
    bed.ip("b", "address delete 10.0.0.2/24 dev eth0");
    bed.ip("b", "address add 10.0.0.2/16 dev eth0");
    let strangers: Vec<Ipv4Addr> = (1..=STRANGERS).map(|last| Ipv4Addr::new(10, 0, 1, last)).collect();
    let neighbours: Vec<Ipv4Addr> = (1..=NEIGHBOURS).map(|last| Ipv4Addr::new(10, 0, 2, last)).collect();
    let configured = [LORIS, SILENT, TOO_MANY, FLAPPING, DEAF, TABLE];
    for address in configured.iter().chain(&strangers).chain(&neighbours) {
        bed.ip("b", &format!("address add {address}/16 dev eth0"));
    }
    let routed = start_routed(&bed);
    let _bird = start_bird(&bed);
    let before = eventually("the good session", Duration::from_secs(60), || {
        let good = named(&peers(&bed)?.0, "good");
        (good["state"] == "Established" && good["received"] == 1).then_some(good)
    });
    assert_eq!(before["hold_time_s"], HOLD_TIME, "{before}");
    // A table that is advertised to the deaf peer.
    let table = bed.inside("b", || {
        let mut table = attack::establish(TABLE).expect("the table's session");
        std::io::Write::write_all(&mut table, &announcements(TABLE, 0x0040_0000, PREFIXES)).expect("to send");
        table
    });
    eventually("the table", Duration::from_secs(60), || {
        (named(&peers(&bed)?.0, "table")["received"] == PREFIXES).then_some(())
    });
    let resting = memory(&routed, "VmRSS:");

    let (stop, bed, routed) = (&Stop::default(), &bed, &routed);
    let (mut slowest, mut most_neighbours, mut most_held, mut ceased) = (Duration::ZERO, 0, 0, false);
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| bed.inside("b", || attack::strangers(stop, &strangers, PER_SECOND)));
        scope.spawn(|| bed.inside("b", || attack::slow_loris(stop, LORIS)));
        let held = scope.spawn(|| {
            let from: Vec<Ipv4Addr> = neighbours.iter().copied().chain([SILENT]).collect();
            bed.inside("b", || attack::half_open(stop, &from))
        });
        let too_many = scope.spawn(|| bed.inside("b", || attack::too_many(stop, TOO_MANY)));
        let flapping = scope.spawn(|| bed.inside("b", || attack::flap(stop, FLAPPING)));
        let deaf = scope.spawn(|| bed.inside("b", || attack::deaf(stop, DEAF)));
        // The table's own session stays, by KEEPALIVEs of its own.
        let end = Instant::now() + FLOOD;
        let mut table = &table;
        let mut keepalive = Vec::new();
        bgp::wire::encode::keepalive(&mut keepalive);
        while Instant::now() < end {
            let (peers, took) = peers(bed).expect("show peers answers");
            slowest = slowest.max(took);
            most_held = most_held.max(named(&peers, "too-many")["received"].as_u64().unwrap_or(0));
            let error = named(&peers, "too-many")["last_error"].as_str().unwrap_or_default().to_owned();
            ceased |= error.contains("Maximum Number of Prefixes");
            let of_range = peers
                .iter()
                .filter(|peer| peer["name"].as_str().is_some_and(|name| name.starts_with("range-")));
            most_neighbours = most_neighbours.max(of_range.count());
            let good = named(&peers, "good");
            assert_eq!((&good["since"], &good["state"]), (&before["since"], &"Established".into()), "{good}");
            std::io::Write::write_all(&mut table, &keepalive).expect("the table's session");
            // why: a look every fifth of a second is enough to see a session go.
            std::thread::sleep(Duration::from_millis(200));
        }
        stop.now();
        let (calls, time) = calling.join().expect("the strangers");
        let rate = calls as f64 / time.as_secs_f64();
        let (sessions, codes) = too_many.join().expect("the one with too many");
        let (flaps, deaf, held) = (
            flapping.join().expect("to flap"),
            deaf.join().expect("to be deaf"),
            held.join().expect("to hold"),
        );
        println!("memory: {resting} KiB before, {} KiB at most", memory(routed, "VmHWM:"));
        println!(
            "{rate:.0} strangers a second, {held} half-open connections, {sessions} sessions with too many prefixes ended by \
             {codes:?}, {flaps} flaps, {deaf} deaf sessions; show peers took {slowest:?} at most"
        );
        // Beside other work on the same processors it may be less than was tried.
        assert!(
            rate > 0.2 * f64::from(PER_SECOND),
            "{rate} attempts a second: the machine is too busy for a flood"
        );
        assert!(sessions >= 2 && ceased, "{sessions} sessions with too many prefixes, ceased: {ceased}");
        assert!(flaps >= FLOOD.as_secs() as u32, "{flaps} flaps");
        assert!(deaf >= 1, "nobody was deaf");
    });
    assert!(most_held <= LIMIT, "{most_held} prefixes were held");
    assert!((1..=PEER_LIMIT).contains(&most_neighbours), "{most_neighbours} neighbours of the range");
    assert!(slowest < ANSWER, "show peers took {slowest:?}");
    let peak = memory(routed, "VmHWM:");
    assert!(peak < MEMORY, "{peak} KiB");
    // Afterwards all peers can connect at once.
    bed.inside("b", || {
        eventually("the one that was flapping", Duration::from_secs(10), || {
            attack::establish(FLAPPING).map(drop)
        });
    });
    let good = named(&peers(bed).expect("show peers").0, "good");
    assert_eq!(good["since"], before["since"], "{good}");
}
