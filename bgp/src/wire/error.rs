//! Errors in received messages, with the NOTIFICATION for each.

use std::fmt;

/// Error code and error subcode of a NOTIFICATION (RFC 4271 §4.5 and later RFCs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorCode {
    /// Error code.
    pub code: u8,
    /// Error subcode; 0 is unspecific.
    pub subcode: u8,
}

macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident = ($code:literal, $subcode:literal, $text:literal);)*) => {
        impl ErrorCode {
            $($(#[$meta])* #[doc = concat!($text, ".")]
            pub const $name: ErrorCode = ErrorCode { code: $code, subcode: $subcode };)*

            /// Returns the registered name of the subcode, or of the code alone, or `None`.
            pub fn name(self) -> Option<&'static str> {
                match (self.code, self.subcode) {
                    $(($code, $subcode) => Some($text),)*
                    (1, _) => Some("Message Header Error"),
                    (2, _) => Some("OPEN Message Error"),
                    (3, _) => Some("UPDATE Message Error"),
                    (4, _) => Some("Hold Timer Expired"),
                    (5, _) => Some("Finite State Machine Error"),
                    (6, _) => Some("Cease"),
                    (7, _) => Some("ROUTE-REFRESH Message Error"),
                    (8, _) => Some("Send Hold Timer Expired"),
                    _ => None,
                }
            }
        }
    };
}

codes! {
    CONNECTION_NOT_SYNCHRONIZED = (1, 1, "Connection Not Synchronized");
    BAD_MESSAGE_LENGTH = (1, 2, "Bad Message Length");
    BAD_MESSAGE_TYPE = (1, 3, "Bad Message Type");
    OPEN_UNSPECIFIC = (2, 0, "OPEN Message Error");
    UNSUPPORTED_VERSION = (2, 1, "Unsupported Version Number");
    BAD_PEER_AS = (2, 2, "Bad Peer AS");
    BAD_BGP_IDENTIFIER = (2, 3, "Bad BGP Identifier");
    UNSUPPORTED_OPTIONAL_PARAMETER = (2, 4, "Unsupported Optional Parameter");
    UNACCEPTABLE_HOLD_TIME = (2, 6, "Unacceptable Hold Time");
    UNSUPPORTED_CAPABILITY = (2, 7, "Unsupported Capability");
    ROLE_MISMATCH = (2, 11, "Role Mismatch");
    MALFORMED_ATTRIBUTE_LIST = (3, 1, "Malformed Attribute List");
    UNRECOGNIZED_WELL_KNOWN = (3, 2, "Unrecognized Well-known Attribute");
    MISSING_WELL_KNOWN = (3, 3, "Missing Well-known Attribute");
    ATTRIBUTE_FLAGS = (3, 4, "Attribute Flags Error");
    ATTRIBUTE_LENGTH = (3, 5, "Attribute Length Error");
    INVALID_ORIGIN = (3, 6, "Invalid ORIGIN Attribute");
    INVALID_NEXT_HOP = (3, 8, "Invalid NEXT_HOP Attribute");
    OPTIONAL_ATTRIBUTE = (3, 9, "Optional Attribute Error");
    INVALID_NETWORK_FIELD = (3, 10, "Invalid Network Field");
    MALFORMED_AS_PATH = (3, 11, "Malformed AS_PATH");
    HOLD_TIMER_EXPIRED = (4, 0, "Hold Timer Expired");
    FSM_OPEN_SENT = (5, 1, "Receive Unexpected Message in OpenSent State");
    FSM_OPEN_CONFIRM = (5, 2, "Receive Unexpected Message in OpenConfirm State");
    FSM_ESTABLISHED = (5, 3, "Receive Unexpected Message in Established State");
    MAXIMUM_PREFIXES = (6, 1, "Maximum Number of Prefixes Reached");
    ADMINISTRATIVE_SHUTDOWN = (6, 2, "Administrative Shutdown");
    PEER_DECONFIGURED = (6, 3, "Peer De-configured");
    ADMINISTRATIVE_RESET = (6, 4, "Administrative Reset");
    CONNECTION_REJECTED = (6, 5, "Connection Rejected");
    CONFIGURATION_CHANGE = (6, 6, "Other Configuration Change");
    COLLISION_RESOLUTION = (6, 7, "Connection Collision Resolution");
    OUT_OF_RESOURCES = (6, 8, "Out of Resources");
    HARD_RESET = (6, 9, "Hard Reset");
    BFD_DOWN = (6, 10, "BFD Down");
    SEND_HOLD_TIMER_EXPIRED = (8, 0, "Send Hold Timer Expired");
    INVALID_REFRESH_LENGTH = (7, 1, "Invalid Message Length");
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({}/{})", self.code, self.subcode),
            None => write!(f, "code {}/{}", self.code, self.subcode),
        }
    }
}

/// Violation of a rule by a received message, after which the session cannot continue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {rule}")]
pub struct WireError {
    /// Code and subcode for the NOTIFICATION.
    pub code: ErrorCode,
    /// Data field for the NOTIFICATION, as RFC 4271 §6 requires for this error; at most 64 octets.
    pub data: Vec<u8>,
    /// Rule that was violated.
    pub rule: &'static str,
    /// Type code of the attribute, if the error is about an attribute.
    pub attribute: Option<u8>,
}

impl WireError {
    /// Creates an error whose NOTIFICATION has no data.
    pub fn new(code: ErrorCode, rule: &'static str) -> WireError {
        WireError { code, data: Vec::new(), rule, attribute: None }
    }

    /// Creates an error with data, of which the first 64 octets are kept.
    pub fn with_data(code: ErrorCode, rule: &'static str, data: &[u8]) -> WireError {
        WireError { code, data: data.iter().take(64).copied().collect(), rule, attribute: None }
    }
}
