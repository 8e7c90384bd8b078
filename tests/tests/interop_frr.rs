//! The packaged FRR (bgpd and its zebra) as a member of the mesh.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use testbed::{Process, Testbed};
use tests::interop::{self, ASN, Speaker, THEIRS};

/// Debian's directory of FRR's daemons.
const DAEMONS: &str = "/usr/lib/frr";

struct Frr {
    bgpd: Process,
    // Held for its life: bgpd resolves next hops through it.
    _zebra: Process,
    directory: String,
}

impl Speaker for Frr {
    fn start(bed: &Testbed) -> Self {
        let zebra_config = bed.write("frr/zebra.conf", "hostname frr\n");
        let bgpd_config = bed.write(
            "frr/bgpd.conf",
            &format!(
                "router bgp {ASN}\n bgp router-id 10.0.0.2\n no bgp network import-check\n \
                 neighbor 10.0.0.1 remote-as {ASN}\n neighbor 10.0.0.1 timers connect 1\n \
                 address-family ipv4 unicast\n  network {THEIRS}\n exit-address-family\n"
            ),
        );
        let directory = bed.path("frr").to_str().expect("UTF-8").to_owned();
        // Both drop to a user of their own, who must be able to reach their sockets.
        for (path, mode) in [(bed.path(""), 0o755), (bed.path("frr"), 0o777)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its permissions");
        }
        let zserv = format!("{directory}/zserv.api");
        let start = |name: &str, config: &str, more: &[&str]| {
            let pid = format!("{directory}/{name}.pid");
            let common =
                ["-f", config, "-i", &pid, "-z", &zserv, "--vty_socket", &directory, "-A", "127.0.0.1"];
            bed.start("b", &format!("{DAEMONS}/{name}"), &[&common[..], more].concat())
        };
        let zebra = start("zebra", zebra_config.to_str().expect("UTF-8"), &[]);
        let bgpd = start("bgpd", bgpd_config.to_str().expect("UTF-8"), &[]);
        Frr { bgpd, _zebra: zebra, directory }
    }

    fn next_hop_of(&self, prefix: &str) -> Option<Ipv4Addr> {
        let show = format!("show bgp ipv4 unicast {prefix} json");
        let output = Command::new("vtysh")
            .args(["--vty_socket", &self.directory, "-d", "bgpd", "-c", &show])
            .output()
            .expect("vtysh to run");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let path = answer["paths"].get(0)?;
        // A path whose next hop it can't resolve is kept, but not used.
        let usable = path["valid"] == true && path["bestpath"]["overall"] == true;
        path["nexthops"].get(0)?["ip"].as_str().filter(|_| usable)?.parse().ok()
    }

    fn process(&mut self) -> &mut Process {
        &mut self.bgpd
    }
}

#[test]
fn frr_exchanges_blocks_and_tunnel_routes_are_installed() {
    interop::blocks_are_exchanged_and_tunnel_routes_installed::<Frr>();
}

#[test]
fn a_shutdown_withdraws_the_routes_to_and_from_frr() {
    interop::a_shutdown_withdraws_the_routes::<Frr>();
}

#[test]
fn a_stopped_frr_is_given_up_when_the_hold_time_is_over() {
    interop::a_stopped_speaker_is_given_up_when_the_hold_time_is_over::<Frr>();
}

#[test]
fn a_killed_routed_loses_no_route_of_frr() {
    interop::a_killed_routed_loses_no_route_of_the_speaker::<Frr>();
}
