//! Manifests: resources as JSON values and as YAML text.

use serde_json::Value;

/// Returns the manifest without `metadata.resourceVersion`, which the store assigns.
pub fn without_version(mut manifest: Value) -> Value {
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    manifest
}

/// Renders a manifest as one YAML document.
pub fn to_yaml(manifest: &Value) -> String {
    // Serialization of a JSON value can't fail: all its keys are strings.
    serde_saphyr::to_string(manifest).unwrap_or_default()
}
