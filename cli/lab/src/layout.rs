//! The layout of a lab and its expected results. Pure.

use std::{fmt::Write, net::Ipv4Addr};

use clap::ValueEnum;
use ipnet::Ipv4Net;

use super::LabArgs;

/// The pool of the lab's pods.
pub(super) const POOL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 1, 0, 0), 16);
/// The last octet of each subnet's gateway, which is the lab's bridge.
const GATEWAY: u8 = 254;
/// The largest number of nodes, in addition to the gateway.
pub(super) const MAX_NODES: u8 = 64;

/// The peering of the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum BgpMode {
    /// Everybody with everybody.
    Mesh,
    /// Everybody with node-1, a route reflector.
    Reflector,
}

/// The cluster's encapsulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LabEncapsulation {
    /// IP in IP.
    Ipip,
    /// VXLAN.
    Vxlan,
}

/// The store of the nodes' resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LabDatastore {
    /// In a directory.
    File,
    /// In three etcd members on the bridge.
    Etcd,
}

/// The pool's mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LabPoolMode {
    /// Every packet between nodes is encapsulated.
    Always,
    /// Packets between subnets are encapsulated.
    CrossSubnet,
}

/// The encapsulation of a captured packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum WireFormat {
    /// Unencapsulated.
    Plain,
    /// IP protocol 4.
    Ipip,
    /// UDP port 4789.
    Vxlan,
}

impl WireFormat {
    /// Returns the name for display.
    pub(super) fn text(self) -> &'static str {
        match self {
            WireFormat::Plain => "plain",
            WireFormat::Ipip => "ipip",
            WireFormat::Vxlan => "vxlan",
        }
    }
}

/// One node of the lab and its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LabNode {
    /// Number from 1.
    pub number: u8,
    /// `node-N`
    pub name: String,
    /// Address with its subnet's length.
    pub address: Ipv4Net,
    /// The bridge's address in that subnet.
    pub gateway: Ipv4Net,
    /// The node's pod block; with a shared datastore the one that its daemon claims, once it has.
    pub block: Ipv4Net,
    /// The pod's address, the block's third.
    pub pod: Ipv4Addr,
}

/// A whole lab.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Its nodes.
    pub nodes: Vec<LabNode>,
    /// The cluster's encapsulation.
    pub encapsulation: LabEncapsulation,
    /// The pool's mode.
    pub pool_mode: LabPoolMode,
    /// The peering of the nodes.
    pub mode: BgpMode,
    /// The store of the nodes' resources.
    pub datastore: LabDatastore,
    /// Index of the node whose BGP is blocked.
    pub blocked: Option<usize>,
    /// Index of the node whose IP-in-IP packets are dropped.
    pub dropped: Option<usize>,
}

/// A wrong combination of arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The number of nodes is out of range.
    #[error("--nodes: 2 to {MAX_NODES} (got {0})")]
    Nodes(u8),
    /// The number of subnets is out of range.
    #[error("--subnets: 1 to the number of nodes (got {0})")]
    Subnets(u8),
    /// There is no such node.
    #[error("{0}: there is no {1}; nodes are node-1 to node-{2}")]
    NoSuchNode(&'static str, String, u8),
    /// The packets to drop are never sent.
    #[error("--drop-ipip: with --encapsulation vxlan no packet is IP-in-IP; leave one of the two out")]
    NothingToDrop,
}

