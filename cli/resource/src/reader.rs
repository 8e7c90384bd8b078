//! Reader of the fields of a mapping, which records every mistake instead of stopping at the first.

use std::borrow::Cow;
use std::collections::HashMap;

use super::kind::Kind;
use super::mistake::{Mistake, Warning};
use super::reference;
use super::tree::{Entry, LocatedValue, Value};

/// The rule that a value breaks, as one line such as "must be a prefix such as 10.1.2.0/26".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Rule(Cow<'static, str>);

impl From<&'static str> for Rule {
    fn from(text: &'static str) -> Rule {
        Rule(Cow::Borrowed(text))
    }
}

impl From<String> for Rule {
    fn from(text: String) -> Rule {
        Rule(Cow::Owned(text))
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> String {
        rule.0.into_owned()
    }
}

/// Formats a [`Rule`].
macro_rules! rule {
    ($($format:tt)*) => {
        $crate::reader::Rule::from(format!($($format)*))
    };
}
pub(crate) use rule;

/// Mistakes and warnings of one file, and the line of every field that was read.
#[derive(Debug, Default)]
pub struct Report {
    /// The path of the file.
    pub file: String,
    /// The mistakes, in the order of their discovery.
    pub mistakes: Vec<Mistake>,
    /// The warnings, in the order of their discovery.
    pub warnings: Vec<Warning>,
    /// The line of each field, by the field's path; for rules that span resources.
    pub lines: HashMap<String, u64>,
}

impl Report {
    /// Creates an empty report of a file.
    pub fn new(file: &str) -> Self {
        Report { file: file.to_owned(), ..Report::default() }
    }

    /// Adds a mistake with the rule that the field breaks.
    pub fn mistake(&mut self, line: u64, field: &str, rule: impl Into<String>) {
        let at = self.at(line, field, rule.into());
        self.mistakes.push(at);
    }

    /// Adds a warning.
    pub fn warning(&mut self, line: u64, field: &str, rule: impl Into<String>) {
        let at = self.at(line, field, rule.into());
        self.warnings.push(Warning { at });
    }

    fn at(&self, line: u64, field: &str, rule: String) -> Mistake {
        Mistake { file: self.file.clone(), line, field: field.to_owned(), rule }
    }
}

/// A reader of one mapping. Every field that [`Fields::finish`] has not seen requested is a
/// mistake.
pub struct Fields<'a> {
    path: String,
    line: u64,
    entries: &'a [Entry],
    seen: Vec<bool>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Creates a reader of the mapping at `path` (empty for the document). Any other value is a
    /// mistake.
    pub fn from_value(located: &'a LocatedValue, path: &str, report: &mut Report) -> Option<Self> {
        let Value::Map(entries) = &located.value else {
            report.mistake(located.line, path, format!("must be a mapping (got {})", located.value.quoted()));
            return None;
        };
        Some(Fields {
            path: path.to_owned(),
            line: located.line,
            seen: vec![false; entries.len()],
            entries,
            known: Vec::new(),
        })
    }

    /// Returns the path of `key` below this mapping.
    pub fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Returns the line of `key`, or of the mapping if the key is absent.
    pub fn line(&self, key: &str) -> u64 {
        self.entries.iter().find(|entry| entry.key == key).map_or(self.line, |entry| entry.line)
    }

    /// Returns the value of `key`. A null counts as absent, as it does in Kubernetes.
    pub fn take(&mut self, key: &'static str, report: &mut Report) -> Option<&'a LocatedValue> {
        self.known.push(key);
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        if let Some(seen) = self.seen.get_mut(at) {
            *seen = true;
        }
        let entry = self.entries.get(at)?;
        report.lines.insert(self.path(key), entry.line);
        (entry.value.value != Value::Null).then_some(&entry.value)
    }

    /// Reads `key` with `parse`, if it is present. A value that breaks its rule is a mistake.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        report: &mut Report,
        parse: impl FnOnce(&Value) -> Result<T, Rule>,
    ) -> Option<T> {
        let located = self.take(key, report)?;
        match parse(&located.value) {
            Ok(value) => Some(value),
            Err(rule) => {
                let path = self.path(key);
                report.mistake(located.line, &path, format!("{rule} (got {})", located.value.quoted()));
                None
            }
        }
    }

