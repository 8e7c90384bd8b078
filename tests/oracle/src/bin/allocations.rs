//! Prints the allocations of each decoder for one message, as JSON. A program of its own because
//! counting takes another allocator, which would slow down the decoders that use it most.

use std::collections::BTreeMap;

use oracle::contender::{SAMPLES, contenders, update};

fn main() {
    let mut counts: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for (sample, prefixes) in SAMPLES {
        let octets = update(prefixes);
        for mut contender in contenders(&octets) {
            // Whatever is set up at the first use is not of the message.
            (contender.read)(1);
            let info = allocation_counter::measure(|| _ = (contender.read)(1));
            counts.entry(sample).or_default().insert(contender.name, info.count_total);
        }
    }
    println!("{}", serde_json::json!(counts));
}
