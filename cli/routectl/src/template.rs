//! Templates of `-o jsonpath=...`, as kubectl has them: text with paths in braces. Paths in
//! kubectl's spelling are translated to RFC 9535, which `jsonpath-rust` evaluates.

use crate::usage::{UsageError, usage};
use jsonpath_rust::parser::model::JpQuery;
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::js_path_process;
use serde_json::Value as Json;

/// The longest template, in characters.
const MAX_LENGTH: usize = 8192;
/// The deepest nesting of ranges.
const MAX_DEPTH: usize = 16;

/// A parsed template.
#[derive(Clone, Debug)]
pub(super) struct Template(Vec<TemplatePart>);

#[derive(Clone, Debug)]
enum TemplatePart {
    /// Literal text.
    Text(String),
    /// The values of a path.
    Values(TemplatePath),
    /// Parts that are rendered once for each value of a path.
    Range(TemplatePath, Vec<TemplatePart>),
}

/// A path, and whether it begins at the root rather than at the value of the range around it.
#[derive(Clone, Debug)]
struct TemplatePath {
    query: JpQuery,
    from_root: bool,
}

impl Template {
    /// Parses a template. A single path may lack its braces.
    ///
    /// # Errors
    /// An action is malformed. The message is one line.
    pub(super) fn parse(text: &str) -> Result<Self, UsageError> {
        if text.len() > MAX_LENGTH {
            return Err(usage!("jsonpath=: longer than {MAX_LENGTH} bytes"));
        }
        if text.is_empty() {
            return Err("jsonpath=: a template is missing, such as {.items[*].metadata.name}".into());
        }
        let bare = !text.contains('{') && text.starts_with(['.', '$', '@']);
        let braced = if bare { format!("{{{text}}}") } else { text.to_owned() };
        let mut open: Vec<(Option<TemplatePath>, Vec<TemplatePart>)> = vec![(None, Vec::new())];
        let mut rest = braced.as_str();
        while !rest.is_empty() {
            let (before, after) = rest.split_once('{').unwrap_or((rest, ""));
            if !before.is_empty() {
                push(&mut open, TemplatePart::Text(before.to_owned()));
            }
            if before.len() == rest.len() {
                break;
            }
            let end =
                action_end(after).ok_or_else(|| usage!("jsonpath=: {{{after}: the brace is never closed"))?;
            let action = after[..end].trim();
            let wrong = |error: UsageError| usage!("jsonpath=: {{{action}}}: {error}");
            rest = &after[end + 1..];
            if action == "end" {
                match open.pop() {
                    Some((Some(path), parts)) => push(&mut open, TemplatePart::Range(path, parts)),
                    _ => return Err(wrong("ends no range".into())),
                }
            } else if let Some(range) =
                action.strip_prefix("range").filter(|rest| rest.starts_with([' ', '.', '[']))
            {
                if open.len() > MAX_DEPTH {
                    return Err(wrong(usage!("ranges nest deeper than {MAX_DEPTH}")));
                }
                open.push((Some(read_path(range).map_err(wrong)?), Vec::new()));
            } else if action.starts_with(['"', '\'']) {
                push(&mut open, TemplatePart::Text(literal(action).map_err(wrong)?));
            } else {
                push(&mut open, TemplatePart::Values(read_path(action).map_err(wrong)?));
            }
        }
        match (open.len(), open.pop()) {
            (1, Some((_, parts))) => Ok(Template(parts)),
            _ => Err("jsonpath=: a range without its {end}".into()),
        }
    }

    /// Renders the template for the values of `root`. A path without a value yields an empty
    /// text.
    pub(super) fn render(&self, root: &Json) -> String {
        let mut text = String::new();
        render(&self.0, root, root, &mut text);
        text
    }
}

fn push(open: &mut [(Option<TemplatePath>, Vec<TemplatePart>)], part: TemplatePart) {
    if let Some((_, parts)) = open.last_mut() {
        parts.push(part);
    }
}

