//! A summary of changed best paths.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

/// The number of prefixes that an event names.
pub(super) const NAMED: usize = 4;

/// The changed best paths of a batch: their number, and the first few by name. It does not
/// allocate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RouteSummary {
    /// Prefixes with a new best path.
    pub changed: u64,
    /// Prefixes without a best path.
    pub withdrawn: u64,
    /// The first changed prefixes, with the next hop if there is a best path.
    pub first: [Option<(IpNet, Option<IpAddr>)>; NAMED],
}

impl RouteSummary {
    /// Counts a changed prefix.
    pub(crate) fn count(&mut self, prefix: IpNet, next_hop: Option<IpAddr>) {
        match next_hop {
            Some(_) => self.changed += 1,
            None => self.withdrawn += 1,
        }
        let all = self.changed + self.withdrawn;
        if let Some(place) = usize::try_from(all - 1).ok().and_then(|at| self.first.get_mut(at)) {
            *place = Some((prefix, next_hop));
        }
    }

    /// Returns whether no change was counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.changed + self.withdrawn == 0
    }

    /// Adds another summary. Its named prefixes are taken as far as there is space.
    pub(super) fn add(&mut self, other: &RouteSummary) {
        let free = self.first.iter_mut().filter(|place| place.is_none());
        free.zip(other.first.iter().flatten()).for_each(|(place, named)| *place = Some(*named));
        self.changed += other.changed;
        self.withdrawn += other.withdrawn;
    }

    /// Returns the word for the kind of change.
    pub(super) fn what(&self) -> &'static str {
        if self.changed == 0 { "withdrawn" } else { "changed" }
    }

    /// Returns the summary as one line.
    pub(super) fn text(&self) -> String {
        let mut text = match (self.changed, self.withdrawn) {
            (changed, 0) => format!("{changed} best path(s) changed: "),
            (0, withdrawn) => format!("{withdrawn} prefix(es) withdrawn: "),
            (changed, withdrawn) => {
                format!("{changed} best path(s) changed, {withdrawn} prefix(es) withdrawn: ")
            }
        };
        let mut named = 0;
        for (prefix, next_hop) in self.first.iter().flatten() {
            let comma = if named == 0 { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = match next_hop {
                Some(next_hop) => write!(text, "{comma}{prefix} via {next_hop}"),
                None => write!(text, "{comma}{prefix} withdrawn"),
            };
            named += 1;
        }
        let more = (self.changed + self.withdrawn).saturating_sub(named);
        if more > 0 {
            let _ = write!(text, " and {more} more");
        }
        text
    }
}
