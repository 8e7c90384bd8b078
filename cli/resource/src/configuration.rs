//! BGPConfiguration: the settings of the whole cluster.

use std::path::PathBuf;
use std::time::Duration;

use routing::ownership::OwnershipMode;
use routing::policy::Advertisement;
use tunnel::TunnelsFrom;

use super::advertisement;
use super::bfd::{self, BfdSettings};
use super::cni::{self, CniSettings};
use super::kind::Kind;
use super::mistake::Origin;
use super::peer_policy::{self, ADD_PATH, AddPathMode, MaxPrefixes};
use super::pool::{ENCAPSULATIONS, EncapsulationKind};
use super::reader::{Fields, Report};
use super::reader::{Rule, rule};
use super::scalar;
use super::security;
use super::tree::Value;

/// `BGPConfiguration/default`, or the default settings if there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct BgpConfiguration {
    /// The file and line of the resource; an empty file name if there is no resource.
    pub origin: Origin,
    /// True if every node peers with every other (`spec.nodeToNodeMeshEnabled`, true).
    pub node_to_node_mesh: bool,
    /// The AS number of nodes that have none of their own (`spec.asNumber`, 64512).
    pub as_number: u32,
    /// The TCP port to listen on and to connect to (`spec.listenPort`, 179).
    pub listen_port: u16,
    /// The restart time that nodes advertise in the mesh (`spec.nodeMeshMaxRestartTime`, 120 s;
    /// RFC 4724).
    pub restart_time: Duration,
    /// `spec.prefixAdvertisements`: communities of the nodes' own blocks.
    pub advertisements: Vec<Advertisement>,
    /// `spec.routed`.
    pub routed: RoutedSettings,
}

impl Default for BgpConfiguration {
    fn default() -> Self {
        BgpConfiguration {
            origin: Origin::default(),
            node_to_node_mesh: true,
            as_number: 64512,
            listen_port: 179,
            restart_time: scalar::DEFAULT_RESTART_TIME,
            advertisements: Vec::new(),
            routed: RoutedSettings::default(),
        }
    }
}

/// The settings for which Calico has no field (`spec.routed`).
#[derive(Clone, Debug, PartialEq)]
pub struct RoutedSettings {
    /// The encapsulation of pools that name neither mode (`encapsulation`, ipip).
    pub encapsulation: EncapsulationKind,
    /// The fallback for nodes that BGP does not reach (`fallback`, vxlan).
    pub fallback: FallbackSetting,
    /// The time from the loss of a session to the fallback (`fallbackAfter`, 10 s).
    pub fallback_after: Duration,
    /// The time for which a path must work before it is used again (`recoverAfter`, 30 s).
    pub recover_after: Duration,
    /// The UDP port of probes (`probePort`, 4788).
    pub probe_port: u16,
    /// The file with the key that authenticates probes (`probeKeyFile`), an absolute path.
    pub probe_key_file: Option<PathBuf>,
    /// True if a plain probe must be answered before packets are sent without encapsulation
    /// within a subnet (`directProbe`, false).
    pub direct_probe: bool,
    /// The BGP hold time (`holdTime`, 90 s): whole seconds, 0 (no keepalives) or 3 to 65535.
    pub hold_time: Duration,
    /// The file with the TCP-MD5 password of the mesh's sessions (`passwordFile`), an absolute
    /// path.
    pub password_file: Option<PathBuf>,
    /// The BFD parameters of the mesh's sessions (`bfd`); `None` without BFD.
    pub bfd: Option<BfdSettings>,
    /// The time for which a peer may read nothing (`sendHoldTime`, 480 s; RFC 9687): whole
    /// seconds, up to 65535. At least twice the hold time is used.
    pub send_hold_time: Duration,
    /// True if routes are retained while a speaker restarts (`gracefulRestart`, enabled; RFC
    /// 4724).
    pub graceful_restart: bool,
    /// The time for which routes are retained after the restart time (`longLivedStaleTime`, 0:
    /// not retained; RFC 9494).
    pub long_lived_stale_time: Duration,
    /// The default ADD-PATH mode of peers (`addPath`, receive).
    pub add_path: AddPathMode,
    /// True if BGP is off (`bgp: disabled`). Every block is then reached through the fallback.
    pub bgp_disabled: bool,
    /// The metric of learned routes (`routeMetric`, 512), 1 to 4294967294.
    pub route_metric: u32,
    /// The largest number of exits of a prefix with several best paths (`multipath`, 16), 1 to
    /// 16.
    pub multipath: u8,
    /// True if `net.ipv4.nexthop_compat_mode` is left as it is (`nexthopCompat: keep`).
    pub nexthop_compat_keep: bool,
    /// The senders from which encapsulated packets are accepted (`acceptTunnelsFrom`, nodes).
    pub accept_tunnels_from: TunnelsFrom,
    /// The network configuration for container runtimes (`cni`); `None` writes none.
    pub cni: Option<CniSettings>,
    /// The action on a node that advertises the block of another (`ownership`, warn).
    pub ownership: OwnershipMode,
    /// The prefix limit of peers that have none of their own (`maxPrefixes`); `None` is
    /// unlimited.
    pub max_prefixes: Option<MaxPrefixes>,
}

