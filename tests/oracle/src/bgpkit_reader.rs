//! `bgpkit-parser` 0.23.

use std::net::IpAddr;
use std::panic::catch_unwind;

use bgpkit_parser::models::capabilities::BgpCapabilityType;
use bgpkit_parser::models::{
    AsPath, AsPathSegment, AsnLength, AttributeValue, BgpMessage, BgpOpenMessage, BgpUpdateMessage,
    CapabilityValue, Nlri, Origin, ParamValue, Safi,
};
use bgpkit_parser::parser::bgp::messages::parse_bgp_message;
use bytes::Bytes;

use crate::message::{Message, Outcome, Prefixes, hex, segment};

/// Reads a whole message.
pub fn read(octets: &[u8], asn4: bool) -> Outcome {
    catch_unwind(|| read_inside(octets, asn4)).unwrap_or(Outcome::Panicked)
}

fn read_inside(octets: &[u8], asn4: bool) -> Outcome {
    let width = if asn4 { AsnLength::Bits32 } else { AsnLength::Bits16 };
    let read = match parse_bgp_message(&mut Bytes::copy_from_slice(octets), false, &width) {
        Ok(read) => read,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    let mut message = Message::new();
    message.insert("kind", u8::from(read.msg_type()).to_string());
    match read {
        BgpMessage::KeepAlive => {}
        BgpMessage::Notification(notification) => {
            let (code, subcode) = notification.error.get_codes();
            message.insert("code", format!("{code}/{subcode}"));
            message.insert("data", hex(&notification.data));
        }
        BgpMessage::RouteRefresh(refresh) => {
            message.insert("refresh", format!("{}/{} {}", refresh.afi, refresh.safi, refresh.subtype));
        }
        BgpMessage::Open(open) => open_fields(&open, &mut message),
        BgpMessage::Update(update) => {
            if let Err(reason) = update_fields(&update, &mut message) {
                return Outcome::Refused(reason);
            }
        }
    }
    Outcome::Read(message)
}

fn open_fields(open: &BgpOpenMessage, message: &mut Message) {
    let mut families = Vec::new();
    let (mut refreshes, mut four) = (false, None);
    for parameter in &open.opt_params {
        let ParamValue::Capacities(capabilities) = &parameter.param_value else { continue };
        for capability in capabilities {
            match &capability.value {
                CapabilityValue::MultiprotocolExtensions(family) => {
                    let (afi, safi) = (u16::from(family.afi), u8::from(family.safi));
                    if matches!((afi, safi), (1 | 2, 1)) {
                        families.push(format!("{afi}/{safi}"));
                    }
                }
                CapabilityValue::FourOctetAs(capability) => four = Some(capability.asn),
                _ if capability.ty == BgpCapabilityType::ROUTE_REFRESH_CAPABILITY_FOR_BGP_4 => {
                    refreshes = true
                }
                _ => {}
            }
        }
    }
    families.sort();
    families.dedup();
    message.insert("as", four.unwrap_or(open.asn.to_u32()).to_string());
    message.insert("hold", open.hold_time.to_string());
    message.insert("id", open.bgp_identifier.to_string());
    message.insert("families", families.join(" "));
    message.insert("refreshes", refreshes.to_string());
    message.insert("four octets", four.is_some().to_string());
}

fn update_fields(update: &BgpUpdateMessage, message: &mut Message) -> Result<(), String> {
    let mut prefixes = Prefixes::default();
    let mut next_hop = None;
    for attribute in update.attributes.clone().into_attributes_iter() {
        let octets = || value_octets(&attribute);
        match &attribute.value {
            AttributeValue::Origin(origin) => {
                let code = match origin {
                    Origin::IGP => "0",
                    Origin::EGP => "1",
                    Origin::INCOMPLETE => "2",
                };
                message.insert("origin", code.into());
            }
            AttributeValue::AsPath(path) => {
                message.insert("as path", as_path(path));
            }
            AttributeValue::As4Path(path) => {
                message.insert("as4 path", as_path(path));
            }
            AttributeValue::NextHop(address) => {
                next_hop = Some(*address);
                message.insert("next hop", address.to_string());
            }
            AttributeValue::MultiExitDiscriminator(med) => {
                message.insert("med", med.to_string());
            }
            AttributeValue::LocalPreference(preference) => {
                message.insert("local pref", preference.to_string());
            }
            AttributeValue::AtomicAggregate => {
                message.insert("atomic", String::new());
            }
            AttributeValue::Aggregator { asn, id } => {
                message.insert("aggregator", format!("{} {id}", asn.to_u32()));
            }
            AttributeValue::As4Aggregator { asn, id } => {
                message.insert("as4 aggregator", format!("{} {id}", asn.to_u32()));
            }
            AttributeValue::Communities(_) => {
                message.insert("communities", octets()?);
            }
            AttributeValue::ExtendedCommunities(_) => {
                message.insert("extended", octets()?);
            }
            AttributeValue::LargeCommunities(_) => {
                message.insert("large", octets()?);
            }
            AttributeValue::OriginatorId(id) => {
                message.insert("originator", id.to_string());
            }
            AttributeValue::Clusters(ids) => {
                message
                    .insert("clusters", hex(&ids.iter().flat_map(|id| id.to_be_bytes()).collect::<Vec<_>>()));
            }
            AttributeValue::MpReachNlri(nlri) => {
                let next_hop = nlri.next_hop.map(|next_hop| next_hop.addr());
                unicast(nlri).for_each(|prefix| prefixes.announce(prefix, next_hop));
            }
            AttributeValue::MpUnreachNlri(nlri) => unicast(nlri).for_each(|prefix| prefixes.withdraw(prefix)),
            _ => {}
        }
    }
    let next_hop: Option<IpAddr> = next_hop;
    for prefix in &update.announced_prefixes {
        prefixes.announce(prefix.prefix, next_hop);
    }
    for prefix in &update.withdrawn_prefixes {
        prefixes.withdraw(prefix.prefix);
    }
    prefixes.store(message);
    Ok(())
}

fn unicast(nlri: &Nlri) -> impl Iterator<Item = ipnet::IpNet> {
    let wanted = nlri.safi == Safi::Unicast;
    nlri.prefixes.iter().filter(move |_| wanted).map(|prefix| prefix.prefix)
}

/// The value's octets as the library writes them; it keeps communities in typed form only.
fn value_octets(attribute: &bgpkit_parser::models::Attribute) -> Result<String, String> {
    let written = attribute.encode(AsnLength::Bits32).map_err(|error| error.to_string())?;
    let header = if written.first().is_some_and(|flags| flags & 0x10 != 0) { 4 } else { 3 };
    Ok(hex(written.get(header..).unwrap_or(&[])))
}

fn as_path(path: &AsPath) -> String {
    let segments = path.segments.iter().map(|part| {
        let (kind, numbers) = match part {
            AsPathSegment::AsSequence(numbers) => ("sequence", numbers),
            AsPathSegment::AsSet(numbers) => ("set", numbers),
            AsPathSegment::ConfedSequence(numbers) => ("confed sequence", numbers),
            AsPathSegment::ConfedSet(numbers) => ("confed set", numbers),
        };
        segment(kind, numbers.iter().map(|number| number.to_u32()))
    });
    segments.collect::<Vec<_>>().join(" ")
}
