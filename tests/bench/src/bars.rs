//! The bars: each target with the measured value.

use crate::summary::Line;

/// A figure of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Seconds until the last receiver was complete.
    Wall,
    /// Seconds of the daemon's CPU.
    Cpu,
    /// Peak resident memory in MB.
    Peak,
    /// Resident memory at the end in MB.
    Rss,
    /// Another one, by its name.
    More(&'static str),
}

impl Figure {
    /// Returns its median in a line.
    #[must_use]
    pub fn of(self, line: &Line) -> Option<f64> {
        match self {
            Figure::Wall => Some(line.wall.median),
            Figure::Cpu => Some(line.cpu.median),
            Figure::Peak => Some(line.peak.median / 1e6),
            Figure::Rss => Some(line.rss.median / 1e6),
            Figure::More(name) => line.more.iter().find(|(own, _)| own == name).map(|(_, value)| *value),
        }
    }

    /// Returns its name and unit.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Figure::Wall => "wall s",
            Figure::Cpu => "CPU s",
            Figure::Peak => "peak MB",
            Figure::Rss => "memory MB",
            Figure::More(name) => name,
        }
    }
}

/// The kind of a bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// At most so many times the best peer's.
    OfBestPeer(f64),
    /// At most so many times the floor's.
    OfFloor(f64),
    /// At most so much more than the best peer's.
    AboveBest(f64),
    /// At most so much.
    AtMost(f64),
    /// No bar; shown next to the best peer's figure.
    None,
}

/// One bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// The row of the results.
    pub row: &'static str,
    /// The figure.
    pub figure: Figure,
    /// The limit.
    pub limit: Limit,
}

const fn of_best(row: &'static str, figure: Figure, ratio: f64) -> Bar {
    Bar { row, figure, limit: Limit::OfBestPeer(ratio) }
}

const fn of_floor(row: &'static str, figure: Figure, ratio: f64) -> Bar {
    Bar { row, figure, limit: Limit::OfFloor(ratio) }
}

const fn above_best(row: &'static str, figure: Figure, more: f64) -> Bar {
    Bar { row, figure, limit: Limit::AboveBest(more) }
}

const fn shown(row: &'static str, figure: Figure) -> Bar {
    Bar { row, figure, limit: Limit::None }
}

const fn at_most(row: &'static str, figure: Figure, most: f64) -> Bar {
    Bar { row, figure, limit: Limit::AtMost(most) }
}

/// All bars.
pub const BARS: &[Bar] = &[
    of_best("S1", Figure::Wall, 0.4),
    shown("S1", Figure::Cpu),
    of_best("S2", Figure::Wall, 0.5),
    shown("S2", Figure::Cpu),
    of_best("S2k", Figure::Wall, 0.5),
    shown("S2k", Figure::Cpu),
    of_best("S2 cold", Figure::Wall, 0.25),
    shown("S2 cold", Figure::Cpu),
    of_best("S2k cold", Figure::Wall, 0.25),
    shown("S2k cold", Figure::Cpu),
    of_best("S3", Figure::Wall, 0.3),
    of_best("S3", Figure::Cpu, 0.3),
    of_best("S3 withdraw", Figure::Wall, 0.4),
    of_best("S3 withdraw", Figure::Cpu, 0.4),
    of_best("S3 flap", Figure::Wall, 0.4),
    of_best("S3 flap", Figure::Cpu, 0.4),
    of_best("S5", Figure::Wall, 0.5),
    shown("S5", Figure::Cpu),
    of_best("S5f", Figure::Wall, 0.4),
    shown("S5f", Figure::Cpu),
    of_best("S6 install", Figure::Wall, 0.5),
    of_floor("S6 install", Figure::Wall, 1.2),
    of_best("S6 withdraw", Figure::Wall, 0.85),
    of_best("S6 drop", Figure::Wall, 0.85),
    of_best("S6g install", Figure::Wall, 0.15),
    at_most("S6g move", Figure::Wall, 0.001),
    of_best("S7 cold start", Figure::Wall, 0.5),
    of_best("S7 cold start", Figure::Cpu, 0.5),
    above_best("S7 cold start", Figure::Rss, 6.0),
    of_best("S7 one block more", Figure::Wall, 0.5),
    at_most("S3", Figure::Peak, 130.0),
    at_most("S2k", Figure::Peak, 40.0),
    at_most("idle", Figure::Rss, 9.0),
    at_most("latency", Figure::More("p99_ms"), 50.0),
    at_most("latency", Figure::More("keepalive_late_ms"), 1000.0),
    at_most("latency", Figure::More("show_peers_max_ms"), 100.0),
    at_most("latency paced", Figure::More("p99_ms"), 50.0),
    at_most("latency paced", Figure::More("keepalive_late_ms"), 1000.0),
    at_most("latency paced", Figure::More("show_peers_max_ms"), 100.0),
];

