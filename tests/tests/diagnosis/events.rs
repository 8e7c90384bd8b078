//! Events of a cluster are in the journals of its nodes, and reach their followers.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::{eventually, product};
use tests::cluster::{Cluster, Settings};
use tests::etcd::routectl;

const UP: Duration = Duration::from_secs(30);

/// `routectl events -f -o json` on a node.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(cluster: &Cluster, index: usize) -> Follower {
        let mut child = Command::new(product("routectl"))
            .arg("--socket")
            .arg(cluster.socket(index))
            .args(["events", "-f", "-o", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("routectl to run");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Follower { child, lines }
    }

    /// Waits for an event of that kind and word, about `subject` if one is given.
    fn until(&self, kind: &str, what: &str, subject: Option<&str>) -> Value {
        let deadline = Instant::now() + UP;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no {kind} {what} of {subject:?}: {seen:#?}")
            };
            let event: Value = serde_json::from_str(&line).expect("JSON");
            let same = event["kind"] == kind && event["what"] == what;
            if same && subject.is_none_or(|subject| event["subject"] == subject) {
                return event;
            }
            seen.push(line);
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn events(cluster: &Cluster, arguments: &[&str]) -> String {
    let words: Vec<&str> = ["events"].iter().chain(arguments).copied().collect();
    let done = routectl(cluster, 0, &words);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("UTF-8")
}

#[test]
fn sessions_routes_tunnels_drift_and_resources_are_in_the_journal_and_reach_followers() {
    let mut cluster = Cluster::new(2, 1);
    let settings = Settings::default().modes("Never", "Always");
    cluster.configure(&settings);
    cluster.start_all();
    cluster.wait_for_all("vxlan", UP);
    eventually("routes that are whole", UP, || (cluster.show(0, "status")?["in_sync"] == true).then_some(()));
    let follower = Follower::start(&cluster, 0);
    // Past events come first.
    follower.until("daemon", "started", None);
    let up = follower.until("session", "up", Some("node-2"));
    assert!(up["text"].as_str().expect("text").contains("192.168.0.2: Established"), "{up}");
    let all = events(&cluster, &[]);
    for words in
        ["nodes: +node-1, +node-2", "10.1.2.0/26 via 192.168.0.2", "nothing to vxlan", "the routes are whole"]
    {
        assert!(all.contains(words), "{words}: {all}");
    }

    // Then what comes.
    cluster.bed.ip("n1", "route flush proto 179");
    let mended = follower.until("drift", "mended", None);
    assert!(mended["text"].as_str().expect("text").contains("mended"), "{mended}");

    cluster.configure(&settings.clone().with("recoverAfter", "5s"));
    let changed = follower.until("configuration", "changed", None);
    assert_eq!(changed["text"], "bgpconfigurations: ~default");

    cluster.drop_packets("bgp", &["tcp dport 179", "tcp sport 179"]);
    let down = follower.until("session", "down", Some("node-2"));
    let reason = down["text"].as_str().expect("text").to_lowercase();
    assert!(reason.contains("hold"), "{down}");
    cluster.pass("bgp");
    follower.until("session", "up", Some("node-2"));

    // Selected kinds after a time.
    let since = down["at"].as_str().expect("a time");
    let late = events(&cluster, &["--since", since, "--kind", "session", "-o", "json"]);
    let late: Vec<Value> = late.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(late.first(), Some(&down));
    assert!(late.iter().all(|event| event["kind"] == "session"), "{late:#?}");

    let mut child = follower;
    assert_eq!(cluster.daemon(0).terminate(), Some(0));
    let ended = eventually("the follower to end", UP, || child.child.try_wait().expect("its state"));
    assert_eq!(ended.code(), Some(3));
}
