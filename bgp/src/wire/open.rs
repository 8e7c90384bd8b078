//! OPEN (RFC 4271 §4.2), with extended optional parameters (RFC 9072).

use std::net::Ipv4Addr;

use super::capability::Capabilities;
use super::cursor::Cursor;
use super::error::{ErrorCode, WireError};
use crate::types::{Asn, RouterId};

/// Type of the optional parameter that carries capabilities.
const PARAMETER_CAPABILITIES: u8 = 2;
/// Value in place of the length and of the first parameter type that selects the extended form.
const EXTENDED: u8 = 255;

/// OPEN: the parameters that a speaker announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// AS of the speaker: from the four-octet capability, if there is one.
    pub asn: Asn,
    /// Proposed hold time, in seconds: 0 or at least 3.
    pub hold_time: u16,
    /// BGP identifier.
    pub router_id: RouterId,
    /// Announced capabilities.
    pub capabilities: Capabilities,
}

impl Open {
    /// Parses a message body.
    ///
    /// # Errors
    /// Code 2 (RFC 4271 §6.2): a version other than 4, AS 0, a hold time of 1 or 2, identifier 0,
    /// an unknown parameter, a length that exceeds the enclosing field.
    pub fn parse(body: &[u8]) -> Result<Open, WireError> {
        let mut cursor = Cursor(body);
        let short =
            || WireError::new(ErrorCode::OPEN_UNSPECIFIC, "OPEN has at least ten octets after the header");
        let version = cursor.u8().ok_or_else(short)?;
        if version != 4 {
            let rule = "the version is 4";
            return Err(WireError::with_data(ErrorCode::UNSUPPORTED_VERSION, rule, &4_u16.to_be_bytes()));
        }
        let my_as = cursor.u16().ok_or_else(short)?;
        let hold_time = cursor.u16().ok_or_else(short)?;
        let id = cursor.u32().ok_or_else(short)?;
        let capabilities = read_parameters(cursor)?;

        let asn = capabilities.four_octet_as.unwrap_or(Asn(u32::from(my_as)));
        if my_as == 0 || asn.0 == 0 {
            return Err(WireError::new(ErrorCode::BAD_PEER_AS, "the AS is not 0 (RFC 7607)"));
        }
        if my_as != asn.two_octets() && Asn(u32::from(my_as)) != Asn::TRANS {
            let rule = "My Autonomous System is the four-octet number or AS_TRANS (RFC 6793)";
            return Err(WireError::with_data(ErrorCode::BAD_PEER_AS, rule, &my_as.to_be_bytes()));
        }
        if matches!(hold_time, 1 | 2) {
            let rule = "the hold time is 0 or at least 3 seconds";
            return Err(WireError::with_data(
                ErrorCode::UNACCEPTABLE_HOLD_TIME,
                rule,
                &hold_time.to_be_bytes(),
            ));
        }
        if id == 0 {
            return Err(WireError::new(ErrorCode::BAD_BGP_IDENTIFIER, "the BGP identifier is not 0"));
        }
        Ok(Open { asn, hold_time, router_id: RouterId(Ipv4Addr::from_bits(id)), capabilities })
    }

    /// Appends the whole message, header included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        super::encode::message(out, super::frame::MessageKind::Open, |out| {
            out.push(4);
            out.extend(self.asn.two_octets().to_be_bytes());
            out.extend(self.hold_time.to_be_bytes());
            out.extend(self.router_id.0.octets());
            // Our capabilities take less than 100 octets, so the plain form is sufficient.
            let at = out.len();
            out.extend([0, PARAMETER_CAPABILITIES, 0]);
            let body = out.len();
            self.capabilities.write(out);
            let len = u8::try_from(out.len().saturating_sub(body)).unwrap_or(u8::MAX);
            if len == 0 {
                out.truncate(at.saturating_add(1));
            } else if let Some([all, _, one]) = out.get_mut(at..body) {
                *all = len.saturating_add(2);
                *one = len;
            }
        });
    }
}

