//! A service's block that BIRD announces from two nodes at once: packets are shared between them, and one that is killed
//! leaves them to the other.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use testbed::{Process, eventually};
use tests::cluster::{Cluster, Settings};

const UP: Duration = Duration::from_secs(30);
/// The hold time, three seconds, and what it takes to notice and to write.
const GIVEN_UP: Duration = Duration::from_secs(10);
const BLOCK: &str = "10.1.50.0/26";
/// The port of the service, on every address of its block.
const PORT: u16 = 7050;
/// Addresses that are tried: the kernel chooses by source and destination, so that all of them take one way in 2^59 runs.
const ADDRESSES: u8 = 60;

/// Starts BIRD on a node, with an address and a port of its own; it announces the block with the
/// node as next hop.
fn announce(cluster: &Cluster, index: usize) -> Process {
    let (inside, node) = (cluster.inside(index), cluster.nodes[index].address);
    let speaker = speaker(index);
    cluster.bed.ip(&inside, &format!("address add {speaker}/24 dev eth0"));
    let peer = cluster.nodes[0].address;
    let config = cluster.bed.write(
        &format!("bird-{inside}.conf"),
        &format!(
            "router id {speaker};\n\
             protocol device {{}}\n\
             protocol static {{ ipv4; route {BLOCK} blackhole; }}\n\
             protocol bgp service {{\n  \
               local {speaker} port 1179 as 64512;\n  strict bind yes;\n  \
               neighbor {peer} as 64512;\n  hold time 3;\n  \
               connect delay time 1;\n  connect retry time 1;\n  error wait time 1, 2;\n  \
               ipv4 {{ import none; export filter {{ bgp_next_hop = {node}; accept; }}; }};\n\
             }}\n"
        ),
    );
    let path =
        |end: &str| cluster.bed.path(&format!("bird-{inside}.{end}")).to_str().expect("UTF-8").to_owned();
    let (control, pid) = (path("ctl"), path("pid"));
    let arguments = ["-f", "-c", config.to_str().expect("UTF-8"), "-s", &control, "-P", &pid];
    cluster.bed.start(&inside, "bird", &arguments)
}

fn speaker(index: usize) -> Ipv4Addr {
    let [a, b, c, d] = cluster_address(index);
    Ipv4Addr::new(a, b, c, d + 50)
}

fn cluster_address(index: usize) -> [u8; 4] {
    [192, 168, 0, u8::try_from(index + 1).expect("a small number")]
}

/// Node 1 peers with the speakers on the others.
fn peer_with(cluster: &Cluster, others: &[usize]) {
    let peers = others.iter().map(|index| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {{ name: service-{index} }}\n\
             spec: {{ node: node-1, peerIP: \"{}:1179\", asNumber: 64512 }}\n",
            speaker(*index)
        )
    });
    cluster.bed.write("resources/service.yaml", &peers.collect::<Vec<_>>().join("---\n"));
}

/// The service's pod on a node: it has the whole block.
fn serve(cluster: &Cluster, index: usize) -> UdpSocket {
    cluster.bed.ip(&cluster.inside(index), &format!("route add {BLOCK} dev cali0"));
    cluster.bed.ip(&cluster.pod(index), &format!("route add local {BLOCK} dev lo"));
    let bind = || UdpSocket::bind(("0.0.0.0", PORT)).expect("a socket");
    let socket = cluster.bed.inside(&cluster.pod(index), bind);
    socket.set_nonblocking(true).expect("a socket that doesn't wait");
    socket
}

