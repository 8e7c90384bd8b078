//! YAML text as a tree in which every value and key has its line.
//!
//! Resources are read from this tree rather than by derived serde structs: serde stops at the first
//! mistake and does not know the path of a nested field. A user who made three mistakes gets
//! three lines, each with the full path of its field.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// The deepest nesting of a document. The deepest resource has about eight levels.
const MAX_DEPTH: usize = 48;
/// The largest number of scalars, mappings and sequences in one document.
const MAX_NODES: usize = 250_000;
/// The largest number of anchors in one document.
const MAX_ANCHORS: usize = 1000;
/// The largest number of values that aliases repeat in one document, so that a few lines can't
/// expand to gigabytes.
const MAX_ALIAS_EVENTS: usize = 10_000;

/// A value and the line (from 1) on which it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct LocatedValue {
    /// The line in the file, from 1.
    pub line: u64,
    /// The value.
    pub value: Value,
}

/// A YAML value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or an empty value.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Integer(i128),
    /// A number with a fraction. No resource field accepts one.
    Float(f64),
    /// A string.
    Text(String),
    /// A sequence.
    List(Vec<LocatedValue>),
    /// A mapping, in file order.
    Map(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The line of the key, from 1.
    pub line: u64,
    /// The value.
    pub value: LocatedValue,
}

/// A syntax error in a YAML text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {rule}")]
pub struct SyntaxError {
    /// The line at which the parser stopped, from 1.
    pub line: u64,
    /// The parser's message.
    pub rule: String,
}

/// Parses one document. Returns `Ok(None)` for an empty one (comments alone, or `null`).
///
/// `first_line` is the line of the file on which `text` begins, from 1.
///
/// # Errors
/// The text is not YAML, has a repeated key or more than one document, or exceeds the limits on
/// nesting, nodes and alias expansion.
pub fn parse(text: &str, first_line: u64) -> Result<Option<LocatedValue>, SyntaxError> {
    // The scanner reports a wrong line for a NUL byte. No resource may contain one.
    if let Some(at) = text.find('\0') {
        let line = first_line + newlines(&text[..at]);
        return Err(SyntaxError { line, rule: "is not text (it holds a NUL byte)".into() });
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH, max_nodes: MAX_NODES, max_anchors: MAX_ANCHORS, max_documents: 2 },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIAS_EVENTS,
            max_replay_stack_depth: 16,
        },
        with_snippet: false,
        strict_booleans: true,
    };
    let shift = first_line.saturating_sub(1);
    match serde_saphyr::from_str_with_options::<Option<Spanned<RawValue>>>(text, options) {
        Ok(None) => Ok(None),
        Ok(Some(tree)) => match locate(tree, shift) {
            LocatedValue { value: Value::Null, .. } => Ok(None),
            located => Ok(Some(located)),
        },
        Err(error) => {
            let line = error.location().map_or(1, |location| location.line().max(1));
            let message = error.without_snippet().to_string();
            // The parser appends its own position, which counts from the first line of the
            // document.
            let end = message.rfind(" at line ").unwrap_or(message.len());
            let rule = message[..end].replace(['\n', '\r'], " ");
            let rule = rule.trim().trim_start_matches("error:").trim();
            let rule = if rule.is_empty() { "is not valid YAML" } else { rule };
            Err(SyntaxError { line: line + shift, rule: format!("is not valid YAML: {rule}") })
        }
    }
}

/// Converts a YAML text to JSON. An empty text becomes null. JSON texts are YAML too.
///
/// # Errors
/// The text is not YAML, or exceeds the limits of [`parse`].
pub fn yaml_as_json(text: &str) -> Result<serde_json::Value, SyntaxError> {
    match parse(text, 1) {
        Ok(Some(located)) => Ok(located.value.to_json()),
        Ok(None) => Ok(serde_json::Value::Null),
        Err(error) => Err(error),
    }
}

fn newlines(text: &str) -> u64 {
    text.bytes().filter(|byte| *byte == b'\n').count() as u64
}

fn locate(spanned: Spanned<RawValue>, shift: u64) -> LocatedValue {
    let line = spanned.referenced.line().max(1) + shift;
    let value = match spanned.value {
        RawValue::Null => Value::Null,
        RawValue::Bool(value) => Value::Bool(value),
        RawValue::Integer(value) => Value::Integer(value),
        RawValue::Float(value) => Value::Float(value),
        RawValue::Text(value) => Value::Text(value),
        RawValue::List(items) => Value::List(items.into_iter().map(|item| locate(item, shift)).collect()),
        RawValue::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| Entry {
                    line: key.referenced.line().max(1) + shift,
                    key: key.value,
                    value: locate(value, shift),
                })
                .collect(),
        ),
    };
    LocatedValue { line, value }
}

