//! Errors of patches and changes of labels.

use resource::Key;

use super::patch::MAX_LABELS;

/// The reason why a patch or a change of labels is refused, displayed as one line for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatchError {
    /// The body is not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// The body is not a JSON patch.
    #[error("not a JSON patch (RFC 6902), a list of operations: {0}")]
    NotJsonPatch(String),
    /// A merge patch that is not a mapping.
    #[error("a merge patch is a mapping such as {{\"spec\": {{...}}}}")]
    NotMapping,
    /// A directive of a strategic merge patch.
    #[error(
        "{0}: directives of strategic patches are not known here, where lists are replaced whole: write the list as \
         it is to be, or use --type json (RFC 6902)"
    )]
    Directive(String),
    /// The content type is not one of a patch.
    #[error(
        "no patch of type {0:?}: there are application/merge-patch+json, \
         application/strategic-merge-patch+json and application/json-patch+json"
    )]
    UnknownType(String),
    /// The patch does not fit the manifest.
    #[error("the patch fails: {0}")]
    Failed(String),
    /// A field that identifies the resource.
    #[error("{0} can't be patched: create another resource")]
    Immutable(String),
    /// The manifest has no metadata.
    #[error("{0} has no metadata")]
    NoMetadata(String),
    /// The manifest's labels are not a mapping.
    #[error("{0}: metadata.labels is no mapping")]
    LabelsNotMapping(String),
    /// A label to be removed that does not exist.
    #[error(
        "{} {:?} has no label {label}: `routectl get {} {} -o yaml` shows those it has",
        .key.kind.name(), .key.name, .key.kind.plural(), .key.name
    )]
    NoLabel {
        /// The resource.
        key: Key,
        /// The label.
        label: String,
    },
    /// A label to be set that exists with another value.
    #[error(
        "{} {:?} has the label {label} already, with the value {value}: --overwrite sets another",
        .key.kind.name(), .key.name
    )]
    LabelExists {
        /// The resource.
        key: Key,
        /// The label.
        label: String,
        /// Its value.
        value: String,
    },
    /// More labels in one request than are accepted.
    #[error("at most {MAX_LABELS} labels at once")]
    TooManyLabels,
    /// A label that breaks Kubernetes' syntax.
    #[error(
        "{0:?} is no label: letters, digits, '.', '_' and '-', at most 63, beginning and ending with a letter or \
         digit, after a domain and '/' if it has one"
    )]
    InvalidLabel(String),
    /// A value that breaks Kubernetes' syntax.
    #[error(
        "{label}: {value:?} is no label's value: letters, digits, '.', '_' and '-', at most 63, beginning and ending \
         with a letter or digit"
    )]
    InvalidValue {
        /// The label.
        label: String,
        /// The value.
        value: String,
    },
    /// A label that is both set and removed.
    #[error("{0}: either set or removed")]
    SetAndRemoved(String),
}
