//! ROUTE-REFRESH (RFC 2918), with the subtypes of RFC 7313.

use super::cursor::Cursor;
use super::error::{ErrorCode, WireError};
use super::frame::MessageKind;
use crate::types::AfiSafi;

/// Request for all routes of a family, or a marker of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Family, supported or not.
    pub family: AfiSafi,
    /// 0: request; 1: beginning of the answer; 2: end of the answer (RFC 7313). Others are ignored.
    pub subtype: u8,
}

impl RouteRefresh {
    /// Parses a message body. Octets after the first four of a request are route filters (RFC
    /// 5291), a capability that is never announced; they are ignored.
    ///
    /// # Errors
    /// 7/1 for a shorter body, and for a marker that is not four octets long (RFC 7313 §5).
    pub fn parse(body: &[u8]) -> Result<RouteRefresh, WireError> {
        let mut cursor = Cursor(body);
        let read = |cursor: &mut Cursor<'_>| {
            let afi = cursor.u16()?;
            let subtype = cursor.u8()?;
            let safi = cursor.u8()?;
            Some(RouteRefresh { family: AfiSafi { afi, safi }, subtype })
        };
        match read(&mut cursor) {
            Some(refresh) if cursor.is_empty() || !matches!(refresh.subtype, 1 | 2) => Ok(refresh),
            _ => {
                // The data field is the whole message, whose header is known.
                let mut data = Vec::new();
                super::encode::message(&mut data, MessageKind::RouteRefresh, |out| {
                    out.extend(body.iter().take(45));
                });
                let rule = "ROUTE-REFRESH has four octets";
                Err(WireError::with_data(ErrorCode::INVALID_REFRESH_LENGTH, rule, &data))
            }
        }
    }

    /// Appends the whole message, header included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        super::encode::message(out, MessageKind::RouteRefresh, |out| {
            out.extend(self.family.afi.to_be_bytes());
            out.extend([self.subtype, self.family.safi]);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_survives_the_wire_and_wrong_lengths_are_rejected() {
        let refresh = RouteRefresh { family: AfiSafi { afi: 2, safi: 1 }, subtype: 0 };
        let mut out = Vec::new();
        refresh.encode(&mut out);
        assert_eq!(RouteRefresh::parse(&out[19..]), Ok(refresh));
        assert_eq!(RouteRefresh::parse(&[&out[19..], &[1, 64]].concat()), Ok(refresh), "with filters");
        for body in [&out[19..22], &[0, 1, 1, 1, 0]] {
            let error = RouteRefresh::parse(body).unwrap_err();
            assert_eq!(error.code, ErrorCode::INVALID_REFRESH_LENGTH);
            assert_eq!(error.data.len(), 19 + body.len());
        }
    }
}
