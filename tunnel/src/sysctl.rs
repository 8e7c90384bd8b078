//! The sysctls that forwarding through tunnels depends on, below `/proc/sys` of the calling
//! thread's namespace.

use std::{fmt, fs, io, path::Path};

use ipnet::IpNet;

use crate::{
    desired::Device,
    node::{Config, Encapsulation},
    observed::ObservedState,
};

/// A sysctl with its value before and after the check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// Path below `/proc/sys`, with slashes, since interface names have dots.
    pub name: String,
    /// Value; `None` if it cannot be read.
    pub value: Option<String>,
    /// Required value; `None` for a sysctl that is only checked.
    pub wanted: Option<String>,
    /// True if the value was changed just now.
    pub set: bool,
    /// Problem and its remedy, in one line.
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

/// Checks the sysctls, sets those that are ours to set, and reports problems of the others.
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
            // 2 is loose: an answer may leave by another tunnel than the packet arrived by, but 0 would
            // accept sources that do not exist.
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

/// Checks rp_filter of the parent. The effective value is the larger of its own and that of `all`;
/// strict drops plain packets of a pod whose block is reached through a tunnel at that moment.
fn look_at_parent(config: &Config, parent: &str) -> Vec<Sysctl> {
    let unwrapped = config.pools.iter().any(|p| p.mode != crate::node::PoolMode::Always)
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

/// Reads a value and, if it is not `wanted`, writes it.
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
