//! BFD with FRR's bfdd, over one hop and over several: a failure is seen within 200 ms, far sooner than by
//! the hold time, and ends the BGP session.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde_json::Value;
use testbed::{Process, Testbed, eventually, product};
use tests::capture::TsharkWitness;

/// From start to Established and Up, on a loaded machine.
const START: Duration = Duration::from_secs(60);
/// Time in which a failure must be detected, with packets every 50 ms of which three may be missed;
/// a busy machine does not exceed it.
const DETECTED: Duration = Duration::from_secs(1);

struct Lab {
    // Dropped before the bed.
    _witness: TsharkWitness,
    bfdd: Process,
    _others: [Process; 3],
    bed: Testbed,
}

impl Lab {
    /// routed in AS 64512 at 10.0.0.1, with a peer at 10.0.0.2 and one that is not in its subnet, 10.9.9.9; both are
    /// FRR in AS 65001, which speaks BGP at the former alone.
    fn new() -> Lab {
        let bed = Testbed::with_two_nodes();
        let witness = TsharkWitness::of(&bed);
        bed.ip("b", "address add 10.9.9.9/32 dev lo");
        bed.ip("a", "route add 10.9.9.9/32 via 10.0.0.2");
        let path = |name: &str| bed.path(name).to_str().expect("UTF-8").to_owned();
        // zebra and bfdd give up being root.
        fs::set_permissions(bed.path(""), fs::Permissions::from_mode(0o777)).expect("to open the directory");
        let zebra = bed.write("zebra.conf", "log stdout errors\n");
        let times = "receive-interval 50\n  transmit-interval 50\n  detect-multiplier 3\n  no shutdown\n";
        let bfdd = bed.write(
            "bfdd.conf",
            &format!(
                "log stdout errors\nbfd\n peer 10.0.0.1 local-address 10.0.0.2 interface eth0\n  {times} !\n \
                 peer 10.0.0.1 multihop local-address 10.9.9.9\n  {times}"
            ),
        );
        let bgpd = bed.write(
            "bgpd.conf",
            "log stdout errors\nrouter bgp 65001\n bgp router-id 10.0.0.2\n no bgp ebgp-requires-policy\n \
             neighbor 10.0.0.1 remote-as 64512\n neighbor 10.0.0.1 timers connect 1\n",
        );
        let [zebra, bfdd, bgpd] = [zebra, bfdd, bgpd].map(|path| path.to_str().expect("UTF-8").to_owned());
        let (socket, directory) = (path("zebra.sock"), path(""));
        let shared = ["-z", &socket, "--vty_socket", &directory, "-P", "0"];
        let start = |program: &str, more: &[&str]| bed.start("b", program, &[&shared[..], more].concat());
        let zebra = start("/usr/lib/frr/zebra", &["-f", &zebra, "-i", &path("zebra.pid")]);
        eventually("zebra to listen", START, || bed.path("zebra.sock").exists().then_some(()));
        let bfdd = start(
            "/usr/lib/frr/bfdd",
            &["-f", &bfdd, "-i", &path("bfdd.pid"), "--bfdctl", &path("bfdd.sock")],
        );
        let bgpd = start(
            "/usr/lib/frr/bgpd",
            &["--no_zebra", "--skip_runas", "--listenon", "10.0.0.2", "-f", &bgpd, "-i", &path("bgpd.pid")],
        );

        const V3: &str = "apiVersion: projectcalico.org/v3";
        let resources = format!(
            "{V3}\nkind: Node\nmetadata: {{ name: node-a }}\n\
             spec: {{ bgp: {{ ipv4Address: 10.0.0.1/24 }}, podCIDRs: [10.1.1.0/26] }}\n\
             ---\n{V3}\nkind: BGPPeer\nmetadata: {{ name: near }}\n\
             spec: {{ peerIP: 10.0.0.2, asNumber: 65001, routed: {{ bfd: {{}} }} }}\n\
             ---\n{V3}\nkind: BGPPeer\nmetadata: {{ name: far }}\n\
             spec: {{ peerIP: 10.9.9.9, asNumber: 65001, routed: {{ bfd: {{ minInterval: 50ms, multiplier: 3 }} }} }}\n"
        );
        bed.write("resources/all.yaml", &resources);
        let config = bed.write(
            "routed.yaml",
            &format!(
                "node: node-a\nsocket: {}\nstateDir: {}\nstatus: off\ndataplane: none\ndatastore: {{ file: {} }}\n",
                path("routed.sock"),
                path("state"),
                path("resources")
            ),
        );
        let program = product("routed");
        let arguments = ["--config", config.to_str().expect("UTF-8")];
        let routed = bed.start("a", program.to_str().expect("UTF-8"), &arguments);
        Lab { _witness: witness, bfdd, _others: [routed, bgpd, zebra], bed }
    }