impl Default for RoutedSettings {
    fn default() -> Self {
        RoutedSettings {
            encapsulation: EncapsulationKind::default(),
            fallback: FallbackSetting::default(),
            fallback_after: Duration::from_secs(10),
            recover_after: Duration::from_secs(30),
            probe_port: 4788,
            probe_key_file: None,
            direct_probe: false,
            hold_time: Duration::from_secs(90),
            password_file: None,
            bfd: None,
            send_hold_time: Duration::from_secs(480),
            graceful_restart: true,
            long_lived_stale_time: Duration::ZERO,
            add_path: AddPathMode::Receive,
            bgp_disabled: false,
            route_metric: 512,
            multipath: 16,
            nexthop_compat_keep: false,
            accept_tunnels_from: TunnelsFrom::Nodes,
            cni: None,
            ownership: OwnershipMode::Warn,
            max_prefixes: None,
        }
    }
}

/// The fallback for nodes that BGP does not reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FallbackSetting {
    /// VXLAN, from the static peer table.
    #[default]
    Vxlan,
    /// No fallback.
    None,
}

/// Reads the `spec` of BGPConfiguration `default`.
pub(crate) fn read(
    origin: Origin,
    name: &str,
    spec: Option<Fields<'_>>,
    report: &mut Report,
) -> Option<BgpConfiguration> {
    if name != "default" {
        let line = report.lines.get("metadata.name").copied().unwrap_or(origin.line);
        let rule = format!(
            "must be default (got {name:?}): for one node write asNumber on its Node and `log` in its routed.yaml"
        );
        report.mistake(line, "metadata.name", rule);
    }
    let mut configuration = BgpConfiguration { origin, ..BgpConfiguration::default() };
    let Some(mut spec) = spec else { return Some(configuration) };
    if let Some(mesh) = spec.optional("nodeToNodeMeshEnabled", report, scalar::boolean) {
        configuration.node_to_node_mesh = mesh;
    }
    if let Some(as_number) = spec.optional("asNumber", report, scalar::as_number) {
        configuration.as_number = as_number;
    }
    if let Some(port) = spec.optional("listenPort", report, scalar::number(1, 65535)) {
        configuration.listen_port = port;
    }
    if spec.optional("logSeverityScreen", report, severity) == Some(false) {
        let line = spec.line("logSeverityScreen");
        report.warning(line, "spec.logSeverityScreen", "not applied: set `log` in each node's routed.yaml");
    }
    let kind = Kind::BgpConfiguration;
    let empty = |value: &Value| matches!(value, Value::List(items) if items.is_empty());
    let is = |name: &'static str| move |value: &Value| *value == Value::Text(name.into());
    spec.refused(kind, "bindMode", report, is("None"));
    for field in ["serviceClusterIPs", "serviceExternalIPs", "serviceLoadBalancerIPs"] {
        spec.refused(kind, field, report, empty);
    }
    spec.refused(kind, "serviceLoadBalancerAggregation", report, is("Enabled"));
    spec.refused(kind, "programClusterRoutes", report, is("Enabled"));
    for field in ["localWorkloadPeeringIPV4", "localWorkloadPeeringIPV6"] {
        spec.refused(kind, field, report, is(""));
    }
    // Routes of interfaces are not advertised, so there are none to ignore.
    spec.list("ignoredInterfaces", report, scalar::text);
    security::refuse_mesh_password(&mut spec, report);
    if let Some(time) = spec.optional("nodeMeshMaxRestartTime", report, scalar::restart_time) {
        configuration.restart_time = time;
        if !configuration.node_to_node_mesh {
            let line = spec.line("nodeMeshMaxRestartTime");
            report.mistake(
                line,
                "spec.nodeMeshMaxRestartTime",
                "has no meaning without the mesh: leave it out, or set nodeToNodeMeshEnabled: true",
            );
        }
    }
    configuration.advertisements = advertisement::read(&mut spec, report);
    if let Some(routed) = spec.fields("routed", report) {
        configuration.routed = read_routed(routed, report);
    }
    spec.finish(report);
    Some(configuration)
}

