//! IPPool: a range of pod addresses and the encapsulation of packets to it.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::mistake::Origin;
use super::reader::{Fields, Report};
use super::scalar;
use super::tree::{LocatedValue, Value};

/// The condition under which packets to a pool's addresses are encapsulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncapsulationMode {
    /// Between all nodes.
    Always,
    /// Between nodes of different subnets.
    CrossSubnet,
    /// Never.
    Never,
}

impl EncapsulationMode {
    /// Returns the v3 spelling.
    pub fn name(self) -> &'static str {
        match self {
            EncapsulationMode::Always => "Always",
            EncapsulationMode::CrossSubnet => "CrossSubnet",
            EncapsulationMode::Never => "Never",
        }
    }
}

/// The encapsulation of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncapsulationKind {
    /// IP in IP, protocol 4.
    #[default]
    Ipip,
    /// VXLAN over UDP.
    Vxlan,
    /// Plain routes without encapsulation.
    None,
}

/// The names of [`EncapsulationKind`] in resources.
pub(crate) const ENCAPSULATIONS: &[(&str, EncapsulationKind)] = &[
    ("ipip", EncapsulationKind::Ipip),
    ("vxlan", EncapsulationKind::Vxlan),
    ("none", EncapsulationKind::None),
];

const MODES: &[(&str, EncapsulationMode)] = &[
    ("Always", EncapsulationMode::Always),
    ("CrossSubnet", EncapsulationMode::CrossSubnet),
    ("Never", EncapsulationMode::Never),
];

/// A permitted use of a pool's addresses (`spec.allowedUses`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AllowedUse {
    Workload,
    Tunnel,
    LoadBalancer,
}

const ALLOWED_USES: &[(&str, AllowedUse)] = &[
    ("Workload", AllowedUse::Workload),
    ("Tunnel", AllowedUse::Tunnel),
    ("LoadBalancer", AllowedUse::LoadBalancer),
];

const V1_MODES: &[(&str, EncapsulationMode)] =
    &[("always", EncapsulationMode::Always), ("cross-subnet", EncapsulationMode::CrossSubnet)];

/// A range of pod addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct IpPool {
    /// The file and line of the resource.
    pub origin: Origin,
    /// `metadata.name`. For a v1 pool its cidr with `-` for `.`, `:` and `/`.
    pub name: String,
    /// The range, without host bits.
    pub cidr: IpNet,
    /// `spec.ipipMode`; `None` if absent.
    pub ipip_mode: Option<EncapsulationMode>,
    /// `spec.vxlanMode`; `None` if absent.
    pub vxlan_mode: Option<EncapsulationMode>,
    /// True if packets that leave all pools get the node's address (source NAT).
    pub nat_outgoing: bool,
    /// True if address assignment from this pool is off. Routes to it stay.
    pub disabled: bool,
    /// True if blocks of this pool are not advertised to BGP peers.
    pub disable_bgp_export: bool,
    /// True if pods get addresses of this pool (`spec.allowedUses`). Otherwise nodes claim no
    /// blocks of it.
    pub for_workloads: bool,
    /// The prefix length of the pool's blocks: 20-32 (IPv4, default 26) or 116-128 (IPv6,
    /// default 122).
    pub block_size: u8,
    /// `spec.nodeSelector` as written, `all()` by default: the nodes that claim blocks of this
    /// pool.
    pub node_selector: String,
    /// `spec.assignmentMode`, `Automatic` by default. With `Manual` nodes don't claim blocks by
    /// themselves.
    pub assignment_mode: String,
}

impl IpPool {
    /// Returns the encapsulation of packets to this pool's addresses, given the cluster's
    /// setting.
    ///
    /// A pool that names neither mode always uses the cluster's encapsulation. IP-in-IP does
    /// not carry IPv6.
    pub fn effective(&self, cluster: EncapsulationKind) -> (EncapsulationKind, EncapsulationMode) {
        let on = |mode: Option<EncapsulationMode>| mode.filter(|mode| *mode != EncapsulationMode::Never);
        match (self.ipip_mode, self.vxlan_mode) {
            (None, None) => inherited(&self.cidr, cluster),
            _ => match (on(self.ipip_mode), on(self.vxlan_mode)) {
                (Some(mode), _) => (EncapsulationKind::Ipip, mode),
                (None, Some(mode)) => (EncapsulationKind::Vxlan, mode),
                (None, None) => (EncapsulationKind::None, EncapsulationMode::Never),
            },
        }
    }
}

