//! Where resources stand in etcd: `PREFIX/resources/v3/KIND/NAME`, KIND as in the control API's paths
//! (`nodes`, `ippools`, ...), each value one YAML document.

use resource::{Key, Kind};

/// The keys below one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    prefix: String,
    resources: String,
}

impl Keys {
    /// Returns the keys below `prefix`, with or without a slash at its end.
    pub(crate) fn new(prefix: &str) -> Self {
        let prefix = prefix.trim_end_matches('/').to_owned();
        Keys { resources: format!("{prefix}/resources/v3/"), prefix }
    }

    /// What every resource's key begins with.
    pub(crate) fn resources(&self) -> &str {
        &self.resources
    }

    /// Returns the key that changes whenever a resource is deleted, so that a commit can ask for that too: a key
    /// that is gone has no revision of its own.
    pub(crate) fn deletion(&self) -> String {
        format!("{}/deletion", self.prefix)
    }

    /// Returns the key of a resource.
    pub(crate) fn etcd_key(&self, key: &Key) -> String {
        format!("{}{}/{}", self.resources, key.kind.plural(), key.name)
    }

    /// Returns the resource whose key it is; `None`: nobody writes such keys.
    pub(crate) fn resource_key(&self, key: &str) -> Option<Key> {
        let (kind, name) = key.strip_prefix(&self.resources)?.split_once('/')?;
        let kind = Kind::ALL.into_iter().find(|one| one.plural() == kind)?;
        (!name.is_empty() && !name.contains('/')).then(|| Key { kind, name: name.to_owned() })
    }

    /// What mistakes call the text of a key.
    pub(crate) fn place(key: &str) -> String {
        format!("etcd:{key}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_as_the_resource_it_was_made_of() {
        let keys = Keys::new("/a/b/");
        for kind in Kind::ALL {
            let key = Key { kind, name: "x.y-1".into() };
            assert_eq!(keys.resource_key(&keys.etcd_key(&key)), Some(key));
        }
        assert_eq!(keys.etcd_key(&Key { kind: Kind::Node, name: "n".into() }), "/a/b/resources/v3/nodes/n");
    }

    #[test]
    fn strange_keys_are_nobodys() {
        let keys = Keys::new("/a");
        for key in [
            "/a/resources/v3/nodes",
            "/a/resources/v3/nodes/",
            "/a/resources/v3/pods/x",
            "/b",
            "/a/resources/v3/nodes/x/y",
        ] {
            assert_eq!(keys.resource_key(key), None, "{key}");
        }
    }
}
