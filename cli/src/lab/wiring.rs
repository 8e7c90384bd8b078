//! The lab's links, addresses and routes.

use std::{fs, net::Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use tunnel::{
    desired::RouteKey,
    netlink::{
        Socket,
        links::{self, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, RTM_NEWLINK, ifinfomsg},
        routes,
        wire::{Message, NLM_F_CREATE, NLM_F_EXCL},
    },
    observed::Via,
};

use super::{
    error::LabError,
    layout::{LabNode, Layout},
    namespace::Namespace,
};

/// The bridge that is the lab's network.
const BRIDGE: &str = "lab";
/// The node's and the pod's own interface.
const UPLINK: &str = "eth0";
/// The node's end of its pod's cable.
const POD_PORT: &str = "cali0";
/// Where a cable's far end has just been plugged in.
const LOOPBACK: &str = "lo";
/// The address that pods route to; the node answers ARP for it (proxy ARP), as Calico has it.
const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// `RTPROT_STATIC`
const STATIC: u8 = 4;

const IFLA_MASTER: u16 = 10;
const IFLA_NET_NS_FD: u16 = 28;
const VETH_INFO_PEER: u16 = 1;

/// The lab's namespaces.
pub(super) struct Wiring {
    /// The bridge's.
    pub network: Namespace,
    /// Each node's.
    pub nodes: Vec<Namespace>,
    /// Each node's pod's.
    pub pods: Vec<Namespace>,
}

impl Wiring {
    /// Builds it all.
    ///
    /// # Errors
    /// What the kernel refuses.
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
            let this = node.clone();
            pod.run(move || build_pod(&this)).map_err(LabError::namespace)??;
        }
        Ok(wiring)
    }
}

fn build_bridge(gateways: &[Ipv4Net]) -> Result<(), LabError> {
    let mut editor = Editor::open()?;
    let bridge = Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &ifinfomsg(0, 0, 0))
        .string(IFLA_IFNAME, BRIDGE)
        .nested(IFLA_LINKINFO, |m| m.string(IFLA_INFO_KIND, "bridge"));
    editor.execute("the bridge", vec![bridge])?;
    let index = editor.index(BRIDGE)?;
    let mut messages = vec![up(editor.index(LOOPBACK)?), up(index)];
    messages.extend(gateways.iter().map(|g| links::add_address(index, IpNet::V4(*g))));
    editor.execute("the bridge's addresses", messages)?;
    sysctl("net/ipv4/ip_forward", "1")?;
    // Redirects would tell nodes of one wire to leave the gateway out.
    sysctl("net/ipv4/conf/all/send_redirects", "0")?;
    sysctl("net/ipv4/conf/lab/send_redirects", "0")
}

/// A cable from the bridge into a node.
fn plug_in(name: &str, node: i32) -> Result<(), LabError> {
    let mut editor = Editor::open()?;
    editor.execute("the node's cable", vec![veth(name, UPLINK, node)])?;
    let (port, bridge) = (editor.index_of(name)?, editor.index(BRIDGE)?);
    let join = Message::new(RTM_NEWLINK, 0, &ifinfomsg(port, 0, 0)).u32(IFLA_MASTER, bridge);
    editor.execute("the bridge's port", vec![join, up(port)])
}

fn build_node(node: &LabNode, pod: i32) -> Result<(), LabError> {
    let mut editor = Editor::open()?;
    editor.execute("the pod's cable", vec![veth(POD_PORT, UPLINK, pod)])?;
    let uplink = editor.index(UPLINK)?;
    let port = editor.index(POD_PORT)?;
    // The machine's own settings must not decide what the lab shows.
    for name in ["all", UPLINK, POD_PORT] {
        sysctl(&format!("net/ipv4/conf/{name}/rp_filter"), "0")?;
    }
    sysctl(&format!("net/ipv4/conf/{POD_PORT}/proxy_arp"), "1")?;
    sysctl(&format!("net/ipv4/neigh/{POD_PORT}/proxy_delay"), "0")?;
    let loopback = editor.index(LOOPBACK)?;
    editor.execute(
        "the node's addresses",
        vec![up(loopback), links::add_address(uplink, IpNet::V4(node.address)), up(uplink), up(port)],
    )?;
    let default = gateway_route(node.gateway.addr(), uplink);
    editor.execute("the node's routes", vec![default, link_route(node.pod, port)])
}

