//! Session protection below BGP: `ttlSecurity` of a BGPPeer, and `passwordFile` and `multihop` of
//! `spec.routed`.

use std::num::NonZeroU8;
use std::path::PathBuf;

use super::reader::{Fields, Report};
use super::scalar;

/// The rule for Calico's password fields, which name Kubernetes secrets.
const SECRET: &str = "is a Kubernetes secret, which routed does not read: write the password into a file on each node (mode \
                      0600) and name that in spec.routed.passwordFile";

/// Protection of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// The file with the session's password (`spec.routed.passwordFile`), an absolute path on every
    /// node that has the peer.
    pub password_file: Option<PathBuf>,
    /// The largest distance of the peer in hops (`spec.ttlSecurity`, GTSM, RFC 5082).
    pub ttl_security: Option<NonZeroU8>,
    /// The largest distance that an eBGP peer may have in hops (`spec.routed.multihop`).
    pub multihop: Option<NonZeroU8>,
}

/// Reads the fields in the `spec` of a BGPPeer and in its `routed`.
pub(super) fn read_peer(
    spec: &mut Fields<'_>,
    routed: Option<&mut Fields<'_>>,
    report: &mut Report,
) -> Security {
    if spec.take("password", report).is_some() {
        report.mistake(spec.line("password"), "spec.password", SECRET);
    }
    let mut security = Security {
        ttl_security: spec.optional("ttlSecurity", report, scalar::number(1, 255)).and_then(NonZeroU8::new),
        ..Security::default()
    };
    if let Some(routed) = routed {
        security.password_file = password_file(routed, report);
        security.multihop =
            routed.optional("multihop", report, scalar::number(1, 255)).and_then(NonZeroU8::new);
        if security.ttl_security.is_some() && security.multihop.is_some() {
            let rule = "excludes ttlSecurity, which says how many hops there are: keep one of them";
            report.mistake(routed.line("multihop"), "spec.routed.multihop", rule);
        }
    }
    security
}

/// Reads `passwordFile` of `spec.routed`.
pub(super) fn password_file(routed: &mut Fields<'_>, report: &mut Report) -> Option<PathBuf> {
    routed.optional("passwordFile", report, |value| {
        let path = PathBuf::from(scalar::text(value)?);
        if path.is_absolute() { Ok(path) } else { Err("must be an absolute path".into()) }
    })
}

/// Refuses `nodeMeshPassword` of a BGPConfiguration.
pub(super) fn refuse_mesh_password(spec: &mut Fields<'_>, report: &mut Report) {
    if spec.take("nodeMeshPassword", report).is_some() {
        report.mistake(spec.line("nodeMeshPassword"), "spec.nodeMeshPassword", SECRET);
    }
}
