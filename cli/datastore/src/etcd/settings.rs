//! The settings of the connection to etcd.

use std::path::PathBuf;

use resource::reader::Rule;

/// The settings `datastore.etcd` of routed.yaml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdSettings {
    /// `http://HOST:PORT` or `https://HOST:PORT` of each member, at least one.
    pub endpoints: Vec<String>,
    /// The prefix of all keys (`/routed`).
    pub prefix: String,
    /// The CA certificates of the members, PEM.
    pub ca: Option<PathBuf>,
    /// This node's certificate, PEM, with `key`.
    pub cert: Option<PathBuf>,
    /// The key of the certificate, PEM.
    pub key: Option<PathBuf>,
    /// The user, with `password_file`.
    pub username: Option<String>,
    /// A file with the user's password.
    pub password_file: Option<PathBuf>,
}

impl EtcdSettings {
    /// The default prefix of keys.
    pub const PREFIX: &str = "/routed";

    /// Returns settings without TLS and authentication.
    pub fn plain(endpoints: Vec<String>) -> Self {
        EtcdSettings {
            endpoints,
            prefix: Self::PREFIX.to_owned(),
            ca: None,
            cert: None,
            key: None,
            username: None,
            password_file: None,
        }
    }

    /// Checks the rules between fields.
    ///
    /// # Errors
    /// The first field that breaks a rule, and the rule.
    pub fn check(&self) -> Result<(), (&'static str, Rule)> {
        let is_https = |endpoint: &&String| endpoint.starts_with("https://");
        let https = self.endpoints.iter().filter(is_https).count();
        if https != 0 && https != self.endpoints.len() {
            return Err(("endpoints", "must be all http:// or all https://".into()));
        }
        if https > 0 && self.ca.is_none() {
            return Err(("ca", "is required with https:// endpoints".into()));
        }
        if https == 0 && (self.ca.is_some() || self.cert.is_some() || self.key.is_some()) {
            return Err(("endpoints", "must be https:// where ca, cert or key are given".into()));
        }
        if self.cert.is_some() != self.key.is_some() {
            return Err((
                if self.cert.is_some() { "key" } else { "cert" },
                "is required: cert and key go together".into(),
            ));
        }
        if self.username.is_some() != self.password_file.is_some() {
            let field = if self.username.is_some() { "passwordFile" } else { "username" };
            return Err((field, "is required: username and passwordFile go together".into()));
        }
        Ok(())
    }

    /// Returns the name of the store in `show status`.
    pub fn describe(&self) -> String {
        format!("etcd:{}{}", self.endpoints.join(","), self.prefix)
    }
}

/// Parses the host and port of an endpoint.
///
/// # Errors
/// The rule that the endpoint breaks.
pub fn host_and_port(endpoint: &str) -> Result<(&str, u16), Rule> {
    const RULE: &str = "must be http://HOST:PORT or https://HOST:PORT, such as http://10.0.0.1:2379";
    let rest = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://")).ok_or(RULE)?;
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or(RULE)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_host = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(fits),
    };
    let port: u16 = port.parse().map_err(|_| RULE)?;
    if is_host && port > 0 { Ok((bare.unwrap_or(host), port)) } else { Err(RULE.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_a_scheme_a_host_and_a_port() {
        assert_eq!(host_and_port("http://10.0.0.1:2379"), Ok(("10.0.0.1", 2379)));
        assert_eq!(host_and_port("https://[fd00::1]:2379/"), Ok(("fd00::1", 2379)));
        for wrong in [
            "10.0.0.1:2379",
            "http://10.0.0.1",
            "http://:1",
            "http://a:0",
            "http://a:b",
            "http://a/b:1",
            "http://fd00::1:2",
        ] {
            assert!(host_and_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_belongs_together_is_asked_for_together() {
        let plain = EtcdSettings::plain(vec!["http://a:1".into()]);
        assert_eq!(plain.check(), Ok(()));
        let broken = |change: fn(&mut EtcdSettings)| {
            let mut settings = plain.clone();
            change(&mut settings);
            settings.check().unwrap_err().0
        };
        assert_eq!(broken(|settings| settings.endpoints.push("https://b:1".into())), "endpoints");
        assert_eq!(broken(|settings| settings.endpoints = vec!["https://b:1".into()]), "ca");
        assert_eq!(broken(|settings| settings.ca = Some("/ca".into())), "endpoints");
        assert_eq!(broken(|settings| settings.username = Some("u".into())), "passwordFile");
        let https = |change: fn(&mut EtcdSettings)| {
            let mut settings =
                EtcdSettings { ca: Some("/ca".into()), ..EtcdSettings::plain(vec!["https://a:1".into()]) };
            change(&mut settings);
            settings.check()
        };
        assert_eq!(https(|_| {}), Ok(()));
        assert_eq!(https(|settings| settings.cert = Some("/c".into())).unwrap_err().0, "key");
    }
}
