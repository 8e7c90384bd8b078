//! Lists of path attributes in a message: type codes, flags, and iteration.

use crate::wire::cursor::Cursor;

/// Attribute type codes.
pub mod code {
    #![allow(missing_docs)]
    pub const ORIGIN: u8 = 1;
    pub const AS_PATH: u8 = 2;
    pub const NEXT_HOP: u8 = 3;
    pub const MULTI_EXIT_DISC: u8 = 4;
    pub const LOCAL_PREF: u8 = 5;
    pub const ATOMIC_AGGREGATE: u8 = 6;
    pub const AGGREGATOR: u8 = 7;
    pub const COMMUNITIES: u8 = 8;
    pub const ORIGINATOR_ID: u8 = 9;
    pub const CLUSTER_LIST: u8 = 10;
    pub const MP_REACH_NLRI: u8 = 14;
    pub const MP_UNREACH_NLRI: u8 = 15;
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    pub const AS4_PATH: u8 = 17;
    pub const AS4_AGGREGATOR: u8 = 18;
    pub const PMSI_TUNNEL: u8 = 22;
    pub const TUNNEL_ENCAPSULATION: u8 = 23;
    pub const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
    pub const LARGE_COMMUNITIES: u8 = 32;
    pub const ONLY_TO_CUSTOMER: u8 = 35;
    pub const PREFIX_SID: u8 = 40;
    pub const ATTR_SET: u8 = 128;

    /// Returns the name of a known type.
    pub const fn name(code: u8) -> Option<&'static str> {
        Some(match code {
            ORIGIN => "ORIGIN",
            AS_PATH => "AS_PATH",
            NEXT_HOP => "NEXT_HOP",
            MULTI_EXIT_DISC => "MULTI_EXIT_DISC",
            LOCAL_PREF => "LOCAL_PREF",
            ATOMIC_AGGREGATE => "ATOMIC_AGGREGATE",
            AGGREGATOR => "AGGREGATOR",
            COMMUNITIES => "COMMUNITIES",
            ORIGINATOR_ID => "ORIGINATOR_ID",
            CLUSTER_LIST => "CLUSTER_LIST",
            MP_REACH_NLRI => "MP_REACH_NLRI",
            MP_UNREACH_NLRI => "MP_UNREACH_NLRI",
            EXTENDED_COMMUNITIES => "EXTENDED_COMMUNITIES",
            AS4_PATH => "AS4_PATH",
            AS4_AGGREGATOR => "AS4_AGGREGATOR",
            PMSI_TUNNEL => "PMSI_TUNNEL",
            TUNNEL_ENCAPSULATION => "TUNNEL_ENCAPSULATION",
            IPV6_EXTENDED_COMMUNITIES => "IPV6_EXTENDED_COMMUNITIES",
            LARGE_COMMUNITIES => "LARGE_COMMUNITIES",
            ONLY_TO_CUSTOMER => "ONLY_TO_CUSTOMER",
            PREFIX_SID => "PREFIX_SID",
            ATTR_SET => "ATTR_SET",
            _ => return None,
        })
    }
}

/// Attribute flag bits (RFC 4271 §4.3).
pub mod flag {
    /// Not every speaker needs to support the attribute.
    pub const OPTIONAL: u8 = 0x80;
    /// Passed on, even by speakers that do not support the attribute.
    pub const TRANSITIVE: u8 = 0x40;
    /// A speaker on the way passed the attribute on without supporting it.
    pub const PARTIAL: u8 = 0x20;
    /// The length field has two octets.
    pub const EXTENDED_LENGTH: u8 = 0x10;
    /// Flags of a well-known attribute.
    pub const WELL_KNOWN: u8 = TRANSITIVE;
}

pub(super) const OPTIONAL_TRANSITIVE: u8 = flag::OPTIONAL | flag::TRANSITIVE;

/// Attribute as it is in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawAttribute<'a> {
    /// Flag bits; see [`flag`].
    pub flags: u8,
    /// Type code; see [`code`].
    pub code: u8,
    /// Value field.
    pub value: &'a [u8],
}

/// Iterator over a list of attributes. It ends early if an attribute is cut off; see
/// [`RawAttributes::is_cut`].
#[derive(Clone, Debug)]
pub struct RawAttributes<'a> {
    cursor: Cursor<'a>,
    cut: bool,
}

impl<'a> RawAttributes<'a> {
    /// Returns an iterator over the path attributes field of an UPDATE.
    pub fn new(octets: &'a [u8]) -> RawAttributes<'a> {
        RawAttributes { cursor: Cursor(octets), cut: false }
    }

    /// Returns whether the iterator ended in the middle of an attribute.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Returns the octets of the first attribute of a type, with its header. Without a type,
    /// returns the octets from where the list is cut. Returns the whole list if there is neither.
    pub(in crate::wire) fn span(octets: &'a [u8], code: Option<u8>) -> &'a [u8] {
        let mut list = RawAttributes::new(octets);
        loop {
            let before = list.cursor.0;
            match list.next() {
                Some(raw) if Some(raw.code) == code => {
                    let len = before.len().saturating_sub(list.cursor.0.len());
                    return before.get(..len).unwrap_or(before);
                }
                Some(_) => {}
                None if list.cut && code.is_none() => return before,
                None => return if code.is_none() { octets } else { &[] },
            }
        }
    }

    fn read(&mut self) -> Option<RawAttribute<'a>> {
        let flags = self.cursor.u8()?;
        let code = self.cursor.u8()?;
        let value = if flags & flag::EXTENDED_LENGTH == 0 {
            self.cursor.prefixed_u8()?
        } else {
            self.cursor.prefixed_u16()?
        };
        Some(RawAttribute { flags, code, value })
    }
}

impl<'a> Iterator for RawAttributes<'a> {
    type Item = RawAttribute<'a>;

    #[inline]
    fn next(&mut self) -> Option<RawAttribute<'a>> {
        if self.cut || self.cursor.is_empty() {
            return None;
        }
        let attribute = self.read();
        self.cut = attribute.is_none();
        attribute
    }
}

/// Appends one attribute, with a two-octet length only if that is necessary.
pub fn push(out: &mut Vec<u8>, flags: u8, code: u8, value: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([flags & !flag::EXTENDED_LENGTH, code, 0]);
    let body = out.len();
    value(out);
    let len = out.len().saturating_sub(body);
    if let Ok(len) = u8::try_from(len) {
        if let Some(field) = out.get_mut(start.saturating_add(2)) {
            *field = len;
        }
        return;
    }
    // A value over 65,535 octets cannot be sent; the encoder rejects such a message by its length.
    let [high, low] = u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    out.insert(body, low);
    if let Some([flags, _, field]) = out.get_mut(start..body) {
        *flags |= flag::EXTENDED_LENGTH;
        *field = high;
    }
}