fn render(parts: &[TemplatePart], root: &Json, here: &Json, text: &mut String) {
    let from = |path: &TemplatePath| if path.from_root { root } else { here }.clone();
    for part in parts {
        match part {
            TemplatePart::Text(plain) => text.push_str(plain),
            TemplatePart::Values(path) => {
                let from = from(path);
                let found: Vec<String> = values(&path.query, &from).into_iter().map(plain).collect();
                text.push_str(&found.join(" "));
            }
            TemplatePart::Range(path, inner) => {
                let from = from(path);
                for value in values(&path.query, &from) {
                    render(inner, root, value, text);
                }
            }
        }
    }
}

/// Returns the end of an action: the first closing brace outside quotes.
fn action_end(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '}') => return Some(at),
            (None, _) => {}
        }
    }
    None
}

/// Parses a quoted text with escapes, as in `{"\n"}`.
fn literal(text: &str) -> Result<String, UsageError> {
    let quote = text.chars().next().unwrap_or('"');
    let inner = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    let inner = inner.filter(|_| text.len() >= 2).ok_or("the quotes are never closed")?;
    let mut result = String::new();
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some('n') => result.push('\n'),
                Some('t') => result.push('\t'),
                Some('r') => result.push('\r'),
                Some(c @ ('\\' | '"' | '\'')) => result.push(c),
                other => return Err(usage!("unknown escape \\{}", other.unwrap_or(' '))),
            },
            c if c == quote => return Err("one quoted text to a pair of braces".into()),
            c => result.push(c),
        }
    }
    Ok(result)
}

fn read_path(text: &str) -> Result<TemplatePath, UsageError> {
    let (query, from_root) = path(text)?;
    Ok(TemplatePath { query, from_root })
}

/// Parses a path in kubectl's spelling.
///
/// # Errors
/// The path is malformed. The message is one line.
pub(super) fn path(text: &str) -> Result<(JpQuery, bool), UsageError> {
    let text = text.trim();
    let from_root = text.starts_with('$');
    let rest = text.strip_prefix(['$', '@']).unwrap_or(text);
    let rest = match rest.chars().next() {
        Some('.' | '[') | None => rest.to_owned(),
        Some(_) => format!(".{rest}"),
    };
    // kubectl's `{.}` is the value itself.
    let rest = if rest == "." { String::new() } else { rest };
    let (steps, left) = steps(&rest)?;
    if !left.is_empty() {
        return Err(usage!("{left:?} is no part of a path"));
    }
    let query = parse_json_path(&format!("${steps}"));
    query.map(|query| (query, from_root)).map_err(|error| first_line(&error.to_string()).into())
}

fn first_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.last().map_or_else(|| "is no path".to_owned(), |line| line.trim_start_matches("= ").to_owned())
}

/// Translates the segments of a path to RFC 9535, which has shorthand names for identifiers only.
/// Returns the rest of the text too.
fn steps(text: &str) -> Result<(String, &str), UsageError> {
    let mut result = String::new();
    let mut rest = text;
    loop {
        if let Some(after) = rest.strip_prefix("..").filter(|after| !after.is_empty()) {
            result.push_str("..");
            rest = after;
            if rest.starts_with('[') {
                continue;
            }
        } else if let Some(after) = rest.strip_prefix('.') {
            rest = after;
        } else if rest.starts_with('[') {
            let end = bracket_end(rest).ok_or("a bracket is never closed")?;
            result.push_str(&bracket(&rest[1..end])?);
            rest = &rest[end + 1..];
            continue;
        } else {
            return Ok((result, rest));
        }
        let (name, after) = step_name(rest);
        match name.as_str() {
            "" => return Err("a name is missing after '.'".into()),
            "*" => result.push_str("[*]"),
            name => result.push_str(&quoted(name)),
        }
        rest = after;
    }
}

/// Parses a name. `\.` is a dot.
fn step_name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                name.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            c if c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | '*') => name.push(c),
            _ => return (name, &text[at..]),
        }
    }
    (name, "")
}

fn quoted(name: &str) -> String {
    format!("['{}']", name.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Returns the position of the bracket that closes the first one.
fn bracket_end(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_u32, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            (None, _) => {}
        }
    }
    None
}