/// Parses one of Calico's log levels, in any case. Returns true for the default.
fn severity(value: &Value) -> Result<bool, Rule> {
    let level = scalar::text(value)?.to_ascii_lowercase();
    match level.as_str() {
        "" | "info" => Ok(true),
        "none" | "trace" | "debug" | "warning" | "error" | "fatal" => Ok(false),
        _ => Err("must be one of Trace, Debug, Info, Warning, Error, Fatal".into()),
    }
}

fn read_routed(mut fields: Fields<'_>, report: &mut Report) -> RoutedSettings {
    let default = RoutedSettings::default();
    let fallbacks = &[("vxlan", FallbackSetting::Vxlan), ("none", FallbackSetting::None)];
    let settings = RoutedSettings {
        encapsulation: fields
            .optional("encapsulation", report, scalar::one_of(ENCAPSULATIONS))
            .unwrap_or(default.encapsulation),
        fallback: fields.optional("fallback", report, scalar::one_of(fallbacks)).unwrap_or(default.fallback),
        fallback_after: fields
            .optional("fallbackAfter", report, scalar::duration)
            .unwrap_or(default.fallback_after),
        recover_after: fields
            .optional("recoverAfter", report, scalar::duration)
            .unwrap_or(default.recover_after),
        probe_port: fields
            .optional("probePort", report, scalar::number(1, 65535))
            .unwrap_or(default.probe_port),
        probe_key_file: fields.optional("probeKeyFile", report, |value| {
            let path = PathBuf::from(scalar::text(value)?);
            if path.is_absolute() { Ok(path) } else { Err("must be an absolute path".into()) }
        }),
        direct_probe: fields.optional("directProbe", report, scalar::boolean).unwrap_or(default.direct_probe),
        hold_time: fields.optional("holdTime", report, hold_time).unwrap_or(default.hold_time),
        password_file: security::password_file(&mut fields, report),
        bfd: bfd::read(&mut fields, report),
        send_hold_time: fields
            .optional("sendHoldTime", report, whole_seconds(1, 65_535))
            .unwrap_or(default.send_hold_time),
        graceful_restart: fields
            .optional("gracefulRestart", report, scalar::one_of(&[("enabled", true), ("disabled", false)]))
            .unwrap_or(default.graceful_restart),
        long_lived_stale_time: fields
            .optional("longLivedStaleTime", report, whole_seconds(0, 86_400))
            .unwrap_or(default.long_lived_stale_time),
        add_path: fields.optional("addPath", report, scalar::one_of(ADD_PATH)).unwrap_or(default.add_path),
        bgp_disabled: fields
            .optional("bgp", report, scalar::one_of(&[("enabled", false), ("disabled", true)]))
            .unwrap_or(default.bgp_disabled),
        route_metric: fields
            .optional("routeMetric", report, scalar::number(1, 4_294_967_294))
            .unwrap_or(default.route_metric),
        multipath: fields.optional("multipath", report, scalar::number(1, 16)).unwrap_or(default.multipath),
        nexthop_compat_keep: fields
            .optional("nexthopCompat", report, scalar::one_of(&[("keep", true)]))
            .unwrap_or(default.nexthop_compat_keep),
        accept_tunnels_from: fields
            .optional("acceptTunnelsFrom", report, scalar::one_of(TUNNELS_FROM))
            .unwrap_or(default.accept_tunnels_from),
        cni: cni::read(&mut fields, report),
        ownership: fields
            .optional("ownership", report, scalar::one_of(OWNERSHIP))
            .unwrap_or(default.ownership),
        max_prefixes: peer_policy::max_prefixes(&mut fields, report),
    };
    fields.finish(report);
    settings
}

const TUNNELS_FROM: &[(&str, TunnelsFrom)] = &[("nodes", TunnelsFrom::Nodes), ("any", TunnelsFrom::Any)];
const OWNERSHIP: &[(&str, OwnershipMode)] =
    &[("strict", OwnershipMode::Strict), ("warn", OwnershipMode::Warn), ("off", OwnershipMode::Off)];

fn whole_seconds(least: u64, most: u64) -> impl Fn(&Value) -> Result<Duration, Rule> {
    move |value| {
        let time = scalar::duration(value)?;
        if time.subsec_nanos() == 0 && (least..=most).contains(&time.as_secs()) {
            Ok(time)
        } else {
            Err(rule!("must be whole seconds from {least}s to {most}s"))
        }
    }
}

/// Parses a hold time: zero or at least three seconds, in 16 bits (RFC 4271 §4.2).
fn hold_time(value: &Value) -> Result<Duration, Rule> {
    let time = scalar::duration(value)?;
    let whole = time.subsec_nanos() == 0;
    if whole && (time.is_zero() || (3..=65_535).contains(&time.as_secs())) {
        Ok(time)
    } else {
        Err("must be 0 or whole seconds from 3s to 65535s".into())
    }
}
