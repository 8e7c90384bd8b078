//! Output of text and tables to a terminal or a pipe.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};
use serde::Serialize;

use super::Failure;
use api::view::SessionState;

/// The line of calicoctl for an empty set of resources.
pub(super) const NO_RESOURCES: &str = "No resources specified\n";

/// Returns whether stdout is a terminal that wants colour (`NO_COLOR`, <https://no-color.org>).
pub(super) fn coloured() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Returns a text in a colour (SGR), if colours are enabled.
pub(super) fn painted(colour: &str, text: &str) -> String {
    if coloured() { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Writes to stdout. A closed pipe (`| head`) is not a failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Io(anyhow::Error::new(error).context("can't write to standard output")))
        }
        _ => Ok(()),
    }
}

/// Returns the name of a value in JSON.
pub(super) fn json_name(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => "-".into(),
    }
}

/// Formats a time to the second.
pub(super) fn timestamp(at: &jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Prints a value as indented JSON.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Io(error.into()))?;
    print(&(text + "\n"))
}

/// Prints a value as YAML, with the names of its JSON.
pub(super) fn yaml<T: Serialize + ?Sized>(value: &T) -> Result<(), Failure> {
    let value = serde_json::to_value(value).map_err(|error| Failure::Io(error.into()))?;
    let text = serde_saphyr::to_string(&value).map_err(|error| Failure::Io(error.into()))?;
    print(&text)
}

/// Removes control characters: text from peers must not control the terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Returns a line that is green if `good`, else yellow.
pub(super) fn judged(text: &str, good: bool) -> String {
    match (coloured(), good) {
        (false, _) => clean(text),
        (true, true) => format!("\u{1b}[32m{}\u{1b}[0m", clean(text)),
        (true, false) => format!("\u{1b}[33m{}\u{1b}[0m", clean(text)),
    }
}

/// Removes control characters from several lines.
pub(super) fn clean_lines(text: &str) -> String {
    text.lines().map(|line| clean(line) + "\n").collect()
}

/// Removes control characters except tabs and newlines, for the user's own text.
pub(super) fn clean_text(text: &str) -> String {
    let meant = |c: char| matches!(c, '\n' | '\t' | '\r');
    text.chars().map(|c| if c.is_control() && !meant(c) { '\u{fffd}' } else { c }).collect()
}

/// A cell of a `show` table.
pub(super) struct StyledCell {
    text: String,
    colour: Option<Color>,
}

impl<T: ToString> From<T> for StyledCell {
    fn from(value: T) -> Self {
        StyledCell { text: clean(&value.to_string()), colour: None }
    }
}

impl StyledCell {
    /// Returns the cell of an optional value, `-` if it is absent.
    pub(super) fn maybe<T: ToString>(value: Option<T>) -> Self {
        value.map_or_else(|| "-".into(), StyledCell::from)
    }

    /// Returns the cell of a session state: green if Established, yellow in between, red if
    /// Idle.
    pub(super) fn state(state: SessionState) -> Self {
        let colour = match state {
            SessionState::Established => Color::Green,
            SessionState::Idle => Color::Red,
            _ => Color::Yellow,
        };
        StyledCell { text: format!("{state:?}"), colour: Some(colour) }
    }

    /// Returns a cell that is green if `good`, else yellow.
    pub(super) fn judged(value: impl ToString, good: bool) -> Self {
        let colour = if good { Color::Green } else { Color::Yellow };
        StyledCell { text: clean(&value.to_string()), colour: Some(colour) }
    }
}

/// Renders a table of a `show` command, on a terminal with colours and bold headings.
pub(super) fn table(headings: &[&str], rows: Vec<Vec<StyledCell>>) -> String {
    let coloured = coloured();
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if coloured {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let heading = |text: &&str| {
        let cell = Cell::new(text);
        if coloured { cell.add_attribute(Attribute::Bold) } else { cell }
    };
    table.set_header(headings.iter().map(heading));
    for row in rows {
        table.add_row(row.into_iter().map(|shown| match shown.colour.filter(|_| coloured) {
            Some(colour) => Cell::new(shown.text).fg(colour),
            None => Cell::new(shown.text),
        }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    trimmed(table.lines())
}

/// Renders a table of `get`: columns padded by three spaces, as scripts for calicoctl expect.
pub(super) fn columns(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}   ")).collect::<String>()
    };
    let heading = line(&mut headings.iter().copied());
    let rows = rows.iter().map(|row| line(&mut row.iter().map(String::as_str)));
    trimmed(std::iter::once(heading).chain(rows))
}

/// Renders a table of `ipam`, as calicoctl does: in a frame, headings centred.
pub(super) fn boxed(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let rule: String =
        widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect::<String>() + "+\n";
    let heading: String =
        headings.iter().zip(&widths).map(|(cell, width)| format!("| {cell:^width$} ")).collect();
    let line = |row: &Vec<String>| {
        let cells: String =
            row.iter().zip(&widths).map(|(cell, width)| format!("| {:width$} ", clean(cell))).collect();
        cells + "|\n"
    };
    let lines: String = rows.iter().map(line).collect();
    format!("{rule}{heading}|\n{rule}{lines}{rule}")
}

fn trimmed(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_padded_by_three_spaces_and_not_at_the_end() {
        let rows = [vec!["node1".to_owned(), "(64512)".to_owned(), String::new()]];
        assert_eq!(columns(&["NAME", "ASN", "IPV6"], &rows), "NAME    ASN       IPV6\nnode1   (64512)\n");
    }

    #[test]
    fn control_characters_of_peers_reach_no_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
    }
}
