//! The real `routed` on one node and another BGP speaker on the next, which is a member of the mesh.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::capture::Capture;
use testbed::{Process, Testbed, eventually, product};

/// Our block.
pub const OURS: &str = "10.1.1.0/26";
/// The other speaker's block.
pub const THEIRS: &str = "10.1.2.0/26";
/// The AS of both.
pub const ASN: u32 = 64512;

/// From start to Established, on a loaded machine.
const START: Duration = Duration::from_secs(60);
/// From an event to its effect, where no timer is waited for.
const SOON: Duration = Duration::from_secs(15);

/// The time for which peers are asked to keep routed's routes while it restarts, in seconds.
pub const RESTART_TIME: u64 = 6;

/// Another BGP speaker at 10.0.0.2, which announces [`THEIRS`] and peers with 10.0.0.1.
pub trait Speaker: Sized {
    /// Whether it keeps routes while its peer restarts (RFC 4724), in this configuration.
    const KEEPS_ROUTES: bool = true;
    /// Starts it on node `b`.
    fn start(bed: &Testbed) -> Self;
    /// The next hop of its route to `prefix`, if it has learned one over BGP.
    fn next_hop_of(&self, prefix: &str) -> Option<Ipv4Addr>;
    /// The process that speaks BGP.
    fn process(&mut self) -> &mut Process;
}

/// The encapsulation of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolEncapsulation {
    /// VXLAN, which every kernel has.
    Vxlan,
    /// IP-in-IP.
    Ipip,
}

impl PoolEncapsulation {
    /// The pool's field, the name in views, the device and the gateway of the speaker's exit point.
    fn names(self) -> [&'static str; 4] {
        match self {
            PoolEncapsulation::Vxlan => ["vxlanMode", "vxlan", "routed.vxlan", "10.1.2.0"],
            PoolEncapsulation::Ipip => ["ipipMode", "ipip", "routed.ipip", "10.0.0.2"],
        }
    }
}

/// `routed` on node `a`.
pub struct Routed<'a> {
    bed: &'a Testbed,
    process: Process,
    carried: PoolEncapsulation,
}

impl<'a> Routed<'a> {
    /// Starts it with a hold time in seconds.
    pub fn start(bed: &'a Testbed, carried: PoolEncapsulation, hold_time: u32) -> Self {
        let [mode, ..] = carried.names();
        bed.write(
            "resources/cluster.yaml",
            &format!(
                "apiVersion: projectcalico.org/v3\n\
                 kind: Node\n\
                 metadata: {{ name: node-a }}\n\
                 spec: {{ bgp: {{ ipv4Address: 10.0.0.1/24 }}, podCIDRs: [{OURS}] }}\n\
                 ---\n\
                 apiVersion: projectcalico.org/v3\n\
                 kind: Node\n\
                 metadata: {{ name: node-b }}\n\
                 spec:\n  bgp: {{ ipv4Address: 10.0.0.2/24 }}\n  ipv4VXLANTunnelAddr: 10.1.2.0\n  \
                 vxlanTunnelMACAddr: 66:00:00:00:00:02\n\
                 ---\n\
                 apiVersion: projectcalico.org/v3\n\
                 kind: IPPool\n\
                 metadata: {{ name: pods }}\n\
                 spec: {{ cidr: 10.1.0.0/16, {mode}: Always }}\n\
                 ---\n\
                 apiVersion: projectcalico.org/v3\n\
                 kind: BGPConfiguration\n\
                 metadata: {{ name: default }}\n\
                 spec: {{ asNumber: {ASN}, nodeMeshMaxRestartTime: {RESTART_TIME}s, routed: {{ holdTime: {hold_time}s }} }}\n"
            ),
        );
        let config = bed.write(
            "routed.yaml",
            &format!(
                "node: node-a\nsocket: {}\nstateDir: {}\nstatus: off\ndatastore: {{ file: {} }}\n",
                bed.path("routed.sock").display(),
                bed.path("state").display(),
                bed.path("resources").display()
            ),
        );
        let program = product("routed");
        let process = bed.start(
            "a",
            program.to_str().expect("a path in UTF-8"),
            &["--config", config.to_str().expect("a path in UTF-8")],
        );
        Routed { bed, process, carried }
    }

