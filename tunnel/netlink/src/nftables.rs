//! The nftables table `inet routed`: its rules, its listing, and notification of changes.

mod listing;
mod monitor;
mod nft;
mod ruleset;

pub use self::{
    listing::{Skeleton, TableChange, TableListing, TableListingError},
    monitor::TableMonitor,
    nft::{NftError, apply, list},
    ruleset::{
        DROPPED_IPIP, DROPPED_VXLAN, FirewallTable, NODE_SETS, TABLE, VxlanSelector, element_changes,
        removal, replacement,
    },
};
