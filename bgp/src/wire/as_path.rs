//! AS_PATH (RFC 4271 §4.3) with two- or four-octet numbers, and the AS4_PATH merge (RFC 6793).
//! Confederation segments (RFC 5065) are parsed; membership in a confederation is not implemented.

use super::cursor::Cursor;
use crate::types::Asn;

/// Width of AS numbers in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AsWidth {
    /// Two octets (RFC 4271).
    Two,
    /// Four octets (RFC 6793), if both sides announced the capability.
    Four,
}

impl AsWidth {
    const fn octets(self) -> usize {
        match self {
            AsWidth::Two => 2,
            AsWidth::Four => 4,
        }
    }
}

/// Error in an AS_PATH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathFault {
    /// The type of a segment is not in 1 to 4.
    Type,
    /// A segment has no length field.
    Length,
    /// A segment has no AS numbers.
    Empty,
    /// A segment exceeds the attribute.
    Overrun,
    /// The path contains AS 0 (RFC 7607).
    As0,
}

/// Type of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentKind {
    /// AS_SET: unordered; counts as one hop.
    Set,
    /// AS_SEQUENCE: ordered; each number counts as one hop.
    Sequence,
    /// AS_CONFED_SEQUENCE (RFC 5065); does not count.
    ConfedSequence,
    /// AS_CONFED_SET (RFC 5065); does not count.
    ConfedSet,
}

impl SegmentKind {
    /// Returns the type octet.
    pub const fn code(self) -> u8 {
        match self {
            SegmentKind::Set => 1,
            SegmentKind::Sequence => 2,
            SegmentKind::ConfedSequence => 3,
            SegmentKind::ConfedSet => 4,
        }
    }

    fn from_code(code: u8) -> Option<SegmentKind> {
        match code {
            1 => Some(SegmentKind::Set),
            2 => Some(SegmentKind::Sequence),
            3 => Some(SegmentKind::ConfedSequence),
            4 => Some(SegmentKind::ConfedSet),
            _ => None,
        }
    }

    /// Returns whether the segment belongs to a confederation.
    pub const fn is_confederation(self) -> bool {
        matches!(self, SegmentKind::ConfedSequence | SegmentKind::ConfedSet)
    }
}

/// Borrowed segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Type of the segment.
    pub kind: SegmentKind,
    numbers: &'a [u8],
    width: AsWidth,
}

impl<'a> Segment<'a> {
    /// Returns the AS numbers, leftmost first.
    pub fn asns(&self) -> Asns<'a> {
        Asns { numbers: Cursor(self.numbers), width: self.width }
    }

    /// Returns the number of hops that count for the path length (RFC 4271 §9.1.2.2 a, RFC 5065
    /// §5.3).
    pub fn hops(&self) -> usize {
        match self.kind {
            SegmentKind::Set => 1,
            SegmentKind::Sequence => self.asns().len(),
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
        }
    }
}

/// Iterator over the AS numbers of a [`Segment`].
#[derive(Clone, Debug)]
pub struct Asns<'a> {
    numbers: Cursor<'a>,
    width: AsWidth,
}

impl Iterator for Asns<'_> {
    type Item = Asn;

    #[inline]
    fn next(&mut self) -> Option<Asn> {
        match self.width {
            AsWidth::Two => self.numbers.u16().map(|number| Asn(u32::from(number))),
            AsWidth::Four => self.numbers.u32().map(Asn),
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = match self.width {
            AsWidth::Two => self.numbers.0.len() / 2,
            AsWidth::Four => self.numbers.0.len() / 4,
        };
        (count, Some(count))
    }
}

impl ExactSizeIterator for Asns<'_> {}

/// Checked path, borrowed from a message.
#[derive(Clone, Copy, Debug)]
pub struct AsPath<'a> {
    octets: &'a [u8],
    width: AsWidth,
}

impl<'a> AsPath<'a> {
    /// Path of a route originated by its AS.
    pub const EMPTY: AsPath<'static> = AsPath { octets: &[], width: AsWidth::Four };