impl Layout {
    /// Creates the layout of a lab.
    ///
    /// # Errors
    /// The arguments are inconsistent.
    pub(super) fn new(args: &LabArgs) -> Result<Self, LayoutError> {
        if !(2..=MAX_NODES).contains(&args.nodes) {
            return Err(LayoutError::Nodes(args.nodes));
        }
        if !(1..=args.nodes).contains(&args.subnets) {
            return Err(LayoutError::Subnets(args.subnets));
        }
        let nodes: Vec<LabNode> = (1..=args.nodes).map(|number| node(number, args.subnets)).collect();
        let place = |flag: &'static str, name: &Option<String>| match name {
            None => Ok(None),
            Some(name) => match nodes.iter().position(|n| n.name == *name) {
                Some(index) => Ok(Some(index)),
                None => Err(LayoutError::NoSuchNode(flag, name.clone(), args.nodes)),
            },
        };
        let blocked = place("--block-bgp", &args.block_bgp)?;
        let dropped = place("--drop-ipip", &args.drop_ipip)?;
        if dropped.is_some() && args.encapsulation == LabEncapsulation::Vxlan {
            return Err(LayoutError::NothingToDrop);
        }
        Ok(Self {
            nodes,
            encapsulation: args.encapsulation,
            pool_mode: args.pool_mode,
            mode: args.mode,
            datastore: args.datastore,
            blocked,
            dropped,
        })
    }

    /// Returns the ordered pairs of different nodes, by index.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let count = self.nodes.len();
        (0..count).flat_map(move |a| (0..count).filter(move |b| *b != a).map(move |b| (a, b)))
    }

    /// Returns the bridge's addresses, one for each subnet.
    pub(super) fn gateways(&self) -> Vec<Ipv4Net> {
        let mut all: Vec<Ipv4Net> = self.nodes.iter().map(|n| n.gateway).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Returns whether two nodes should have a session.
    pub(super) fn peers(&self, a: usize, b: usize) -> bool {
        match self.mode {
            BgpMode::Mesh => true,
            BgpMode::Reflector => a == 0 || b == 0,
        }
    }

    /// Returns whether the session should become Established.
    pub(super) fn established(&self, a: usize, b: usize) -> bool {
        self.peers(a, b) && self.blocked != Some(a) && self.blocked != Some(b)
    }

    /// Returns whether `a` should learn `b`'s block by BGP.
    fn has_path(&self, a: usize, b: usize) -> bool {
        match self.mode {
            BgpMode::Mesh => self.established(a, b),
            BgpMode::Reflector => {
                let reaches = |x: usize| x == 0 || self.established(x, 0);
                reaches(a) && reaches(b)
            }
        }
    }

    /// Returns whether IP-in-IP passes between two nodes.
    fn passes_ipip(&self, a: usize, b: usize) -> bool {
        self.dropped != Some(a) && self.dropped != Some(b)
    }

    /// Returns the expected encapsulation of packets from `a`'s pods to `b`'s.
    pub(super) fn expected_wire(&self, a: usize, b: usize) -> WireFormat {
        let same = match (self.nodes.get(a), self.nodes.get(b)) {
            (Some(a), Some(b)) => a.address.trunc() == b.address.trunc(),
            _ => false,
        };
        if same && self.pool_mode == LabPoolMode::CrossSubnet {
            WireFormat::Plain
        } else if self.encapsulation == LabEncapsulation::Ipip
            && self.has_path(a, b)
            && self.passes_ipip(a, b)
        {
            WireFormat::Ipip
        } else {
            WireFormat::Vxlan
        }
    }

    /// Returns whether the nodes register themselves. With a reflector the resources are
    /// written, since a node does not know its reflector settings.
    fn registers(&self) -> bool {
        self.claims() && self.mode == BgpMode::Mesh
    }

    /// Returns whether the daemons claim their blocks, which are unknown before.
    pub(super) fn claims(&self) -> bool {
        self.datastore == LabDatastore::Etcd
    }

    /// Sets the block that a node has claimed. Its pod has the third address of the block.
    pub(super) fn give_block(&mut self, index: usize, block: Ipv4Net) {
        if let Some(node) = self.nodes.get_mut(index) {
            (node.block, node.pod) = (block, third(&block));
        }
    }

    /// Returns the cluster's resources, as YAML.
    pub(super) fn resources(&self) -> String {
        let mut text = String::new();
        let mode = match self.pool_mode {
            LabPoolMode::Always => "Always",
            LabPoolMode::CrossSubnet => "CrossSubnet",
        };
        let (key, encapsulation) = match self.encapsulation {
            LabEncapsulation::Ipip => ("ipipMode", "ipip"),
            LabEncapsulation::Vxlan => ("vxlanMode", "vxlan"),
        };
        let mesh = self.mode == BgpMode::Mesh;
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "apiVersion: projectcalico.org/v3\n\
             kind: IPPool\n\
             metadata: {{ name: lab }}\n\
             spec: {{ cidr: {POOL}, {key}: {mode} }}\n\
             ---\n\
             apiVersion: projectcalico.org/v3\n\
             kind: BGPConfiguration\n\
             metadata: {{ name: default }}\n\
             spec:\n\
             \x20 nodeToNodeMeshEnabled: {mesh}\n\
             \x20 asNumber: 64512\n\
             \x20 routed: {{ encapsulation: {encapsulation}, holdTime: 3s, fallbackAfter: 2s }}\n"
        );
        if !mesh {
            text.push_str(
                "---\n\
                 apiVersion: projectcalico.org/v3\n\
                 kind: BGPPeer\n\
                 metadata: { name: reflector }\n\
                 spec: { nodeSelector: all(), peerSelector: route-reflector == 'true' }\n",
            );
        }
        for node in self.nodes.iter().filter(|_| !self.registers()) {
            let reflects = !mesh && node.number == 1;
            let labels = if reflects { ", labels: { route-reflector: \"true\" }" } else { "" };
            let cluster = if reflects { ", routeReflectorClusterID: 10.0.0.1" } else { "" };
            let blocks =
                if self.claims() { String::new() } else { format!("\x20 podCIDRs: [{}]\n", node.block) };
            let _ = write!(
                text,
                "---\n\
                 apiVersion: projectcalico.org/v3\n\
                 kind: Node\n\
                 metadata: {{ name: {}{labels} }}\n\
                 spec:\n\
                 \x20 bgp: {{ ipv4Address: {}{cluster} }}\n\
                 {blocks}",
                node.name, node.address
            );
        }
        text
    }
}

