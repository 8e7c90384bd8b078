//! `spec.routed.cni` of the BGPConfiguration: a network configuration for container runtimes.

use std::path::PathBuf;

use super::reader::{Fields, Report};
use super::reader::{Rule, rule};
use super::scalar;
use super::tree::Value;

/// The CNI network configuration to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniSettings {
    /// The directory that container runtimes read (`directory`, /etc/cni/net.d).
    pub directory: PathBuf,
    /// The network's name (`name`, routed).
    pub name: String,
    /// The plugin that creates the interfaces of pods (`plugin`, ptp).
    pub plugin: CniPlugin,
}

impl CniSettings {
    /// Returns the path of the file. Runtimes use the first file by name.
    pub fn file(&self) -> PathBuf {
        self.directory.join(format!("10-{}.conflist", self.name))
    }
}

/// A CNI plugin that creates the interfaces of pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CniPlugin {
    /// A veth pair from each pod to the node.
    Ptp,
    /// A bridge of this name for all pods of the node (`bridge`, routed.pods).
    Bridge(String),
}

/// The longest name of an interface (`IFNAMSIZ`), in bytes.
const INTERFACE_NAME: usize = 15;

/// Reads `cni` of `spec.routed`; `cni: {}` selects the defaults.
pub(super) fn read(routed: &mut Fields<'_>, report: &mut Report) -> Option<CniSettings> {
    let mut fields = routed.fields("cni", report)?;
    let directory = fields.optional("directory", report, |value| {
        let path = PathBuf::from(scalar::text(value)?);
        if path.is_absolute() { Ok(path) } else { Err("must be an absolute path".into()) }
    });
    let name = fields.optional("name", report, network_name);
    let plugin = fields.optional("plugin", report, scalar::one_of(&[("ptp", false), ("bridge", true)]));
    let bridged = plugin == Some(true);
    let bridge = fields.optional("bridge", report, interface_name);
    if let Some(bridge) = bridge.as_ref().filter(|_| !bridged) {
        let (line, path) = (fields.line("bridge"), fields.path("bridge"));
        report.mistake(line, &path, format!("has a meaning with plugin: bridge alone (got {bridge:?})"));
    }
    fields.finish(report);
    let bridge = bridge.unwrap_or_else(|| "routed.pods".to_owned());
    Some(CniSettings {
        directory: directory.unwrap_or_else(|| PathBuf::from("/etc/cni/net.d")),
        name: name.unwrap_or_else(|| "routed".to_owned()),
        plugin: if bridged { CniPlugin::Bridge(bridge) } else { CniPlugin::Ptp },
    })
}

/// Parses a network name (CNI specification 1.0.0, section 1).
fn network_name(value: &Value) -> Result<String, Rule> {
    let name = scalar::text(value)?;
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) && name.len() <= 128 {
        Ok(name)
    } else {
        Err("must begin with a letter or digit and have only these, '_', '.' and '-', 128 at most".into())
    }
}

fn interface_name(value: &Value) -> Result<String, Rule> {
    let name = scalar::text(value)?;
    let allowed = |c: char| c.is_ascii_graphic() && !"/:%".contains(c);
    if (1..=INTERFACE_NAME).contains(&name.len()) && name.chars().all(allowed) && name != "." && name != ".."
    {
        Ok(name)
    } else {
        Err(rule!("must be an interface's name: 1 to {INTERFACE_NAME} characters without '/', ':' and '%'"))
    }
}
