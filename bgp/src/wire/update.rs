//! UPDATE (RFC 4271 §4.3): the borrowed view of a message, and what it means after RFC 7606.

use std::net::IpAddr;

use super::attribute::{Attributes, Context, Fault, Verdict, is_host};
use super::cursor::Cursor;
use super::error::{ErrorCode, WireError};
use super::nlri::Nlri;
use crate::types::Family;

/// The three fields of an UPDATE, borrowed from the receive buffer.
#[derive(Clone, Copy, Debug)]
pub struct UpdateView<'a> {
    /// Withdrawn Routes.
    pub withdrawn: &'a [u8],
    /// Path Attributes.
    pub attributes: &'a [u8],
    /// Network Layer Reachability Information.
    pub nlri: &'a [u8],
}

impl<'a> UpdateView<'a> {
    /// Finds the fields in a message's body.
    ///
    /// # Errors
    /// 3/1 where the two length fields go beyond the message (RFC 7606 §3 b).
    pub fn parse(body: &'a [u8]) -> Result<UpdateView<'a>, WireError> {
        let mut cursor = Cursor(body);
        let fields = cursor.prefixed_u16().zip(cursor.prefixed_u16());
        let Some((withdrawn, attributes)) = fields else {
            return Err(WireError::new(
                ErrorCode::MALFORMED_ATTRIBUTE_LIST,
                "Withdrawn Routes and Path Attributes end inside the message",
            ));
        };
        Ok(UpdateView { withdrawn, attributes, nlri: cursor.0 })
    }

    /// Reads the whole message: prefixes, attributes and the verdict on them.
    ///
    /// # Errors
    /// What ends the session: prefixes that can't be read, attributes whose verdict is
    /// [`Verdict::SessionReset`], and an attribute error in a message that announces nothing
    /// (RFC 7606 §5.2).
    #[inline]
    pub fn read(&self, context: &Context) -> Result<Update<'a>, WireError> {
        let unreadable =
            |rule, octets: &[u8]| WireError::with_data(ErrorCode::INVALID_NETWORK_FIELD, rule, octets);
        let withdrawn = Nlri::check(Family::Ipv4Unicast, self.withdrawn)
            .ok_or_else(|| unreadable("every withdrawn prefix is whole and at most /32", self.withdrawn))?;
        let announced = Nlri::check(Family::Ipv4Unicast, self.nlri)
            .ok_or_else(|| unreadable("every prefix is whole and at most /32", self.nlri))?;
        let (attributes, empty) = (Attributes::default(), self.is_empty());
        let mut update = Update { withdrawn, announced, attributes, fault: None, empty };
        let mut worst: Option<Fault> = None;
        let mut note = |fault: Fault| {
            if worst.is_none_or(|known| known.verdict < fault.verdict) {
                worst = Some(fault);
            }
        };
        update.attributes.fill(self.attributes, context, &mut note);
        let announces = !announced.is_empty() || update.attributes.has_mp_reach;
        if announces {
            check_mandatory(&update.attributes, !announced.is_empty(), &mut note);
        }
        if let Some(fault) = worst
            && (fault.verdict == Verdict::SessionReset
                || (fault.verdict == Verdict::TreatAsWithdraw && !announces))
        {
            return Err(WireError {
                code: fault.code,
                data: offending(self.attributes, &fault),
                rule: fault.rule,
            });
        }
        update.fault = worst;
        Ok(update)
    }

    fn is_empty(&self) -> bool {
        self.withdrawn.is_empty() && self.attributes.is_empty() && self.nlri.is_empty()
    }
}

/// RFC 7606 §3 d: a missing well-known mandatory attribute; RFC 4271 §6.3: next hops that are no hosts.
fn check_mandatory(attributes: &Attributes<'_>, ipv4: bool, note: &mut impl FnMut(Fault)) {
    use super::attribute::code;
    let mut fault = |attribute, code, rule| {
        note(Fault { attribute: Some(attribute), verdict: Verdict::TreatAsWithdraw, code, rule });
    };
    if attributes.origin.is_none() {
        fault(code::ORIGIN, ErrorCode::MISSING_WELL_KNOWN, "announced routes have ORIGIN");
    }
    if attributes.as_path.is_none() {
        fault(code::AS_PATH, ErrorCode::MISSING_WELL_KNOWN, "announced routes have AS_PATH");
    }
    if ipv4 && attributes.next_hop.is_none() {
        fault(code::NEXT_HOP, ErrorCode::MISSING_WELL_KNOWN, "announced IPv4 routes have NEXT_HOP");
    }
    if attributes.mp_reach.is_some_and(|reach| !is_host(reach.next_hop)) {
        fault(code::MP_REACH_NLRI, ErrorCode::OPTIONAL_ATTRIBUTE, "the next hop is a unicast host address");
    }
}

/// The attribute that a NOTIFICATION's data names (RFC 4271 §6.3), cut to 64 octets.
fn offending(attributes: &[u8], fault: &Fault) -> Vec<u8> {
    use super::attribute::{RawAttributes, push};
    let Some(code) = fault.attribute else { return Vec::new() };
    let mut data = Vec::new();
    match RawAttributes::new(attributes).find(|raw| raw.code == code) {
        Some(raw) => push(&mut data, raw.flags, code, |out| out.extend(raw.value.iter().take(60))),
        None => data.push(code),
    }
    data
}

/// An UPDATE that the session survives.
#[derive(Clone, Debug)]
pub struct Update<'a> {
    withdrawn: Nlri<'a>,
    announced: Nlri<'a>,
    /// The attributes of the announced routes.
    pub attributes: Attributes<'a>,
    /// The worst of what was wrong, if anything was.
    pub fault: Option<Fault>,
    empty: bool,
}

impl<'a> Update<'a> {
    /// Whether the announced routes are to be handled as withdrawn.
    pub fn is_treated_as_withdraw(&self) -> bool {
        self.fault.is_some_and(|fault| fault.verdict == Verdict::TreatAsWithdraw)
    }

    /// The prefixes that the message withdraws, by list; announced ones are among them where they
    /// are treated so.
    pub fn withdrawals(&self) -> impl Iterator<Item = Nlri<'a>> + use<'a> {
        let treated = self.is_treated_as_withdraw();
        let announced = treated.then_some(self.announced);
        let mp_announced = self.attributes.mp_reach.filter(|_| treated).map(|reach| reach.nlri);
        std::iter::once(self.withdrawn)
            .chain(self.attributes.mp_unreach)
            .chain(announced)
            .chain(mp_announced)
            .filter(|list| !list.is_empty())
    }

    /// The prefixes that the message announces, by list with their next hop.
    pub fn announcements(&self) -> impl Iterator<Item = (IpAddr, Nlri<'a>)> + use<'a> {
        let ipv4 = self.attributes.next_hop.map(|next_hop| (IpAddr::V4(next_hop), self.announced));
        let mp = self.attributes.mp_reach.map(|reach| (reach.next_hop, reach.nlri));
        let treated = self.is_treated_as_withdraw();
        ipv4.into_iter().chain(mp).filter(move |(_, list)| !treated && !list.is_empty())
    }

    /// The family whose initial routes end here (RFC 4724 §2), if this is that marker.
    pub fn end_of_rib(&self) -> Option<Family> {
        if self.empty {
            return Some(Family::Ipv4Unicast);
        }
        let alone = self.attributes.count == 1 && self.withdrawn.is_empty() && self.announced.is_empty();
        self.attributes.mp_unreach.filter(|list| alone && list.is_empty()).map(|list| list.family())
    }
}
