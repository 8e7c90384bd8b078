//! The packaged BIRD 2 as a member of the mesh.

use std::net::Ipv4Addr;
use std::process::Command;

use testbed::{Process, Testbed, with_ipip};
use tests::interop::{self, ASN, Speaker, THEIRS};

struct Bird {
    process: Process,
    control: String,
}

impl Speaker for Bird {
    fn start(bed: &Testbed) -> Self {
        let config = bed.write(
            "bird.conf",
            &format!(
                "router id 10.0.0.2;\n\
                 protocol device {{}}\n\
                 protocol static {{ ipv4; route {THEIRS} blackhole; }}\n\
                 protocol bgp mesh {{\n  \
                   local 10.0.0.2 as {ASN};\n  \
                   neighbor 10.0.0.1 as {ASN};\n  \
                   connect delay time 1;\n  connect retry time 1;\n  error wait time 1, 2;\n  \
                   ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};\n\
                 }}\n"
            ),
        );
        let control = bed.path("bird.ctl").to_str().expect("UTF-8").to_owned();
        let pid = bed.path("bird.pid");
        let config = config.to_str().expect("UTF-8");
        let arguments = ["-f", "-c", config, "-s", &control, "-P", pid.to_str().expect("UTF-8")];
        Bird { process: bed.start("b", "bird", &arguments), control }
    }

    fn next_hop_of(&self, prefix: &str) -> Option<Ipv4Addr> {
        let show = ["-s", &self.control, "show", "route", "for", prefix, "protocol", "mesh", "all"];
        let output = Command::new("birdc").args(show).output().expect("birdc to run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line =
            text.lines().find_map(|line| line.trim().strip_prefix("BGP.next_hop: ").map(str::to_owned));
        text.contains(prefix).then_some(line?.split(' ').next()?.parse().ok()).flatten()
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

#[test]
fn bird_exchanges_blocks_and_tunnel_routes_are_installed() {
    interop::blocks_are_exchanged_and_tunnel_routes_installed::<Bird>();
}

#[test]
fn a_shutdown_withdraws_the_routes_to_and_from_bird() {
    interop::a_shutdown_withdraws_the_routes::<Bird>();
}

#[test]
fn a_stopped_bird_is_given_up_when_the_hold_time_is_over() {
    interop::a_stopped_speaker_is_given_up_when_the_hold_time_is_over::<Bird>();
}

#[test]
fn packets_cross_the_ipip_tunnel_to_bird() {
    with_ipip("packets_cross_the_ipip_tunnel_to_bird", interop::packets_cross_the_ipip_tunnel::<Bird>);
}

#[test]
fn reloads_leave_the_session_to_bird_alone() {
    interop::reloads_leave_the_session_alone::<Bird>();
}

#[test]
fn a_killed_routed_loses_no_route_of_bird() {
    interop::a_killed_routed_loses_no_route_of_the_speaker::<Bird>();
}