/// Translates the contents of brackets: indices, names and slices unchanged, except for the dots
/// that kubectl escapes in names, and filters with translated paths.
fn bracket(inner: &str) -> Result<String, UsageError> {
    let inner = inner.trim();
    let Some(filter) = inner.strip_prefix('?') else { return Ok(format!("[{}]", inner.replace("\\.", "."))) };
    let mut result = String::from("[?");
    let mut rest = filter;
    while let Some(c) = rest.chars().next() {
        match c {
            '"' | '\'' => {
                let end = rest[1..].find(c).ok_or("the quotes are never closed")? + 2;
                result.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            '@' | '$' => {
                let (steps, after) = steps(&rest[1..])?;
                result.push(c);
                result.push_str(&steps);
                rest = after;
            }
            c => {
                result.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    result.push(']');
    Ok(result)
}

/// Returns the values of a path.
pub(super) fn values<'a>(path: &JpQuery, from: &'a Json) -> Vec<&'a Json> {
    // The only possible errors are unknown functions, which the parser refuses.
    js_path_process(path, from)
        .map(|found| found.into_iter().map(|found| found.val()).collect())
        .unwrap_or_default()
}

/// Formats a value: strings unchanged, everything else as JSON.
pub(super) fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list() -> Json {
        json!({"kind": "List", "items": [
            {"metadata": {"name": "a", "labels": {"kubernetes.io/hostname": "h1", "route-reflector": "true"}},
             "spec": {"bgp": {"asNumber": 64512}, "podCIDRs": ["10.0.0.0/26", "10.0.1.0/26"]}},
            {"metadata": {"name": "b"}, "spec": {"bgp": {"asNumber": 64513}}},
        ]})
    }

    fn rendered(template: &str) -> String {
        Template::parse(template).unwrap_or_else(|error| panic!("{template}: {error}")).render(&list())
    }

    #[test]
    fn kubectls_templates_give_what_kubectl_gives() {
        for (template, text) in [
            ("{.items[*].metadata.name}", "a b"),
            (".items[*].metadata.name", "a b"),
            ("{$.items[0].metadata.name}", "a"),
            ("{.items[-1].metadata.name}", "b"),
            ("{.items[0:1].metadata.name}", "a"),
            ("{range .items[*]}{.metadata.name}{\"\\n\"}{end}", "a\nb\n"),
            ("{range .items[*]}{@.metadata.name}={.spec.bgp.asNumber};{end}", "a=64512;b=64513;"),
            ("{range .items[*]}{range .spec.podCIDRs[*]}{@} {end}{end}", "10.0.0.0/26 10.0.1.0/26 "),
            ("{range .items[*]}{$.kind}{'\\t'}{end}", "List\tList\t"),
            ("{.items[?(@.metadata.name==\"b\")].spec.bgp.asNumber}", "64513"),
            ("{.items[?(@.spec.bgp.asNumber>64512)].metadata.name}", "b"),
            ("{.items[?(@.spec.podCIDRs)].metadata.name}", "a"),
            ("{.items[?(@.metadata.labels.route-reflector=='true')].metadata.name}", "a"),
            ("{.items[0].metadata.labels.kubernetes\\.io/hostname}", "h1"),
            ("{.items[0].metadata.labels['kubernetes\\.io/hostname']}", "h1"),
            ("{.items[0].metadata.labels.route-reflector}", "true"),
            ("{..asNumber}", "64512 64513"),
            ("{.items[0].spec.bgp}", "{\"asNumber\":64512}"),
            ("{.items[5].metadata.name}", ""),
            ("{.nothing.here}", ""),
            ("plain text", "plain text"),
            ("x{\"}\"}y", "x}y"),
        ] {
            assert_eq!(rendered(template), text, "{template}");
        }
    }

    #[test]
    fn wrong_templates_are_one_line_that_names_the_action() {
        for template in [
            "",
            "{.items[*",
            "{range .items[*]}x",
            "{end}",
            "{.items[}",
            "{.a..}",
            "{\"x}",
            "{.a b}",
            "{.x[?(@.y==)]}",
        ] {
            let error = Template::parse(template).expect_err(template).to_string();
            assert!(!error.contains('\n') && error.starts_with("jsonpath=: "), "{template}: {error}");
        }
        assert!(Template::parse(&"{range .a}".repeat(100)).is_err());
    }
}
