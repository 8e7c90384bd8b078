//! The real `routed` on one node and another BGP speaker on the next, which is a member of the mesh.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::bed::{Bed, Process, eventually, product};

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

/// Another BGP speaker at 10.0.0.2, told to announce [`THEIRS`] and to peer with 10.0.0.1.
pub trait Speaker: Sized {
    /// Starts it on node `b`.
    fn start(bed: &Bed) -> Self;
    /// The next hop of its route to `prefix`, if it has learned one over BGP.
    fn next_hop_of(&self, prefix: &str) -> Option<Ipv4Addr>;
    /// The process that speaks BGP.
    fn process(&mut self) -> &mut Process;
}

/// `routed` on node `a`.
pub struct Routed<'a> {
    bed: &'a Bed,
    process: Process,
}

impl<'a> Routed<'a> {
    /// Starts it with a hold time in seconds.
    pub fn start(bed: &'a Bed, hold_time: u32) -> Self {
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
                 spec: {{ cidr: 10.1.0.0/16, vxlanMode: Always }}\n\
                 ---\n\
                 apiVersion: projectcalico.org/v3\n\
                 kind: BGPConfiguration\n\
                 metadata: {{ name: default }}\n\
                 spec: {{ asNumber: {ASN}, routed: {{ holdTime: {hold_time}s }} }}\n"
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
        Routed { bed, process }
    }

    /// What `routectl show WHAT -o json` says; `None` while there is no daemon.
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
        let next_hop = self.bed.next_hop("a", route["nhid"].as_u64()?);
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
    assert_eq!(route, ("routed.vxlan".to_owned(), "10.1.2.0".to_owned()));
}

/// Block routes go both ways, and the tunnel route is installed and shown.
pub fn blocks_are_exchanged_and_tunnel_routes_installed<S: Speaker>() {
    let bed = Bed::with_two_nodes();
    let speaker = S::start(&bed);
    let routed = Routed::start(&bed, 90);
    converge(&routed, &speaker);
    let routes = routed.show("routes").expect("routes");
    let shown = |prefix: &str| {
        let found = routes.as_array().and_then(|all| all.iter().find(|route| route["prefix"] == prefix));
        found.unwrap_or_else(|| panic!("{prefix} in {routes}"))
    };
    let theirs = shown(THEIRS);
    assert_eq!(theirs["source"], "ibgp", "{theirs}");
    assert_eq!((&theirs["next_hop"], &theirs["exit"]), (&"10.0.0.2".into(), &"vxlan".into()), "{theirs}");
    assert_eq!(theirs["installed"], true, "{theirs}");
    assert_eq!((&shown(OURS)["source"], &shown(OURS)["exit"]), (&"local".into(), &"blackhole".into()));
    let peer = routed.peer_in(true).expect("the session");
    assert_eq!((&peer["type"], &peer["asn"]), (&"mesh".into(), &ASN.into()), "{peer}");
    assert_eq!((&peer["received"], &peer["accepted"]), (&1.into(), &1.into()), "{peer}");
}

/// Either side's shutdown withdraws its routes at once: the hold time is far longer than the wait.
pub fn a_shutdown_withdraws_the_routes<S: Speaker>() {
    let bed = Bed::with_two_nodes();
    let mut speaker = S::start(&bed);
    let mut routed = Routed::start(&bed, 90);
    converge(&routed, &speaker);
    assert_eq!(routed.process.terminate(), Some(0), "routed ends well after SIGTERM");
    eventually("the speaker to lose our block", SOON, || speaker.next_hop_of(OURS).is_none().then_some(()));

    let routed = Routed::start(&bed, 90);
    converge(&routed, &speaker);
    speaker.process().terminate();
    eventually("the kernel to lose the speaker's block", SOON, || {
        routed.kernel_route().is_none().then_some(())
    });
    let peer = routed.peer_in(false).expect("a session that is down");
    assert!(peer["last_error"].is_string(), "{peer}");
}

/// A speaker that is stopped, and so falls silent with its connection open, loses its routes when
/// the hold time is over, and has them again when it is continued.
pub fn a_stopped_speaker_is_given_up_when_the_hold_time_is_over<S: Speaker>() {
    let bed = Bed::with_two_nodes();
    let mut speaker = S::start(&bed);
    let routed = Routed::start(&bed, 3);
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
}