fn read_parameters(mut cursor: Cursor<'_>) -> Result<Capabilities, WireError> {
    let wrong = |rule| WireError::new(ErrorCode::OPEN_UNSPECIFIC, rule);
    let overrun = || wrong("the optional parameters end where the message does");
    let len = cursor.u8().ok_or_else(overrun)?;
    let mut probe = cursor;
    let extended = len == EXTENDED && probe.u8() == Some(EXTENDED);
    let len = if extended {
        cursor = probe;
        cursor.u16().ok_or_else(overrun)?
    } else {
        u16::from(len)
    };
    if cursor.0.len() != usize::from(len) {
        return Err(overrun());
    }
    let mut capabilities = Capabilities::default();
    while let Some(kind) = cursor.u8() {
        let value = if extended { cursor.prefixed_u16() } else { cursor.prefixed_u8() }
            .ok_or_else(|| wrong("an optional parameter ends inside the message"))?;
        if kind != PARAMETER_CAPABILITIES {
            return Err(WireError::with_data(
                ErrorCode::UNSUPPORTED_OPTIONAL_PARAMETER,
                "the only optional parameter is Capabilities",
                &[kind],
            ));
        }
        capabilities.read(value).map_err(wrong)?;
    }
    Ok(capabilities)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Families, Family};
    use crate::wire::capability::{AddPath, GracefulRestart, LongLived, Role, Roles};
    use crate::wire::frame;

    fn full() -> Open {
        Open {
            asn: Asn(4_200_000_000),
            hold_time: 90,
            router_id: RouterId(Ipv4Addr::new(10, 0, 0, 1)),
            capabilities: Capabilities {
                multiprotocol: Some(Families::BOTH),
                route_refresh: true,
                extended_message: true,
                four_octet_as: Some(Asn(4_200_000_000)),
                graceful_restart: Some(GracefulRestart {
                    restarting: true,
                    notification: true,
                    restart_time: 120,
                    families: Families::BOTH,
                    forwarding: Families::IPV4,
                }),
                enhanced_route_refresh: true,
                add_path: AddPath { receive: Families::BOTH, send: Families::IPV4 },
                extended_next_hop: true,
                role: Roles::One(Role::Customer),
                long_lived: Some(LongLived {
                    families: Families::BOTH,
                    stale_time: [86_400, 0x00ff_ffff],
                    forwarding: Families::BOTH,
                }),
            },
        }
    }

    #[test]
    fn open_survives_the_wire() {
        for open in [full(), Open { asn: Asn(64512), capabilities: Capabilities::default(), ..full() }] {
            let mut out = Vec::new();
            open.encode(&mut out);
            let frame = frame::next(&out, frame::MAX_LEN).unwrap().unwrap();
            assert_eq!(frame.len(), out.len());
            assert_eq!(Open::parse(frame.body).unwrap(), open);
        }
    }

    #[test]
    fn the_extended_form_is_read_at_any_length() {
        let mut body = vec![4, 0xfc, 0, 0, 90, 10, 0, 0, 1, 255, 255, 0, 9, 2, 0, 6, 1, 4, 0, 2, 0, 1];
        let open = Open::parse(&body).unwrap();
        assert!(open.capabilities.families().contains(Family::Ipv6Unicast));
        assert!(!open.capabilities.families().contains(Family::Ipv4Unicast));
        body.truncate(12);
        assert_eq!(Open::parse(&body).unwrap_err().code, ErrorCode::OPEN_UNSPECIFIC);
    }

    #[test]
    fn the_two_octet_number_is_that_of_the_capability_or_as_trans() {
        let body = |my_as: u16| {
            let mut body = vec![4];
            body.extend(my_as.to_be_bytes());
            body.extend([0, 90, 10, 0, 0, 1, 8, 2, 6, 65, 4, 0, 0, 0xfd, 0xe9]);
            body
        };
        for my_as in [0xfde9, 23456] {
            assert_eq!(Open::parse(&body(my_as)).unwrap().asn, Asn(65001));
        }
        assert_eq!(Open::parse(&body(65002)).unwrap_err().code, ErrorCode::BAD_PEER_AS);
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_read_without_a_panic(body: Vec<u8>) {
            let _ = Open::parse(&body);
        }
    }
}
