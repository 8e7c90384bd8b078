//! Results as a table on stdout.

use bench::{bars::Verdict, report, statistics::Spread, summary::Line};
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};

/// All lines, the best of each row in green on a terminal.
pub(crate) fn lines(lines: &[Line]) -> String {
    let coloured = crate::coloured();
    let mut table =
        empty(&["ROW", "CONTENDER", "RUNS", "WALL S", "MIN-MAX", "CPU S", "MIN-MAX", "PEAK MB", "MORE"]);
    for line in lines {
        let over = if line.cut_off { ">" } else { "" };
        let best = lines
            .iter()
            .filter(|other| other.row == line.row && !other.cut_off && other.contender != "floor")
            .map(|other| other.wall.median)
            .min_by(f64::total_cmp);
        let wall = Cell::new(format!("{over}{:.3}", line.wall.median));
        let is_best = best == Some(line.wall.median) && coloured && !line.cut_off;
        let more: Vec<String> = line.more.iter().map(|(name, value)| format!("{name} {value:.1}")).collect();
        table.add_row(vec![
            Cell::new(&line.row),
            Cell::new(&line.contender),
            Cell::new(line.rounds),
            if is_best { wall.fg(Color::Green) } else { wall },
            Cell::new(range(line.wall)),
            Cell::new(format!("{over}{:.3}", line.cpu.median)),
            Cell::new(range(line.cpu)),
            Cell::new(format!("{:.1}", line.peak.median / 1e6)),
            Cell::new(more.join(", ")),
        ]);
    }
    text(table)
}

/// All bars, those that are missed in yellow on a terminal.
pub(crate) fn verdicts(verdicts: &[Verdict]) -> String {
    let coloured = crate::coloured();
    let mut table = empty(&["ROW", "FIGURE", "OURS", "BEST PEER", "RATIO", "BAR", ""]);
    for verdict in verdicts {
        let colour = if verdict.met == Some(true) { Color::Green } else { Color::Yellow };
        let met = Cell::new(report::met(verdict));
        let best = verdict.best.as_ref().map(|(name, value)| format!("{} ({name})", report::short(*value)));
        table.add_row(vec![
            Cell::new(verdict.bar.row),
            Cell::new(verdict.bar.figure.name()),
            Cell::new(report::short(verdict.ours)),
            Cell::new(best.as_deref().unwrap_or("-")),
            Cell::new(verdict.ratio.map_or_else(|| "-".to_owned(), report::short)),
            Cell::new(report::limit(verdict.bar.limit)),
            if coloured { met.fg(colour) } else { met },
        ]);
    }
    text(table)
}

fn empty(headings: &[&str]) -> Table {
    let coloured = crate::coloured();
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if coloured {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(headings.iter().map(|text| {
        let cell = Cell::new(text);
        if coloured { cell.add_attribute(Attribute::Bold) } else { cell }
    }));
    table
}

fn text(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn range(spread: Spread) -> String {
    format!("{:.3}-{:.3}", spread.least, spread.greatest)
}
