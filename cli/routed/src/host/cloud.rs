//! Cloud detection, for networks that do not pass every protocol.

use std::fs;
use std::path::Path;

/// The file in which the firmware identifies the provider of a virtual machine.
const CHASSIS_ASSET_TAG: &str = "/sys/class/dmi/id/chassis_asset_tag";
/// The asset tag of Azure.
const AZURE: &str = "7783-7084-3265-9085-8269-3286-77";

/// Returns whether this is a virtual machine in Azure, whose network drops IP protocol 4.
pub(crate) fn is_azure() -> bool {
    has_azure_tag(Path::new(CHASSIS_ASSET_TAG))
}

fn has_azure_tag(path: &Path) -> bool {
    // Other machines may lack the file.
    fs::read_to_string(path).is_ok_and(|tag| tag.trim() == AZURE)
}

/// The warning in Azure if IP-in-IP is preferred.
pub(crate) const AZURE_DROPS_IPIP: &str = "this is Azure, whose network does not pass IP-in-IP: nodes are reached by the \
     fallback; set spec.routed.encapsulation to vxlan (and vxlanMode in pools), and bgp to disabled where port 179 is closed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azure_is_detected_by_its_asset_tag() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chassis_asset_tag");
        assert!(!has_azure_tag(&path));
        for (tag, azure) in
            [("7783-7084-3265-9085-8269-3286-77\n", true), ("No Asset Tag\n", false), ("", false)]
        {
            fs::write(&path, tag).unwrap();
            assert_eq!(has_azure_tag(&path), azure, "{tag:?}");
        }
    }
}
