//! `bgp-rs` 0.6.0.

use std::io::Cursor;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::catch_unwind;

use bgp_rs::{
    AFI, ASPath, Capabilities, NLRIEncoding, OpenCapability, OpenParameter, Origin, PathAttribute, Reader,
    SAFI, Segment, Update,
};
use ipnet::IpNet;

use crate::message::{Message, Outcome, Prefixes, hex, segment};

/// Reads a whole message.
pub fn read(octets: &[u8], asn4: bool) -> Outcome {
    // It panics on some inputs; that is an outcome too.
    catch_unwind(|| read_inside(octets, asn4)).unwrap_or(Outcome::Panicked)
}

fn read_inside(octets: &[u8], asn4: bool) -> Outcome {
    let capabilities = Capabilities { FOUR_OCTET_ASN_SUPPORT: asn4, ..Capabilities::default() };
    let mut reader = Reader { stream: Cursor::new(octets), capabilities };
    let (header, read) = match reader.read() {
        Ok(read) => read,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    let mut message = Message::new();
    message.insert("kind", header.record_type.to_string());
    match read {
        bgp_rs::Message::KeepAlive => {}
        bgp_rs::Message::Notification(notification) => {
            message
                .insert("code", format!("{}/{}", notification.major_err_code, notification.minor_err_code));
            message.insert("data", hex(&notification.data));
        }
        bgp_rs::Message::RouteRefresh(refresh) => {
            let family = format!("{}/{} {}", refresh.afi as u16, refresh.safi as u8, refresh.subtype);
            message.insert("refresh", family);
        }
        bgp_rs::Message::Open(open) => {
            let mut families = Vec::new();
            let (mut refreshes, mut four) = (false, None);
            for parameter in open.parameters {
                let OpenParameter::Capabilities(capabilities) = parameter else { continue };
                for capability in capabilities {
                    match capability {
                        OpenCapability::MultiProtocol((afi @ (AFI::IPV4 | AFI::IPV6), SAFI::Unicast)) => {
                            families.push(format!("{}/1", afi as u16));
                        }
                        OpenCapability::RouteRefresh => refreshes = true,
                        OpenCapability::FourByteASN(number) => four = Some(number),
                        _ => {}
                    }
                }
            }
            families.sort();
            families.dedup();
            message.insert("as", four.unwrap_or(u32::from(open.peer_asn)).to_string());
            message.insert("hold", open.hold_timer.to_string());
            message.insert("id", Ipv4Addr::from(open.identifier).to_string());
            message.insert("families", families.join(" "));
            message.insert("refreshes", refreshes.to_string());
            message.insert("four octets", four.is_some().to_string());
        }
        bgp_rs::Message::Update(update) => {
            if let Err(reason) = update_fields(&update, &mut message) {
                return Outcome::Refused(reason);
            }
        }
    }
    Outcome::Read(message)
}

fn update_fields(update: &Update, message: &mut Message) -> Result<(), String> {
    let mut prefixes = Prefixes::default();
    let mut next_hop = None;
    for attribute in &update.attributes {
        match attribute {
            PathAttribute::ORIGIN(origin) => {
                let code = match origin {
                    Origin::IGP => "0",
                    Origin::EGP => "1",
                    Origin::INCOMPLETE => "2",
                };
                message.insert("origin", code.into());
            }
            PathAttribute::AS_PATH(path) => {
                message.insert("as path", as_path(path));
            }
            PathAttribute::AS4_PATH(path) => {
                message.insert("as4 path", as_path(path));
            }
            PathAttribute::NEXT_HOP(address) => {
                next_hop = Some(*address);
                message.insert("next hop", address.to_string());
            }
            PathAttribute::MULTI_EXIT_DISC(med) => {
                message.insert("med", med.to_string());
            }
            PathAttribute::LOCAL_PREF(preference) => {
                message.insert("local pref", preference.to_string());
            }
            PathAttribute::ATOMIC_AGGREGATOR => {
                message.insert("atomic", String::new());
            }
            PathAttribute::AGGREGATOR((number, id)) => {
                message.insert("aggregator", format!("{number} {id}"));
            }
            PathAttribute::AS4_AGGREGATOR((number, id)) => {
                message.insert("as4 aggregator", format!("{number} {id}"));
            }
            PathAttribute::COMMUNITY(values) => {
                message.insert(
                    "communities",
                    hex(&values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<_>>()),
                );
            }
            PathAttribute::EXTENDED_COMMUNITIES(values) => {
                message.insert(
                    "extended",
                    hex(&values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<_>>()),
                );
            }
            PathAttribute::LARGE_COMMUNITY(values) => {
                let octets = values
                    .iter()
                    .flat_map(|(a, b, c)| [a.to_be_bytes(), b.to_be_bytes(), c.to_be_bytes()].concat());
                message.insert("large", hex(&octets.collect::<Vec<_>>()));
            }
            PathAttribute::ORIGINATOR_ID(id) => {
                message.insert("originator", Ipv4Addr::from(*id).to_string());
            }
            PathAttribute::CLUSTER_LIST(ids) => {
                message
                    .insert("clusters", hex(&ids.iter().flat_map(|id| id.to_be_bytes()).collect::<Vec<_>>()));
            }
            PathAttribute::MP_REACH_NLRI(reach) if reach.safi == SAFI::Unicast => {
                let next_hop = match reach.next_hop.len() {
                    4 => reach.next_hop.first_chunk().map(|octets: &[u8; 4]| IpAddr::from(*octets)),
                    _ => reach.next_hop.first_chunk().map(|octets: &[u8; 16]| IpAddr::from(*octets)),
                };
                for route in &reach.announced_routes {
                    prefixes.announce(prefix(route)?, next_hop);
                }
            }
            PathAttribute::MP_UNREACH_NLRI(unreach) if unreach.safi == SAFI::Unicast => {
                for route in &unreach.withdrawn_routes {
                    prefixes.withdraw(prefix(route)?);
                }
            }
            _ => {}
        }
    }
    for route in &update.announced_routes {
        prefixes.announce(prefix(route)?, next_hop);
    }
    for route in &update.withdrawn_routes {
        prefixes.withdraw(prefix(route)?);
    }
    prefixes.store(message);
    Ok(())
}

fn prefix(route: &NLRIEncoding) -> Result<IpNet, String> {
    let NLRIEncoding::IP(prefix) = route else { return Err(format!("not a plain prefix: {route:?}")) };
    IpNet::new(IpAddr::from(prefix), prefix.length).map_err(|error| error.to_string())
}

fn as_path(path: &ASPath) -> String {
    let segments = path.segments.iter().map(|part| match part {
        Segment::AS_SEQUENCE(numbers) => segment("sequence", numbers.iter().copied()),
        Segment::AS_SET(numbers) => segment("set", numbers.iter().copied()),
    });
    segments.collect::<Vec<_>>().join(" ")
}
