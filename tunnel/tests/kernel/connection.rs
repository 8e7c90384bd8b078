//! The socket for links and their addresses.

use std::{sync::mpsc, thread};

use tunnel::{
    Encapsulation, PoolMode,
    dataplane::{Dataplane, KernelEvent, Wakeup},
    desired::{Device, VXLAN_PORT, VXLAN_VNI},
    diff::Op,
    kernel::{KernelDataplane, KernelMonitor},
    netlink::{
        LinkConnection,
        links::{LinkChange, VxlanAttributes, create_vxlan, set_link},
        numbers::{EEXIST, ENODEV},
    },
};

use crate::harness::{config, events_before_marker, in_namespace, ip};

/// Error of a next hop on a missing interface.
const EINVAL: i32 = 22;

fn index_of(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).expect("the interface")
}

fn addresses(events: &[KernelEvent], of: u32) -> usize {
    events.iter().filter(|event| matches!(event, KernelEvent::Address { index, .. } if *index == of)).count()
}

fn vxlan(parent: u32) -> VxlanAttributes {
    let (vni, port) = (VXLAN_VNI, VXLAN_PORT);
    VxlanAttributes { vni, port, local: [192, 168, 0, 1].into(), parent, mtu: 1450, mac: [2, 0, 0, 0, 0, 9] }
}

#[test]
fn a_refusal_carries_the_errno_and_the_kernels_message() {
    in_namespace(|| async {
        let mut connection = LinkConnection::open().expect("netlink");
        connection.change(create_vxlan("x0", &vxlan(index_of("eth0")))).await.expect("the first is made");
        let taken = connection.change(create_vxlan("x0", &vxlan(index_of("eth0")))).await;
        assert_eq!(taken.expect_err("the name is taken").errno, EEXIST);
        let error = connection.change(create_vxlan("x1", &vxlan(4242))).await.expect_err("no such parent");
        assert_eq!((error.errno, error.message.contains("interface")), (ENODEV, true), "{error}");
        let error =
            connection.change(LinkChange::DeleteLink { index: 4242 }).await.expect_err("no such link");
        assert_eq!(error.errno, ENODEV);
        // The connection works after all these.
        connection.change(set_link(index_of("x0"), Some(1400), None, true)).await.expect("a change");
        assert!(ip("link show x0").contains("mtu 1400"), "{}", ip("link show x0"));
    });
}

#[test]
fn only_changes_of_other_programs_are_reported() {
    in_namespace(|| async {
        let mut first = LinkConnection::open().expect("netlink");
        let mut second = LinkConnection::open().expect("netlink");
        assert_ne!(first.port(), second.port());
        // Not eth0, whose own IPv6 address the kernel reports at any time.
        let index = index_of("lo");
        let address = |text: &str| text.parse().expect("address");
        let mut deaf = KernelMonitor::open(&[first.port(), second.port()]).expect("an event socket");
        let mut half = KernelMonitor::open(&[first.port()]).expect("an event socket");
        let change = |text: &str| LinkChange::AddAddress { index, address: address(text) };
        first.change(change("198.51.100.1/32")).await.expect("added");
        second.change(change("198.51.100.2/32")).await.expect("added");
        let remove = LinkChange::DeleteAddress { index, address: address("198.51.100.1/32") };
        first.change(remove).await.expect("removed");
        assert_eq!(addresses(&events_before_marker(&mut deaf).await, index), 0);
        ip("route del 203.0.113.0/24");
        assert_eq!(addresses(&events_before_marker(&mut half).await, index), 1);
    });
}

