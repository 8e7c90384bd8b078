//! Session parameters negotiated by two OPENs.

use std::time::Duration;

use super::graceful::GracefulParameters;
use crate::types::{Asn, Families, RouterId};
use crate::wire::as_path::AsWidth;
use crate::wire::attribute::Context;
use crate::wire::capability::{AddPath, Role, Roles};
use crate::wire::encode::UpdateFormat;
use crate::wire::error::{ErrorCode, WireError};
use crate::wire::frame::{MAX_EXTENDED_LEN, MAX_LEN};
use crate::wire::open::Open;

/// Parameters of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionParameters {
    /// The peer's AS.
    pub peer_as: Asn,
    /// The peer's BGP identifier.
    pub peer_id: RouterId,
    /// The peer is in our AS.
    pub internal: bool,
    /// The smaller of both hold times, in seconds; 0: no hold timer.
    pub hold_time: u16,
    /// Families that both sides support.
    pub families: Families,
    /// Width of AS numbers in UPDATEs.
    pub as_width: AsWidth,
    /// Length of the longest message that the peer may send, in octets. Only our own announcement
    /// counts (RFC 8654 §4).
    pub max_len: usize,
    /// Length of the longest message that the peer accepts, in octets.
    pub send_max_len: usize,
    /// The peer answers ROUTE-REFRESH.
    pub route_refresh: bool,
    /// Both sides mark the beginning and the end of the answer to a ROUTE-REFRESH (RFC 7313).
    pub enhanced_route_refresh: bool,
    /// Families in which several paths to a prefix are received and sent (RFC 7911).
    pub add_path: AddPath,
    /// IPv4 prefixes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// Our role towards the peer, if it is external and a role is configured (RFC 9234).
    pub role: Option<Role>,
    /// Parameters for restarts of the peer.
    pub graceful: Option<GracefulParameters>,
}

impl SessionParameters {
    /// Negotiates the parameters of a session; `expected_as` is the configured AS of the peer.
    ///
    /// # Errors
    /// Code 2 (RFC 4271 §6.2): the peer's AS is not the expected one; an internal peer has our own
    /// identifier (RFC 6286 §2.2); there is no family in common; the roles do not match (RFC 9234
    /// §4.2).
    pub fn settle(ours: &Open, theirs: &Open, expected_as: Asn) -> Result<SessionParameters, WireError> {
        if theirs.asn != expected_as {
            return Err(WireError::with_data(
                ErrorCode::BAD_PEER_AS,
                "the peer's AS is the configured one",
                &theirs.asn.0.to_be_bytes(),
            ));
        }
        let internal = theirs.asn == ours.asn;
        if internal && theirs.router_id == ours.router_id {
            let rule = "two speakers of one AS have different BGP identifiers";
            return Err(WireError::new(ErrorCode::BAD_BGP_IDENTIFIER, rule));
        }
        let (our, their) = (&ours.capabilities, &theirs.capabilities);
        let families = our.families().intersection(their.families());
        if families.is_empty() {
            let rule = "both speakers exchange at least one family in common";
            return Err(WireError::new(ErrorCode::UNSUPPORTED_CAPABILITY, rule));
        }
        let role = settle_role(our.role, their.role)?;
        let wide = our.four_octet_as.is_some() && their.four_octet_as.is_some();
        let longest = |extended: bool| if extended { MAX_EXTENDED_LEN } else { MAX_LEN };
        Ok(SessionParameters {
            peer_as: theirs.asn,
            peer_id: theirs.router_id,
            internal,
            hold_time: ours.hold_time.min(theirs.hold_time),
            families,
            as_width: if wide { AsWidth::Four } else { AsWidth::Two },
            max_len: longest(our.extended_message),
            send_max_len: longest(their.extended_message),
            route_refresh: our.route_refresh && their.route_refresh,
            enhanced_route_refresh: our.enhanced_route_refresh && their.enhanced_route_refresh,
            add_path: AddPath {
                receive: our.add_path.receive.intersection(their.add_path.send).intersection(families),
                send: our.add_path.send.intersection(their.add_path.receive).intersection(families),
            },
            extended_next_hop: our.extended_next_hop && their.extended_next_hop,
            role: role.filter(|_| !internal),
            graceful: GracefulParameters::settle(
                our.graceful_restart,
                their.graceful_restart,
                [our.long_lived, their.long_lived],
                families,
            ),
        })
    }

