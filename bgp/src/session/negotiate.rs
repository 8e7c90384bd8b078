//! What two OPENs settle.

use std::time::Duration;

use super::graceful::Graceful;
use crate::types::{Asn, Families, RouterId};
use crate::wire::as_path::AsWidth;
use crate::wire::attribute::Context;
use crate::wire::capability::{AddPath, Role, Roles};
use crate::wire::encode::UpdateFormat;
use crate::wire::error::{ErrorCode, WireError};
use crate::wire::frame::{MAX_EXTENDED_LEN, MAX_LEN};
use crate::wire::open::Open;

/// What holds for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The peer's AS.
    pub peer_as: Asn,
    /// The peer's BGP identifier.
    pub peer_id: RouterId,
    /// Whether the peer is in our AS.
    pub internal: bool,
    /// The smaller of both hold times, in seconds; 0: none.
    pub hold_time: u16,
    /// Families that both exchange.
    pub families: Families,
    /// Width of AS numbers.
    pub as_width: AsWidth,
    /// The longest message, in octets, that the peer may send: it is asked for what we announced alone
    /// (RFC 8654 §4).
    pub max_len: usize,
    /// The longest message, in octets, that the peer takes.
    pub send_max_len: usize,
    /// Whether the peer answers ROUTE-REFRESH.
    pub route_refresh: bool,
    /// Whether both mark the beginning and the end of what answers a ROUTE-REFRESH (RFC 7313).
    pub enhanced_route_refresh: bool,
    /// The families in which we take and send several paths to a prefix (RFC 7911).
    pub add_path: AddPath,
    /// Whether IPv4 prefixes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// What we are to the peer, where that was configured and it is external (RFC 9234).
    pub role: Option<Role>,
    /// What was settled of restarts of the peer.
    pub graceful: Option<Graceful>,
}

impl Negotiated {
    /// Settles a session from both OPENs; `expected_as` is the configured AS of the peer.
    ///
    /// # Errors
    /// Code 2 (RFC 4271 §6.2): the peer's AS is not the expected one; an internal peer has our own
    /// identifier (RFC 6286 §2.2); no family is left; the roles don't fit (RFC 9234 §4.2).
    pub fn settle(ours: &Open, theirs: &Open, expected_as: Asn) -> Result<Negotiated, WireError> {
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
        Ok(Negotiated {
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
            graceful: Graceful::settle(
                our.graceful_restart,
                their.graceful_restart,
                [our.long_lived, their.long_lived],
                families,
            ),
        })
    }

    /// How UPDATEs of this session are read.
    pub fn context(&self) -> Context {
        Context {
            as_width: self.as_width,
            internal: self.internal,
            // A route server stays out of the path (RFC 7947 §2.2.2.1).
            first_as: (!self.internal && self.role != Some(Role::RouteServerClient)).then_some(self.peer_as),
            families: self.families,
            add_path: self.add_path.receive,
            extended_next_hop: self.extended_next_hop,
        }
    }

    /// How UPDATEs for this session are written.
    pub fn form(&self) -> UpdateFormat {
        UpdateFormat {
            as_width: self.as_width,
            max_len: self.send_max_len,
            extended_next_hop: self.extended_next_hop,
        }
    }

    /// How long nothing may be writable to the peer: `configured`, but at least twice the hold time; `None`:
    /// for ever (RFC 9687 §3.2).
    pub fn send_hold(&self, configured: u16) -> Option<Duration> {
        self.hold().map(|hold| (2 * hold).max(Duration::from_secs(u64::from(configured))))
    }

    pub(super) fn hold(&self) -> Option<Duration> {
        (self.hold_time > 0).then(|| Duration::from_secs(u64::from(self.hold_time)))
    }
}

/// RFC 9234 §4.2: roles that both say fit each other. One that says none is taken for an older speaker.
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
            let settled = Negotiated::settle(&ours, &theirs, Asn(65001)).unwrap();
            assert_eq!(settled.context().first_as, first_as.map(Asn), "{role:?}");
        }
        let settled = Negotiated::settle(&open(1, false), &open(2, false), Asn(64512)).unwrap();
        assert_eq!(settled.context().first_as, None);
    }

    #[test]
    fn each_side_may_send_what_the_other_announced_that_it_takes() {
        for (ours, theirs) in [(false, false), (false, true), (true, false), (true, true)] {
            let settled = Negotiated::settle(&open(1, ours), &open(2, theirs), Asn(64512)).unwrap();
            assert_eq!(settled.max_len == MAX_EXTENDED_LEN, ours);
            assert_eq!(settled.send_max_len == MAX_EXTENDED_LEN, theirs);
            assert_eq!(settled.form().max_len, settled.send_max_len);
        }
    }
}
