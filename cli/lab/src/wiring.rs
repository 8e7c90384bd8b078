//! Links, addresses and routes of the lab.

use std::{fs, net::Ipv4Addr, os::fd::RawFd};

use ipnet::{IpNet, Ipv4Net};
use rtnetlink::{
    LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        link::{InfoData, InfoVeth},
        route::{RouteMessage, RouteScope},
    },
};
use tunnel::netlink::links::{self, LinkChange};

use testbed::Namespace;

use super::{
    error::LabError,
    layout::{LabNode, Layout},
    link_editor::{LinkEditor, index_of},
};

/// The bridge that is the lab's network.
const BRIDGE: &str = "lab";
/// The interface of a node and of a pod.
const UPLINK: &str = "eth0";
/// The node's end of its pod's cable.
const POD_PORT: &str = "cali0";
/// The MTU of pods, which fits VXLAN over the wire's 1500.
const POD_MTU: u32 = 1500 - tunnel::desired::VXLAN_OVERHEAD;
/// The temporary name of the far end of a cable.
const LOOPBACK: &str = "lo";
/// The gateway address of pods. The node answers ARP for it (proxy ARP), as with Calico.
const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The lab's namespaces.
pub(super) struct Wiring {
    /// The namespace of the bridge.
    pub network: Namespace,
    /// The namespace of each node.
    pub nodes: Vec<Namespace>,
    /// The namespace of each node's pod.
    pub pods: Vec<Namespace>,
}

impl Wiring {
    /// Creates the namespaces and links. Pods have no addresses yet.
    ///
    /// # Errors
    /// The errors of the kernel.
    pub(super) fn build(layout: &Layout) -> Result<Self, LabError> {
        let namespace = || Namespace::create().map_err(LabError::namespace);
        let wiring = Self {
            network: namespace()?,
            nodes: layout.nodes.iter().map(|_| namespace()).collect::<Result<_, _>>()?,
            pods: layout.nodes.iter().map(|_| namespace()).collect::<Result<_, _>>()?,
        };
        let gateways = layout.gateways();
        wiring.network.run(move || build_bridge(&gateways)).map_err(LabError::namespace)??;
        for (node, (inside, pod)) in layout.nodes.iter().zip(wiring.nodes.iter().zip(&wiring.pods)) {
            let (name, descriptor) = (node.name.clone(), inside.descriptor());
            wiring.network.run(move || plug_in(&name, descriptor)).map_err(LabError::namespace)??;
            let (this, descriptor) = (node.clone(), pod.descriptor());
            inside.run(move || build_node(&this, descriptor)).map_err(LabError::namespace)??;
        }
        Ok(wiring)
    }

    /// Assigns addresses of the nodes' blocks to the pods.
    ///
    /// # Errors
    /// The errors of the kernel.
    pub(super) fn address_pods(&self, layout: &Layout) -> Result<(), LabError> {
        for (node, (inside, pod)) in layout.nodes.iter().zip(self.nodes.iter().zip(&self.pods)) {
            let address = node.pod;
            inside.run(move || route_to_pod(address)).map_err(LabError::namespace)??;
            pod.run(move || build_pod(address)).map_err(LabError::namespace)??;
        }
        Ok(())
    }
}

fn build_bridge(gateways: &[Ipv4Net]) -> Result<(), LabError> {
    let mut editor = LinkEditor::open()?;
    // Up from the start.
    editor.change_all("the bridge", [LinkChange::CreateLink(LinkBridge::new(BRIDGE).build())])?;
    let index = index_of(BRIDGE)?;
    let addresses = gateways.iter().map(|g| address(index, *g));
    editor.change_all("the bridge's addresses", [up(index_of(LOOPBACK)?)].into_iter().chain(addresses))?;
    sysctl("net/ipv4/ip_forward", "1")?;
    // ICMP redirects would make nodes of one wire bypass the gateway.
    sysctl("net/ipv4/conf/all/send_redirects", "0")?;
    sysctl("net/ipv4/conf/lab/send_redirects", "0")
}

