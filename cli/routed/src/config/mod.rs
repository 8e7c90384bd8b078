//! `routed.yaml`: the configuration of the daemon on this node.

pub(crate) mod store;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use resource::reader::Rule;
use resource::reader::{Fields, Report};
use resource::tree::{self, Value};
use resource::{MAX_FILE_BYTES, Mistake, scalar};

use crate::shared_store::autodetect::AutodetectMethod;

pub use crate::config::store::Datastore;

/// The validated configuration of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonConfig {
    /// The name of this node's Node resource (`node`, default: the host's name).
    pub node: String,
    /// The path of the control socket (`socket`, default: `/run/routed/routed.sock`).
    pub socket: PathBuf,
    /// The group that may read but not change anything (`readGroup`); it has a socket of its own
    /// next to the control socket. Default: none.
    pub read_group: Option<String>,
    /// The directory of the last valid snapshot and the tunnel address (`stateDir`, default:
    /// `/var/lib/routed`).
    pub state_dir: PathBuf,
    /// The address of metrics, health and status page (`status`, default: `127.0.0.1:9179`);
    /// `None`: `off`.
    pub status: Option<SocketAddr>,
    /// The destination of routes (`dataplane`, default: `kernel`).
    pub dataplane: Dataplane,
    /// The `rtm_protocol` of routed's routes (`routeProtocol`, default: 179): 5 to 255, because the
    /// kernel uses the lower numbers.
    pub route_protocol: u8,
    /// The source of the resources (`datastore`), the only key without a default.
    pub datastore: Datastore,
    /// The methods of address autodetection when this node registers itself (`autodetect`).
    pub autodetect: AutodetectSettings,
    /// The claims of address blocks (`ipam`).
    pub ipam: IpamSettings,
    /// True if this machine is in Azure; detected, not configured.
    pub in_azure: bool,
    /// The log filter (`log`, default: `info`): a level, or levels of modules in the syntax of
    /// `tracing_subscriber::filter::Targets`.
    pub log: String,
}

/// The settings of block claims. They apply to each address family that has a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpamSettings {
    /// The minimum number of blocks (`ipam.blocks`, default: 1); 0: no block is claimed.
    pub blocks: u8,
    /// The number of free addresses below which another block is claimed (`ipam.freeAddresses`,
    /// default: 16).
    pub free_addresses: u16,
    /// The maximum number of blocks (`ipam.maxBlocks`, default: 20, as Calico's maxBlocksPerHost).
    pub max_blocks: u8,
    /// The time after which the blocks of a deleted node are released (`ipam.reclaimAfter`,
    /// default: 5m); `None`: never (`off`).
    pub reclaim_after: Option<Duration>,
}

impl Default for IpamSettings {
    fn default() -> Self {
        IpamSettings {
            blocks: 1,
            free_addresses: 16,
            max_blocks: 20,
            reclaim_after: Some(Duration::from_secs(300)),
        }
    }
}

/// The methods of address autodetection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutodetectSettings {
    /// The method for IPv4 (`autodetect.ipv4`, default: `first-found`).
    pub ipv4: AutodetectMethod,
    /// The method for IPv6 (`autodetect.ipv6`, default: `none`).
    pub ipv6: AutodetectMethod,
}

impl Default for AutodetectSettings {
    fn default() -> Self {
        AutodetectSettings { ipv4: AutodetectMethod::FirstFound, ipv6: AutodetectMethod::None }
    }
}

/// The destination of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dataplane {
    /// The kernel's routing table.
    Kernel,
    /// No destination: for a route reflector without pods.
    None,
}