    /// Reads `key` as [`Fields::optional`] does. An absent field is a mistake too.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        report: &mut Report,
        parse: impl FnOnce(&Value) -> Result<T, Rule>,
    ) -> Option<T> {
        let before = report.mistakes.len();
        let value = self.optional(key, report, parse);
        if value.is_none() && report.mistakes.len() == before {
            let path = self.path(key);
            report.mistake(self.line(key), &path, "is required");
        }
        value
    }

    /// Returns a reader of the mapping at `key`, if it is present.
    pub fn fields(&mut self, key: &'static str, report: &mut Report) -> Option<Fields<'a>> {
        let located = self.take(key, report)?;
        Fields::from_value(located, &self.path(key), report)
    }

    /// Reads every item of the list at `key` with `parse`. An absent list is empty. Items that
    /// break their rule are mistakes and left out.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        report: &mut Report,
        mut parse: impl FnMut(&Value) -> Result<T, Rule>,
    ) -> Vec<T> {
        let Some(located) = self.take(key, report) else { return Vec::new() };
        let path = self.path(key);
        let Value::List(items) = &located.value else {
            report.mistake(located.line, &path, format!("must be a list (got {})", located.value.quoted()));
            return Vec::new();
        };
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            match parse(&item.value) {
                Ok(value) => {
                    report.lines.insert(path, item.line);
                    values.push(value);
                }
                Err(rule) => {
                    report.mistake(item.line, &path, format!("{rule} (got {})", item.value.quoted()))
                }
            }
        }
        values
    }

    /// Returns readers of the mappings in the list at `key`. An absent list is empty.
    pub fn items(&mut self, key: &'static str, report: &mut Report) -> Vec<Fields<'a>> {
        let Some(located) = self.take(key, report) else { return Vec::new() };
        let path = self.path(key);
        let Value::List(items) = &located.value else {
            report.mistake(located.line, &path, format!("must be a list (got {})", located.value.quoted()));
            return Vec::new();
        };
        let item = |(index, item)| {
            let path = format!("{path}[{index}]");
            Fields::from_value(item, &path, report)
        };
        items.iter().enumerate().filter_map(item).collect()
    }

    /// Accepts `keys` with any value.
    pub fn ignore(&mut self, keys: &[&'static str], report: &mut Report) {
        for key in keys {
            self.take(key, report);
        }
    }

    /// Reports `key` as not yet supported, unless `harmless` returns true for its value (defaults,
    /// which exported files contain).
    pub fn unsupported(
        &mut self,
        key: &'static str,
        report: &mut Report,
        harmless: impl FnOnce(&Value) -> bool,
    ) {
        if let Some(located) = self.take(key, report)
            && !harmless(&located.value)
        {
            let path = self.path(key);
            report.mistake(
                located.line,
                &path,
                format!("is not yet supported (got {}): remove it", located.value.quoted()),
            );
        }
    }

    /// Refuses `key` with the alternative that the reference names, unless `harmless` returns true
    /// for its value (defaults, which exported files contain).
    pub fn refused(
        &mut self,
        kind: Kind,
        key: &'static str,
        report: &mut Report,
        harmless: impl FnOnce(&Value) -> bool,
    ) {
        if let Some(located) = self.take(key, report)
            && !harmless(&located.value)
        {
            let path = self.path(key);
            let instead = reference::instead(kind, &path);
            let rule = format!("is not honoured (got {}): {instead}", located.value.quoted());
            report.mistake(located.line, &path, rule);
        }
    }

    /// Ends the reading. Every field that was not requested is a mistake.
    pub fn finish(mut self, report: &mut Report) {
        #[cfg(test)]
        requested_fields::record(self.known.iter().map(|key| self.path(key)));
        self.known.sort_unstable();
        self.known.dedup();
        for (entry, seen) in self.entries.iter().zip(&self.seen) {
            if !seen {
                let hint = match nearest(&entry.key, &self.known) {
                    Some(known) => format!("unknown field (did you mean {known}?)"),
                    None => format!("unknown field (known here: {})", self.known.join(", ")),
                };
                report.mistake(entry.line, &self.path(&entry.key), hint);
            }
        }
    }
}

/// A record of the fields that readers request, so that a test can compare them with the reference.
#[cfg(test)]
pub mod requested_fields {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static PATHS: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
    }

    pub(super) fn record(paths: impl Iterator<Item = String>) {
        PATHS.with_borrow_mut(|all| all.extend(paths));
    }

    /// Returns the fields that this thread has requested since the last call.
    pub fn take() -> BTreeSet<String> {
        PATHS.take()
    }
}

/// Returns the known key that differs from `key` by case, `-`/`_`, or at most two edits.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    if key.len() > 40 {
        return None;
    }
    let fold = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    known
        .iter()
        .copied()
        .map(|name| (strsim::levenshtein(&fold(key), &fold(name)), name))
        .filter(|(n, _)| *n <= 2)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    #[test]
    fn all_mistakes_of_a_mapping_are_reported_with_their_lines() {
        let located = tree::parse("good: 1\nbad: x\nextra: 2\nwrong: [1, y]\n", 1).unwrap().unwrap();
        let mut report = Report::new("f.yaml");
        let mut fields = Fields::from_value(&located, "", &mut report).unwrap();
        let number = |value: &Value| match value {
            Value::Integer(value) => Ok(*value),
            _ => Err(Rule::from("must be a number")),
        };
        assert_eq!(fields.optional("good", &mut report, number), Some(1));
        assert_eq!(fields.optional("bad", &mut report, number), None);
        assert_eq!(fields.required("missing", &mut report, number), None);
        assert_eq!(fields.list("wrong", &mut report, number), [1]);
        fields.finish(&mut report);
        let lines: Vec<String> = report.mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "f.yaml:2: bad: must be a number (got \"x\")",
                "f.yaml:1: missing: is required",
                "f.yaml:4: wrong[1]: must be a number (got \"y\")",
                "f.yaml:3: extra: unknown field (known here: bad, good, missing, wrong)",
            ]
        );
    }

    #[test]
    fn a_misspelt_field_gets_a_suggestion() {
        assert_eq!(nearest("ipipmode", &["cidr", "ipipMode"]), Some("ipipMode"));
        assert_eq!(nearest("nat-outgoing", &["natOutgoing"]), Some("natOutgoing"));
        assert_eq!(nearest("colour", &["cidr"]), None);
    }
}
