//! The nftables table of a running daemon: it follows the resources and outlives the daemon; a
//! failure to set it is reported and everything else continues.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use testbed::{Process, Testbed, eventually, product, run};

/// Time from the start to the first answer on a busy machine.
const START: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);

/// A daemon, node-a of a VXLAN cluster.
struct Lab {
    // Dropped before the bed.
    routed: Process,
    bed: Testbed,
}

impl Lab {
    /// Starts it by way of `wrapper`, a program and its arguments.
    fn new(wrapper: &[&str]) -> Lab {
        let bed = Testbed::with_two_nodes();
        resources(&bed, &[("a", 1), ("b", 2)], "natOutgoing: true", "");
        let routed = Self::start(&bed, wrapper);
        Lab { routed, bed }
    }

    fn start(bed: &Testbed, wrapper: &[&str]) -> Process {
        let config = bed.write(
            "routed.yaml",
            &format!(
                "node: node-a\nsocket: {}\nstateDir: {}\nstatus: off\ndatastore: {{ file: {} }}\n",
                bed.path("routed.sock").display(),
                bed.path("state").display(),
                bed.path("resources").display()
            ),
        );
        let routed = product("routed");
        let mut words: Vec<&str> = wrapper.to_vec();
        words.extend([routed.to_str().expect("UTF-8"), "--config", config.to_str().expect("UTF-8")]);
        bed.start("a", words[0], &words[1..])
    }

    fn status(&self) -> Option<Value> {
        let output = Command::new(product("routectl"))
            .args(["show", "status", "-o", "json"])
            .env("ROUTED_SOCKET", self.bed.path("routed.sock"))
            .output()
            .expect("routectl to run");
        serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
    }

    fn text(&self) -> String {
        let output = Command::new(product("routectl"))
            .args(["show", "status"])
            .env("ROUTED_SOCKET", self.bed.path("routed.sock"))
            .output()
            .expect("routectl to run");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Waits until the status has a warning that begins so.
    fn warned(&self, start: &str) {
        eventually(start, START, || {
            let status = self.status()?;
            let warnings = status["warnings"].as_array()?;
            warnings
                .iter()
                .any(|line| line.as_str().is_some_and(|line| line.starts_with(start)))
                .then_some(())
        });
    }

    fn nft(&self, words: &str) -> String {
        let namespace = self.bed.namespace("a");
        let mut arguments = vec!["netns", "exec", &namespace, "nft"];
        arguments.extend(words.split(' '));
        run("ip", &arguments)
    }

    fn eventually_lists(&self, what: &str, condition: impl Fn(&str) -> bool) -> String {
        eventually(what, START, || {
            Some(self.nft("--handle list ruleset")).filter(|listing| condition(listing))
        })
    }
}

/// Nodes, one pool and the cluster's settings.
fn resources(bed: &Testbed, nodes: &[(&str, u8)], pool: &str, settings: &str) {
    let mut text = String::new();
    for (name, number) in nodes {
        text.push_str(&format!(
            "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{ name: node-{name} }}\nspec: {{ bgp: {{ ipv4Address: \
             10.0.0.{number}/24 }}, podCIDRs: [10.1.{number}.0/26] }}\n---\n"
        ));
    }
    text.push_str(&format!(
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{ name: pods }}\nspec: {{ cidr: 10.1.0.0/16, vxlanMode: \
         Always, {pool} }}\n---\napiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {{ name: default \
         }}\nspec: {{ routed: {{ fallbackAfter: 1s, {settings} }} }}\n"
    ));
    bed.write("resources/cluster.yaml", &text);
}

#[test]
fn the_table_follows_the_resources_and_outlives_the_daemon() {
    let mut lab = Lab::new(&["env"]);
    lab.nft("add table ip others");
    let others = lab.nft("--handle list table ip others");
    lab.eventually_lists("the table", |text| text.contains("masquerade") && text.contains("10.0.0.2"));
    let shown = eventually("the status", SOON, || {
        Some(lab.text()).filter(|text| text.contains("vxlan from 1 addresses, 0 packets dropped"))
    });
    for line in ["Firewall       nftables table inet routed, 0 drifted", "  masquerades  10.1.0.0/16"] {
        assert!(shown.contains(line), "no {line} in {shown}");
    }

    resources(&lab.bed, &[("a", 1), ("b", 2), ("c", 3)], "natOutgoing: false", "");
    let listing = lab.eventually_lists("the third node, and no masquerading", |text| {
        text.contains("10.0.0.3") && !text.contains("masquerade")
    });

    // Neither a stop nor a kill nor the starts after them change anything.
    lab.nft("add table inet witness");
    let listing = listing.replace(&others, "");
    let ours = |lab: &Lab| lab.nft("--handle list table inet routed");
    let before = ours(&lab);
    assert!(listing.contains(before.trim()), "{listing}\n{before}");
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        lab.routed.signal(signal);
        eventually("the end", SOON, || (!lab.routed.is_running()).then_some(()));
        assert_eq!(ours(&lab), before, "after {signal}");
        let _ = std::fs::remove_file(lab.bed.path("routed.sock"));
        lab.routed = Lab::start(&lab.bed, &["env"]);
        eventually("the status", START, || {
            let status = lab.status()?;
            (status["in_sync"] == true && status["firewall"]["nodes"] == 2).then_some(())
        });
        assert_eq!(ours(&lab), before, "after the start");
    }

    resources(&lab.bed, &[("a", 1), ("b", 2)], "natOutgoing: false", "acceptTunnelsFrom: any");
    lab.eventually_lists("no table", |text| !text.contains("table inet routed"));
    assert_eq!(lab.nft("--handle list table ip others"), others);
}

#[test]
fn a_missing_nft_is_reported_once_everything_else_runs_and_nft_is_used_once_it_exists() {
    let bed = Testbed::with_two_nodes();
    let programs = bed.path("programs");
    std::fs::create_dir(&programs).expect("a directory");
    let path = format!("PATH={}", programs.display());
    resources(&bed, &[("a", 1), ("b", 2)], "natOutgoing: true", "");
    let lab = Lab { routed: Lab::start(&bed, &["env", &path]), bed };
    let problem = "the program nft is missing: install the package nftables";
    lab.warned(problem);
    assert!(lab.text().contains("Firewall       not set"), "{}", lab.text());
    eventually("the routes", SOON, || (lab.bed.routes("a", "179").len() == 2).then_some(()));
    std::os::unix::fs::symlink("/usr/sbin/nft", programs.join("nft")).expect("a link");
    lab.eventually_lists("the table", |text| text.contains("table inet routed"));
    eventually("the status to be right", SOON, || {
        let status = lab.status()?;
        (status["firewall"]["installed"] == true && !lab.text().contains(problem)).then_some(())
    });
    assert_eq!(lab.routed.output().matches(problem).count(), 1, "{}", lab.routed.output());
}

#[test]
fn a_missing_privilege_is_reported_and_bgp_runs() {
    let lab = Lab::new(&["setpriv", "--bounding-set", "-net_admin"]);
    lab.warned("no CAP_NET_ADMIN: nft may not change the firewall");
    lab.warned("no CAP_NET_ADMIN: the kernel refuses");
    let status = lab.status().expect("a status");
    assert_eq!(status["listen_port"], 179);
    assert_eq!(lab.nft("list ruleset"), "");
}
