//! The generated part of a document: tables in Markdown between two markers.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result, bail};

use crate::{
    bars::{Limit, Verdict, judge},
    plot,
    record::Results,
    statistics::exponent,
    summary::{Line, lines},
};

const BEGIN: &str = "<!-- bench report: begin -->";
const END: &str = "<!-- bench report: end -->";

/// Writes the results into a document, between its markers, and a picture next to it.
///
/// # Errors
/// When files can't be read or written, or the document has no markers.
pub fn write(results: &Results, document: &Path) -> Result<()> {
    let picture = document.with_extension("svg");
    let lines = lines(results);
    let text = fs::read_to_string(document).with_context(|| format!("can't read {}", document.display()))?;
    let name = picture.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = replaced(&text, &generated(results, &lines, &name))
        .with_context(|| document.display().to_string())?;
    fs::write(document, text).with_context(|| format!("can't write {}", document.display()))?;
    fs::write(&picture, plot::wall_times(&lines))
        .with_context(|| format!("can't write {}", picture.display()))
}

fn replaced(text: &str, generated: &str) -> Result<String> {
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        bail!("there are no lines {BEGIN} and {END} to write between: add them");
    };
    if end < begin {
        bail!("{END} stands before {BEGIN}");
    }
    let (before, after) = (text.get(..begin).unwrap_or_default(), text.get(end..).unwrap_or_default());
    Ok(format!("{before}{BEGIN}\n{generated}{after}"))
}

fn generated(results: &Results, lines: &[Line], picture: &str) -> String {
    let setting = &results.setting;
    let mut text = format!(
        "\nMeasured {} at {} on {}, {:.0} GB, {} (load average before: {:.1}), by\n`{}`.\n\n![wall times]({picture})\n\n",
        setting.began,
        if setting.commit.is_empty() { "an unknown commit" } else { &setting.commit },
        setting.cpu,
        setting.memory as f64 / 1e9,
        setting.kernel,
        setting.load_before,
        setting.command
    );
    for (contender, version) in &setting.versions {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "- {contender}: {version}");
    }
    text.push_str(
        "\n### Bars\n\n| row | figure | ours | best peer | ratio | bar | |\n|---|---|---|---|---|---|---|\n",
    );
    for verdict in judge(lines) {
        bar(&verdict, &mut text);
    }
    text.push_str(
        "\n### All figures\n\nMedians (least-greatest). `>`: cut off there.\n\n\
         | row | contender | runs | wall s | CPU s | peak MB | more |\n|---|---|---|---|---|---|---|\n",
    );
    for line in lines.iter().filter(|line| growth_of(line).is_none()) {
        figures(line, &mut text);
    }
    growth(lines, &mut text);
    for round in results.rounds.iter().filter(|round| round.failure.is_some()) {
        let reason = round.failure.as_deref().unwrap_or_default().replace('|', "/");
        let _ = writeln!(text, "\nFailed: {} {}: {reason}", round.scenario, round.contender);
    }
    text.push('\n');
    text
}

/// A number with three digits that mean something.
#[must_use]
pub fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        v if v >= 0.01 || v == 0.0 => format!("{value:.3}"),
        _ => format!("{value:.2e}"),
    }
}

/// The text of a verdict.
#[must_use]
pub fn met(verdict: &Verdict) -> &'static str {
    match verdict.met {
        Some(true) => "met",
        Some(false) => "missed",
        None if verdict.bar.limit == Limit::None => "",
        None => "no peer",
    }
}

/// The text of a limit.
#[must_use]
pub fn limit(limit: Limit) -> String {
    match limit {
        Limit::OfBestPeer(ratio) => format!("<= {ratio} of the best"),
        Limit::OfFloor(ratio) => format!("<= {ratio} of the floor"),
        Limit::AboveBest(more) => format!("<= the best + {}", short(more)),
        Limit::AtMost(most) => format!("<= {}", short(most)),
        Limit::None => "-".to_owned(),
    }
}

fn bar(verdict: &Verdict, text: &mut String) {
    let best = verdict.best.as_ref().map(|(name, value)| format!("{} ({name})", short(*value)));
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {} | {} | {} |",
        verdict.bar.row,
        verdict.bar.figure.name(),
        short(verdict.ours),
        best.as_deref().unwrap_or("-"),
        verdict.ratio.map_or_else(|| "-".to_owned(), short),
        limit(verdict.bar.limit),
        if verdict.met == Some(false) { "**missed**" } else { met(verdict) },
    );
}

fn figures(line: &Line, text: &mut String) {
    let over = if line.cut_off { "> " } else { "" };
    let range = |spread: crate::statistics::Spread| match line.rounds {
        1 => format!("{over}{}", short(spread.median)),
        _ => format!("{over}{} ({}-{})", short(spread.median), short(spread.least), short(spread.greatest)),
    };
    let more: Vec<String> =
        line.more.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect();
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {} | {:.1} | {} |",
        line.row,
        line.contender,
        line.rounds,
        range(line.wall),
        range(line.cpu),
        line.peak.median / 1e6,
        more.join(", ")
    );
}

/// Returns the unit and amount of a line of growth.
fn growth_of(line: &Line) -> Option<(&str, f64)> {
    let (what, count) = line.row.split_once(' ')?;
    Some((what, count.parse().ok()?)).filter(|(what, _)| ["clients", "prefixes"].contains(what))
}

fn growth(lines: &[Line], text: &mut String) {
    let ours = || lines.iter().filter(|line| line.contender == crate::bars::OURS);
    for what in ["clients", "prefixes"] {
        let these: Vec<(f64, &Line)> = ours()
            .filter_map(|line| growth_of(line).filter(|of| of.0 == what).map(|of| (of.1, line)))
            .collect();
        if these.is_empty() {
            continue;
        }
        let _ = write!(
            text,
            "\n### Growth with {what}\n\n| {what} | wall s | CPU s | peak MB |\n|---|---|---|---|\n"
        );
        for (count, line) in &these {
            let _ = writeln!(
                text,
                "| {count} | {} | {} | {:.1} |",
                short(line.wall.median),
                short(line.cpu.median),
                line.peak.median / 1e6
            );
        }
        let fitted = |of: fn(&Line) -> f64| {
            let points: Vec<(f64, f64)> = these.iter().map(|(count, line)| (*count, of(line))).collect();
            exponent(&points).map_or_else(|| "-".to_owned(), |e| format!("{e:.2}"))
        };
        let _ = writeln!(
            text,
            "| exponent | {} | {} | {} |",
            fitted(|line| line.wall.median),
            fitted(|line| line.cpu.median),
            fitted(|line| line.peak.median)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_around_the_markers_stays() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replaced(&text, "new\n").expect("markers");
        assert_eq!(new, format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert_eq!(replaced(&new, "new\n").expect("markers"), new, "again changes nothing");
        assert!(replaced("no markers", "new").is_err());
    }

    #[test]
    fn numbers_have_three_digits() {
        let all = [1234.5, 12.345, 1.2345, 0.012345, 0.0, 0.000_123].map(short);
        assert_eq!(all, ["1234", "12.3", "1.23", "0.012", "0.000", "1.23e-4"]);
    }
}