    /// Checks a path.
    ///
    /// # Errors
    /// [`PathFault`] (RFC 7606 §7.2, RFC 7607).
    #[inline]
    pub fn check(octets: &'a [u8], width: AsWidth) -> Result<AsPath<'a>, PathFault> {
        let mut cursor = Cursor(octets);
        while let Some(code) = cursor.u8() {
            if SegmentKind::from_code(code).is_none() {
                return Err(PathFault::Type);
            }
            let Some(count) = cursor.u8() else { return Err(PathFault::Length) };
            if count == 0 {
                return Err(PathFault::Empty);
            }
            let Some(numbers) = cursor.take(usize::from(count).saturating_mul(width.octets())) else {
                return Err(PathFault::Overrun);
            };
            if (Asns { numbers: Cursor(numbers), width }).any(|asn| asn.0 == 0) {
                return Err(PathFault::As0);
            }
        }
        Ok(AsPath { octets, width })
    }

    /// Returns the octets as received.
    pub fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// Returns the width of the AS numbers.
    pub fn width(&self) -> AsWidth {
        self.width
    }

    /// Returns the segments, leftmost first.
    pub fn segments(&self) -> Segments<'a> {
        Segments { cursor: Cursor(self.octets), width: self.width }
    }

    /// Returns all AS numbers, leftmost first.
    pub fn asns(&self) -> impl Iterator<Item = Asn> + use<'a> {
        self.segments().flat_map(|segment| segment.asns())
    }

    /// Returns the path length for the decision process.
    pub fn hops(&self) -> usize {
        self.segments().map(|segment| segment.hops()).fold(0, usize::saturating_add)
    }

    /// Returns the AS that the route was learned from: the leftmost number, if the path begins with
    /// a sequence (RFC 4271 §9.1.2.2 c).
    pub fn neighbor_as(&self) -> Option<Asn> {
        let first = self.segments().find(|segment| !segment.kind.is_confederation())?;
        if first.kind == SegmentKind::Sequence { first.asns().next() } else { None }
    }

    /// Returns whether the path begins with a sequence whose first number is `asn`, or AS_TRANS in
    /// its place.
    pub(crate) fn begins_with(&self, asn: Asn) -> bool {
        let first = self.neighbor_as();
        first == Some(asn) || self.width == AsWidth::Two && first == Some(Asn(u32::from(asn.two_octets())))
    }

    /// Returns the number of occurrences of `asn`.
    pub fn occurrences(&self, asn: Asn) -> usize {
        self.asns().filter(|number| *number == asn).count()
    }

    /// Appends the path with four-octet numbers.
    pub fn write_four(&self, out: &mut Vec<u8>) {
        match self.width {
            AsWidth::Four => out.extend_from_slice(self.octets),
            AsWidth::Two => self.segments().for_each(|segment| push_segment(out, segment, usize::MAX)),
        }
    }

    /// Appends the path with two-octet numbers, with AS_TRANS for those that do not fit. Returns
    /// whether any did not fit.
    pub fn write_two(&self, out: &mut Vec<u8>) -> bool {
        let mut lossy = false;
        for segment in self.segments() {
            out.push(segment.kind.code());
            out.push(u8::try_from(segment.asns().len()).unwrap_or(u8::MAX));
            for asn in segment.asns() {
                lossy |= u16::try_from(asn.0).is_err();
                out.extend(asn.two_octets().to_be_bytes());
            }
        }
        lossy
    }

    /// Appends, with four-octet numbers, the path that is reconstructed from this two-octet path
    /// and an AS4_PATH: the leading hops that only the former has, then the latter (RFC 6793
    /// §4.2.3).
    pub fn write_merged(&self, as4_path: AsPath<'_>, out: &mut Vec<u8>) {
        let Some(mut missing) = self.hops().checked_sub(as4_path.hops()) else {
            return self.write_four(out);
        };
        for segment in self.segments() {
            if missing == 0 && !segment.kind.is_confederation() {
                break;
            }
            push_segment(out, segment, missing);
            missing = missing.saturating_sub(segment.hops());
        }
        for segment in as4_path.segments().filter(|segment| !segment.kind.is_confederation()) {
            push_segment(out, segment, usize::MAX);
        }
    }
}

