//! Label selectors in Calico's language, as in `has(rack) && zone in {'a', 'b'}`.

use std::collections::BTreeMap;
use std::fmt;

/// The deepest nesting of parentheses and negations.
const MAX_DEPTH: usize = 32;
/// The longest selector, in bytes.
const MAX_LENGTH: usize = 4096;

/// A parsed selector. Its `Display` is the text that it was parsed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    text: String,
    expression: Expression,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    All,
    Has(String),
    Equal(String, String),
    NotEqual(String, String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Contains(String, String),
    StartsWith(String, String),
    EndsWith(String, String),
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
}

/// The reason why a text is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Unexpected text at this byte.
    #[error("expected {expected} at character {at}")]
    Expected {
        /// The expected text.
        expected: &'static str,
        /// The byte, from 1.
        at: usize,
    },
    /// A text that is neither a selector of Calico nor one of kubectl.
    #[error("{0}; or as kubectl: zone=a,rack!=b,tier in (x,y),!old")]
    NeitherForm(Box<SelectorError>),
    /// Parentheses and negations that nest deeper than 32.
    #[error("nests deeper than {MAX_DEPTH}")]
    TooDeep,
    /// A text longer than 4096 bytes.
    #[error("is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// `global()`, which only network policies may use.
    #[error("global() is not allowed here")]
    Global,
}

impl Selector {
    /// Parses a selector. An empty text selects everything, like `all()`.
    ///
    /// # Errors
    /// The text is not a selector, nests too deeply or is too long.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_LENGTH {
            return Err(SelectorError::TooLong);
        }
        let mut parser = Parser { text, at: 0 };
        parser.blanks();
        let expression = if parser.rest().is_empty() { Expression::All } else { parser.any(0)? };
        parser.blanks();
        if !parser.rest().is_empty() {
            return Err(parser.expected("&&, || or the end"));
        }
        Ok(Selector { text: text.trim().to_owned(), expression })
    }

    /// Parses a selector of this language, or of kubectl's: `zone=a,rack!=b,tier in (x,y),!old`.
    ///
    /// # Errors
    /// The text is a selector of neither language.
    pub fn parse_either(text: &str) -> Result<Self, SelectorError> {
        Selector::parse(text).or_else(|error| {
            let ours = super::kubectl_selector::as_calico(text).and_then(|text| Selector::parse(&text).ok());
            ours.ok_or_else(|| SelectorError::NeitherForm(Box::new(error)))
        })
    }

    /// Returns whether the labels satisfy the selector. A missing label satisfies `!=` and `not
    /// in`, as in Calico.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.expression.matches(labels)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.text.is_empty() { "all()" } else { &self.text })
    }
}