/// Creates a cable (veth pair) from the bridge to a node.
fn plug_in(name: &str, node: RawFd) -> Result<(), LabError> {
    let mut editor = LinkEditor::open()?;
    editor.change_all("the node's cable", [veth(name, UPLINK, node)])?;
    let join = LinkUnspec::new_with_index(index_of(name)?).controller(index_of(BRIDGE)?).up();
    editor.change_all("the bridge's port", [LinkChange::SetLink(join.build())])
}

fn build_node(node: &LabNode, pod: RawFd) -> Result<(), LabError> {
    let mut editor = LinkEditor::open()?;
    editor.change_all("the pod's cable", [veth(POD_PORT, UPLINK, pod)])?;
    let (uplink, port) = (index_of(UPLINK)?, index_of(POD_PORT)?);
    // The settings of the host must not affect the lab.
    for name in ["all", UPLINK, POD_PORT] {
        sysctl(&format!("net/ipv4/conf/{name}/rp_filter"), "0")?;
    }
    sysctl(&format!("net/ipv4/conf/{POD_PORT}/proxy_arp"), "1")?;
    sysctl(&format!("net/ipv4/neigh/{POD_PORT}/proxy_delay"), "0")?;
    editor.change_all(
        "the node's addresses",
        [up(index_of(LOOPBACK)?), address(uplink, node.address), up(uplink), pod_sized(port)],
    )?;
    let default = gateway_route(node.gateway.addr(), uplink);
    editor.add_routes("the node's routes", [default])
}

fn route_to_pod(pod: Ipv4Addr) -> Result<(), LabError> {
    LinkEditor::open()?.add_routes("the route to the pod", [link_route(pod, index_of(POD_PORT)?)])
}

fn build_pod(pod: Ipv4Addr) -> Result<(), LabError> {
    let mut editor = LinkEditor::open()?;
    let index = index_of(UPLINK)?;
    let changes = [up(index_of(LOOPBACK)?), address(index, Ipv4Net::from(pod)), pod_sized(index)];
    editor.change_all("the pod's address", changes)?;
    let routes = [link_route(POD_GATEWAY, index), gateway_route(POD_GATEWAY, index)];
    editor.add_routes("the pod's routes", routes)
}

/// Brings an end of a pod's cable up, with an MTU that fits every tunnel, as a CNI plugin does.
fn pod_sized(index: u32) -> LinkChange {
    links::set_link(index, Some(POD_MTU), None, true)
}

fn up(index: u32) -> LinkChange {
    links::set_link(index, None, None, true)
}

fn address(index: u32, address: Ipv4Net) -> LinkChange {
    LinkChange::AddAddress { index, address: IpNet::V4(address) }
}

/// Creates a cable whose far end is in another namespace.
fn veth(name: &str, far_name: &str, far: RawFd) -> LinkChange {
    let peer = LinkUnspec::new_with_name(far_name).setns_by_fd(far).build();
    let cable = LinkVeth::new(name, far_name).set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
    LinkChange::CreateLink(cable.build())
}

fn link_route(to: Ipv4Addr, index: u32) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(to, 32)
        .output_interface(index)
        .scope(RouteScope::Link)
        .build()
}

fn gateway_route(gateway: Ipv4Addr, index: u32) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(index).onlink().build()
}

fn sysctl(name: &str, value: &str) -> Result<(), LabError> {
    fs::write(format!("/proc/sys/{name}"), value).map_err(LabError::system("a sysctl of the lab"))
}

/// Returns the interface indexes of the bridge's ports, in the calling thread's namespace.
///
/// # Errors
/// The errors of the kernel.
pub(super) fn port_indexes(layout: &Layout) -> Result<Vec<u32>, LabError> {
    layout.nodes.iter().map(|node| index_of(&node.name)).collect()
}