/// Reads the configuration from a file. The host's name is the default of `node`.
///
/// # Errors
/// Every mistake in the file, or that it can't be read.
pub fn load(path: &Path) -> Result<DaemonConfig, Vec<Mistake>> {
    let file = path.display().to_string();
    let broken = |rule: String| vec![Mistake { file: file.clone(), line: 0, field: String::new(), rule }];
    let size = std::fs::metadata(path).map_err(|error| broken(format!("can't be read: {error}")))?.len();
    if size > MAX_FILE_BYTES as u64 {
        return Err(broken(format!("must be at most {MAX_FILE_BYTES} bytes (got {size})")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| broken(format!("can't be read: {error}")))?;
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let config = parse(&file, &text, host.as_deref())?;
    Ok(DaemonConfig { in_azure: crate::host::cloud::is_azure(), ..config })
}

/// Parses the configuration. `file` names it in mistakes; `host` is the host's name.
///
/// # Errors
/// Every mistake in the text.
pub fn parse(file: &str, text: &str, host: Option<&str>) -> Result<DaemonConfig, Vec<Mistake>> {
    let mut report = Report::new(file);
    let located = match tree::parse(text, 1) {
        Ok(Some(located)) => located,
        Ok(None) => tree::LocatedValue { line: 1, value: Value::Map(Vec::new()) },
        Err(error) => {
            report.mistake(error.line, "", error.rule);
            return Err(report.mistakes);
        }
    };
    let configuration =
        Fields::from_value(&located, "", &mut report).and_then(|fields| read(fields, host, &mut report));
    report.mistakes.sort_by_key(|mistake| mistake.line);
    match configuration {
        Some(configuration) if report.mistakes.is_empty() => Ok(configuration),
        _ => Err(report.mistakes),
    }
}

fn read(mut fields: Fields<'_>, host: Option<&str>, report: &mut Report) -> Option<DaemonConfig> {
    let node = match host {
        Some(host) => fields
            .optional("node", report, scalar::name)
            .or_else(|| scalar::name(&Value::Text(host.into())).ok()),
        None => fields.required("node", report, scalar::name),
    };
    if node.is_none() && report.mistakes.is_empty() {
        report.mistake(fields.line("node"), "node", "is required: the host's name can't be a node's");
    }
    let socket = fields.optional("socket", report, absolute_path);
    let read_group = fields.optional("readGroup", report, scalar::name);
    let state_dir = fields.optional("stateDir", report, absolute_path);
    let status = fields.optional("status", report, |value| match value {
        Value::Text(text) if text == "off" => Ok(None),
        Value::Bool(false) => Ok(None),
        Value::Text(text) => {
            text.parse().map(Some).map_err(|_| "must be ADDRESS:PORT, such as 127.0.0.1:9179, or off".into())
        }
        _ => Err("must be ADDRESS:PORT, such as 127.0.0.1:9179, or off".into()),
    });
    let dataplanes = &[("kernel", Dataplane::Kernel), ("none", Dataplane::None)];
    let dataplane = fields.optional("dataplane", report, scalar::one_of(dataplanes));
    let route_protocol = fields.optional("routeProtocol", report, scalar::number(5, 255));
    let log = fields.optional("log", report, |value| {
        let text = scalar::text(value)?;
        match text.parse::<tracing_subscriber::filter::Targets>() {
            Ok(_) => Ok(text),
            Err(_) => {
                Err("must be a level (error, warn, info, debug) or a filter such as info,bgp=debug".into())
            }
        }
    });
    let autodetect = fields.fields("autodetect", report).map(|mut fields| {
        let method = |value: &Value| scalar::text(value).and_then(|text| AutodetectMethod::parse(&text));
        let (ipv4, ipv6) = (fields.optional("ipv4", report, method), fields.optional("ipv6", report, method));
        fields.finish(report);
        let default = AutodetectSettings::default();
        AutodetectSettings { ipv4: ipv4.unwrap_or(default.ipv4), ipv6: ipv6.unwrap_or(default.ipv6) }
    });
    let ipam = fields.fields("ipam", report).map(|mut fields| {
        let blocks = fields.optional("blocks", report, scalar::number(0, 255));
        let free_addresses = fields.optional("freeAddresses", report, scalar::number(0, 65535));
        let max_blocks = fields.optional("maxBlocks", report, scalar::number(1, 255));
        let reclaim_after = fields.optional("reclaimAfter", report, |value| match value {
            Value::Text(text) if text == "off" => Ok(None),
            Value::Bool(false) => Ok(None),
            value => scalar::duration(value).map(Some).map_err(|rule| Rule::from(format!("{rule}, or off"))),
        });
        let default = IpamSettings::default();
        let blocks = blocks.unwrap_or(default.blocks);
        let max_blocks = max_blocks.unwrap_or(default.max_blocks.max(blocks));
        if max_blocks < blocks {
            let rule = format!("must not be less than blocks (got {max_blocks}, and blocks {blocks})");
            report.mistake(fields.line("maxBlocks"), "ipam.maxBlocks", rule);
        }
        fields.finish(report);
        IpamSettings {
            blocks,
            free_addresses: free_addresses.unwrap_or(default.free_addresses),
            max_blocks,
            reclaim_after: reclaim_after.unwrap_or(default.reclaim_after),
        }
    });
    let datastore = store::read(&mut fields, report);
    fields.finish(report);
    Some(DaemonConfig {
        node: node?,
        socket: socket.unwrap_or_else(|| "/run/routed/routed.sock".into()),
        read_group,
        state_dir: state_dir.unwrap_or_else(|| "/var/lib/routed".into()),
        status: status.unwrap_or(Some(SocketAddr::from(([127, 0, 0, 1], 9179)))),
        dataplane: dataplane.unwrap_or(Dataplane::Kernel),
        route_protocol: route_protocol.unwrap_or(179),
        autodetect: autodetect.unwrap_or_default(),
        ipam: ipam.unwrap_or_default(),
        in_azure: false,
        datastore: datastore?,
        log: log.unwrap_or_else(|| "info".into()),
    })
}

pub(crate) fn absolute_path(value: &Value) -> Result<PathBuf, Rule> {
    let path = PathBuf::from(scalar::text(value)?);
    if path.is_absolute() { Ok(path) } else { Err("must be an absolute path".into()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        parse("routed.yaml", text, Some("host-1")).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_the_datastore_is_required() {
        let config =
            parse("routed.yaml", "datastore: { file: /etc/routed/resources }\n", Some("host-1")).unwrap();
        assert_eq!(
            config,
            DaemonConfig {
                node: "host-1".into(),
                socket: "/run/routed/routed.sock".into(),
                read_group: None,
                state_dir: "/var/lib/routed".into(),
                status: Some("127.0.0.1:9179".parse().unwrap()),
                dataplane: Dataplane::Kernel,
                route_protocol: 179,
                autodetect: AutodetectSettings::default(),
                ipam: IpamSettings::default(),
                in_azure: false,
                datastore: Datastore::File("/etc/routed/resources".into()),
                log: "info".into(),
            }
        );
    }

    #[test]
    fn every_key_is_read() {
        let text = "node: a\nsocket: /s\nreadGroup: look\nstateDir: /d\nstatus: off\ndataplane: none\nrouteProtocol: 200\n\
                    datastore: {file: /r}\nlog: info,bgp=debug\n";
        let config = parse("routed.yaml", text, None).unwrap();
        assert_eq!((config.node.as_str(), config.status, config.route_protocol), ("a", None, 200));
        assert_eq!(config.read_group.as_deref(), Some("look"));
        assert_eq!((config.dataplane, config.log.as_str()), (Dataplane::None, "info,bgp=debug"));
        let quoted = parse("routed.yaml", "status: 'off'\ndatastore: {file: /r}\n", Some("a")).unwrap();
        assert_eq!(quoted.status, None);
    }

    #[test]
    fn every_key_of_ipam_is_read() {
        let ipam = |text: &str| {
            parse("r", &format!("datastore: {{file: /r}}\nipam: {{{text}}}\n"), Some("a"))
                .map(|config| config.ipam)
        };
        let all = ipam("blocks: 3, freeAddresses: 8, maxBlocks: 4, reclaimAfter: 90s").unwrap();
        let expected = IpamSettings {
            blocks: 3,
            free_addresses: 8,
            max_blocks: 4,
            reclaim_after: Some(Duration::from_secs(90)),
        };
        assert_eq!(all, expected);
        assert_eq!(ipam("reclaimAfter: off").unwrap().reclaim_after, None);
        // The maximum is raised to `blocks` if it is the default.
        assert_eq!(ipam("blocks: 30").unwrap().max_blocks, 30);
        assert_eq!(
            mistakes("datastore: {file: /r}\nipam:\n  blocks: 3\n  maxBlocks: 2\n  reclaimAfter: soon\n"),
            [
                "routed.yaml:4: ipam.maxBlocks: must not be less than blocks (got 2, and blocks 3)",
                "routed.yaml:5: ipam.reclaimAfter: must be a duration such as 10s, 1m30s or 500ms, at most 24h, or off (got \"soon\")",
            ]
        );
    }

    #[test]
    fn each_mistake_has_its_line_and_field() {
        let text = "node: a/b\nsocket: run/s\nstatus: here\ndataplane: bpf\nrouteProtocol: 4\nlog: 'a=b=c'\nsokcet: /x\n";
        assert_eq!(
            mistakes(text),
            [
                "routed.yaml:1: node: must be letters, digits, '.', '_' and '-' (at most 253), beginning and ending \
                 with a letter or digit (got \"a/b\")",
                "routed.yaml:1: datastore: is required, such as { file: /etc/routed/resources }",
                "routed.yaml:2: socket: must be an absolute path (got \"run/s\")",
                "routed.yaml:3: status: must be ADDRESS:PORT, such as 127.0.0.1:9179, or off (got \"here\")",
                "routed.yaml:4: dataplane: must be one of kernel, none (got \"bpf\")",
                "routed.yaml:5: routeProtocol: must be a whole number from 5 to 255 (got 4)",
                "routed.yaml:6: log: must be a level (error, warn, info, debug) or a filter such as \
                 info,bgp=debug (got \"a=b=c\")",
                "routed.yaml:7: sokcet: unknown field (did you mean socket?)",
            ]
        );
    }

    #[test]
    fn unsupported_datastores_are_refused() {
        assert_eq!(
            mistakes("datastore:\n  kubernetes: {}\n"),
            ["routed.yaml:2: datastore.kubernetes: is not yet supported (got a mapping): remove it"]
        );
    }

    #[test]
    fn a_missing_file_is_reported() {
        let mistakes = load(Path::new("/nonexistent/routed.yaml")).unwrap_err();
        assert_eq!(
            mistakes[0].to_string(),
            "/nonexistent/routed.yaml: can't be read: No such file or directory (os error 2)"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC*") {
            let _ = parse("f", &text, Some("a"));
        }
    }
}