#[test]
fn the_dataplanes_own_changes_of_links_and_addresses_are_not_reported() {
    in_namespace(|| async {
        let mut kernel = KernelDataplane::open().expect("netlink");
        let config = config(Encapsulation::Vxlan, PoolMode::Always);
        kernel.observe(&config).expect("the kernel's state");
        let (device, index) = (Device::Vxlan, index_of("lo"));
        let address = "198.51.100.1/32".parse().expect("address");
        let ops = [
            Op::AddAddress { device, index, address },
            Op::DeleteAddress { device, index, address },
            Op::DeleteAddress { device, index, address },
        ];
        // Deletion of an absent object is no failure.
        assert_eq!(kernel.apply(&config, &ops).await, [const { Ok(()) }; 3]);
        ip("address add 198.51.100.2/32 dev lo");
        let Wakeup::Events(events) = kernel.wait(false).await else { panic!("nothing was submitted") };
        assert_eq!(addresses(&events, index), 1, "{events:?}");
    });
}

#[test]
fn operations_of_both_sockets_are_executed_in_order() {
    in_namespace(|| async {
        let mut kernel = KernelDataplane::open().expect("netlink");
        let config = config(Encapsulation::Vxlan, PoolMode::Always);
        kernel.observe(&config).expect("the kernel's state");
        let (device, index) = (Device::Vxlan, index_of("eth0"));
        let add = |id: u32| Op::AddNexthop { id, gateway: [192, 168, 0, 9].into(), index };
        let (first, second) = (add(1), add(2));
        let ops = [first, first, Op::DeleteLink { device, index }, second];
        let results = kernel.apply(&config, &ops).await;
        let errnos: Vec<Option<i32>> = results.into_iter().map(|r| r.err().map(|e| e.errno)).collect();
        assert_eq!(errnos, [None, Some(EEXIST), None, Some(EINVAL)]);
    });
}

#[test]
fn a_broken_connection_is_replaced_by_one_with_the_same_port() {
    in_namespace(|| async {
        // The first socket in a namespace gets the process id as its port, and would get it again.
        let _first = LinkConnection::open().expect("netlink");
        // The end of a runtime ends the connection that it drives.
        let (sender, receiver) = mpsc::channel();
        let own = std::fs::File::open("/proc/thread-self/ns/net").expect("this namespace");
        thread::spawn(move || {
            nix::sched::setns(own, nix::sched::CloneFlags::CLONE_NEWNET).expect("the same namespace");
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let inside = runtime.enter();
            sender.send(LinkConnection::open().expect("netlink")).expect("the test waits");
            drop(inside);
        })
        .join()
        .expect("the other runtime");
        let mut connection = receiver.recv().expect("a connection");
        let port = connection.port();
        connection.change(set_link(index_of("eth0"), Some(1400), None, true)).await.expect("a change");
        assert_eq!(connection.port(), port);
        assert!(ip("link show eth0").contains("mtu 1400"), "{}", ip("link show eth0"));
    });
}

#[test]
fn neighbors_of_other_interfaces_are_not_reported() {
    in_namespace(|| async {
        let (eth0, peer) = (index_of("eth0"), index_of("eth0-peer"));
        let mut monitor = KernelMonitor::open(&[u32::MAX]).expect("an event socket");
        let neighbours = |events: &[KernelEvent]| -> Vec<u32> {
            let of = |event: &KernelEvent| match event {
                KernelEvent::Neighbour { index, permanent: true } => Some(*index),
                _ => None,
            };
            events.iter().filter_map(of).collect()
        };
        let add = |last: u8| {
            for device in ["eth0", "eth0-peer"] {
                ip(&format!(
                    "neighbour add 192.168.0.{last} lladdr 02:00:00:00:00:01 dev {device} nud permanent"
                ));
            }
        };
        add(71);
        assert_eq!(neighbours(&events_before_marker(&mut monitor).await), [eth0, peer]);
        for (last, of, expected) in [(72, eth0, vec![eth0]), (73, peer, vec![peer]), (74, 0, vec![])] {
            ip("route del 203.0.113.0/24");
            let mut monitor = KernelMonitor::open(&[u32::MAX]).expect("an event socket");
            monitor.watch_neighbours(of).expect("a filter");
            add(last);
            assert_eq!(neighbours(&events_before_marker(&mut monitor).await), expected);
        }
    });
}
