//! A daemon that waits costs nothing, whatever it waits for: a node of its own, a datastore, peers, packets that don't come.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use testbed::{Process, Testbed, eventually, product};

/// Time for which the daemons are measured.
const WATCHED: Duration = Duration::from_secs(3);
/// The limit of the CPU time of one daemon: connection attempts, probes and periodic checks are far
/// below it, a busy loop is far above, even if all daemons have one on two processors.
const MOST: Duration = Duration::from_millis(300);
/// From the start until it answers, on a loaded machine.
const START: Duration = Duration::from_secs(60);

const V3: &str = "apiVersion: projectcalico.org/v3";

/// A reason for a daemon to wait.
struct Case {
    name: &'static str,
    /// Further lines of `routed.yaml`.
    config: &'static str,
    /// Resources besides its own Node; `None`: not even that.
    resources: Option<String>,
}

/// A Node resource; node `a` is whose daemon runs.
fn node(name: &str, last: u8, more: &str) -> String {
    format!(
        "---\n{V3}\nkind: Node\nmetadata: {{ name: {name} }}\nspec: {{ bgp: {{ ipv4Address: 10.0.0.{last}/24{more} }}, \
         podCIDRs: [10.1.{last}.0/26] }}\n"
    )
}

fn configuration(routed: &str) -> String {
    format!(
        "---\n{V3}\nkind: BGPConfiguration\nmetadata: {{ name: default }}\nspec: {{ routed: {{ {routed} }} }}\n"
    )
}

fn peer(spec: &str) -> String {
    format!("---\n{V3}\nkind: BGPPeer\nmetadata: {{ name: p }}\nspec: {{ {spec} }}\n")
}

fn cases() -> Vec<Case> {
    let with =
        |name, resources: String| Case { name, config: "", resources: Some(node("a", 1, "") + &resources) };
    let pool = |modes: &str| {
        format!("---\n{V3}\nkind: IPPool\nmetadata: {{ name: p }}\nspec: {{ cidr: 10.1.0.0/16{modes} }}\n")
    };
    vec![
        Case { name: "no Node", config: "", resources: None },
        Case { name: "the Node of another", config: "", resources: Some(node("b", 2, "")) },
        Case {
            name: "a datastore that refuses",
            config: "datastore: { etcd: { endpoints: [\"http://127.0.0.1:9\"] } }\n",
            resources: None,
        },
        Case {
            name: "a datastore that never answers",
            config: "datastore: { etcd: { endpoints: [\"http://10.0.0.200:2379\"] } }\n",
            resources: None,
        },
        with("nothing", String::new()),
        with(
            "a peer that does not answer, fallback yet to come",
            node("b", 2, "") + &configuration("fallbackAfter: 60s"),
        ),
        with("a peer that does not answer, on VXLAN", node("b", 2, "") + &configuration("fallbackAfter: 0s")),
        with(
            "VXLAN without BGP",
            node("b", 2, "") + &configuration("bgp: disabled") + &pool(", vxlanMode: Always"),
        ),
        with("a plain network", node("b", 2, "") + &pool(", ipipMode: Never, vxlanMode: Never")),
        with(
            "BFD that is not answered",
            peer("peerIP: 10.0.0.9, asNumber: 65001, routed: { bfd: { minInterval: 1s } }"),
        ),
        with("a peer that is not this port's", peer("peerIP: \"10.0.0.1:9\", asNumber: 65001")),
        Case {
            name: "clients of a range",
            config: "",
            resources: Some(
                node("a", 1, ", routeReflectorClusterID: 10.0.0.1")
                    + &peer("routed: { peerRange: 10.0.0.0/16 }"),
            ),
        },
        Case {
            name: "without a dataplane",
            config: "dataplane: none\n",
            resources: Some(node("a", 1, "") + &node("b", 2, "") + &configuration("fallbackAfter: 0s")),
        },
    ]
}

fn start(bed: &Testbed, at: usize, case: &Case) -> Process {
    let namespace = format!("n{at}");
    let path = |name: &str| bed.path(&format!("{at}/{name}")).display().to_string();
    bed.write(&format!("{at}/resources/all.yaml"), case.resources.as_deref().unwrap_or_default());
    let mut config = format!(
        "node: a\nsocket: {}\nstateDir: {}\nstatus: 127.0.0.1:9179\n{}",
        path("routed.sock"),
        path("state"),
        case.config
    );
    if !case.config.contains("datastore") {
        config += &format!("datastore: {{ file: {} }}\n", path("resources"));
    }
    let config = bed.write(&format!("{at}/routed.yaml"), &config);
    let arguments = ["--config", config.to_str().expect("UTF-8")];
    bed.start(&namespace, product("routed").to_str().expect("UTF-8"), &arguments)
}

/// Returns the CPU time of a process so far (proc_pid_stat(5)), including its children: the
/// firewall is read by a program.
fn used(process: &Process) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).expect("a running program");
    // The name before may have blanks.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(4).map(|field| field.parse::<u64>().expect("a number")).sum();
    let a_second =
        nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).expect("a setting").expect("a number");
    Duration::from_millis(ticks * 1000 / u64::try_from(a_second).expect("a positive number"))
}

#[test]
fn a_waiting_daemon_uses_no_processor() {
    let mut bed = Testbed::empty();
    let cases = cases();
    for at in 0..cases.len() {
        let name = format!("n{at}");
        bed.add(&name);
        bed.ip(&name, "link add eth0 type veth peer name wire0");
        bed.ip(&name, "link set wire0 up");
        bed.ip(&name, "address add 10.0.0.1/24 dev eth0");
        bed.ip(&name, "link set eth0 up");
    }
    let mut daemons: Vec<Process> =
        cases.iter().enumerate().map(|(at, case)| start(&bed, at, case)).collect();
    for (at, case) in cases.iter().enumerate() {
        eventually(&format!("{} to answer", case.name), START, || {
            let output = Command::new(product("routectl"))
                .args(["show", "status"])
                .env("ROUTED_SOCKET", bed.path(&format!("{at}/routed.sock")))
                .output()
                .expect("routectl to run");
            output.status.success().then_some(())
        });
    }
    let begun = Instant::now();
    let sum = |daemons: &[Process]| daemons.iter().map(used).collect::<Vec<Duration>>();
    // The work of a start (the first check of the firewall, the routes that count as complete after
    // five seconds) is over when no daemon has used more than a little for a second.
    let calm = Duration::from_millis(50);
    let mut before = sum(&daemons);
    eventually("the starts to be over, or a daemon to be without rest", START, || {
        // why: time that passes is what is measured.
        std::thread::sleep(Duration::from_secs(1));
        let now = sum(&daemons);
        let rested = now.iter().zip(&before).all(|(now, before)| *now - *before < calm);
        before = now;
        ((rested && begun.elapsed() > Duration::from_secs(6)) || begun.elapsed() > START / 2).then_some(())
    });
    std::thread::sleep(WATCHED);
    let after = sum(&daemons);
    let mut restless = Vec::new();
    for (((case, before), after), daemon) in cases.iter().zip(before).zip(after).zip(&mut daemons) {
        assert!(daemon.is_running(), "{}: it has ended: {}", case.name, daemon.output());
        println!("{}: {:?} of {WATCHED:?}", case.name, after - before);
        if after - before > MOST {
            restless.push(format!("{}: {:?}", case.name, after - before));
        }
    }
    assert!(restless.is_empty(), "more than {MOST:?} of {WATCHED:?}: {restless:?}");
}
