//! Communities: standard (RFC 1997) and large (RFC 8092).

use std::fmt;
use std::str::FromStr;

/// Community of four octets (RFC 1997) or of twelve (RFC 8092).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Community {
    /// `a:b`.
    Standard(u32),
    /// `a:b:c`.
    Large([u32; 3]),
}

impl Community {
    /// NO_EXPORT (RFC 1997).
    pub const NO_EXPORT: Community = Community::Standard(0xffff_ff01);
    /// NO_ADVERTISE (RFC 1997).
    pub const NO_ADVERTISE: Community = Community::Standard(0xffff_ff02);
    /// NO_EXPORT_SUBCONFED (RFC 1997).
    pub const NO_EXPORT_SUBCONFED: Community = Community::Standard(0xffff_ff03);
    /// GRACEFUL_SHUTDOWN (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Community = Community::Standard(0xffff_0000);
    /// LLGR_STALE (RFC 9494 §4.6).
    pub const LLGR_STALE: Community = Community::Standard(0xffff_0006);
    /// NO_LLGR (RFC 9494 §4.7).
    pub const NO_LLGR: Community = Community::Standard(0xffff_0007);
    /// BLACKHOLE (RFC 7999).
    pub const BLACKHOLE: Community = Community::Standard(0xffff_029a);

    /// Appends the octets of the community.
    pub(crate) fn push(self, out: &mut Vec<u8>) {
        match self {
            Community::Standard(number) => out.extend(number.to_be_bytes()),
            Community::Large(parts) => parts.iter().for_each(|part| out.extend(part.to_be_bytes())),
        }
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Community::Standard(number) => write!(f, "{}:{}", number >> 16, number & 0xffff),
            Community::Large([a, b, c]) => write!(f, "{a}:{b}:{c}"),
        }
    }
}

/// Error for a text that is neither `a:b` with numbers up to 65535 nor `a:b:c` with numbers up to
/// 4294967295.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidCommunity;

impl fmt::Display for InvalidCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be a community: a:b with numbers to 65535, or a:b:c with numbers to 4294967295")
    }
}

impl std::error::Error for InvalidCommunity {}

impl FromStr for Community {
    type Err = InvalidCommunity;

    fn from_str(text: &str) -> Result<Community, InvalidCommunity> {
        // `parse` would accept a sign, and Calico does not accept leading zeros.
        fn number<T: FromStr>(text: &str) -> Option<T> {
            let plain =
                text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
            plain.then(|| text.parse().ok()).flatten()
        }
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            [a, b] => number::<u16>(a)
                .zip(number::<u16>(b))
                .map(|(a, b)| Community::Standard(u32::from(a) << 16 | u32::from(b))),
            [a, b, c] => match (number(a), number(b), number(c)) {
                (Some(a), Some(b), Some(c)) => Some(Community::Large([a, b, c])),
                _ => None,
            },
            _ => None,
        }
        .ok_or(InvalidCommunity)
    }
}
