//! `communities` and `prefixAdvertisements` of the BGPConfiguration: communities of the node's own
//! blocks.

use std::collections::BTreeMap;

use routing::policy::{Advertisement, Community};

use super::filter::community;
use super::reader::{Fields, Report};
use super::scalar;

/// Reads both fields. An advertisement has communities by value, or by a name of `communities`.
pub(super) fn read(spec: &mut Fields<'_>, report: &mut Report) -> Vec<Advertisement> {
    let mut named: BTreeMap<String, Community> = BTreeMap::new();
    for mut item in spec.items("communities", report) {
        let name = item.required("name", report, scalar::name);
        let value = item.required("value", report, community);
        if let (Some(name), Some(value)) = (name, value)
            && named.insert(name.clone(), value).is_some()
        {
            let path = item.path("name");
            report.mistake(item.line("name"), &path, format!("must be unique: {name:?} stands there twice"));
        }
        item.finish(report);
    }
    let mut advertisements = Vec::new();
    for mut item in spec.items("prefixAdvertisements", report) {
        let cidr = item.required("cidr", report, scalar::prefix);
        let communities = item.list("communities", report, |value| match community(value) {
            Ok(community) => Ok(community),
            Err(_) => {
                let name = scalar::text(value)?;
                named.get(&name).copied().ok_or_else(|| {
                    "must be a community (a:b or a:b:c) or a name out of spec.communities".into()
                })
            }
        });
        if let Some(cidr) = cidr {
            advertisements.push(Advertisement { cidr, communities });
        }
        item.finish(report);
    }
    advertisements
}
