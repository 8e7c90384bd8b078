//! Results as a table on stdout.

use bench::{statistics::Spread, summary::Line};
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};

/// All lines, the best of each row in green on a terminal.
pub(crate) fn lines(lines: &[Line]) -> String {
    let coloured = crate::coloured();
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if coloured {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let headings = ["ROW", "CONTENDER", "RUNS", "WALL S", "MIN-MAX", "CPU S", "MIN-MAX", "PEAK MIB", "MORE"];
    table.set_header(headings.map(|text| {
        let cell = Cell::new(text);
        if coloured { cell.add_attribute(Attribute::Bold) } else { cell }
    }));
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
            Cell::new(format!("{:.1}", line.peak.median / f64::from(1 << 20))),
            Cell::new(more.join(", ")),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn range(spread: Spread) -> String {
    format!("{:.3}-{:.3}", spread.least, spread.greatest)
}
