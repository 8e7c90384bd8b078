//! ClusterConfiguration: an installer's file of which one field concerns routing.

use super::mistake::{Mistake, Origin, Warning};
use super::pool::{ENCAPSULATIONS, EncapsulationKind};
use super::reader::Report;
use super::scalar;
use super::tree::{LocatedValue, Value};

/// Where an installer's file names the encapsulation.
const PATH: [&str; 5] = ["spec", "kubernetes", "containerNetworking", "calico", "encapsulation"];

/// Ignored fields that are named; more are counted.
const MAX_IGNORED: usize = 50;

/// What an installer's cluster configuration says about routing.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterConfiguration {
    /// The file and line of the resource.
    pub origin: Origin,
    /// `spec.kubernetes.containerNetworking.calico.encapsulation`; ipip where it is not given.
    pub encapsulation: EncapsulationKind,
    /// What else it says, each as one line.
    pub ignored: Vec<Warning>,
}

/// Reads the one field; a mistake if it, or something on the way to it, has the wrong form.
pub(crate) fn read(document: &LocatedValue, report: &mut Report) -> ClusterConfiguration {
    let mut configuration = ClusterConfiguration {
        origin: Origin { file: report.file.clone(), line: document.line },
        encapsulation: EncapsulationKind::default(),
        ignored: Vec::new(),
    };
    let mut at = document;
    let mut path = String::new();
    let mut more = 0;
    for (depth, key) in PATH.into_iter().enumerate() {
        let entries = match &at.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            other => {
                report.mistake(at.line, &path, format!("must be a mapping (got {})", other.quoted()));
                break;
            }
        };
        let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
        for entry in entries {
            let known =
                entry.key == key || (depth == 0 && matches!(entry.key.as_str(), "apiVersion" | "kind"));
            if known {
                continue;
            }
            if configuration.ignored.len() < MAX_IGNORED {
                configuration.ignored.push(Warning {
                    at: Mistake {
                        file: report.file.clone(),
                        line: entry.line,
                        field: format!("{prefix}{}", entry.key),
                        rule: "ignored: not about routing".into(),
                    },
                });
            } else {
                more += 1;
            }
        }
        path = format!("{prefix}{key}");
        match entries.iter().find(|entry| entry.key == key) {
            Some(entry) => at = &entry.value,
            None => break,
        }
        if depth + 1 == PATH.len() && at.value != Value::Null {
            match scalar::one_of(ENCAPSULATIONS)(&at.value) {
                Ok(encapsulation) => configuration.encapsulation = encapsulation,
                Err(rule) => report.mistake(at.line, &path, format!("{rule} (got {})", at.value.quoted())),
            }
        }
    }
    if more > 0 {
        configuration.ignored.push(Warning {
            at: Mistake {
                file: report.file.clone(),
                line: 0,
                field: String::new(),
                rule: format!("{more} more fields ignored"),
            },
        });
    }
    configuration
}