fn node(number: u8, subnets: u8) -> LabNode {
    let subnet = (number - 1) % subnets;
    let net = |last: u8| Ipv4Net::new_assert(Ipv4Addr::new(192, 168, subnet, last), 24);
    let block = Ipv4Net::new_assert(Ipv4Addr::new(10, 1, number, 0), 26);
    LabNode {
        number,
        name: format!("node-{number}"),
        address: net(number),
        gateway: net(GATEWAY),
        block,
        pod: third(&block),
    }
}

/// Returns the pod's address, the third of the block. The first may be the node's address on the
/// tunnels.
fn third(block: &Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(block.network().to_bits() + 2)
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        lab: LabArgs,
    }

    /// Parses the arguments of a command line.
    pub(crate) fn layout(arguments: &str) -> Result<Layout, LayoutError> {
        let words = std::iter::once("lab").chain(arguments.split_whitespace());
        Layout::new(&Arguments::try_parse_from(words).expect("arguments").lab)
    }

    #[test]
    fn three_nodes_have_six_pairs_and_six_ipip_expectations() {
        let lab = layout("").expect("a layout");
        assert_eq!(lab.pairs().count(), 6);
        assert!(
            lab.pairs().all(|(a, b)| lab.expected_wire(a, b) == WireFormat::Ipip && lab.established(a, b))
        );
        assert_eq!(lab.nodes[2].address.to_string(), "192.168.0.3/24");
        assert_eq!(lab.gateways().len(), 1);
    }

    #[test]
    fn cross_subnet_is_plain_inside_a_subnet_and_tunnelled_between() {
        let lab = layout("--subnets 2 --pool-mode cross-subnet").expect("a layout");
        assert_eq!(lab.expected_wire(0, 2), WireFormat::Plain);
        assert_eq!(lab.expected_wire(0, 1), WireFormat::Ipip);
        assert_eq!(lab.gateways().len(), 2);
    }

    #[test]
    fn a_node_without_bgp_is_reached_by_vxlan_and_the_others_are_not() {
        let lab = layout("--block-bgp node-3").expect("a layout");
        assert_eq!(
            (lab.expected_wire(0, 2), lab.expected_wire(2, 1)),
            (WireFormat::Vxlan, WireFormat::Vxlan)
        );
        assert_eq!(lab.expected_wire(0, 1), WireFormat::Ipip);
        assert!(!lab.established(2, 0) && lab.established(0, 1));
    }

    #[test]
    fn a_node_whose_ipip_is_dropped_is_reached_by_vxlan_and_keeps_its_sessions() {
        let lab = layout("--drop-ipip node-3").expect("a layout");
        assert_eq!(
            (lab.expected_wire(0, 2), lab.expected_wire(2, 1)),
            (WireFormat::Vxlan, WireFormat::Vxlan)
        );
        assert_eq!(lab.expected_wire(0, 1), WireFormat::Ipip);
        assert!(lab.established(2, 0));
        assert_eq!(
            layout("--drop-ipip node-3 --encapsulation vxlan").err(),
            Some(LayoutError::NothingToDrop)
        );
    }

    #[test]
    fn clients_of_a_reflector_peer_with_it_alone_and_still_have_paths() {
        let lab = layout("--mode reflector").expect("a layout");
        assert!(lab.peers(0, 2) && !lab.peers(1, 2));
        assert_eq!(lab.expected_wire(1, 2), WireFormat::Ipip);
        let lab = layout("--mode reflector --block-bgp node-1").expect("a layout");
        assert_eq!(lab.expected_wire(1, 2), WireFormat::Vxlan);
    }

    #[test]
    fn with_a_shared_datastore_no_block_is_given_and_a_mesh_registers_itself() {
        let blocks = |text: &str| text.matches("BlockAffinity").count() + text.matches("podCIDRs").count();
        let text = layout("--datastore etcd").expect("a layout").resources();
        assert_eq!((text.matches("kind: Node").count(), blocks(&text)), (0, 0));
        let text = layout("--datastore etcd --mode reflector").expect("a layout").resources();
        assert_eq!((text.matches("kind: Node").count(), blocks(&text)), (3, 0));
        let text = layout("").expect("a layout").resources();
        assert_eq!((text.matches("kind: Node").count(), blocks(&text)), (3, 3));
    }

    #[test]
    fn a_pod_has_the_third_address_of_the_block_that_its_node_has_claimed() {
        let mut lab = layout("--datastore etcd").expect("a layout");
        lab.give_block(1, "10.1.77.64/26".parse().expect("a block"));
        assert_eq!(lab.nodes[1].pod.to_string(), "10.1.77.66");
        assert_eq!(lab.nodes[0].pod.to_string(), "10.1.1.2");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(layout("--nodes 1").err(), Some(LayoutError::Nodes(1)));
        assert_eq!(layout("--subnets 4").err(), Some(LayoutError::Subnets(4)));
        let error = layout("--block-bgp node-9").expect_err("no such node");
        assert_eq!(error.to_string(), "--block-bgp: there is no node-9; nodes are node-1 to node-3");
    }
}