impl Expression {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let is = |key: &String, test: &dyn Fn(&str) -> bool| labels.get(key).is_some_and(|value| test(value));
        match self {
            Expression::All => true,
            Expression::Has(key) => labels.contains_key(key),
            Expression::Equal(key, wanted) => is(key, &|value| value == wanted),
            Expression::NotEqual(key, wanted) => !is(key, &|value| value == wanted),
            Expression::In(key, set) => is(key, &|value| set.iter().any(|wanted| wanted == value)),
            Expression::NotIn(key, set) => !is(key, &|value| set.iter().any(|wanted| wanted == value)),
            Expression::Contains(key, part) => is(key, &|value| value.contains(part.as_str())),
            Expression::StartsWith(key, part) => is(key, &|value| value.starts_with(part.as_str())),
            Expression::EndsWith(key, part) => is(key, &|value| value.ends_with(part.as_str())),
            Expression::Not(inner) => !inner.matches(labels),
            Expression::And(parts) => parts.iter().all(|part| part.matches(labels)),
            Expression::Or(parts) => parts.iter().any(|part| part.matches(labels)),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn expected(&self, expected: &'static str) -> SelectorError {
        SelectorError::Expected { expected, at: self.at + 1 }
    }

    /// Consumes `token` after blanks, if it comes next.
    fn token(&mut self, token: &str) -> bool {
        self.blanks();
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    /// Consumes `word` after blanks, if it comes next as a whole word.
    fn word(&mut self, word: &str) -> bool {
        self.blanks();
        let ends = |rest: &str| !rest.starts_with(is_key_character);
        let found = self.rest().strip_prefix(word).is_some_and(ends);
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn any(&mut self, depth: usize) -> Result<Expression, SelectorError> {
        let mut parts = vec![self.all(depth)?];
        while self.token("||") {
            parts.push(self.all(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Or(parts) })
    }

    fn all(&mut self, depth: usize) -> Result<Expression, SelectorError> {
        let mut parts = vec![self.term(depth)?];
        while self.token("&&") {
            parts.push(self.term(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::And(parts) })
    }

    fn term(&mut self, depth: usize) -> Result<Expression, SelectorError> {
        if depth > MAX_DEPTH {
            return Err(SelectorError::TooDeep);
        }
        if self.token("!") {
            return Ok(Expression::Not(Box::new(self.term(depth + 1)?)));
        }
        if self.token("(") {
            let inner = self.any(depth + 1)?;
            return if self.token(")") { Ok(inner) } else { Err(self.expected(")")) };
        }
        let key = self.key()?;
        if self.token("(") {
            let expression = match key.as_str() {
                "all" => Expression::All,
                "has" => Expression::Has(self.key()?),
                "global" => return Err(SelectorError::Global),
                _ => return Err(self.expected("all() or has(LABEL)")),
            };
            return if self.token(")") { Ok(expression) } else { Err(self.expected(")")) };
        }
        self.comparison(key)
    }

    fn comparison(&mut self, key: String) -> Result<Expression, SelectorError> {
        if self.token("==") {
            Ok(Expression::Equal(key, self.value()?))
        } else if self.token("!=") {
            Ok(Expression::NotEqual(key, self.value()?))
        } else if self.word("in") {
            Ok(Expression::In(key, self.set()?))
        } else if self.word("contains") {
            Ok(Expression::Contains(key, self.value()?))
        } else if self.word("not") {
            if self.word("in") { Ok(Expression::NotIn(key, self.set()?)) } else { Err(self.expected("in")) }
        } else if self.word("starts") {
            if self.word("with") {
                Ok(Expression::StartsWith(key, self.value()?))
            } else {
                Err(self.expected("with"))
            }
        } else if self.word("ends") {
            if self.word("with") {
                Ok(Expression::EndsWith(key, self.value()?))
            } else {
                Err(self.expected("with"))
            }
        } else {
            Err(self.expected("==, !=, in, not in, contains, starts with or ends with"))
        }
    }

    fn key(&mut self) -> Result<String, SelectorError> {
        self.blanks();
        let rest = self.rest();
        let end = rest.find(|c| !is_key_character(c)).unwrap_or(rest.len());
        match rest.get(..end).filter(|key| !key.is_empty()) {
            Some(key) => {
                self.at += end;
                Ok(key.to_owned())
            }
            None => Err(self.expected("a label, all(), has(LABEL), ! or (")),
        }
    }

    /// Parses a string in single or double quotes. The language has no escapes.
    fn value(&mut self) -> Result<String, SelectorError> {
        self.blanks();
        let rest = self.rest();
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let quote = quote.ok_or_else(|| self.expected("a quoted value"))?;
        let inner = rest.get(1..).unwrap_or("");
        let end = inner.find(quote).ok_or_else(|| self.expected("a value with its closing quote"))?;
        self.at += end + 2;
        Ok(inner.get(..end).unwrap_or("").to_owned())
    }

    fn set(&mut self) -> Result<Vec<String>, SelectorError> {
        if !self.token("{") {
            return Err(self.expected("{"));
        }
        let mut values = Vec::new();
        if self.token("}") {
            return Ok(values);
        }
        loop {
            values.push(self.value()?);
            if self.token("}") {
                return Ok(values);
            }
            if !self.token(",") {
                return Err(self.expected(", or }"));
            }
        }
    }
}

fn is_key_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str) -> bool {
        let labels = [("zone", "a"), ("rack", "r-12"), ("projectcalico.org/rr", "")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Selector::parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}")).matches(&labels)
    }

    #[test]
    fn every_operator_matches_as_in_calico() {
        for selector in [
            "",
            "all()",
            " all( ) ",
            "has(zone)",
            "has(projectcalico.org/rr)",
            "zone == 'a'",
            "zone==\"a\"",
            "zone != 'b'",
            "missing != 'b'",
            "zone in {'b', 'a'}",
            "zone not in {'b'}",
            "missing not in {'b'}",
            "rack contains '1'",
            "rack starts with 'r-'",
            "rack ends with '12'",
            "!has(nothing)",
            "!(zone == 'b') && has(rack)",
            "zone == 'b' || rack == 'r-12'",
            "has(x) && has(y) || has(zone)",
            "!!has(zone)",
            "zone not in { }",
        ] {
            assert!(matches(selector), "{selector}");
        }
        for selector in [
            "!all()",
            "zone == 'b'",
            "zone in {}",
            "missing == ''",
            "missing contains ''",
            "has(x) || !has(zone)",
        ] {
            assert!(!matches(selector), "{selector}");
        }
    }

    #[test]
    fn malformed_selectors_are_refused() {
        for text in [
            "zone",
            "zone =",
            "zone == a",
            "zone == 'a",
            "has()",
            "has(zone",
            "(all()",
            "all() all()",
            "zone in 'a'",
            "zone in {'a'",
            "zone in {'a' 'b'}",
            "zone not 'a'",
            "some()",
            "&& all()",
            "zone inn {'a'}",
            "é == 'a'",
        ] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
        assert_eq!(Selector::parse("global()"), Err(SelectorError::Global));
        assert_eq!(
            Selector::parse("zone == a"),
            Err(SelectorError::Expected { expected: "a quoted value", at: 9 })
        );
    }

    #[test]
    fn depth_and_length_are_bounded() {
        assert_eq!(Selector::parse(&"(".repeat(4000)), Err(SelectorError::TooDeep));
        assert_eq!(Selector::parse(&"!".repeat(4000)), Err(SelectorError::TooDeep));
        assert_eq!(Selector::parse(&"x".repeat(5000)), Err(SelectorError::TooLong));
        let long = vec!["has(a)"; 400].join(" || ");
        assert!(Selector::parse(&long).is_ok());
    }
}