    fn peer(&self, name: &str) -> Option<Value> {
        let output = Command::new(product("routectl"))
            .args(["show", "peers", "-o", "json"])
            .env("ROUTED_SOCKET", self.bed.path("routed.sock"))
            .output()
            .expect("routectl to run");
        let peers: Value = serde_json::from_slice(&output.stdout).ok()?;
        peers.as_array()?.iter().find(|peer| peer["name"] == name).cloned()
    }

    /// Returns the peer once its BFD session is up with the configured times.
    fn up(&self, name: &str) -> Value {
        eventually(&format!("BFD with {name} to be up"), START, || {
            let peer = self.peer(name)?;
            (peer["bfd"]["state"] == "up" && peer["bfd"]["detection_time_ms"] == 150).then_some(peer)
        })
    }

    fn established(&self, name: &str) {
        eventually(&format!("{name} to be Established"), START, || {
            self.peer(name).filter(|peer| peer["state"] == "Established")
        });
    }
}

#[test]
fn a_failure_is_detected_and_ends_the_session() {
    let lab = Lab::new();
    let mut took = Vec::new();
    for _ in 0..3 {
        lab.up("near");
        lab.up("far");
        lab.established("near");
        let before = lab.peer("near").expect("the peer")["since"].clone();
        let stopped = SystemTime::now();
        lab.bfdd.signal(Signal::SIGSTOP);
        let peer = eventually("the failure to be seen", START, || {
            lab.peer("near").filter(|peer| peer["bfd"]["state"] == "down" && peer["since"] != before)
        });
        assert_eq!(peer["bfd"]["diagnostic"], "control detection time expired", "{peer}");
        took.push(after(stopped, &peer["bfd"]["since"]));
        // The BGP speaker itself is well, and would have been believed for the hold time.
        assert_ne!(peer["since"], before, "the session ended: {peer}");
        eventually("the failure of the far one to be seen", START, || {
            lab.peer("far").filter(|peer| peer["bfd"]["state"] == "down")
        });
        lab.bfdd.signal(Signal::SIGCONT);
    }
    println!("detected after {took:?}");
    took.sort();
    assert!(took[1] < DETECTED, "{took:?}");
}

#[test]
fn other_times_leave_both_sessions_as_they_are() {
    let lab = Lab::new();
    let before = lab.up("near");
    lab.established("near");
    let since = lab.peer("near").expect("the peer")["since"].clone();
    let resources = fs::read_to_string(lab.bed.path("resources/all.yaml")).expect("the resources");
    assert!(resources.contains("bfd: {}"));
    lab.bed.write("resources/all.yaml", &resources.replacen("bfd: {}", "bfd: { minInterval: 100ms }", 1));
    let peer = eventually("the new times", START, || {
        lab.peer("near").filter(|peer| peer["bfd"]["detection_time_ms"] == 300)
    });
    assert_eq!(
        (&peer["bfd"]["state"], &peer["bfd"]["since"]),
        (&"up".into(), &before["bfd"]["since"]),
        "{peer}"
    );
    assert_eq!((&peer["state"], &peer["since"]), (&"Established".into(), &since), "{peer}");
}

#[test]
fn an_administrative_down_is_no_failure() {
    let lab = Lab::new();
    lab.up("near");
    lab.established("near");
    let before = lab.peer("near").expect("the peer")["since"].clone();
    let directory = lab.bed.path("");
    let words =
        ["configure terminal", "bfd", "peer 10.0.0.1 local-address 10.0.0.2 interface eth0", "shutdown"];
    let mut vtysh = Command::new("vtysh");
    vtysh.args(["--vty_socket", directory.to_str().expect("UTF-8"), "-d", "bfdd"]);
    words.iter().for_each(|word| _ = vtysh.args(["-c", word]));
    assert!(vtysh.status().expect("vtysh to run").success(), "bfdd to take the command");
    let peer = eventually("the session to be down", START, || {
        lab.peer("near").filter(|peer| peer["bfd"]["state"] == "down")
    });
    assert_eq!(peer["bfd"]["diagnostic"], "neighbor signaled session down", "{peer}");
    assert_eq!((&peer["state"], &peer["since"]), (&"Established".into(), &before), "{peer}");
}

/// Returns the time from `start` to a time of the daemon's.
fn after(start: SystemTime, time: &Value) -> Duration {
    let time = time.as_str().expect("a time");
    let output = Command::new("date").args(["-u", "-d", time, "+%s.%N"]).output().expect("date to run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (seconds, nanos) = text.trim().split_once('.').expect("seconds and nanoseconds");
    let time = Duration::new(seconds.parse().expect("a number"), nanos.parse().expect("a number"));
    time.saturating_sub(start.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970"))
}
