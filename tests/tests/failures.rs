//! Ways in which a peer is lost without a word: its process is stopped, its cable is pulled, its packets are dropped
//! on the way. Each is noticed within the hold time; what the static table knows takes over, the rest is gone.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use testbed::{Process, Testbed, eventually, product};
use tests::capture::TsharkWitness;

const ASN: u32 = 64512;
/// The peer's block, which the static table knows too.
const KNOWN: &str = "10.1.2.0/26";
/// Another block of the peer's, which BGP alone knows.
const LEARNED: &str = "10.1.9.0/26";
const HOLD_TIME: Duration = Duration::from_secs(3);
/// Time that detection may take beyond the hold time on a busy machine.
const MARGIN: Duration = Duration::from_secs(2);
/// From start to Established on a loaded machine.
const START: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(15);

struct Lab {
    // Dropped before the bed.
    _witness: TsharkWitness,
    bed: Testbed,
    bird: Process,
    _routed: Process,
}

impl Lab {
    fn new() -> Lab {
        let bed = Testbed::with_two_nodes();
        let witness = TsharkWitness::of(&bed);
        let seconds = HOLD_TIME.as_secs();
        bed.write(
            "resources/cluster.yaml",
            &format!(
                "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{ name: node-a }}\nspec: {{ bgp: {{ ipv4Address: \
                 10.0.0.1/24 }}, podCIDRs: [10.1.1.0/26] }}\n---\napiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{ \
                 name: node-b }}\nspec:\n  bgp: {{ ipv4Address: 10.0.0.2/24 }}\n  podCIDRs: [{KNOWN}]\n---\napiVersion: \
                 projectcalico.org/v3\nkind: IPPool\nmetadata: {{ name: pods }}\nspec: {{ cidr: 10.1.0.0/16, vxlanMode: Always \
                 }}\n---\napiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {{ name: default }}\nspec: {{ \
                 asNumber: {ASN}, routed: {{ holdTime: {seconds}s, fallbackAfter: 1s }} }}\n"
            ),
        );
        let text = format!(
            "node: node-a\nsocket: {}\nstateDir: {}\nstatus: off\ndatastore: {{ file: {} }}\n",
            bed.path("routed.sock").display(),
            bed.path("state").display(),
            bed.path("resources").display()
        );
        let config = bed.write("routed.yaml", &text);
        let bird = bed.write(
            "bird.conf",
            &format!(
                "router id 10.0.0.2;\nprotocol device {{}}\nprotocol static {{ ipv4; route {KNOWN} blackhole; route {LEARNED} \
                 blackhole; }}\nprotocol bgp mesh {{\n  local 10.0.0.2 as {ASN};\n  neighbor 10.0.0.1 as {ASN};\n  graceful \
                 restart off;\n  hold time {seconds};\n  connect delay time 1;\n  connect retry time 1;\n  error wait time 1, \
                 2;\n  ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};\n}}\n"
            ),
        );
        let text = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
        let (control, pid) = (text(&bed.path("bird.ctl")), text(&bed.path("bird.pid")));
        let bird = bed.start("b", "bird", &["-f", "-c", &text(&bird), "-s", &control, "-P", &pid]);
        let routed = bed.start("a", &text(&product("routed")), &["--config", &text(&config)]);
        let lab = Lab { _witness: witness, bed, bird, _routed: routed };
        lab.converge();
        lab
    }

    fn show(&self, what: &str) -> Option<Vec<Value>> {
        let output = Command::new(product("routectl"))
            .args(["show", what, "-o", "json"])
            .env("ROUTED_SOCKET", self.bed.path("routed.sock"))
            .output()
            .expect("routectl to run");
        serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
    }

    fn peer(&self) -> Option<Value> {
        self.show("peers")?.first().cloned()
    }

    /// Returns the source of the best route to a prefix, and whether the kernel has it.
    fn route(&self, prefix: &str) -> Option<(String, bool)> {
        let routes = self.show("routes")?;
        let route = routes.iter().find(|route| route["prefix"] == prefix)?;
        Some((route["source"].as_str()?.to_owned(), route["installed"] == true))
    }

    fn in_kernel(&self, prefix: &str) -> bool {
        self.bed.routes("a", "179").iter().any(|route| route["dst"] == prefix)
    }

    fn converge(&self) {
        eventually("the session", START, || {
            self.peer()
                .filter(|peer| peer["state"] == "Established" && peer["hold_time_s"] == HOLD_TIME.as_secs())
        });
        for prefix in [KNOWN, LEARNED] {
            eventually(prefix, SOON, || {
                (self.route(prefix)? == ("ibgp".to_owned(), true) && self.in_kernel(prefix)).then_some(())
            });
        }
        eventually("all routes to be there", SOON, || {
            let output = Command::new(product("routectl"))
                .args(["show", "status", "-o", "json"])
                .env("ROUTED_SOCKET", self.bed.path("routed.sock"))
                .output()
                .expect("routectl to run");
            let status: Value = serde_json::from_slice(&output.stdout).ok()?;
            (status["in_sync"] == true).then_some(())
        });
    }

    /// The session ends within the hold time from now, and routes follow it.
    fn notices(&self) {
        let since = Instant::now();
        let peer = eventually("the session to end", HOLD_TIME + MARGIN, || {
            self.peer().filter(|peer| peer["state"] != "Established")
        });
        println!("noticed after {:?}", since.elapsed());
        assert!(
            peer["last_error"].as_str().is_some_and(|why| why.to_lowercase().contains("hold timer expired")),
            "{peer}"
        );
        eventually("the static table to take over", SOON, || {
            (self.route(KNOWN)?.0 == "static").then_some(())
        });
        eventually("what BGP alone knew to go", SOON, || {
            (self.route(LEARNED).is_none() && !self.in_kernel(LEARNED)).then_some(())
        });
    }

    fn nft(&self, words: &str) {
        let status = Command::new("ip")
            .args(["netns", "exec", &self.bed.namespace("a"), "nft"])
            .args(words.split(' '))
            .status()
            .expect("ip to run");
        assert!(status.success(), "nft {words} (nftables is in the Makefile's PEERS)");
    }
}

#[test]
fn a_stopped_peer_is_detected_within_the_hold_time() {
    let lab = Lab::new();
    lab.bird.signal(Signal::SIGSTOP);
    lab.notices();
    lab.bird.signal(Signal::SIGCONT);
    lab.converge();
}

#[test]
fn a_pulled_cable_is_detected_within_the_hold_time() {
    let lab = Lab::new();
    lab.bed.ip("b", "link set eth0 down");
    lab.notices();
    lab.bed.ip("b", "link set eth0 up");
    lab.converge();
}

#[test]
fn dropped_packets_are_detected_within_the_hold_time() {
    let lab = Lab::new();
    lab.nft("add table inet quiet");
    for (chain, ports) in [("input", "sport"), ("output", "dport")] {
        lab.nft(&format!("add chain inet quiet {chain} {{ type filter hook {chain} priority 0 ; }}"));
        // Whoever called: one end of the session is 179.
        lab.nft(&format!("add rule inet quiet {chain} tcp {ports} 179 drop"));
        let other = if ports == "sport" { "dport" } else { "sport" };
        lab.nft(&format!("add rule inet quiet {chain} tcp {other} 179 drop"));
    }
    lab.notices();
    lab.nft("delete table inet quiet");
    lab.converge();
}