/// Returns the encapsulation that a pool of `cidr` inherits from the cluster's setting.
pub(crate) fn inherited(cidr: &IpNet, cluster: EncapsulationKind) -> (EncapsulationKind, EncapsulationMode) {
    match (cluster, cidr) {
        (EncapsulationKind::None, _) | (EncapsulationKind::Ipip, IpNet::V6(_)) => {
            (EncapsulationKind::None, EncapsulationMode::Never)
        }
        (encapsulation, _) => (encapsulation, EncapsulationMode::Always),
    }
}

/// Returns the name of a v1 pool, which has none of its own.
pub(crate) fn v1_name(cidr: &IpNet) -> String {
    // ":" is in IPv6 cidrs. A leading "::" would leave a name that begins with "-".
    let name = cidr.to_string().replace(['.', '/', ':'], "-");
    if name.starts_with('-') { format!("pool{name}") } else { name }
}

/// Reads the `spec` of a v3 pool.
pub(crate) fn read_v3(
    origin: Origin,
    name: String,
    spec: Option<Fields<'_>>,
    report: &mut Report,
) -> Option<IpPool> {
    let mut spec = require_spec(spec, &origin, report)?;
    let cidr = spec.required("cidr", report, scalar::prefix);
    let ipip_mode = spec.optional("ipipMode", report, scalar::one_of(MODES));
    let vxlan_mode = spec.optional("vxlanMode", report, scalar::one_of(MODES));
    let nat_outgoing = spec.optional("natOutgoing", report, scalar::boolean).unwrap_or(false);
    let disabled = spec.optional("disabled", report, scalar::boolean).unwrap_or(false);
    let disable_bgp_export = spec.optional("disableBGPExport", report, scalar::boolean).unwrap_or(false);
    let block_size = spec.optional("blockSize", report, scalar::number::<u8>(0, 128));
    let node_selector = spec.optional("nodeSelector", report, scalar::selector);
    spec.refused(
        Kind::IpPool,
        "namespaceSelector",
        report,
        |value| matches!(value, Value::Text(text) if matches!(text.trim(), "" | "all()")),
    );
    let uses = spec.list("allowedUses", report, scalar::one_of(ALLOWED_USES));
    let for_workloads = uses.is_empty() || uses.contains(&AllowedUse::Workload);
    if for_workloads && !uses.is_empty() && !uses.contains(&AllowedUse::Tunnel) {
        let rule = "a node's tunnel address is taken from its own lowest block all the same: to keep it out of this pool, write \
                    bgp.ipv4IPIPTunnelAddr and ipv4VXLANTunnelAddr on the Node";
        report.warning(spec.line("allowedUses"), "spec.allowedUses", rule);
    }
    for old in ["ipip", "nat-outgoing"] {
        spec.refused(Kind::IpPool, old, report, |_| false);
    }
    let assignment_mode = spec.optional(
        "assignmentMode",
        report,
        scalar::one_of(&[("Automatic", "Automatic"), ("Manual", "Manual")]),
    );
    let block_size_line = spec.line("blockSize");
    let ipip_line = spec.line("ipipMode");
    let cidr_line = spec.line("cidr");
    spec.finish(report);

    let cidr = cidr?;
    let pool = IpPool {
        origin,
        name,
        cidr,
        for_workloads,
        ipip_mode,
        vxlan_mode,
        nat_outgoing,
        disabled,
        disable_bgp_export,
        block_size: block_size.unwrap_or(if cidr.addr().is_ipv4() { 26 } else { 122 }),
        node_selector: node_selector.map_or_else(|| "all()".into(), |selector| selector.to_string()),
        assignment_mode: assignment_mode.unwrap_or("Automatic").to_owned(),
    };
    check(&pool, [cidr_line, ipip_line, block_size_line], "spec.cidr", report);
    Some(pool)
}

/// Reads a v1 `ipPool`. The cidr is in the metadata; the spec may be absent.
pub(crate) fn read_v1(
    origin: Origin,
    cidr: Option<IpNet>,
    cidr_line: u64,
    spec: Option<Fields<'_>>,
    report: &mut Report,
) -> Option<IpPool> {
    let (mut mode, mut nat_outgoing, mut disabled) = (EncapsulationMode::Never, false, false);
    let mut ipip_line = 0;
    if let Some(mut spec) = spec {
        ipip_line = spec.line("ipip");
        if let Some(mut ipip) = spec.fields("ipip", report) {
            let enabled = ipip.optional("enabled", report, scalar::boolean).unwrap_or(false);
            let named =
                ipip.optional("mode", report, scalar::one_of(V1_MODES)).unwrap_or(EncapsulationMode::Always);
            ipip.finish(report);
            mode = if enabled { named } else { EncapsulationMode::Never };
        }
        nat_outgoing = spec.optional("nat-outgoing", report, scalar::boolean).unwrap_or(false);
        disabled = spec.optional("disabled", report, scalar::boolean).unwrap_or(false);
        spec.finish(report);
    }
    let cidr = cidr?;
    let pool = IpPool {
        origin,
        name: v1_name(&cidr),
        cidr,
        for_workloads: true,
        ipip_mode: Some(mode),
        vxlan_mode: None,
        nat_outgoing,
        disabled,
        disable_bgp_export: false,
        block_size: if cidr.addr().is_ipv4() { 26 } else { 122 },
        node_selector: "all()".into(),
        assignment_mode: "Automatic".into(),
    };
    check(&pool, [cidr_line, ipip_line, cidr_line], "metadata.cidr", report);
    Some(pool)
}

