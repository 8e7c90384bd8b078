//! The sysctls that forwarding through tunnels depends on, below `/proc/sys` of the calling thread's namespace.

use std::{fmt, fs, io, path::Path};

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    desired::Device,
    node::{Config, Encapsulation},
    observed::ObservedState,
};

/// One sysctl as it was found and left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sysctl {
    /// Path below `/proc/sys`, with slashes, since interface names have dots.
    pub name: String,
    /// The value now; `None` if it cannot be read.
    pub value: Option<String>,
    /// The value that is right; `None` where it is only looked at.
    pub wanted: Option<String>,
    /// It was changed by us just now.
    pub set: bool,
    /// What is wrong with it and what to do, in one line.
    pub problem: Option<String>,
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.name, self.value.as_deref().unwrap_or("unreadable"))?;
        match &self.problem {
            Some(problem) => write!(f, " ({problem})"),
            None => Ok(()),
        }
    }
}

/// Checks them, sets what is ours to set, and tells what is not.
pub fn tune(
    config: &Config,
    observed: &ObservedState,
    interface_name: &dyn Fn(u32) -> Option<String>,
) -> Vec<Sysctl> {
    let mut all = Vec::new();
    if config.local.ipv4.is_some() {
        all.push(ensure("net/ipv4/ip_forward", "1"));
    }
    if config.local.blocks.iter().any(|b| matches!(b, IpNet::V6(_))) {
        all.push(ensure("net/ipv6/conf/all/forwarding", "1"));
    }
    for device in Device::ALL {
        if observed.link(device).is_some() && config.local.ipv4.is_some() {
            let name = if device == Device::Ipip && observed.ipip_is_tunl0 { "tunl0" } else { device.name() };
            // 2 is loose: a packet may arrive by another tunnel than its answer leaves by, but 0 would
            // accept sources that nobody has.
            all.push(ensure(&format!("net/ipv4/conf/{name}/rp_filter"), "2"));
        }
    }
    if let Some(name) = observed.parent.and_then(|p| interface_name(p.index))
        && config.local.ipv4.is_some()
    {
        all.extend(look_at_parent(config, &name));
    }
    if observed.nexthop_objects && !config.nexthop_compat_keep && config.local.ipv4.is_some() {
        let mut compat = ensure("net/ipv4/nexthop_compat_mode", "0");
        // Linux 5.3 to 5.7 have next-hop objects without this switch.
        if compat.value.is_none() && !Path::new("/proc/sys/net/ipv4/nexthop_compat_mode").exists() {
            compat.problem = None;
        }
        all.push(compat);
    }
    all
}

/// The parent's effective rp_filter is the larger of its own and `all`'s; strict drops what arrives
/// unwrapped from a pod whose block is reached through a tunnel at that moment.
fn look_at_parent(config: &Config, parent: &str) -> Vec<Sysctl> {
    let unwrapped = config.pools.iter().any(|p| p.mode != crate::node::Mode::Always)
        || config.pools.iter().any(|p| p.encapsulation == Encapsulation::None)
        || config.pools.is_empty() && config.encapsulation == Encapsulation::None;
    let names = [format!("net/ipv4/conf/{parent}/rp_filter"), "net/ipv4/conf/all/rp_filter".to_owned()];
    let values = names.clone().map(|name| read(&name).ok());
    let effective = values.iter().flatten().filter_map(|v| v.parse::<u32>().ok()).max();
    names
        .into_iter()
        .zip(values)
        .map(|(name, value)| {
            let strict = effective == Some(1) && value.as_deref() == Some("1");
            let problem = (strict && unwrapped).then(|| {
                format!(
                    "{name} is 1 (strict): packets that come unwrapped from pods behind a tunnel are dropped; \
                     loosen it: sysctl -w {name}=2"
                )
            });
            Sysctl { name, value, wanted: None, set: false, problem }
        })
        .collect()
}

/// Reads a value and, if it is another than `wanted`, writes that.
fn ensure(name: &str, wanted: &str) -> Sysctl {
    let mut sysctl = Sysctl {
        name: name.to_owned(),
        value: None,
        wanted: Some(wanted.to_owned()),
        set: false,
        problem: None,
    };
    let outcome = read(name).and_then(|value| {
        sysctl.value = Some(value);
        if sysctl.value.as_deref() != Some(wanted) {
            fs::write(path(name), wanted)?;
            sysctl.value = Some(read(name)?);
            sysctl.set = true;
        }
        Ok(())
    });
    if let Err(error) = outcome {
        sysctl.problem = Some(match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => format!(
                "{name} cannot be set to {wanted} ({error}): run sysctl -w {name}={wanted} on the node, or routed as \
                 root with /proc/sys writable"
            ),
            _ => format!("{name} cannot be set to {wanted}: {error}"),
        });
    } else if sysctl.value.as_deref() != Some(wanted) {
        sysctl.problem = Some(format!(
            "{name} stays {} after {wanted} was written: something else holds it",
            sysctl.value.as_deref().unwrap_or("unknown")
        ));
    }
    sysctl
}

fn path(name: &str) -> String {
    format!("/proc/sys/{name}")
}

fn read(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path(name))?.trim().to_owned())
}
