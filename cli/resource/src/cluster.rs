//! ClusterConfiguration: a file of a cluster installer, of which one field concerns routing.

use super::mistake::{Mistake, Origin, Warning};
use super::pool::{ENCAPSULATIONS, EncapsulationKind};
use super::reader::Report;
use super::scalar;
use super::tree::{LocatedValue, Value};

/// The path of the encapsulation in the file.
const PATH: [&str; 5] = ["spec", "kubernetes", "containerNetworking", "calico", "encapsulation"];

/// The largest number of ignored fields that are named; further ones are counted.
const MAX_IGNORED: usize = 50;

/// The routing settings of an installer's cluster configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterConfiguration {
    /// The file and line of the resource.
    pub origin: Origin,
    /// `spec.kubernetes.containerNetworking.calico.encapsulation`; ipip if absent.
    pub encapsulation: EncapsulationKind,
    /// The ignored fields, one warning each.
    pub ignored: Vec<Warning>,
}

/// Reads the encapsulation. A field on the path to it that is not a mapping is a mistake.
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
