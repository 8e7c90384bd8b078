//! `routed` in a lab: its configuration and its answers.

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use testbed::{Process, Testbed, product};

use super::{OURS, OURS_V6};

/// The real `routed` on node `a`, without a dataplane.
pub(super) struct Routed<'a> {
    bed: &'a Testbed,
    process: Process,
}

impl<'a> Routed<'a> {
    pub(super) fn start(bed: &'a Testbed, resources: &str) -> Routed<'a> {
        bed.write("resources/cluster.yaml", resources);
        Routed::again(bed)
    }

    /// Starts it again with the same configuration.
    pub(super) fn again(bed: &'a Testbed) -> Routed<'a> {
        let text = format!(
            "node: node-a\nsocket: {}\nstateDir: {}\nstatus: off\ndataplane: none\ndatastore: {{ file: {} }}\n",
            bed.path("routed.sock").display(),
            bed.path("state").display(),
            bed.path("resources").display()
        );
        let config = bed.write("routed.yaml", &text);
        let program = product("routed");
        let words = ["--config", config.to_str().expect("UTF-8")];
        Routed { bed, process: bed.start("a", program.to_str().expect("UTF-8"), &words) }
    }

    /// Ends it without a word.
    pub(super) fn kill(self) {
        self.process.signal(Signal::SIGKILL);
    }

    fn ask(&self, words: &[&str]) -> Option<Value> {
        let output = Command::new(product("routectl"))
            .args(words)
            .args(["-o", "json"])
            .env("ROUTED_SOCKET", self.bed.path("routed.sock"))
            .output()
            .expect("routectl to run");
        serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
    }

    pub(super) fn session(&self, address: &str) -> Option<Value> {
        let peers = self.ask(&["show", "peers"])?;
        peers.as_array()?.iter().find(|peer| peer["address"] == address).cloned()
    }

    pub(super) fn is_up(&self, address: &str) -> Option<()> {
        (self.session(address)?["state"] == "Established").then_some(())
    }

    /// The next hop of the path that is used.
    pub(super) fn next_hop(&self, prefix: &str) -> Option<String> {
        let explained = self.ask(&["explain", prefix])?;
        let same = explained["prefix"] == prefix && !explained["route"].is_null();
        explained["route"]["next_hop"].as_str().filter(|_| same).map(str::to_owned)
    }

    /// Returns the number of paths to a block.
    pub(super) fn paths(&self, prefix: &str) -> Option<usize> {
        self.ask(&["explain", prefix])?["paths"].as_array().map(Vec::len)
    }

    pub(super) fn rejected(&self, prefix: &str) -> Option<String> {
        let routes = self.ask(&["show", "routes", "--rejected"])?;
        let route = routes.as_array()?.iter().find(|route| route["prefix"] == prefix)?.clone();
        route["reason"].as_str().map(str::to_owned)
    }
}

pub(super) fn node(more: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{ name: node-a }}\nspec:\n  bgp: {{ ipv4Address: \
         10.0.0.1/24, ipv6Address: 'fd00::1/64'{more} }}\n  podCIDRs: [{OURS}, '{OURS_V6}']\n---\napiVersion: \
         projectcalico.org/v3\nkind: IPPool\nmetadata: {{ name: v4 }}\nspec: {{ cidr: 10.1.0.0/16 }}\n---\napiVersion: \
         projectcalico.org/v3\nkind: IPPool\nmetadata: {{ name: v6 }}\nspec: {{ cidr: 'fd00:1::/64' }}\n---\napiVersion: \
         projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {{ name: default }}\nspec: {{ nodeToNodeMeshEnabled: false \
         }}\n"
    )
}

pub(super) fn bgp_peer(name: &str, address: &str, asn: u32, more: &str) -> String {
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {{ name: {name} }}\nspec: {{ peerIP: {address}, \
         asNumber: {asn}{more} }}\n"
    )
}