    /// Returns the parameters for reading UPDATEs of this session.
    pub fn context(&self) -> Context {
        Context {
            as_width: self.as_width,
            internal: self.internal,
            // A route server does not add its AS to the path (RFC 7947 §2.2.2.1).
            first_as: (!self.internal && self.role != Some(Role::RouteServerClient)).then_some(self.peer_as),
            families: self.families,
            add_path: self.add_path.receive,
            extended_next_hop: self.extended_next_hop,
        }
    }

    /// Returns the parameters for writing UPDATEs of this session.
    pub fn form(&self) -> UpdateFormat {
        UpdateFormat {
            as_width: self.as_width,
            max_len: self.send_max_len,
            extended_next_hop: self.extended_next_hop,
        }
    }

    /// Returns the send hold time: `configured`, but at least twice the hold time; `None` if there
    /// is no hold time (RFC 9687 §3.2).
    pub fn send_hold(&self, configured: u16) -> Option<Duration> {
        self.hold().map(|hold| (2 * hold).max(Duration::from_secs(u64::from(configured))))
    }

    pub(super) fn hold(&self) -> Option<Duration> {
        (self.hold_time > 0).then(|| Duration::from_secs(u64::from(self.hold_time)))
    }
}

/// Checks that the roles match, if both sides announce one (RFC 9234 §4.2). A speaker that
/// announces none is treated as one that does not support roles.
fn settle_role(ours: Roles, theirs: Roles) -> Result<Option<Role>, WireError> {
    let mismatch = |rule| Err(WireError::new(ErrorCode::ROLE_MISMATCH, rule));
    match (ours, theirs) {
        (_, Roles::Contradictory) => mismatch("a speaker has one role"),
        (Roles::One(ours), Roles::One(theirs)) if theirs != ours.counterpart() => {
            mismatch("the roles of two speakers fit each other")
        }
        (Roles::One(ours), _) => Ok(Some(ours)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::capability::Capabilities;

    fn open(host: u8, extended_message: bool) -> Open {
        Open {
            asn: Asn(64512),
            hold_time: 90,
            router_id: RouterId([10, 0, 0, host].into()),
            capabilities: Capabilities { extended_message, ..Capabilities::default() },
        }
    }

    #[test]
    fn the_path_of_an_external_peer_begins_with_its_as_unless_it_is_a_route_server() {
        for (role, first_as) in
            [(None, Some(65001)), (Some(Role::Customer), Some(65001)), (Some(Role::RouteServerClient), None)]
        {
            let mut ours = open(1, false);
            ours.capabilities.role = role.map_or(Roles::Absent, Roles::One);
            let theirs = Open { asn: Asn(65001), ..open(2, false) };
            let settled = SessionParameters::settle(&ours, &theirs, Asn(65001)).unwrap();
            assert_eq!(settled.context().first_as, first_as.map(Asn), "{role:?}");
        }
        let settled = SessionParameters::settle(&open(1, false), &open(2, false), Asn(64512)).unwrap();
        assert_eq!(settled.context().first_as, None);
    }

    #[test]
    fn extended_messages_may_be_sent_to_a_side_that_announced_them() {
        for (ours, theirs) in [(false, false), (false, true), (true, false), (true, true)] {
            let settled = SessionParameters::settle(&open(1, ours), &open(2, theirs), Asn(64512)).unwrap();
            assert_eq!(settled.max_len == MAX_EXTENDED_LEN, ours);
            assert_eq!(settled.send_max_len == MAX_EXTENDED_LEN, theirs);
            assert_eq!(settled.form().max_len, settled.send_max_len);
        }
    }
}