    /// Returns the output of `routectl show WHAT -o json`; `None` without a daemon.
    pub fn show(&self, what: &str) -> Option<Value> {
        let output = Command::new(product("routectl"))
            .args(["show", what, "-o", "json"])
            .env("ROUTED_SOCKET", self.bed.path("routed.sock"))
            .output()
            .expect("routectl to run");
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    /// The session with the speaker, if it is in this state.
    fn peer_in(&self, established: bool) -> Option<Value> {
        let peer = self.show("peers")?.get(0)?.clone();
        ((peer["state"] == "Established") == established).then_some(peer)
    }

    /// The kernel's route to the speaker's block, resolved to a device and a gateway.
    fn kernel_route(&self) -> Option<(String, String)> {
        let routes = self.bed.routes("a", "179");
        let route = routes.iter().find(|route| route["dst"] == THEIRS)?;
        // Either may go between the two looks; then there is no whole route.
        let next_hops = self.bed.next_hops("a");
        let next_hop = next_hops.iter().find(|object| object["id"] == route["nhid"])?;
        let text = |field: &str| next_hop[field].as_str().unwrap_or_default().to_owned();
        Some((text("dev"), text("gateway")))
    }
}

/// Both sides have learned the other's block, and ours has set the tunnel exit point in the kernel.
fn converge<S: Speaker>(routed: &Routed<'_>, speaker: &S) {
    eventually("the session to be Established", START, || routed.peer_in(true));
    let next_hop = eventually("our block at the speaker", SOON, || speaker.next_hop_of(OURS));
    assert_eq!(next_hop, Ipv4Addr::new(10, 0, 0, 1));
    let route = eventually("the speaker's block in the kernel", SOON, || routed.kernel_route());
    let [_, _, device, gateway] = routed.carried.names();
    assert_eq!(route, (device.to_owned(), gateway.to_owned()));
    // Before that nothing is deleted, and the kernel's state may be an earlier run's.
    eventually("all routes to be there", SOON, || {
        routed.show("status").filter(|status| status["in_sync"] == true)
    });
}

/// Block routes go both ways, and the tunnel route is installed and shown.
pub fn blocks_are_exchanged_and_tunnel_routes_installed<S: Speaker>() {
    let bed = Testbed::with_two_nodes();
    let capture = Capture::start(&bed);
    let speaker = S::start(&bed);
    let routed = Routed::start(&bed, PoolEncapsulation::Vxlan, 90);
    converge(&routed, &speaker);
    views_tell_it(&routed);
    capture.stop().assert_clean();
}

fn views_tell_it(routed: &Routed<'_>) {
    let routes = routed.show("routes").expect("routes");
    let shown = |prefix: &str| {
        let found = routes.as_array().and_then(|all| all.iter().find(|route| route["prefix"] == prefix));
        found.unwrap_or_else(|| panic!("{prefix} in {routes}"))
    };
    let theirs = shown(THEIRS);
    let [_, exit, ..] = routed.carried.names();
    assert_eq!(theirs["source"], "ibgp", "{theirs}");
    assert_eq!((&theirs["next_hop"], &theirs["exit"]), (&"10.0.0.2".into(), &exit.into()), "{theirs}");
    assert_eq!(theirs["installed"], true, "{theirs}");
    assert_eq!((&shown(OURS)["source"], &shown(OURS)["exit"]), (&"local".into(), &"blackhole".into()));
    let peer = routed.peer_in(true).expect("the session");
    assert_eq!((&peer["type"], &peer["asn"]), (&"mesh".into(), &ASN.into()), "{peer}");
    assert_eq!((&peer["received"], &peer["accepted"]), (&1.into(), &1.into()), "{peer}");
}

/// Packets cross the tunnel both ways: ours through the exit point that was learned over BGP, the
/// speaker's through the kernel's own `tunl0`, as Calico sets it up.
pub fn packets_cross_the_ipip_tunnel<S: Speaker>() {
    const PACKETS: u64 = 3;
    let bed = Testbed::with_two_nodes();
    let speaker = S::start(&bed);
    let routed = Routed::start(&bed, PoolEncapsulation::Ipip, 90);
    converge(&routed, &speaker);
    views_tell_it(&routed);
    bed.ip("a", "address add 10.1.1.1/32 dev lo");
    bed.ip("b", "link set tunl0 up");
    bed.ip("b", "address add 10.1.2.1/32 dev tunl0");
    bed.ip("b", "route add 10.1.1.0/26 via 10.0.0.1 dev tunl0 onlink");
    let open = |node, address| {
        let socket = bed.inside(node, || UdpSocket::bind((address, 7)).expect("a socket"));
        socket.set_read_timeout(Some(SOON)).expect("a bounded wait");
        socket
    };
    let (ours, theirs) = (open("a", Ipv4Addr::new(10, 1, 1, 1)), open("b", Ipv4Addr::new(10, 1, 2, 1)));
    let sent = |device: &str, node| {
        let link: Value =
            serde_json::from_str(&bed.ip(node, &format!("-j -s link show {device}"))).expect("JSON");
        link[0]["stats64"]["tx"]["packets"].as_u64().unwrap_or_else(|| panic!("{link}"))
    };
    let before = (sent("routed.ipip", "a"), sent("tunl0", "b"));
    for number in 0..PACKETS {
        let question = number.to_be_bytes();
        ours.send_to(&question, "10.1.2.1:7").expect("to send");
        let mut buffer = [0; 8];
        let (_, from) = theirs.recv_from(&mut buffer).expect("our packet at the speaker's node");
        assert_eq!((buffer, from), (question, "10.1.1.1:7".parse().expect("an address")));
        theirs.send_to(&buffer, from).expect("to send");
        let (_, from) = ours.recv_from(&mut buffer).expect("the answer");
        assert_eq!(from, "10.1.2.1:7".parse().expect("an address"));
    }
    let after = (sent("routed.ipip", "a"), sent("tunl0", "b"));
    assert_eq!(after, (before.0 + PACKETS, before.1 + PACKETS), "all of them through the tunnel");
}

/// Reloads, whether valid or not, leave a session alone that they don't concern.
pub fn reloads_leave_the_session_alone<S: Speaker>() {
    let bed = Testbed::with_two_nodes();
    let capture = Capture::start(&bed);
    let speaker = S::start(&bed);
    let routed = Routed::start(&bed, PoolEncapsulation::Vxlan, 90);
    converge(&routed, &speaker);
    let before = routed.peer_in(true).expect("the session");
    let nodes = |wanted: usize| {
        routed.show("nodes").filter(|nodes| nodes.as_array().is_some_and(|nodes| nodes.len() == wanted))
    };
    let node_c = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: { name: node-c }\nspec:\n  bgp: { \
                  ipv4Address: 10.0.0.9/24 }\n";
    bed.write("resources/more.yaml", node_c);
    eventually("the new node", SOON, || nodes(3));
    bed.write("resources/more.yaml", &node_c.replace("10.0.0.9", "10.0.0.2"));
    eventually("the mistake", SOON, || {
        let status = routed.show("status")?;
        let mistake = status["mistakes"][0].as_str()?.to_owned();
        mistake.contains("must be unique: 10.0.0.2 is also node-b's").then_some(())
    });
    assert!(nodes(3).is_some(), "what runs keeps running");
    std::fs::remove_file(bed.path("resources/more.yaml")).expect("to remove the node");
    eventually("the node to go", SOON, || nodes(2));
    let after = routed.peer_in(true).expect("the session");
    assert_eq!(after["since"], before["since"], "{after}");
    converge(&routed, &speaker);
    capture.stop().assert_clean();
}

/// Either side's shutdown withdraws its routes at once: the hold time is far longer than the wait.
pub fn a_shutdown_withdraws_the_routes<S: Speaker>() {
    let bed = Testbed::with_two_nodes();
    let capture = Capture::start(&bed);
    let mut speaker = S::start(&bed);
    let mut routed = Routed::start(&bed, PoolEncapsulation::Vxlan, 90);
    converge(&routed, &speaker);
    assert_eq!(routed.process.terminate(), Some(0), "routed ends well after SIGTERM");
    let ended = Instant::now();
    eventually("the speaker to lose our block", SOON, || speaker.next_hop_of(OURS).is_none().then_some(()));
    if S::KEEPS_ROUTES {
        let kept = ended.elapsed();
        assert!(kept + Duration::from_secs(1) >= Duration::from_secs(RESTART_TIME), "kept for {kept:?} only");
    }

    let routed = Routed::start(&bed, PoolEncapsulation::Vxlan, 90);
    converge(&routed, &speaker);
    speaker.process().terminate();
    eventually("the kernel to lose the speaker's block", SOON, || {
        routed.kernel_route().is_none().then_some(())
    });
    let peer = routed.peer_in(false).expect("a session that is down");
    assert!(peer["last_error"].is_string(), "{peer}");
    capture.stop().assert_clean();
}

/// Checks that routes exchanged before stay in both tables when routed is killed and started again
/// (RFC 4724).
pub fn a_killed_routed_loses_no_route_of_the_speaker<S: Speaker>() {
    let bed = Testbed::with_two_nodes();
    let capture = Capture::start(&bed);
    let speaker = S::start(&bed);
    let mut routed = Routed::start(&bed, PoolEncapsulation::Vxlan, 90);
    converge(&routed, &speaker);
    for _ in 0..2 {
        routed.process.signal(Signal::SIGKILL);
        drop(routed);
        routed = Routed::start(&bed, PoolEncapsulation::Vxlan, 90);
        eventually("the session to be back", SOON, || {
            assert!(speaker.next_hop_of(OURS).is_some(), "the speaker has kept our block");
            assert!(routed.kernel_route().is_some(), "the kernel has kept the speaker's block");
            routed.peer_in(true).filter(|peer| peer["received"] == 1)
        });
    }
    let again = Instant::now();
    eventually("the restart time to be over", SOON, || {
        assert!(speaker.next_hop_of(OURS).is_some(), "the speaker has been told our block again");
        (again.elapsed() > Duration::from_secs(RESTART_TIME + 1)).then_some(())
    });
    capture.stop().assert_clean();
}

/// A speaker that is stopped, and so falls silent with its connection open, loses its routes when
/// the hold time is over, and has them again when it is continued.
pub fn a_stopped_speaker_is_given_up_when_the_hold_time_is_over<S: Speaker>() {
    let bed = Testbed::with_two_nodes();
    let capture = Capture::start(&bed);
    let mut speaker = S::start(&bed);
    let routed = Routed::start(&bed, PoolEncapsulation::Vxlan, 3);
    converge(&routed, &speaker);
    assert_eq!(routed.peer_in(true).expect("the session")["hold_time_s"], 3);
    speaker.process().signal(Signal::SIGSTOP);
    let peer = eventually("the session to go down", SOON, || routed.peer_in(false));
    let reason = peer["last_error"].as_str().unwrap_or_default().to_lowercase();
    assert!(reason.contains("hold timer expired"), "{peer}");
    eventually("the kernel to lose the speaker's block", SOON, || {
        routed.kernel_route().is_none().then_some(())
    });
    speaker.process().signal(Signal::SIGCONT);
    converge(&routed, &speaker);
    capture.stop().assert_clean();
}
