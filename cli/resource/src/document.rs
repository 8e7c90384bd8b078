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
    /// True if it was written in the v1 form.
    pub is_v1: bool,
    /// True if the stored text must be written from the manifest: the resource was an item of a
    /// list, or had the API version under which Kubernetes stores Calico's resources.
    pub needs_rewrite: bool,
    /// The byte range of its text in the file.
    pub range: Range<usize>,
    /// The line of each field, by the field's path.
    pub(crate) lines: HashMap<String, u64>,
}

impl Document {
    /// Returns the line of the field at `path`, or of the document.
    pub fn line(&self, path: &str) -> u64 {
        self.lines.get(path).copied().unwrap_or(self.resource.origin().line)
    }

    /// Sets `metadata.resourceVersion`, the revision that last changed the resource.
    pub fn set_resource_version(&mut self, version: &str) {
        let Some(manifest) = self.manifest.as_object_mut() else { return };
        let metadata = manifest.entry("metadata").or_insert_with(|| serde_json::json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("resourceVersion".into(), version.into());
        }
    }

    /// Removes the lines, so that mistakes in this document name none. For documents that are in no
    /// file.
    pub fn forget_lines(&mut self) {
        self.lines.clear();
        self.resource.set_line(0);
    }

    /// Returns the revision that the manifest names (`metadata.resourceVersion`).
    pub fn resource_version(&self) -> Option<&str> {
        self.manifest.get("metadata")?.get("resourceVersion")?.as_str()
    }

    /// Returns whether the document comes from a [`ParseCache`](super::ParseCache). Such a document
    /// has neither manifest nor lines.
    pub fn is_cached(&self) -> bool {
        self.manifest.is_null()
    }

    /// Returns the kind and name that identify the resource.
    pub fn key(&self) -> Key {
        self.resource.key()
    }

    /// Takes the lines of the document that this one was made from, so that mistakes name its
    /// lines.
    pub fn relocate(&mut self, from: &Document) {
        self.lines = from.lines.clone();
        self.is_v1 = from.is_v1;
        self.resource.set_line(from.resource.origin().line);
    }
}

/// The contents of one file.
#[derive(Clone, Debug, Default)]
pub struct ParsedFile {
    /// Its valid resources, in order.
    pub documents: Vec<Document>,
    /// Cluster configurations, which only `apply` accepts.
    pub clusters: Vec<ClusterConfiguration>,
    /// Every mistake. If there is one, nothing of the file may be used.
    pub mistakes: Vec<Mistake>,
    /// The warnings.
    pub warnings: Vec<Warning>,
}
