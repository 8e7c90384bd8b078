//! The kernel's events about a node's routes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::cluster::Cluster;

/// `ip monitor` of routes and next-hop objects in a node's namespace.
pub struct Monitor {
    child: Child,
    lines: Receiver<String>,
}

impl Monitor {
    /// Starts a monitor in a node's namespace, as `n1`.
    ///
    /// # Panics
    /// `ip` can't be run, or tells nothing.
    pub fn start(cluster: &Cluster, node: &str) -> Monitor {
        let mut child = Command::new("ip")
            .args(["-n", &cluster.bed.namespace(node), "monitor", "route", "nexthop"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("ip to run");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let monitor = Monitor { child, lines };
        monitor.mark(cluster, node);
        monitor
    }

    /// Returns the events since the last mark; the mark is a route that is added and deleted.
    ///
    /// # Panics
    /// The mark is not told.
    pub fn mark(&self, cluster: &Cluster, node: &str) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..100 {
            cluster.bed.ip(node, "route replace blackhole 203.0.113.1");
            cluster.bed.ip(node, "route delete blackhole 203.0.113.1");
            while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(100)) {
                if line.contains("203.0.113.1") {
                    if line.contains("Deleted") {
                        return told;
                    }
                } else if !line.contains("fe80:") {
                    // Link-local addresses come and go by the kernel's own doing.
                    told.push(line);
                }
            }
        }
        panic!("the monitor tells nothing");
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
