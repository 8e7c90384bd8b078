//! Clusters of three nodes and what their wire carries.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use crate::programs::{program, routectl, text};

/// The output of a lab.
struct Lab {
    /// `node-1 node-2` to what the wire carried between their pods.
    wire: BTreeMap<String, String>,
    /// Lines of all `show peers` by state.
    states: BTreeMap<String, usize>,
    /// Everything.
    text: String,
}

/// Runs a lab of three nodes that has to pass.
fn lab(arguments: &str) -> Lab {
    lab_with_pairs(arguments, 6)
}

/// Runs a lab that has to pass, with so many pairs of nodes.
fn lab_with_pairs(arguments: &str, pairs: usize) -> Lab {
    let output = routectl("lab").args(arguments.split_whitespace()).output().expect("routectl runs");
    let all = text(&output);
    assert!(output.status.success(), "routectl lab {arguments}:\n{all}");
    let stdout = String::from_utf8(output.stdout).expect("text");
    let mut wire = BTreeMap::new();
    let mut states = BTreeMap::new();
    for line in stdout.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [from, to, _pod, pings, _time, "ms", carried @ ..] if from.starts_with("node-") => {
                assert_eq!(*pings, "2/2", "{line}");
                wire.insert(format!("{from} {to}"), carried.join(" "));
            }
            [name, _address, "64512", _type, state, ..] if !name.contains('/') => {
                *states.entry((*state).to_owned()).or_insert(0) += 1;
            }
            _ => {}
        }
    }
    assert_eq!(wire.len(), pairs, "not all pairs:\n{all}");
    Lab { wire, states, text: all }
}

impl Lab {
    /// Returns the encapsulation on the wire for each pair, in the order 1-2, 1-3, 2-1, 2-3, 3-1,
    /// 3-2.
    fn carried(&self) -> Vec<&str> {
        self.wire.values().map(String::as_str).collect()
    }

    fn established(&self) -> usize {
        self.states.get("Established").copied().unwrap_or(0)
    }
}

const IPIP: &str = "ipip (4 packets)";
const VXLAN: &str = "vxlan (4 packets)";
const PLAIN: &str = "plain (4 packets)";

#[test]
fn three_nodes_in_a_mesh_ping_each_other_over_ip_protocol_4() {
    let lab = lab("");
    assert_eq!(lab.carried(), [IPIP; 6], "{}", lab.text);
    assert_eq!((lab.established(), lab.states.len()), (6, 1), "{}", lab.text);
    assert_eq!(lab.text.matches("routed.ipip").count(), 6, "{}", lab.text);
}

#[test]
fn clients_of_a_route_reflector_reach_each_other_over_ip_protocol_4() {
    let lab = lab("--mode reflector");
    assert_eq!(lab.carried(), [IPIP; 6], "{}", lab.text);
    // Each client's end and the reflector's two: the clients do not peer with each other.
    assert_eq!((lab.established(), lab.states.len()), (4, 1), "{}", lab.text);
}

#[test]
fn a_vxlan_cluster_uses_vxlan_alone() {
    let lab = lab("--encapsulation vxlan");
    assert_eq!(lab.carried(), [VXLAN; 6], "{}", lab.text);
    assert_eq!((lab.established(), lab.states.len()), (6, 1), "{}", lab.text);
}

#[test]
fn five_nodes_register_themselves_in_three_etcd_members_claim_their_blocks_and_their_pods_ping() {
    let lab = lab_with_pairs("--encapsulation vxlan --datastore etcd --nodes 5", 20);
    assert_eq!(lab.carried(), [VXLAN; 20], "{}", lab.text);
    assert_eq!((lab.established(), lab.states.len()), (20, 1), "{}", lab.text);
    let claimed = |line: &str| line.split_once(" has claimed ").map(|(_, block)| block.to_owned());
    let blocks: BTreeSet<String> = lab.text.lines().filter_map(claimed).collect();
    assert_eq!(blocks.len(), 5, "{}", lab.text);
    // The first block that a node tries follows from its name: these are in no table of the lab.
    let ordered = (1..=5).map(|number| format!("10.1.{number}.0/26")).collect();
    assert_ne!(blocks, ordered, "{}", lab.text);
}

#[test]
fn cross_subnet_leaves_pairs_of_one_subnet_unencapsulated() {
    let lab = lab("--pool-mode cross-subnet --subnets 2");
    // node-1 and node-3 share a subnet.
    assert_eq!(lab.carried(), [IPIP, PLAIN, IPIP, IPIP, PLAIN, IPIP], "{}", lab.text);
    assert_eq!((lab.established(), lab.states.len()), (6, 1), "{}", lab.text);
}

