//! Message framing by the message header (RFC 4271 §4.1).

use super::cursor::Cursor;
use super::error::{ErrorCode, WireError};

/// Length of the header (marker, length, type), in octets.
pub const HEADER_LEN: usize = 19;
/// Length of the longest message, in octets, without extended messages.
pub const MAX_LEN: usize = 4096;
/// Length of the longest extended message, in octets (RFC 8654).
pub const MAX_EXTENDED_LEN: usize = 65535;

/// Type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Type 1.
    Open,
    /// Type 2.
    Update,
    /// Type 3.
    Notification,
    /// Type 4.
    Keepalive,
    /// Type 5 (RFC 2918).
    RouteRefresh,
}

impl MessageKind {
    /// All types, in wire order.
    pub const ALL: [MessageKind; 5] = [
        MessageKind::Open,
        MessageKind::Update,
        MessageKind::Notification,
        MessageKind::Keepalive,
        MessageKind::RouteRefresh,
    ];

    /// Returns the type octet.
    pub const fn code(self) -> u8 {
        match self {
            MessageKind::Open => 1,
            MessageKind::Update => 2,
            MessageKind::Notification => 3,
            MessageKind::Keepalive => 4,
            MessageKind::RouteRefresh => 5,
        }
    }

    /// Returns the type with this octet.
    fn from_code(code: u8) -> Option<MessageKind> {
        match code {
            1 => Some(MessageKind::Open),
            2 => Some(MessageKind::Update),
            3 => Some(MessageKind::Notification),
            4 => Some(MessageKind::Keepalive),
            5 => Some(MessageKind::RouteRefresh),
            _ => None,
        }
    }

    /// Returns the smallest and the largest length, in octets, if messages of up to `max` are
    /// allowed.
    fn bounds(self, max: usize) -> (usize, usize) {
        match self {
            // RFC 8654 §4: OPEN and KEEPALIVE are never extended.
            MessageKind::Open => (29, MAX_LEN),
            MessageKind::Keepalive => (HEADER_LEN, HEADER_LEN),
            MessageKind::Update => (23, max),
            MessageKind::Notification => (21, max),
            // A wrong length of the body has its own error code (RFC 7313 §5).
            MessageKind::RouteRefresh => (HEADER_LEN, max),
        }
    }
}

/// A complete message, borrowed from the receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Type of the message.
    pub kind: MessageKind,
    /// Octets after the header.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// Returns the length of the whole message, in octets.
    pub fn len(&self) -> usize {
        HEADER_LEN.saturating_add(self.body.len())
    }

    /// Returns `false`: a message has at least a header.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// Returns the first message in `buf`, or `None` if it is incomplete. `max` is [`MAX_LEN`] or
/// [`MAX_EXTENDED_LEN`].
///
/// # Errors
/// Code 1 (RFC 4271 §6.1): a wrong marker, a length that is invalid for the type, an unknown type.
#[inline]
pub fn next(buf: &[u8], max: usize) -> Result<Option<Frame<'_>>, WireError> {
    let mut cursor = Cursor(buf);
    // A wrong marker is reported as early as possible: a peer could otherwise block with half a
    // header.
    let synchronized = match buf.first_chunk::<16>() {
        Some(marker) => *marker == [0xff; 16],
        None => buf.iter().all(|octet| *octet == 0xff),
    };
    if !synchronized {
        return Err(WireError::new(
            ErrorCode::CONNECTION_NOT_SYNCHRONIZED,
            "the marker is 16 octets of ones",
        ));
    }
    let Some(_) = cursor.take(16) else { return Ok(None) };
    let Some(length) = cursor.u16() else { return Ok(None) };
    let len = usize::from(length);
    let bad_length = |rule| WireError::with_data(ErrorCode::BAD_MESSAGE_LENGTH, rule, &length.to_be_bytes());
    if len < HEADER_LEN {
        return Err(bad_length("a message has at least 19 octets"));
    }
    if len > max {
        return Err(bad_length("the message is longer than was negotiated"));
    }
    let Some(code) = cursor.u8() else { return Ok(None) };
    let Some(kind) = MessageKind::from_code(code) else {
        return Err(WireError::with_data(
            ErrorCode::BAD_MESSAGE_TYPE,
            "the type is one of OPEN, UPDATE, NOTIFICATION, KEEPALIVE, ROUTE-REFRESH",
            &[code],
        ));
    };
    let (min, max) = kind.bounds(max);
    if len < min || len > max {
        return Err(bad_length("this type of message can't have that length"));
    }
    Ok(cursor.take(len.saturating_sub(HEADER_LEN)).map(|body| Frame { kind, body }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(len: u16, kind: u8) -> Vec<u8> {
        let mut out = vec![0xff; 16];
        out.extend(len.to_be_bytes());
        out.push(kind);
        out
    }

    #[test]
    fn a_keepalive_is_nineteen_octets() {
        let octets = header(19, 4);
        let frame = next(&octets, MAX_LEN).unwrap().unwrap();
        assert_eq!((frame.kind, frame.len()), (MessageKind::Keepalive, 19));
        for cut in 0..octets.len() {
            assert_eq!(next(&octets[..cut], MAX_LEN), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn a_wrong_marker_is_detected_at_its_first_wrong_octet() {
        let error = next(&[0xff, 0xfe], MAX_LEN).unwrap_err();
        assert_eq!(error.code, ErrorCode::CONNECTION_NOT_SYNCHRONIZED);
    }

    #[test]
    fn lengths_outside_the_bounds_of_a_type_are_rejected_with_the_length_as_data() {
        for (len, kind) in [(18, 4), (20, 4), (28, 1), (22, 2), (4097, 2), (65535, 2), (20, 3)] {
            let error = next(&header(len, kind), MAX_LEN).unwrap_err();
            assert_eq!(error.code, ErrorCode::BAD_MESSAGE_LENGTH, "{len} {kind}");
            assert_eq!(error.data, len.to_be_bytes());
        }
        assert_eq!(next(&header(65535, 2), MAX_EXTENDED_LEN), Ok(None));
        assert!(next(&header(4097, 1), MAX_EXTENDED_LEN).is_err());
    }

    #[test]
    fn an_unknown_type_is_answered_with_that_type() {
        for kind in [0, 6, 255] {
            let error = next(&header(19, kind), MAX_LEN).unwrap_err();
            assert_eq!((error.code, error.data), (ErrorCode::BAD_MESSAGE_TYPE, vec![kind]));
        }
    }
}
