//! The rules of the table `inet routed`, as the `nftables` crate writes them.

use std::{borrow::Cow, collections::BTreeSet, collections::HashSet, net::IpAddr};

use ipnet::IpNet;
use nftables::{
    batch::Batch,
    expr::{
        Expression, Meta, MetaKey, NamedExpression, Payload, PayloadBase, PayloadField, PayloadRaw, Prefix,
    },
    schema::{
        Chain, Counter, Element, NfListObject, Nftables, Rule, Set, SetFlag, SetType, SetTypeValue, Table,
    },
    stmt::{self, Match, NAT, NATFlag, Operator, Statement},
    types::{NfChainPolicy, NfChainType, NfFamily, NfHook},
};

/// Contents of the table: sources that encapsulated packets are accepted from, and masquerading.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FirewallTable {
    /// True if IP-in-IP packets (IP protocol 4 inside IPv4) from unknown sources are dropped.
    pub guards_ipip: bool,
    /// The VXLAN whose packets from unknown sources are dropped.
    pub guarded_vxlan: Option<VxlanSelector>,
    /// Accepted outer sources, both families.
    pub nodes: BTreeSet<IpAddr>,
    /// All pools: packets to these keep their source. Disjoint.
    pub pools: Vec<IpNet>,
    /// Pools whose packets to any other destination are masqueraded. Disjoint.
    pub masqueraded: Vec<IpNet>,
}

/// The packets of one VXLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VxlanSelector {
    /// UDP port.
    pub port: u16,
    /// VXLAN network identifier.
    pub vni: u32,
}

/// Name of the table; its family is `inet`, which has NAT chains since Linux 5.2.
pub const TABLE: &str = "routed";
/// Counter of dropped IP-in-IP packets.
pub const DROPPED_IPIP: &str = "dropped_ipip";
/// Counter of dropped VXLAN packets.
pub const DROPPED_VXLAN: &str = "dropped_vxlan";

/// Sets of accepted outer sources, IPv4 and IPv6; these sets change by elements.
pub const NODE_SETS: [&str; 2] = ["nodes4", "nodes6"];
const POOL_SETS: [&str; 2] = ["pools4", "pools6"];
const MASQUERADED_SETS: [&str; 2] = ["masqueraded4", "masqueraded6"];
/// Chain of packets to this node: the input hook comes before decapsulation and after reassembly.
const GUARD: &str = "tunnels";
const OUTGOING: &str = "outgoing";

const FAMILY: NfFamily = NfFamily::INet;
/// Before the filter chains of other programs (`mangle`), so that they count and log only accepted
/// packets.
const GUARD_PRIORITY: i32 = -150;
/// `srcnat`.
const OUTGOING_PRIORITY: i32 = 100;
/// IP in IP (RFC 2003).
const IPPROTO_IPIP: u32 = 4;
/// Bits from the UDP header to the VNI (RFC 7348 §5): 8 octets of UDP, flags and three reserved
/// ones.
const VNI_OFFSET: u32 = 96;
/// Bits of a VNI.
const VNI_LENGTH: u32 = 24;

/// Builds the transaction that replaces the table; every packet meets either the old or the new
/// one.
pub fn replacement(table: &FirewallTable) -> Nftables<'static> {
    let mut batch = Batch::new();
    remove(&mut batch);
    for object in objects(table) {
        batch.add(object);
    }
    batch.to_nftables()
}

/// Builds the transaction that deletes the table, if it exists.
pub fn removal() -> Nftables<'static> {
    let mut batch = Batch::new();
    remove(&mut batch);
    batch.to_nftables()
}

/// Builds the transaction that adds elements to sets and deletes others.
pub fn element_changes<'a>(
    add: impl IntoIterator<Item = (&'a str, Vec<IpNet>)>,
    delete: impl IntoIterator<Item = (&'a str, Vec<IpNet>)>,
) -> Nftables<'a> {
    let mut batch = Batch::new();
    let element = |(name, nets): (&'a str, Vec<IpNet>)| {
        let elem = nets.iter().map(element).collect();
        NfListObject::Element(Element { family: FAMILY, table: TABLE.into(), name: name.into(), elem })
    };
    for set in add {
        batch.add(element(set));
    }
    for set in delete {
        batch.delete(element(set));
    }
    batch.to_nftables()
}

fn remove(batch: &mut Batch<'static>) {
    let table = || NfListObject::Table(Table { family: FAMILY, name: TABLE.into(), handle: None });
    // Deletion of an absent table is an error; addition of an existing one is not.
    batch.add(table());
    batch.delete(table());
}

/// Returns all objects of the table, each after those it refers to.
pub(super) fn objects(table: &FirewallTable) -> Vec<NfListObject<'static>> {
    let mut objects = vec![NfListObject::Table(Table { family: FAMILY, name: TABLE.into(), handle: None })];
    if table.guards_ipip || table.guarded_vxlan.is_some() {
        guard(table, &mut objects);
    }
    if !table.masqueraded.is_empty() {
        masquerade(table, &mut objects);
    }
    objects
}

