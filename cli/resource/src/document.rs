//! Documents of a file, and the file that holds them.

use std::collections::HashMap;
use std::ops::Range;

use super::Resource;
use super::cluster::ClusterConfiguration;
use super::kind::Key;
use super::mistake::{Mistake, Warning};

/// One resource of a file.
#[derive(Clone, Debug)]
pub struct Document {
    /// The resource.
    pub resource: Resource,
    /// The resource as written, in the v3 form, for display and for storing.
    pub manifest: serde_json::Value,
    /// Whether it was written in the v1 form.
    pub is_v1: bool,
    /// Whether what is stored has to be written anew: it stood in a list, or as Kubernetes stores Calico's resources.
    pub needs_rewrite: bool,
    /// Where in the file its text is.
    pub range: Range<usize>,
    /// Path of a field -> its line.
    pub(crate) lines: HashMap<String, u64>,
}

impl Document {
    /// The line of the field at `path`, or of the document.
    pub fn line(&self, path: &str) -> u64 {
        self.lines.get(path).copied().unwrap_or(self.resource.origin().line)
    }

    /// Says in the manifest by which revision the resource was last changed.
    pub fn set_resource_version(&mut self, version: &str) {
        let Some(manifest) = self.manifest.as_object_mut() else { return };
        let metadata = manifest.entry("metadata").or_insert_with(|| serde_json::json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("resourceVersion".into(), version.into());
        }
    }

    /// Makes mistakes in this document name no line: it stands in no file.
    pub fn forget_lines(&mut self) {
        self.lines.clear();
        self.resource.set_line(0);
    }

    /// The revision that the manifest names (`metadata.resourceVersion`).
    pub fn resource_version(&self) -> Option<&str> {
        self.manifest.get("metadata")?.get("resourceVersion")?.as_str()
    }

    /// Whether this was read before and has neither manifest nor lines.
    pub fn is_cached(&self) -> bool {
        self.manifest.is_null()
    }

    /// What the resource is known by.
    pub fn key(&self) -> Key {
        self.resource.key()
    }

    /// Makes mistakes in this document be those of the one that it was made from.
    pub fn relocate(&mut self, from: &Document) {
        self.lines = from.lines.clone();
        self.is_v1 = from.is_v1;
        self.resource.set_line(from.resource.origin().line);
    }
}

/// What one file holds.
#[derive(Clone, Debug, Default)]
pub struct ParsedFile {
    /// Its valid resources, in order.
    pub documents: Vec<Document>,
    /// Cluster configurations, which only `apply` takes.
    pub clusters: Vec<ClusterConfiguration>,
    /// Every mistake; while there is one, nothing of the file is to be used.
    pub mistakes: Vec<Mistake>,
    /// What the user should know of.
    pub warnings: Vec<Warning>,
}
