//! The routes that an observer received.

use std::collections::HashMap;
use std::fmt;

use bgp::Family;
use bgp::wire::attribute::{RawAttributes, code};
use bgp::wire::nlri::Nlri;
use bgp::wire::update::UpdateView;
use ipnet::IpNet;

/// Stands on the route that is there before a case.
pub(super) const BEFORE: [u8; 4] = [0xfd, 0xe8, 0xfd, 0xe8];

/// An attribute as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its flags.
    pub flags: u8,
    /// Its type.
    pub code: u8,
    /// Its value.
    pub value: Vec<u8>,
}

/// The attributes of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedRoute {
    /// The attributes, as they stood.
    pub attributes: Vec<Attribute>,
}

/// The state of a case's prefix at an observer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteState {
    /// No route.
    Gone,
    /// The route that was there before.
    Before,
    /// The route that the case announced.
    New(ReceivedRoute),
}

impl fmt::Display for RouteState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteState::Gone => f.write_str("route gone"),
            RouteState::Before => f.write_str("route as before"),
            RouteState::New(told) => {
                f.write_str("new route with attributes")?;
                told.attributes.iter().try_for_each(|one| write!(f, " {}:{:02x}", one.code, one.flags))
            }
        }
    }
}

/// An observer's table.
#[derive(Debug, Default)]
pub(super) struct Table(HashMap<IpNet, ReceivedRoute>);

impl Table {
    /// Applies an UPDATE; returns an error for octets that can't be read.
    pub(super) fn take(&mut self, body: &[u8]) -> Result<(), String> {
        let view = UpdateView::parse(body).map_err(|error| error.to_string())?;
        let list =
            |family, octets| Nlri::check(family, octets).ok_or("prefixes that can't be read".to_owned());
        let mut attributes = Vec::new();
        let mut gone = vec![list(Family::Ipv4Unicast, view.withdrawn)?];
        let mut come = vec![list(Family::Ipv4Unicast, view.nlri)?];
        let mut raw = RawAttributes::new(view.attributes);
        for one in raw.by_ref() {
            match (one.code, one.value) {
                (code::MP_REACH_NLRI, [0, 2, 1, len, rest @ ..]) => {
                    let nlri = rest.get(usize::from(*len) + 1..).ok_or("a next hop that is cut off")?;
                    come.push(list(Family::Ipv6Unicast, nlri)?);
                }
                (code::MP_UNREACH_NLRI, [0, 2, 1, nlri @ ..]) => gone.push(list(Family::Ipv6Unicast, nlri)?),
                (code, value) => {
                    attributes.push(Attribute { flags: one.flags, code, value: value.to_vec() });
                }
            }
        }
        if raw.is_cut() {
            return Err("attributes that are cut off".to_owned());
        }
        gone.iter().flat_map(Nlri::iter).for_each(|prefix| _ = self.0.remove(&prefix));
        let told = ReceivedRoute { attributes };
        come.iter().flat_map(Nlri::iter).for_each(|prefix| _ = self.0.insert(prefix, told.clone()));
        Ok(())
    }

    /// Returns the state of a prefix.
    pub(super) fn holds(&self, prefix: &IpNet) -> RouteState {
        let Some(told) = self.0.get(prefix) else { return RouteState::Gone };
        let is_before = |one: &Attribute| one.code == code::COMMUNITIES && one.value == BEFORE;
        if told.attributes.iter().any(is_before) { RouteState::Before } else { RouteState::New(told.clone()) }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
