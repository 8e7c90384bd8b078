//! The address of this node's tunnel devices: chosen at the first start and kept, so that a block
//! that comes or goes later doesn't move it.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::IpNet;

use resource::{Node, default_tunnel_address};

/// The file in the state directory that keeps the choice.
const FILE: &str = "tunnel-address";

/// What the Node resource says, on either device, or its default.
pub(crate) fn stated(node: &Node, blocks: &[IpNet]) -> Option<Ipv4Addr> {
    node.ipip_tunnel_address.or(node.vxlan_tunnel_address).or_else(|| default_tunnel_address(blocks))
}

/// This node's address: what its resource says; else what was kept while it still lies in one of
/// the node's blocks; else the default, which is kept from now on.
pub(crate) fn choose(state_dir: &Path, node: &Node, blocks: &[IpNet]) -> Option<Ipv4Addr> {
    node.ipip_tunnel_address.or(node.vxlan_tunnel_address).or_else(|| keep_default(state_dir, blocks))
}

fn keep_default(state_dir: &Path, blocks: &[IpNet]) -> Option<Ipv4Addr> {
    let file = state_dir.join(FILE);
    let kept = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<Ipv4Addr>().ok());
    let in_block = |address: &Ipv4Addr| {
        blocks.iter().any(|block| block.prefix_len() < 32 && block.contains(&std::net::IpAddr::V4(*address)))
    };
    if let Some(kept) = kept.filter(in_block) {
        return Some(kept);
    }
    let address = default_tunnel_address(blocks)?;
    if let Err(error) = keep(state_dir, &file, address) {
        tracing::warn!(
            file = %file.display(),
            %error,
            "the tunnel address can't be kept: it may change with this node's blocks; make stateDir writable"
        );
    }
    Some(address)
}

fn keep(state_dir: &Path, file: &Path, address: Ipv4Addr) -> io::Result<()> {
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
    fn the_choice_is_kept_while_it_lies_in_a_block() {
        let dir = tempfile::tempdir().expect("a directory");
        let choose = |blocks: &[&str]| keep_default(dir.path(), &nets(blocks)).map(|a| a.to_string());
        assert_eq!(choose(&["10.1.0.7/32"]), None, "a /32 is a pod's");
        assert_eq!(choose(&["10.1.2.0/26", "10.1.9.0/26"]).as_deref(), Some("10.1.2.0"));
        assert_eq!(choose(&["10.1.0.0/26", "10.1.2.0/26"]).as_deref(), Some("10.1.2.0"));
        assert_eq!(choose(&["10.1.0.0/26"]).as_deref(), Some("10.1.0.0"));
    }
}