/// Returns the v3 manifest of a v1 pool with the given name.
pub fn v3_manifest(pool: &IpPool, name: &str) -> serde_json::Value {
    let mut spec = serde_json::json!({
        "cidr": pool.cidr.to_string(),
        "ipipMode": pool.ipip_mode.unwrap_or(EncapsulationMode::Never).name(),
        "natOutgoing": pool.nat_outgoing,
    });
    if pool.disabled {
        spec["disabled"] = true.into();
    }
    serde_json::json!({
        "apiVersion": super::API_VERSION, "kind": "IPPool", "metadata": { "name": name }, "spec": spec,
    })
}

/// Checks the rules about one pool alone. `lines` are those of cidr, ipipMode and blockSize.
fn check(pool: &IpPool, lines: [u64; 3], cidr_name: &str, report: &mut Report) {
    let [cidr_line, ipip_line, block_size_line] = lines;
    let on = |mode: Option<EncapsulationMode>| mode.is_some_and(|mode| mode != EncapsulationMode::Never);
    if on(pool.ipip_mode) && on(pool.vxlan_mode) {
        let rule = "only one of ipipMode and vxlanMode may be other than Never";
        report.mistake(ipip_line, "spec.ipipMode", rule);
    }
    if on(pool.ipip_mode) && pool.cidr.addr().is_ipv6() {
        let rule =
            format!("must be Never in an IPv6 pool: IP-in-IP carries IPv4 only (cidr is {})", pool.cidr);
        report.mistake(ipip_line, "spec.ipipMode", rule);
    }
    let (low, high) = if pool.cidr.addr().is_ipv4() { (20, 32) } else { (116, 128) };
    if !(low..=high).contains(&pool.block_size) {
        let family = if pool.cidr.addr().is_ipv4() { "IPv4" } else { "IPv6" };
        let rule = format!("must be from {low} to {high} in an {family} pool (got {})", pool.block_size);
        report.mistake(block_size_line, "spec.blockSize", rule);
    } else if pool.cidr.prefix_len() > pool.block_size && !pool.disabled {
        let rule = format!("must hold at least one block of /{} (got {})", pool.block_size, pool.cidr);
        report.mistake(cidr_line, cidr_name, rule);
    }
    let link_local = match pool.cidr {
        IpNet::V4(net) => net.addr().is_link_local(),
        IpNet::V6(net) => net.addr().is_unicast_link_local(),
    };
    if link_local {
        report.mistake(cidr_line, cidr_name, format!("must not be link-local (got {})", pool.cidr));
    }
}

fn require_spec<'a>(spec: Option<Fields<'a>>, origin: &Origin, report: &mut Report) -> Option<Fields<'a>> {
    if spec.is_none() {
        report.mistake(origin.line, "spec", "is required");
    }
    spec
}

/// Returns `ipipMode` and `vxlanMode` for display; an inherited mode is in brackets.
pub fn shown_modes(pool: &IpPool, cluster: EncapsulationKind) -> [String; 2] {
    let inherits = pool.ipip_mode.is_none() && pool.vxlan_mode.is_none();
    let (encapsulation, mode) = pool.effective(cluster);
    [(EncapsulationKind::Ipip, pool.ipip_mode), (EncapsulationKind::Vxlan, pool.vxlan_mode)].map(
        |(this, own)| {
            match own {
                // Brackets mean "inherited", as around a node's AS number.
                None if inherits && encapsulation == this => format!("({})", mode.name()),
                None => EncapsulationMode::Never.name().into(),
                Some(own) => own.name().into(),
            }
        },
    )
}

/// Returns a reader of `spec`; `None` if it is absent or not a mapping, which is a mistake.
pub(crate) fn spec_fields<'a>(document: &'a LocatedValue, report: &mut Report) -> Option<Fields<'a>> {
    let spec = document.find("spec")?;
    if spec.value == Value::Null { None } else { Fields::from_value(spec, "spec", report) }
}
