//! What network this node is in, as far as that decides what passes.

use std::fs;
use std::path::Path;

/// Where the firmware says whose machine this is.
const CHASSIS_ASSET_TAG: &str = "/sys/class/dmi/id/chassis_asset_tag";
/// What it says in Azure.
const AZURE: &str = "7783-7084-3265-9085-8269-3286-77";

/// Whether this is a virtual machine in Azure, whose network drops IP protocol 4.
pub(crate) fn is_azure() -> bool {
    says_azure(Path::new(CHASSIS_ASSET_TAG))
}

fn says_azure(path: &Path) -> bool {
    // A machine without the file is another's.
    fs::read_to_string(path).is_ok_and(|tag| tag.trim() == AZURE)
}

/// What to say of it where IP-in-IP is preferred.
pub(crate) const AZURE_DROPS_IPIP: &str = "this is Azure, whose network does not pass IP-in-IP: nodes are reached by the \
     fallback; set spec.routed.encapsulation to vxlan (and vxlanMode in pools), and bgp to disabled where port 179 is closed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azure_is_known_by_its_asset_tag_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chassis_asset_tag");
        assert!(!says_azure(&path));
        for (tag, azure) in
            [("7783-7084-3265-9085-8269-3286-77\n", true), ("No Asset Tag\n", false), ("", false)]
        {
            fs::write(&path, tag).unwrap();
            assert_eq!(says_azure(&path), azure, "{tag:?}");
        }
    }
}
