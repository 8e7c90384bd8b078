//! Translation of kubectl's selectors (`zone=a,rack!=b,tier in (x,y),!old`) to Calico's language.

/// Translates a selector to Calico's language. Returns `None` if it is malformed.
pub(super) fn as_calico(text: &str) -> Option<String> {
    let requirements: Option<Vec<String>> = requirements_of(text)?.into_iter().map(requirement).collect();
    requirements.map(|requirements| requirements.join(" && "))
}

/// Splits a selector into its requirements at the commas outside parentheses.
fn requirements_of(text: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '(' if inside => return None,
            '(' => inside = true,
            ')' => inside = false,
            ',' if !inside => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    Some(parts)
}

fn requirement(text: &str) -> Option<String> {
    if let Some(key) = text.strip_prefix('!') {
        return Some(format!("!has({})", word(key)?));
    }
    for (operator, ours) in [("!=", "!="), ("==", "=="), ("=", "==")] {
        if let Some((key, value)) = text.split_once(operator) {
            return Some(format!("{} {ours} '{}'", word(key)?, value_of(value)?));
        }
    }
    let Some((key, rest)) = text.split_once(char::is_whitespace) else {
        return Some(format!("has({})", word(text)?));
    };
    let rest = rest.trim();
    let (ours, set) = match rest.strip_prefix("notin") {
        Some(set) => ("not in", set),
        None => ("in", rest.strip_prefix("in")?),
    };
    let set = set.trim().strip_prefix('(')?.strip_suffix(')')?;
    let values: Option<Vec<String>> =
        set.split(',').map(|value| value_of(value).map(|value| format!("'{value}'"))).collect();
    Some(format!("{} {ours} {{{}}}", word(key)?, values?.join(", ")))
}

fn fits(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-'))
}

fn word(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty() && fits(text))
}

fn value_of(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| fits(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectls_operators_become_calicos() {
        for (theirs, ours) in [
            ("a=b", "a == 'b'"),
            ("a==b", "a == 'b'"),
            ("a!=b", "a != 'b'"),
            ("a=", "a == ''"),
            ("x.y/a, !b", "has(x.y/a) && !has(b)"),
            ("a in (b, c),d notin (e)", "a in {'b', 'c'} && d not in {'e'}"),
        ] {
            assert_eq!(as_calico(theirs).as_deref(), Some(ours), "{theirs}");
        }
        for text in ["", ",", "a in b", "a in (b", "a b", "a='b'", "a in ((b))", "=x"] {
            assert_eq!(as_calico(text), None, "{text}");
        }
    }
}
