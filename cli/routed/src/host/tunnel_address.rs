//! The address of this node's tunnel devices. It is chosen at the first start and stored, so that
//! it does not change with the node's blocks.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::IpNet;

use resource::{Node, default_tunnel_address};

/// The file in the state directory with the chosen address.
const FILE: &str = "tunnel-address";

/// Returns the address in the Node resource, of either device, or the default.
pub(crate) fn configured_or_default(node: &Node, blocks: &[IpNet]) -> Option<Ipv4Addr> {
    node.ipip_tunnel_address.or(node.vxlan_tunnel_address).or_else(|| default_tunnel_address(blocks))
}

/// Returns this node's tunnel address: the one in its resource; else the stored one, if it is
/// inside one of the node's blocks; else the default, which is then stored.
pub(crate) fn choose(state_dir: &Path, node: &Node, blocks: &[IpNet]) -> Option<Ipv4Addr> {
    node.ipip_tunnel_address.or(node.vxlan_tunnel_address).or_else(|| stored_or_default(state_dir, blocks))
}

fn stored_or_default(state_dir: &Path, blocks: &[IpNet]) -> Option<Ipv4Addr> {
    let file = state_dir.join(FILE);
    let stored = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<Ipv4Addr>().ok());
    let in_block = |address: &Ipv4Addr| {
        blocks.iter().any(|block| block.prefix_len() < 32 && block.contains(&std::net::IpAddr::V4(*address)))
    };
    if let Some(stored) = stored.filter(in_block) {
        return Some(stored);
    }
    let address = default_tunnel_address(blocks)?;
    if let Err(error) = store(state_dir, &file, address) {
        tracing::warn!(
            file = %file.display(),
            %error,
            "the tunnel address can't be kept: it may change with this node's blocks; make stateDir writable"
        );
    }
    Some(address)
}

fn store(state_dir: &Path, file: &Path, address: Ipv4Addr) -> io::Result<()> {
    std::fs::create_dir_all(state_dir)?;
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{address}\n"))?;
    std::fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(blocks: &[&str]) -> Vec<IpNet> {
        blocks.iter().map(|block| block.parse().expect("a prefix")).collect()
    }

    #[test]
    fn the_address_is_stored_while_it_is_inside_a_block() {
        let dir = tempfile::tempdir().expect("a directory");
        let choose = |blocks: &[&str]| stored_or_default(dir.path(), &nets(blocks)).map(|a| a.to_string());
        assert_eq!(choose(&["10.1.0.7/32"]), None, "a /32 is the address of a pod");
        assert_eq!(choose(&["10.1.2.0/26", "10.1.9.0/26"]).as_deref(), Some("10.1.2.0"));
        assert_eq!(choose(&["10.1.0.0/26", "10.1.2.0/26"]).as_deref(), Some("10.1.2.0"));
        assert_eq!(choose(&["10.1.0.0/26"]).as_deref(), Some("10.1.0.0"));
    }
}