/// Sends a packet to every address of the block from the first node's pod; returns which arrived at
/// each service.
fn ask(client: &UdpSocket, services: &[UdpSocket]) -> Vec<BTreeSet<u8>> {
    for last in 0..ADDRESSES {
        // A neighbor entry that is not resolved yet causes an error: the next attempt is answered.
        let _ = client.send_to(&[last], (Ipv4Addr::new(10, 1, 50, last), PORT));
    }
    let mut heard = vec![BTreeSet::new(); services.len()];
    let deadline = Instant::now() + Duration::from_millis(500);
    while Instant::now() < deadline && heard.iter().map(BTreeSet::len).sum::<usize>() < usize::from(ADDRESSES)
    {
        for (service, heard) in services.iter().zip(&mut heard) {
            let mut octets = [0; 1];
            match service.recv(&mut octets) {
                Ok(_) => _ = heard.insert(octets[0]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // why: two sockets are polled, and half a millisecond is short compared with
                    // the deadline.
                    std::thread::sleep(Duration::from_micros(500));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    heard
}

fn legs(cluster: &Cluster) -> Vec<String> {
    let routes = cluster.show(0, "routes").unwrap_or_default();
    let all = routes.as_array().cloned().unwrap_or_default();
    let route = all.iter().find(|route| route["prefix"] == BLOCK);
    let legs = route.and_then(|route| route["legs"].as_array().cloned()).unwrap_or_default();
    legs.iter().map(|leg| format!("{} {}", leg["exit"], leg["gateway"]).replace('"', "")).collect()
}

#[test]
fn a_block_that_two_nodes_announce_is_shared_until_one_is_killed() {
    let mut cluster = Cluster::new(3, 1);
    cluster.configure(&Settings::default().modes("Never", "Always"));
    peer_with(&cluster, &[1, 2]);
    cluster.start_all();
    cluster.wait_for_all("vxlan", UP);
    let services = [serve(&cluster, 1), serve(&cluster, 2)];
    let client = || UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
    let client = cluster.bed.inside(&cluster.pod(0), client);
    let killed = announce(&cluster, 1);
    let _left = announce(&cluster, 2);

    let expected = ["vxlan 10.1.2.0", "vxlan 10.1.3.0"];
    eventually("two legs", UP, || (legs(&cluster) == expected).then_some(()));
    let heard = eventually("an answer at every address", UP, || {
        let heard = ask(&client, &services);
        (heard.iter().map(BTreeSet::len).sum::<usize>() == usize::from(ADDRESSES)).then_some(heard)
    });
    assert!(heard.iter().all(|heard| heard.len() > 5), "both have their share: {heard:?}");

    // The node is gone without a word.
    cluster.bed.ip(&cluster.inside(1), "link set eth0 down");
    drop((killed, cluster.take(1)));
    let start = Instant::now();
    let all: BTreeSet<u8> = (0..ADDRESSES).collect();
    eventually("the other to have all", GIVEN_UP, || {
        let now = ask(&client, &services);
        assert!(now[1].is_superset(&heard[1]), "what the other had, it has all the while: {now:?}");
        (now[1] == all).then_some(())
    });
    println!("the other has all after {:?}", start.elapsed());
    assert_eq!(legs(&cluster), Vec::<String>::new());

    // One path is one path again, and the second comes back.
    cluster.bed.ip(&cluster.inside(1), "link set eth0 up");
    cluster.start(1);
    let _killed = announce_again(&cluster);
    eventually("two legs again", UP, || (legs(&cluster) == expected).then_some(()));
    let share = eventually("both to have their share again", UP, || {
        let heard = ask(&client, &services);
        heard.iter().all(|heard| heard.len() > 5).then_some(heard)
    });
    assert_eq!(share.iter().map(BTreeSet::len).sum::<usize>(), all.len());

    // With `multipath: 1` the best path's exit has all packets.
    cluster.configure(&Settings::default().modes("Never", "Always").with("multipath", "1"));
    eventually("one exit", UP, || legs(&cluster).is_empty().then_some(()));
    let alone = eventually("one to have all", UP, || {
        let heard = ask(&client, &services);
        heard.contains(&all).then_some(heard)
    });
    assert_eq!(alone, [all, BTreeSet::new()], "that of the speaker with the lower identifier");
}

/// The second node's speaker after it was killed: its address went with nothing.
fn announce_again(cluster: &Cluster) -> Process {
    cluster.bed.ip(&cluster.inside(1), &format!("address delete {}/24 dev eth0", speaker(1)));
    announce(cluster, 1)
}