fn guard(table: &FirewallTable, objects: &mut Vec<NfListObject<'static>>) {
    let nodes: BTreeSet<IpNet> = table.nodes.iter().copied().map(IpNet::from).collect();
    objects.extend(sets(NODE_SETS, &nodes, false));
    objects.push(chain(GUARD, NfChainType::Filter, NfHook::Input, GUARD_PRIORITY));
    let [nodes4, nodes6] = NODE_SETS;
    if table.guards_ipip {
        objects.push(counter(DROPPED_IPIP));
        let ipip = equals(meta(MetaKey::L4proto), Expression::Number(IPPROTO_IPIP));
        objects.push(rule(GUARD, vec![ipip, outside("ip", "saddr", nodes4), counted(DROPPED_IPIP), drop()]));
    }
    if let Some(vxlan) = table.guarded_vxlan {
        objects.push(counter(DROPPED_VXLAN));
        for (protocol, set) in [("ip", nodes4), ("ip6", nodes6)] {
            let port = equals(field("udp", "dport"), Expression::Number(u32::from(vxlan.port)));
            // Other programs may have VXLANs of their own on the same port.
            let vni = PayloadRaw { base: PayloadBase::TH, offset: VNI_OFFSET, len: VNI_LENGTH };
            let vni = NamedExpression::Payload(Payload::PayloadRaw(vni));
            let vni = equals(Expression::Named(vni), Expression::Number(vxlan.vni));
            let statements = vec![port, vni, outside(protocol, "saddr", set), counted(DROPPED_VXLAN), drop()];
            objects.push(rule(GUARD, statements));
        }
    }
}

fn masquerade(table: &FirewallTable, objects: &mut Vec<NfListObject<'static>>) {
    let of = |nets: &[IpNet]| nets.iter().copied().collect::<BTreeSet<_>>();
    objects.extend(sets(POOL_SETS, &of(&table.pools), true));
    objects.extend(sets(MASQUERADED_SETS, &of(&table.masqueraded), true));
    objects.push(chain(OUTGOING, NfChainType::NAT, NfHook::Postrouting, OUTGOING_PRIORITY));
    for ((protocol, pools), masqueraded) in ["ip", "ip6"].into_iter().zip(POOL_SETS).zip(MASQUERADED_SETS) {
        let inside = equals(field(protocol, "saddr"), set_reference(masqueraded));
        // Random ports: two pods that use the same source port at once lose no packet.
        let flags = Some(HashSet::from([NATFlag::FullyRandom]));
        let masquerade = Statement::Masquerade(Some(NAT { addr: None, family: None, port: None, flags }));
        objects.push(rule(OUTGOING, vec![inside, outside(protocol, "daddr", pools), masquerade]));
    }
}

/// Builds the sets of both families, IPv4 first.
fn sets(names: [&'static str; 2], nets: &BTreeSet<IpNet>, intervals: bool) -> [NfListObject<'static>; 2] {
    let [name4, name6] = names;
    [(name4, true, SetType::Ipv4Addr), (name6, false, SetType::Ipv6Addr)].map(|(name, v4, kind)| {
        let elements: Vec<_> = nets.iter().filter(|net| net.addr().is_ipv4() == v4).map(element).collect();
        NfListObject::Set(Box::new(Set {
            family: FAMILY,
            table: TABLE.into(),
            name: name.into(),
            set_type: SetTypeValue::Single(kind),
            flags: intervals.then(|| HashSet::from([SetFlag::Interval])),
            elem: (!elements.is_empty()).then(|| Cow::Owned(elements)),
            ..Set::default()
        }))
    })
}

fn element<'a>(net: &IpNet) -> Expression<'a> {
    let address = |address: IpAddr| Expression::String(address.to_string().into());
    if net.prefix_len() == net.max_prefix_len() {
        return address(net.addr());
    }
    let prefix = Prefix { addr: Box::new(address(net.addr())), len: net.prefix_len().into() };
    Expression::Named(NamedExpression::Prefix(prefix))
}

fn chain(name: &'static str, kind: NfChainType, hook: NfHook, priority: i32) -> NfListObject<'static> {
    NfListObject::Chain(Chain {
        family: FAMILY,
        table: TABLE.into(),
        name: name.into(),
        _type: Some(kind),
        hook: Some(hook),
        prio: Some(priority),
        policy: Some(NfChainPolicy::Accept),
        ..Chain::default()
    })
}

fn counter(name: &'static str) -> NfListObject<'static> {
    NfListObject::Counter(Counter {
        family: FAMILY,
        table: TABLE.into(),
        name: name.into(),
        handle: None,
        packets: Some(0),
        bytes: Some(0),
    })
}

fn rule(chain: &'static str, statements: Vec<Statement<'static>>) -> NfListObject<'static> {
    let expr = Cow::Owned(statements);
    let (table, chain) = (TABLE.into(), chain.into());
    NfListObject::Rule(Rule { family: FAMILY, table, chain, expr, ..Rule::default() })
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

fn set_reference(set: &'static str) -> Expression<'static> {
    Expression::String(format!("@{set}").into())
}

fn equals(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op: Operator::EQ })
}

/// Builds the match of addresses outside a set.
fn outside(protocol: &'static str, name: &'static str, set: &'static str) -> Statement<'static> {
    Statement::Match(Match { left: field(protocol, name), right: set_reference(set), op: Operator::NEQ })
}

fn counted(counter: &'static str) -> Statement<'static> {
    Statement::Counter(stmt::Counter::Named(counter.into()))
}

fn drop() -> Statement<'static> {
    Statement::Drop(None)
}
