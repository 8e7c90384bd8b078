//! Keys of resources in etcd: `PREFIX/resources/v3/KIND/NAME`, with KIND as in the control API's
//! paths (`nodes`, `ippools`, ...). Each value is one YAML document.

use resource::{Key, Kind};

/// The keys below one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    prefix: String,
    resources: String,
}

impl Keys {
    /// Creates the keys below `prefix`, which may end in a slash.
    pub(crate) fn new(prefix: &str) -> Self {
        let prefix = prefix.trim_end_matches('/').to_owned();
        Keys { resources: format!("{prefix}/resources/v3/"), prefix }
    }

    /// Returns the prefix of all resource keys.
    pub(crate) fn resources(&self) -> &str {
        &self.resources
    }

    /// Returns the key that is written with each deletion of a resource, so that conditions
    /// cover deletions: a deleted key has no revision of its own.
    pub(crate) fn deletion(&self) -> String {
        format!("{}/deletion", self.prefix)
    }

    /// Returns the etcd key of a resource.
    pub(crate) fn etcd_key(&self, key: &Key) -> String {
        format!("{}{}/{}", self.resources, key.kind.plural(), key.name)
    }

    /// Parses an etcd key. Returns `None` if it is not the key of a resource.
    pub(crate) fn resource_key(&self, key: &str) -> Option<Key> {
        let (kind, name) = key.strip_prefix(&self.resources)?.split_once('/')?;
        let kind = Kind::ALL.into_iter().find(|one| one.plural() == kind)?;
        (!name.is_empty() && !name.contains('/')).then(|| Key { kind, name: name.to_owned() })
    }

    /// Returns the name of a key's value in mistakes.
    pub(crate) fn place(key: &str) -> String {
        format!("etcd:{key}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_key_parses_as_its_resource() {
        let keys = Keys::new("/a/b/");
        for kind in Kind::ALL {
            let key = Key { kind, name: "x.y-1".into() };
            assert_eq!(keys.resource_key(&keys.etcd_key(&key)), Some(key));
        }
        assert_eq!(keys.etcd_key(&Key { kind: Kind::Node, name: "n".into() }), "/a/b/resources/v3/nodes/n");
    }

    #[test]
    fn keys_of_another_form_are_not_resources() {
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