fn build_pod(node: &LabNode) -> Result<(), LabError> {
    let mut editor = Editor::open()?;
    let index = editor.index(UPLINK)?;
    let loopback = editor.index(LOOPBACK)?;
    let address = links::add_address(index, IpNet::V4(Ipv4Net::from(node.pod)));
    editor.execute("the pod's address", vec![up(loopback), address, up(index)])?;
    let routes = vec![link_route(POD_GATEWAY, index), gateway_route(POD_GATEWAY, index)];
    editor.execute("the pod's routes", routes)
}

fn up(index: u32) -> Message {
    links::set_link(index, None, None, true)
}

/// A cable whose far end is in another namespace.
fn veth(name: &str, far_name: &str, far: i32) -> Message {
    Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &ifinfomsg(0, 0, 0))
        .string(IFLA_IFNAME, name)
        .nested(IFLA_LINKINFO, |m| {
            m.string(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, |m| {
                m.nested(VETH_INFO_PEER, |m| {
                    m.raw(&ifinfomsg(0, 0, 0))
                        .string(IFLA_IFNAME, far_name)
                        .u32(IFLA_NET_NS_FD, far.cast_unsigned())
                })
            })
        })
}

fn link_route(to: Ipv4Addr, index: u32) -> Message {
    let key = RouteKey { prefix: IpNet::V4(Ipv4Net::from(to)), metric: 0 };
    routes::set_route(&key, &Via::Link(index), STATIC, false)
}

fn gateway_route(gateway: Ipv4Addr, index: u32) -> Message {
    let key = RouteKey { prefix: IpNet::V4(Ipv4Net::default()), metric: 0 };
    routes::set_route(&key, &Via::Gateway { gateway: gateway.into(), index }, STATIC, false)
}

fn sysctl(name: &str, value: &str) -> Result<(), LabError> {
    fs::write(format!("/proc/sys/{name}"), value).map_err(LabError::system("a sysctl of the lab"))
}

/// Changes links, addresses and routes of the calling thread's namespace.
struct Editor {
    socket: Socket,
}

impl Editor {
    fn open() -> Result<Self, LabError> {
        Ok(Self { socket: Socket::open().map_err(LabError::system("netlink"))? })
    }

    fn execute(&mut self, what: &'static str, messages: Vec<Message>) -> Result<(), LabError> {
        self.socket
            .execute(messages)
            .into_iter()
            .collect::<Result<(), _>>()
            .map_err(|source| LabError::Kernel { what, source })
    }

    fn index(&mut self, name: &'static str) -> Result<u32, LabError> {
        self.find(name)?.ok_or(LabError::NoInterface(name))
    }

    fn index_of(&mut self, name: &str) -> Result<u32, LabError> {
        self.find(name)?.ok_or(LabError::NoInterface("of a node"))
    }

    fn find(&mut self, name: &str) -> Result<Option<u32>, LabError> {
        let all = links::dump_links(&mut self.socket)
            .map_err(|source| LabError::Kernel { what: "interfaces", source })?;
        Ok(all.into_iter().find(|l| l.name == name).map(|l| l.index))
    }
}

/// The interface indexes of the bridge's ports; for the calling thread's namespace.
///
/// # Errors
/// What the kernel refuses.
pub(super) fn port_indexes(layout: &Layout) -> Result<Vec<u32>, LabError> {
    let mut editor = Editor::open()?;
    layout.nodes.iter().map(|node| editor.index_of(&node.name)).collect()
}
