//! NOTIFICATION (RFC 4271 §4.5) and the shutdown communication in it (RFC 9003).

use std::fmt;

use super::cursor::Cursor;
use super::error::{ErrorCode, WireError};
use super::frame::MessageKind;

/// NOTIFICATION: the reason for closing a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Code and subcode.
    pub code: ErrorCode,
    /// Data field, whose meaning depends on the code; the first 255 octets of a received one are
    /// kept.
    pub data: Vec<u8>,
}

impl Notification {
    /// Creates a NOTIFICATION without data.
    pub fn new(code: ErrorCode) -> Notification {
        Notification { code, data: Vec::new() }
    }

    /// Creates an administrative shutdown or reset with a text for the peer's operator (RFC 9003),
    /// which is cut after 255 octets.
    pub fn with_text(code: ErrorCode, text: &str) -> Notification {
        let mut end = text.len().min(255);
        while !text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        let text = text.get(..end).unwrap_or_default();
        let mut data = vec![u8::try_from(text.len()).unwrap_or(u8::MAX)];
        data.extend_from_slice(text.as_bytes());
        Notification { code, data }
    }

    /// Parses a message body. A missing subcode is read as 0, since a malformed NOTIFICATION is
    /// never answered (RFC 4271 §6.4).
    pub fn parse(body: &[u8]) -> Notification {
        let mut cursor = Cursor(body);
        let code = ErrorCode { code: cursor.u8().unwrap_or(0), subcode: cursor.u8().unwrap_or(0) };
        Notification { code, data: cursor.0.iter().take(255).copied().collect() }
    }

    /// Appends the whole message, header included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        super::encode::message(out, MessageKind::Notification, |out| {
            out.extend([self.code.code, self.code.subcode]);
            out.extend_from_slice(&self.data);
        });
    }

    /// Returns the text that an operator sent with a shutdown or a reset (RFC 9003), without
    /// control characters.
    pub fn shutdown_communication(&self) -> Option<String> {
        // RFC 8538 §3.1: a Hard Reset contains the original code and data.
        let (code, data) = match (self.code, self.data.as_slice()) {
            (ErrorCode::HARD_RESET, [code, subcode, data @ ..]) => {
                (ErrorCode { code: *code, subcode: *subcode }, data)
            }
            (code, data) => (code, data),
        };
        if !matches!(code, ErrorCode::ADMINISTRATIVE_SHUTDOWN | ErrorCode::ADMINISTRATIVE_RESET) {
            return None;
        }
        let text = std::str::from_utf8(Cursor(data).prefixed_u8()?).ok()?;
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        (!text.is_empty()).then_some(text)
    }
}

impl From<&WireError> for Notification {
    fn from(error: &WireError) -> Notification {
        Notification { code: error.code, data: error.data.clone() }
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code.fmt(f)?;
        if let (ErrorCode::HARD_RESET, [code, subcode, ..]) = (self.code, self.data.as_slice()) {
            write!(f, ": {}", ErrorCode { code: *code, subcode: *subcode })?;
        }
        match self.shutdown_communication() {
            Some(text) => write!(f, ": \"{text}\""),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shutdown_text_is_shown_without_control_characters() {
        let mut data = vec![9];
        data.extend(b"by\x1b ops\n!");
        let notification = Notification { code: ErrorCode::ADMINISTRATIVE_SHUTDOWN, data };
        assert_eq!(notification.to_string(), "Administrative Shutdown (6/2): \"by ops!\"");
    }

    #[test]
    fn a_shutdown_text_is_cut_between_characters() {
        let notification =
            Notification::with_text(ErrorCode::ADMINISTRATIVE_RESET, &format!("{}ü", "a".repeat(254)));
        assert_eq!(notification.data.len(), 255);
        assert_eq!(notification.shutdown_communication(), Some("a".repeat(254)));
    }

    #[test]
    fn a_text_longer_than_the_data_is_ignored() {
        let notification = Notification { code: ErrorCode::ADMINISTRATIVE_SHUTDOWN, data: vec![200, b'x'] };
        assert_eq!(notification.shutdown_communication(), None);
    }
}