#[test]
fn a_node_whose_bgp_is_blocked_is_reached_by_vxlan_and_the_others_by_ipip() {
    let lab = lab("--block-bgp node-3");
    assert_eq!(lab.carried(), [IPIP, VXLAN, IPIP, VXLAN, VXLAN, VXLAN], "{}", lab.text);
    assert_eq!(lab.established(), 2, "{}", lab.text);
    assert!(!lab.text.contains(" 0 packets dropped"), "{}", lab.text);
}

#[test]
fn a_daemon_that_ends_is_named_with_the_end_of_its_log() {
    let directory = std::env::temp_dir().join(format!("lab-of-mortals-{}", std::process::id()));
    std::fs::create_dir(&directory).expect("a directory");
    std::fs::copy(program("routectl"), directory.join("routectl")).expect("a copy");
    let script = directory.join("routed");
    std::fs::write(&script, "#!/bin/sh\necho so it goes >&2\nexit 3\n").expect("a script");
    let mode = Command::new("chmod").arg("755").arg(&script).status().expect("chmod runs");
    assert!(mode.success());
    let output = Command::new(directory.join("routectl"))
        .args(["lab", "--encapsulation", "vxlan"])
        .output()
        .expect("routectl runs");
    std::fs::remove_dir_all(&directory).expect("removed");
    let all = text(&output);
    assert_eq!(output.status.code(), Some(1), "{all}");
    assert!(all.contains("ended (exit status: 3)") && all.contains("so it goes"), "{all}");
}

#[test]
fn an_interrupted_lab_takes_its_daemons_down() {
    let mut child = routectl("lab --encapsulation vxlan --nodes 12")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("routectl runs");
    let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert!(first.contains("sessions"), "{first}");
    let daemons = children(child.id());
    assert_eq!(daemons.len(), 12, "{daemons:?}");
    let kill = Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
    assert!(kill.success());
    let rest: Vec<String> = lines.map(|l| l.expect("text")).collect();
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130), "{rest:?}");
    assert!(rest.iter().any(|l| l.contains("interrupted; the lab is removed")), "{rest:?}");
    for pid in daemons {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "routed {pid} is still there");
    }
}

/// The processes that any thread of `pid` has started.
fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    threads
        .flat_map(|thread| {
            let path = thread.expect("a thread").path().join("children");
            let text = std::fs::read_to_string(path).unwrap_or_default();
            text.split_whitespace().map(|n| n.parse().expect("a number")).collect::<Vec<u32>>()
        })
        .collect()
}

#[test]
fn without_ipip_and_without_a_guest_the_package_is_named() {
    let output = routectl("lab").env("PATH", "/nonexistent").output().expect("routectl runs");
    let all = text(&output);
    // A kernel with ipip needs no guest, and the lab no other program.
    let named = all.contains("apt-get install user-mode-linux") && output.status.code() == Some(1);
    assert!(named || output.status.success() && all.contains(IPIP), "{all}");
}

#[test]
fn programs_that_a_lab_lacks_are_named_before_a_guest_boots() {
    for (arguments, package) in [
        ("--block-bgp node-2", "nft is missing: apt-get install nftables"),
        ("--drop-ipip node-2", "nft is missing: apt-get install nftables"),
        ("--datastore etcd", "etcd is missing: apt-get install etcd-server"),
    ] {
        let mut lab = routectl("lab");
        let output = lab
            .args(arguments.split_whitespace())
            .env("PATH", "/nonexistent")
            .output()
            .expect("routectl runs");
        let all = text(&output);
        assert!(output.status.code() == Some(1) && all.contains(package), "{arguments}: {all}");
        assert!(!all.contains("guest"), "{arguments}: {all}");
    }
}

#[test]
fn wrong_arguments_are_refused_with_status_2() {
    for (arguments, words) in [
        ("--nodes 1", "--nodes: 2 to 64 (got 1)"),
        ("--subnets 9", "--subnets: 1 to the number of nodes (got 9)"),
        ("--block-bgp node-9", "there is no node-9"),
        ("--drop-ipip node-9", "--drop-ipip: there is no node-9"),
        ("--drop-ipip node-1 --encapsulation vxlan", "no packet is IP-in-IP"),
    ] {
        let output = routectl("lab").args(arguments.split_whitespace()).output().expect("routectl runs");
        let all = text(&output);
        assert!(output.status.code() == Some(2) && all.contains(words), "{arguments}: {all}");
    }
}