/// A bar with what was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The bar.
    pub bar: Bar,
    /// Ours.
    pub ours: f64,
    /// The best peer's, or the floor's, and whose it is; none where none was measured to its end.
    pub best: Option<(String, f64)>,
    /// Ours by that one.
    pub ratio: Option<f64>,
    /// Whether the bar is met; `None` without a bar, or without a peer for a ratio.
    pub met: Option<bool>,
}

/// The name of the contender that is judged.
pub const OURS: &str = "routed";
/// Contenders that are no peers.
const NO_PEERS: [&str; 3] = [OURS, "routed-old", FLOOR];
/// The limit: a null reflector, or the kernel alone.
const FLOOR: &str = "floor";

/// Judges all bars whose row was measured for ours.
#[must_use]
pub fn judge(lines: &[Line]) -> Vec<Verdict> {
    BARS.iter().filter_map(|bar| verdict(*bar, lines)).collect()
}

fn verdict(bar: Bar, lines: &[Line]) -> Option<Verdict> {
    let of_row = || lines.iter().filter(|line| line.row == bar.row);
    let own = of_row().find(|line| line.contender == OURS)?;
    let ours = bar.figure.of(own)?;
    let compared = |line: &&Line| match bar.limit {
        Limit::OfFloor(_) => line.contender == FLOOR,
        _ => !line.cut_off && !NO_PEERS.contains(&line.contender.as_str()),
    };
    let best = of_row()
        .filter(compared)
        .filter_map(|line| Some((line.contender.clone(), bar.figure.of(line)?)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    let ratio = best.as_ref().filter(|(_, best)| *best > 0.0).map(|(_, best)| ours / best);
    let met = match bar.limit {
        Limit::OfBestPeer(most) | Limit::OfFloor(most) => ratio.map(|ratio| ratio <= most),
        Limit::AboveBest(more) => best.as_ref().map(|(_, best)| ours <= best + more),
        Limit::AtMost(most) => Some(ours <= most),
        Limit::None => None,
    };
    Some(Verdict { bar, ours, best, ratio, met: met.map(|met| met && !own.cut_off) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Spread;

    fn line(row: &str, contender: &str, wall: f64, cut_off: bool) -> Line {
        let of = |median| Spread { median, least: median, greatest: median };
        Line {
            row: row.into(),
            contender: contender.into(),
            rounds: 1,
            cut_off,
            wall: of(wall),
            cpu: of(2.0 * wall),
            peak: of(35e6),
            rss: of(30e6),
            more: Vec::new(),
        }
    }

    #[test]
    fn ours_is_compared_with_the_best_peer_that_got_to_its_end() {
        let lines = [
            line("S2k", "routed", 1.0, false),
            line("S2k", "routed-old", 0.1, false),
            line("S2k", "floor", 0.1, false),
            line("S2k", "gobgp", 0.5, true),
            line("S2k", "bird", 4.0, false),
            line("S2k", "frr-tuned", 2.5, false),
        ];
        let verdicts = judge(&lines);
        assert_eq!(verdicts.len(), 3, "{verdicts:?}");
        assert_eq!(verdicts[0].best, Some(("frr-tuned".into(), 2.5)));
        assert_eq!((verdicts[0].ratio, verdicts[0].met), (Some(0.4), Some(true)));
        assert_eq!((verdicts[2].bar.figure, verdicts[2].met), (Figure::Peak, Some(true)));
    }

    #[test]
    fn a_bar_is_missed_above_its_ratio_and_when_ours_was_cut_off() {
        let met = |ours, cut_off| {
            judge(&[line("S1", "routed", ours, cut_off), line("S1", "bird", 1.0, false)])[0].met
        };
        assert_eq!(met(0.4, false), Some(true));
        assert_eq!(met(0.41, false), Some(false));
        assert_eq!(met(0.1, true), Some(false));
        assert_eq!(judge(&[line("S1", "routed", 1.0, false)])[0].met, None, "no peer");
    }

    #[test]
    fn memory_may_be_so_much_above_the_best_peers() {
        let met = |peers: f64| {
            let mut bird = line("S7 cold start", "bird", 9.0, false);
            bird.rss.median = peers;
            let verdicts = judge(&[line("S7 cold start", "routed", 1.0, false), bird]);
            verdicts.iter().find(|verdict| verdict.bar.figure == Figure::Rss).expect("a verdict").met
        };
        assert_eq!((met(24e6), met(23.9e6)), (Some(true), Some(false)));
    }
}