/// Appends a segment with four-octet numbers; at most `limit` of them from a sequence.
fn push_segment(out: &mut Vec<u8>, segment: Segment<'_>, limit: usize) {
    let count = if segment.kind == SegmentKind::Sequence {
        segment.asns().len().min(limit)
    } else {
        segment.asns().len()
    };
    out.push(segment.kind.code());
    out.push(u8::try_from(count).unwrap_or(u8::MAX));
    segment.asns().take(count).for_each(|asn| out.extend(asn.0.to_be_bytes()));
}

/// Iterator over the segments of an [`AsPath`].
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    cursor: Cursor<'a>,
    width: AsWidth,
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        let kind = SegmentKind::from_code(self.cursor.u8()?)?;
        let count = usize::from(self.cursor.u8()?);
        let numbers = self.cursor.take(count.checked_mul(self.width.octets())?)?;
        Some(Segment { kind, numbers, width: self.width })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(width: AsWidth, asns: &[u32]) -> Vec<u8> {
        let mut out = vec![2, asns.len() as u8];
        for asn in asns {
            match width {
                AsWidth::Two => out.extend((*asn as u16).to_be_bytes()),
                AsWidth::Four => out.extend(asn.to_be_bytes()),
            }
        }
        out
    }

    #[test]
    fn the_merge_takes_leading_hops_from_the_two_octet_path() {
        let two = sequence(AsWidth::Two, &[10, 23456, 23456, 20]);
        let four = sequence(AsWidth::Four, &[70000, 70001, 20]);
        let mut out = Vec::new();
        AsPath::check(&two, AsWidth::Two)
            .unwrap()
            .write_merged(AsPath::check(&four, AsWidth::Four).unwrap(), &mut out);
        let merged: Vec<_> = AsPath::check(&out, AsWidth::Four).unwrap().asns().map(|asn| asn.0).collect();
        assert_eq!(merged, [10, 70000, 70001, 20]);
    }

    #[test]
    fn a_longer_as4_path_is_ignored() {
        let two = sequence(AsWidth::Two, &[10]);
        let four = sequence(AsWidth::Four, &[70000, 70001]);
        let mut out = Vec::new();
        AsPath::check(&two, AsWidth::Two)
            .unwrap()
            .write_merged(AsPath::check(&four, AsWidth::Four).unwrap(), &mut out);
        assert_eq!(out, sequence(AsWidth::Four, &[10]));
    }

    #[test]
    fn sets_count_one_and_confederation_segments_nothing() {
        let mut path = vec![3, 1, 0, 0, 0, 9, 1, 3];
        [1u32, 2, 3].iter().for_each(|asn| path.extend(asn.to_be_bytes()));
        path.extend(sequence(AsWidth::Four, &[7, 8]));
        let path = AsPath::check(&path, AsWidth::Four).unwrap();
        assert_eq!(path.hops(), 3);
        assert_eq!(path.neighbor_as(), None, "a path that begins with a set has no neighbor AS");
    }

    #[test]
    fn each_malformed_path_has_its_fault() {
        for (octets, fault) in [
            (&[0, 1, 0, 0, 0, 1][..], PathFault::Type),
            (&[5, 1, 0, 0, 0, 1], PathFault::Type),
            (&[2], PathFault::Length),
            (&[2, 0], PathFault::Empty),
            (&[2, 2, 0, 0, 0, 1], PathFault::Overrun),
            (&[2, 1, 0, 0, 0, 0], PathFault::As0),
        ] {
            assert_eq!(AsPath::check(octets, AsWidth::Four).unwrap_err(), fault);
        }
    }
}
