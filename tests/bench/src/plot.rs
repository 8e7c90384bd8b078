//! The results as a picture: one line for each row, one dot for each contender, on a logarithmic scale.

use std::fmt::Write;

use crate::summary::Line;

const LEFT: f64 = 190.0;
const RIGHT: f64 = 30.0;
const WIDTH: f64 = 900.0;
const TOP: f64 = 64.0;
const ROW: f64 = 26.0;
const BOTTOM: f64 = 40.0;

/// Contenders with their colours: distinguishable without red and green, on white and on black.
const COLOURS: [(&str, &str); 7] = [
    ("routed", "#e8710a"),
    ("bird", "#4285f4"),
    ("frr", "#9aa0a6"),
    ("frr-tuned", "#5f6b7a"),
    ("openbgpd", "#12b5cb"),
    ("gobgp", "#a142f4"),
    ("floor", "#bdc1c6"),
];

/// Draws the wall time in seconds of the rows that several contenders have. An arrow means "longer
/// than that".
#[must_use]
pub fn wall_times(lines: &[Line]) -> String {
    let contenders = |row: &str| lines.iter().filter(|line| line.row == row).count();
    let mut rows: Vec<&str> = Vec::new();
    for line in lines.iter().filter(|line| line.wall.median > 0.0 && contenders(&line.row) > 1) {
        if !rows.contains(&line.row.as_str())
            && !["idle", "latency", "latency paced"].contains(&line.row.as_str())
        {
            rows.push(&line.row);
        }
    }
    let shown: Vec<&Line> = lines
        .iter()
        .filter(|line| rows.contains(&line.row.as_str()) && colour(&line.contender).is_some())
        .collect();
    let times = || shown.iter().map(|line| line.wall.median);
    let low = times().fold(1.0, f64::min).log10().floor();
    let high = times().fold(0.1, f64::max).log10().ceil().max(low + 1.0);
    let x = |seconds: f64| LEFT + (seconds.log10() - low) / (high - low) * (WIDTH - LEFT - RIGHT);
    let height = TOP + rows.len() as f64 * ROW + BOTTOM;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\" role=\"img\">\n<title>Wall time by scenario and speaker, logarithmic</title>\n<style>\n\
         text {{ fill: #24292f; }} .grid {{ stroke: #d0d7de; }} .dot {{ stroke: #ffffff; }}\n\
         @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3; }} .grid {{ stroke: #30363d; }} \
         .dot {{ stroke: #0d1117; }} }}\n</style>\n"
    );
    legend(&shown, &mut svg);
    // Writing to a String cannot fail.
    let axis = height - BOTTOM + 4.0;
    for decade in low as i32..=high as i32 {
        let seconds = 10f64.powi(decade);
        let at = x(seconds);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{:.1}\" x2=\"{at:.1}\" y2=\"{axis:.1}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            TOP - 8.0,
            axis + 16.0,
            duration(seconds)
        );
    }
    for (number, row) in rows.iter().enumerate() {
        let y = TOP + (number as f64 + 0.5) * ROW;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{row}</text>\
             <line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/>",
            LEFT - 12.0,
            y + 4.0,
            WIDTH - RIGHT
        );
        // Ours last, over the others.
        let mut dots: Vec<&&Line> = shown.iter().filter(|line| line.row == *row).collect();
        dots.sort_by_key(|line| line.contender == crate::bars::OURS);
        for line in dots {
            dot(line, x(line.wall.median), y, &mut svg);
        }
    }
    svg + "</svg>\n"
}

fn dot(line: &Line, x: f64, y: f64, svg: &mut String) {
    let Some(colour) = colour(&line.contender) else { return };
    let over = if line.cut_off { "&gt; " } else { "" };
    let title = format!("{} {}: {over}{:.3} s", line.row, line.contender, line.wall.median);
    let radius = if line.contender == crate::bars::OURS { 6.5 } else { 5.0 };
    let _ = if line.cut_off {
        writeln!(
            svg,
            "<path class=\"dot\" fill=\"{colour}\" d=\"M{:.1} {:.1} l12 5 l-12 5 z\"><title>{title}</title></path>",
            x - 4.0,
            y - 5.0
        )
    } else {
        writeln!(
            svg,
            "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"><title>{title}</title></circle>"
        )
    };
}

fn legend(shown: &[&Line], svg: &mut String) {
    let _ =
        writeln!(svg, "<text x=\"{LEFT}\" y=\"18\" font-weight=\"bold\">Wall time (lower is better)</text>");
    let present = COLOURS.iter().filter(|(name, _)| shown.iter().any(|line| line.contender == *name));
    for (number, (name, colour)) in present.enumerate() {
        let x = LEFT + 6.0 + number as f64 * 92.0;
        let _ = writeln!(
            svg,
            "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"36\" r=\"5\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"40\">{name}</text>",
            x + 10.0
        );
    }
}

fn colour(contender: &str) -> Option<&'static str> {
    COLOURS.iter().find(|(name, _)| *name == contender).map(|(_, colour)| *colour)
}

/// A power of ten of seconds, in a unit that needs no point.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.000_9 => format!("{:.0} µs", s * 1e6),
        s if s < 0.9 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::spread;

    #[test]
    fn quicker_is_further_left_and_a_cut_off_is_an_arrow() {
        let line = |contender: &str, wall: f64, cut_off| {
            let of = |value: f64| spread(&[value]).expect("a value");
            Line {
                row: "S1".into(),
                contender: contender.into(),
                rounds: 1,
                cut_off,
                wall: of(wall),
                cpu: of(wall),
                peak: of(1.0),
                rss: of(1.0),
                more: Vec::new(),
            }
        };
        let svg =
            wall_times(&[line("routed", 0.01, false), line("bird", 0.1, false), line("gobgp", 60.0, true)]);
        let x = |title: &str| -> f64 {
            let dot = svg.lines().find(|line| line.contains(title)).expect("a dot");
            dot.split("cx=\"").nth(1).and_then(|rest| rest.split('"').next()?.parse().ok()).expect("a place")
        };
        assert!(x("routed: 0.010 s") < x("bird: 0.100 s"), "{svg}");
        assert!(svg.contains("gobgp: &gt; 60.000 s</title></path>"), "{svg}");
        assert!(svg.contains(">10 ms<") && svg.contains(">100 s<"), "{svg}");
    }
}
