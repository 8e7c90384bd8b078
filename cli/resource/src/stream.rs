//! Splitting of a YAML stream into documents, each with its position, so that one can be replaced
//! and the others kept byte for byte.

use std::ops::Range;

/// One document of a YAML stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DocumentText<'a> {
    /// The text of the document, from the end of the preceding marker line (`---`) to the next
    /// marker.
    pub(super) text: &'a str,
    /// The byte range of the text in the stream.
    pub(super) range: Range<usize>,
    /// The line on which the text begins, from 1.
    pub(super) first_line: u64,
}

/// Splits a stream at its document markers (`---` and `...` at the beginning of a line, YAML 1.2
/// §9.1: no scalar may contain them there). A `---` followed by content on its own line belongs to
/// the document, which the YAML parser accepts. The result includes empty documents. A document
/// of directives alone (`%YAML 1.2`) is returned as empty, since resources need none.
pub(super) fn split(stream: &str) -> Vec<DocumentText<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut start_line) = (0, 1);
    let (mut at, mut line) = (0, 1);
    for row in stream.split_inclusive('\n') {
        let end = at + row.len();
        let bare = row.trim_end_matches(['\n', '\r']);
        if is_marker(bare, "---") || is_marker(bare, "...") {
            documents.push(document(stream, start..at, start_line));
            let alone = bare[3..].trim_start().is_empty() || bare[3..].trim_start().starts_with('#');
            (start, start_line) = if alone { (end, line + 1) } else { (at, line) };
        }
        at = end;
        line += 1;
    }
    documents.push(document(stream, start..stream.len(), start_line));
    documents
}

fn document(stream: &str, range: Range<usize>, first_line: u64) -> DocumentText<'_> {
    let text = &stream[range.clone()];
    let is_header = |row: &str| row.is_empty() || row.starts_with(['%', '#']);
    let text = if text.lines().all(is_header) { "" } else { text };
    DocumentText { text, range, first_line }
}

fn is_marker(row: &str, marker: &str) -> bool {
    row.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(stream: &str) -> Vec<(&str, u64)> {
        split(stream).into_iter().map(|document| (document.text, document.first_line)).collect()
    }

    #[test]
    fn a_stream_without_markers_is_one_document() {
        assert_eq!(texts("a: 1\nb: 2\n"), [("a: 1\nb: 2\n", 1)]);
        assert_eq!(texts(""), [("", 1)]);
    }

    #[test]
    fn markers_separate_documents_and_lines_are_the_files() {
        assert_eq!(
            texts("---\na: 1\n---  # next\nb: 2\n...\n"),
            [("", 1), ("a: 1\n", 2), ("b: 2\n", 4), ("", 6)]
        );
        assert_eq!(texts("a: |\n  ---\n  x\n---\r\nb: 1"), [("a: |\n  ---\n  x\n", 1), ("b: 1", 5)]);
    }

    #[test]
    fn content_on_the_marker_line_belongs_to_its_document() {
        assert_eq!(texts("a: 1\n--- {b: 2}\n---x: 3\n"), [("a: 1\n", 1), ("--- {b: 2}\n---x: 3\n", 2)]);
    }

    #[test]
    fn directives_alone_are_an_empty_document() {
        assert_eq!(texts("%YAML 1.2\n---\na: 1\n"), [("", 1), ("a: 1\n", 3)]);
    }

    #[test]
    fn ranges_point_into_the_stream() {
        let stream = "---\na: 1\n---\nb: 2\n";
        for document in split(stream) {
            assert_eq!(&stream[document.range.clone()], document.text);
        }
    }
}
