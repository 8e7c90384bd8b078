//! The packaged GoBGP as a member of the mesh.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use testbed::{Process, Testbed, eventually};
use tests::interop::{self, ASN, Speaker, THEIRS};

struct GoBgp {
    process: Process,
    namespace: String,
}

impl GoBgp {
    /// Runs its client in the daemon's namespace; `None` if the daemon doesn't answer.
    fn ask(&self, arguments: &[&str]) -> Option<Vec<u8>> {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.namespace, "gobgp"])
            .args(arguments)
            .output()
            .expect("gobgp to run");
        output.status.success().then_some(output.stdout)
    }
}

impl Speaker for GoBgp {
    const KEEPS_ROUTES: bool = false;

    fn start(bed: &Testbed) -> Self {
        let config = bed.write(
            "gobgp.toml",
            &format!(
                "[global.config]\n  as = {ASN}\n  router-id = \"10.0.0.2\"\n\n\
                 [[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"10.0.0.1\"\n    peer-as = {ASN}\n  \
                 [neighbors.timers.config]\n    connect-retry = 1\n    idle-hold-time-after-reset = 1\n"
            ),
        );
        let process = bed.start("b", "gobgpd", &["-f", config.to_str().expect("UTF-8"), "--log-plain"]);
        let speaker = GoBgp { process, namespace: bed.namespace("b") };
        eventually("gobgpd to take its block", Duration::from_secs(30), || {
            speaker.ask(&["global", "rib", "add", THEIRS, "nexthop", "10.0.0.2"])
        });
        speaker
    }

    fn next_hop_of(&self, prefix: &str) -> Option<Ipv4Addr> {
        let answer: serde_json::Value =
            serde_json::from_slice(&self.ask(&["-j", "global", "rib", prefix])?).ok()?;
        let paths = answer.get(prefix)?.as_array()?;
        let path = paths.iter().find(|path| path["best"] == true)?;
        let attributes = path["attrs"].as_array()?;
        attributes.iter().find_map(|attribute| attribute["nexthop"].as_str()?.parse().ok())
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

#[test]
fn gobgp_exchanges_blocks_and_tunnel_routes_are_installed() {
    interop::blocks_are_exchanged_and_tunnel_routes_installed::<GoBgp>();
}

#[test]
fn a_shutdown_withdraws_the_routes_to_and_from_gobgp() {
    interop::a_shutdown_withdraws_the_routes::<GoBgp>();
}

#[test]
fn a_stopped_gobgp_is_given_up_when_the_hold_time_is_over() {
    interop::a_stopped_speaker_is_given_up_when_the_hold_time_is_over::<GoBgp>();
}
