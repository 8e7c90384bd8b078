//! The growth of time and memory with the load, for routed alone.

use anyhow::Result;

use super::{full_table, reflector};
use crate::{
    contender::Speaker,
    record::Measurement,
    scenario::{Scenario, Trial},
};

/// Attribute sets per 1,000 prefixes, as in S3.
const SETS_PER_THOUSAND: u32 = 148;

/// They. Their rows are what is counted and how much of it there is, such as `clients 300`.
pub(super) fn scenarios() -> [Scenario; 7] {
    let scenario =
        |name, run| Scenario { name, about: "growth: the time it takes", speakers: &[Speaker::Routed], run };
    [
        scenario("clients-100", |trial| clients(trial, 100)),
        scenario("clients-300", |trial| clients(trial, 300)),
        scenario("clients-1k", |trial| clients(trial, 1_000)),
        scenario("clients-3k", |trial| clients(trial, 3_000)),
        scenario("prefixes-10k", |trial| prefixes(trial, 10_000)),
        scenario("prefixes-100k", |trial| prefixes(trial, 100_000)),
        scenario("prefixes-1M", |trial| prefixes(trial, 1_000_000)),
    ]
}

fn clients(trial: &Trial<'_>, count: u32) -> Result<Vec<Measurement>> {
    reflector::announce(trial, &format!("clients {count}"), count, 2)
}

fn prefixes(trial: &Trial<'_>, count: u32) -> Result<Vec<Measurement>> {
    let mut table = full_table::prepare(trial, count, count / 1_000 * SETS_PER_THOUSAND)?;
    Ok(vec![full_table::load(&mut table, &format!("prefixes {count}"))?])
}
