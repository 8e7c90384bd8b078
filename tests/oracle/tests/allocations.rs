//! Allocations of the decoders.

use std::collections::BTreeMap;
use std::process::Command;

#[test]
fn decoding_an_update_allocates_nothing_where_the_others_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_allocations")).output().expect("allocations to run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let counts: BTreeMap<String, BTreeMap<String, u64>> =
        serde_json::from_slice(&output.stdout).expect("counts as JSON");
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["700 x /26", "one /26"]);
    for (sample, counts) in counts {
        assert_eq!(counts["bgp"], 0, "{sample}");
        // A check of the counter itself.
        assert!(counts["bgpkit-parser"] > 0 && counts["bgp-rs"] > 0, "{sample}: {counts:?}");
    }
}
