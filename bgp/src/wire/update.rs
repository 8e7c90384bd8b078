//! UPDATE (RFC 4271 §4.3): the borrowed view of a message, and its meaning after the checks of RFC
//! 7606.

use std::net::IpAddr;

use super::attribute::{
    AttributeRule, Attributes, Context, Fault, RawAttributes, UpdateVerdict, is_host, rule,
};
use super::cursor::Cursor;
use super::error::WireError;
use super::nlri::Nlri;
use crate::types::Family;

/// Three fields of an UPDATE, borrowed from the receive buffer.
#[derive(Clone, Copy, Debug)]
pub struct UpdateView<'a> {
    /// Withdrawn Routes field.
    pub withdrawn: &'a [u8],
    /// Path Attributes field.
    pub attributes: &'a [u8],
    /// Network Layer Reachability Information field.
    pub nlri: &'a [u8],
}

impl<'a> UpdateView<'a> {
    /// Locates the fields in a message body.
    ///
    /// # Errors
    /// 3/1 if the two length fields exceed the message (RFC 7606 §3 b).
    pub fn parse(body: &'a [u8]) -> Result<UpdateView<'a>, WireError> {
        let mut cursor = Cursor(body);
        let fields = cursor.prefixed_u16().zip(cursor.prefixed_u16());
        let Some((withdrawn, attributes)) = fields else {
            return Err(refused(&Fault::from(&rule::MESSAGE_LENGTHS), &[]));
        };
        Ok(UpdateView { withdrawn, attributes, nlri: cursor.0 })
    }

    /// Reads the whole message: prefixes, attributes, and the verdict on them.
    ///
    /// # Errors
    /// Faults that end the session: unreadable prefixes, attributes whose verdict is
    /// [`UpdateVerdict::SessionReset`], and an attribute error in a message that announces nothing (RFC
    /// 7606 §5.2).
    #[inline]
    pub fn read(&self, context: &Context) -> Result<UpdateMessage<'a>, WireError> {
        let unreadable = |rule: &'static AttributeRule, octets| refused(&Fault::from(rule), octets);
        let withdrawn = context
            .nlri(Family::Ipv4Unicast, self.withdrawn)
            .ok_or_else(|| unreadable(&rule::WITHDRAWN_ROUTES, self.withdrawn))?;
        let announced =
            context.nlri(Family::Ipv4Unicast, self.nlri).ok_or_else(|| unreadable(&rule::NLRI, self.nlri))?;
        let (attributes, empty) = (Attributes::default(), self.is_empty());
        let mut update = UpdateMessage { withdrawn, announced, attributes, fault: None, empty };
        let mut worst: Option<Fault> = None;
        let mut note = |fault: Fault| {
            if worst.is_none_or(|known| known.verdict < fault.verdict) {
                worst = Some(fault);
            }
        };
        update.attributes.fill(self.attributes, context, &mut note);
        // An MP_REACH_NLRI of another family may announce prefixes too.
        let mp_announces = update.attributes.has_mp_reach
            && update.attributes.mp_reach.is_none_or(|reach| !reach.nlri.is_empty());
        let announces = !announced.is_empty() || mp_announces;
        if announces {
            check_mandatory(&update.attributes, !announced.is_empty(), &mut note);
        }
        if let Some(fault) = worst
            && (fault.verdict == UpdateVerdict::SessionReset
                || (fault.verdict == UpdateVerdict::TreatAsWithdraw && !announces))
        {
            return Err(refused(&fault, RawAttributes::span(self.attributes, fault.attribute)));
        }
        update.fault = worst;
        Ok(update)
    }

    fn is_empty(&self) -> bool {
        self.withdrawn.is_empty() && self.attributes.is_empty() && self.nlri.is_empty()
    }
}

/// Checks for missing well-known mandatory attributes (RFC 7606 §3 d) and for next hops that are
/// not host addresses (RFC 4271 §6.3).
fn check_mandatory(attributes: &Attributes<'_>, ipv4: bool, note: &mut impl FnMut(Fault)) {
    let mut fault = |rule: &'static AttributeRule| note(Fault::from(rule));
    if attributes.origin.is_none() {
        fault(&rule::ORIGIN_MISSING);
    }
    if attributes.as_path.is_none() {
        fault(&rule::AS_PATH_MISSING);
    }
    if ipv4 && attributes.next_hop.is_none() {
        fault(&rule::NEXT_HOP_MISSING);
    }
    if attributes.mp_reach.is_some_and(|reach| !is_host(reach.next_hop)) {
        fault(&rule::MP_REACH_NEXT_HOP_HOST);
    }
}

/// Returns the error that ends the session. The data of its NOTIFICATION are the attribute as
/// received (RFC 4271 §6.3), or its type if it is missing, cut to 64 octets.
fn refused(fault: &Fault, octets: &[u8]) -> WireError {
    let missing = fault.attribute.filter(|_| octets.is_empty()).map(|code| [code]);
    let data = missing.as_ref().map_or(octets, |code| code);
    WireError { attribute: fault.attribute, ..WireError::with_data(fault.code, fault.rule, data) }
}

/// UPDATE that does not end the session.
#[derive(Clone, Debug)]
pub struct UpdateMessage<'a> {
    withdrawn: Nlri<'a>,
    announced: Nlri<'a>,
    /// Attributes of the announced routes.
    pub attributes: Attributes<'a>,
    /// Worst fault, if there is one.
    pub fault: Option<Fault>,
    empty: bool,
}

impl<'a> UpdateMessage<'a> {
    /// Returns whether the announced routes are treated as withdrawn.
    pub fn is_treated_as_withdraw(&self) -> bool {
        self.fault.is_some_and(|fault| fault.verdict == UpdateVerdict::TreatAsWithdraw)
    }

    /// Returns the octets of the fault as received: the attribute, or the rest of a list that is
    /// cut; nothing if the attribute is missing.
    pub fn offending(&self) -> &'a [u8] {
        let raw = self.attributes.raw();
        self.fault.map_or(&[], |fault| RawAttributes::span(raw, fault.attribute))
    }

    /// Returns the withdrawn prefixes, by list. They include the announced prefixes if those are
    /// treated as withdrawn.
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

    /// Returns the announced prefixes, by list, with their next hop.
    pub fn announcements(&self) -> impl Iterator<Item = (IpAddr, Nlri<'a>)> + use<'a> {
        let ipv4 = self.attributes.next_hop.map(|next_hop| (IpAddr::V4(next_hop), self.announced));
        let mp = self.attributes.mp_reach.map(|reach| (reach.next_hop, reach.nlri));
        let treated = self.is_treated_as_withdraw();
        ipv4.into_iter().chain(mp).filter(move |(_, list)| !treated && !list.is_empty())
    }

    /// Returns the family, if this is an End-of-RIB marker (RFC 4724 §2).
    pub fn end_of_rib(&self) -> Option<Family> {
        if self.empty {
            return Some(Family::Ipv4Unicast);
        }
        let alone = self.attributes.count == 1 && self.withdrawn.is_empty() && self.announced.is_empty();
        self.attributes.mp_unreach.filter(|list| alone && list.is_empty()).map(|list| list.family())
    }
}