impl LocatedValue {
    /// Returns the value of `key`, if this is a mapping that has it.
    pub fn find(&self, key: &str) -> Option<&LocatedValue> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            _ => None,
        }
    }
}

impl Value {
    /// Returns the value as a mistake quotes it: scalars literally (strings quoted and cut to 60
    /// characters), collections by their type.
    pub fn quoted(&self) -> String {
        match self {
            Value::Null => "nothing".into(),
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Text(text) if text.chars().count() > 60 => {
                format!("{:?}…", text.chars().take(60).collect::<String>())
            }
            Value::Text(text) => format!("{text:?}"),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }

    /// Returns the value as JSON, without lines.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Integer(value) => i64::try_from(*value)
                .map(Json::from)
                .or_else(|_| u64::try_from(*value).map(Json::from))
                .unwrap_or_else(|_| Json::String(value.to_string())),
            Value::Float(value) => Json::from(*value),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(|item| item.value.to_json()).collect()),
            Value::Map(entries) => Json::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.value.value.to_json())).collect(),
            ),
        }
    }
}

/// A value as serde delivers it, with lines counted from the document's first.
enum RawValue {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Spanned<RawValue>>),
    Map(Vec<(Spanned<String>, Spanned<RawValue>)>),
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawValueVisitor)
    }
}

struct RawValueVisitor;

impl<'de> Visitor<'de> for RawValueVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }
    fn visit_unit<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }
    fn visit_none<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawValue, D::Error> {
        RawValue::deserialize(deserializer)
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawValue, D::Error> {
        RawValue::deserialize(deserializer)
    }
    fn visit_bool<E>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Integer(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<RawValue, E> {
        Ok(RawValue::Integer(value.into()))
    }
    fn visit_i128<E>(self, value: i128) -> Result<RawValue, E> {
        Ok(RawValue::Integer(value))
    }
    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<RawValue, E> {
        i128::try_from(value)
            .map(RawValue::Integer)
            .map_err(|_| E::custom("a number beyond any field's range"))
    }
    fn visit_f64<E>(self, value: f64) -> Result<RawValue, E> {
        Ok(RawValue::Float(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<RawValue, E> {
        Ok(RawValue::Text(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(RawValue::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawValue, A::Error> {
        let mut entries: Vec<(Spanned<String>, Spanned<RawValue>)> = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            if key.value.len() > 1024 {
                return Err(A::Error::custom("a key longer than 1024 bytes"));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(RawValue::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line_in_the_file() {
        let tree = parse("a: 1\nb:\n  - x\n  - {c: no}\n", 11).unwrap().unwrap();
        assert_eq!(tree.line, 11);
        assert_eq!(tree.find("a").unwrap().value, Value::Integer(1));
        let list = tree.find("b").unwrap();
        let Value::List(items) = &list.value else { panic!("{list:?}") };
        assert_eq!((items[0].line, items[1].line), (13, 14));
        assert_eq!(items[1].find("c").unwrap().value, Value::Text("no".into()));
    }

    #[test]
    fn comments_and_null_are_an_empty_document() {
        for text in ["", "# nothing\n", "---\n", "~\n", "null"] {
            assert_eq!(parse(text, 1), Ok(None), "{text:?}");
        }
    }

    #[test]
    fn bad_syntax_names_the_line_of_the_file() {
        let error = parse("a: 1\nb: [1, 2\nc: 3\n", 5).unwrap_err();
        assert!((6..=8).contains(&error.line), "{error:?}");
        assert!(error.rule.starts_with("is not valid YAML: "), "{error:?}");
        assert!(!error.rule.contains(" at line "), "{error:?}");
        let repeated = parse("a: 1\na: 2\n", 1).unwrap_err();
        assert_eq!(repeated.line, 2, "{repeated:?}");
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for level in 1..10 {
            let inner = format!("*a{},", level - 1).repeat(9);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", inner.trim_end_matches(',')));
        }
        assert!(parse(&text, 1).is_err());
    }

    #[test]
    fn deep_nesting_is_refused_not_recursed() {
        assert!(parse(&"[".repeat(100_000), 1).is_err());
        let block: String = (0..5_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        assert!(parse(&block, 1).is_err());
    }
}
