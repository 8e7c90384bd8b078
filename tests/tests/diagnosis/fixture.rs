//! The steps that these tests share: start a cluster, change its resources, run `routectl`.

use std::process::{Command, Output};
use std::time::Duration;

use testbed::product;
use tests::cluster::{Cluster, Settings};

/// A cluster comes up within this.
pub(crate) const UP: Duration = Duration::from_secs(30);

/// A cluster whose nodes reach each other by `exit`.
pub(crate) fn up(settings: &Settings, nodes: u8, exit: &str) -> Cluster {
    let mut cluster = Cluster::new(nodes, 1);
    cluster.configure(settings);
    cluster.start_all();
    cluster.wait_for_all(exit, UP);
    cluster
}

/// Runs `routectl` against a node's daemon.
pub(crate) fn routectl(cluster: &Cluster, index: usize, words: &[&str]) -> Output {
    let mut command = Command::new(product("routectl"));
    command.arg("--socket").arg(cluster.socket(index)).args(words).output().expect("routectl to run")
}

/// Adds one more file of resources, or replaces it.
pub(crate) fn apply(cluster: &Cluster, text: &str) {
    cluster.bed.write("resources/.more", text);
    let path = |name: &str| cluster.bed.path(&format!("resources/{name}"));
    std::fs::rename(path(".more"), path("more.yaml")).expect("to rename");
}

/// Removes that file.
pub(crate) fn unapply(cluster: &Cluster) {
    std::fs::remove_file(cluster.bed.path("resources/more.yaml")).expect("to remove");
}
