//! Parsers of field values, each with the rule that it enforces.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::reader::Rule;
use super::reader::rule;
use super::selector::Selector;
use super::tree::Value;

/// Parses a string. Numbers and booleans must be quoted, as in Kubernetes.
pub fn text(value: &Value) -> Result<String, Rule> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) => Err("must be a string: quote it".into()),
        _ => Err("must be a string".into()),
    }
}

fn str_of(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// Parses `true` or `false`.
pub fn boolean(value: &Value) -> Result<bool, Rule> {
    match value {
        Value::Bool(value) => Ok(*value),
        _ => Err("must be true or false".into()),
    }
}

/// Returns a parser of whole numbers from `low` to `high`.
pub fn number<T: TryFrom<i128>>(low: i128, high: i128) -> impl Fn(&Value) -> Result<T, Rule> {
    move |value| {
        let rule = || rule!("must be a whole number from {low} to {high}");
        match value {
            Value::Integer(number) if (low..=high).contains(number) => {
                T::try_from(*number).map_err(|_| rule())
            }
            _ => Err(rule()),
        }
    }
}

/// Parses a non-zero AS number: a number, or a string with one, plain or as `high.low` (RFC 5396).
pub fn as_number(value: &Value) -> Result<u32, Rule> {
    let number = match value {
        Value::Integer(number) => u32::try_from(*number).ok(),
        Value::Text(text) => match text.split_once('.') {
            Some((high, low)) => match (digits::<u16>(high), digits::<u16>(low)) {
                (Some(high), Some(low)) => Some(u32::from(high) << 16 | u32::from(low)),
                _ => None,
            },
            None => digits::<u32>(text),
        },
        _ => None,
    };
    number.filter(|number| *number != 0).ok_or_else(|| "must be an AS number from 1 to 4294967295".into())
}

/// Parses decimal digits alone (`str::parse` accepts a `+`).
fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Parses a prefix without host bits.
pub fn prefix(value: &Value) -> Result<IpNet, Rule> {
    let net: IpNet = str_of(value)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Rule::from("must be a prefix such as 10.1.2.0/26"))?;
    if net.trunc() != net {
        return Err(rule!("must have no host bits: write {}", net.trunc()));
    }
    Ok(net)
}

/// Parses an IPv4 address with the length of its subnet. Without a length the subnet is unknown
/// (`/32`).
pub fn ipv4_interface(value: &Value) -> Result<Ipv4Net, Rule> {
    let net = str_of(value)
        .and_then(|text| text.parse().ok().or_else(|| text.parse::<Ipv4Addr>().ok().map(Ipv4Net::from)))
        .ok_or_else(|| {
            Rule::from("must be an IPv4 address with its subnet's length, such as 192.168.0.2/24")
        })?;
    usable(IpAddr::V4(net.addr()))?;
    Ok(net)
}

/// Parses an IPv6 address with the length of its subnet; without a length `/128`.
pub fn ipv6_interface(value: &Value) -> Result<Ipv6Net, Rule> {
    let net = str_of(value)
        .and_then(|text| text.parse().ok().or_else(|| text.parse::<Ipv6Addr>().ok().map(Ipv6Net::from)))
        .ok_or_else(|| Rule::from("must be an IPv6 address with its subnet's length, such as fd00::2/64"))?;
    usable(IpAddr::V6(net.addr()))?;
    Ok(net)
}

/// Parses an IPv4 address that a host can have.
pub fn ipv4_address(value: &Value) -> Result<Ipv4Addr, Rule> {
    let address = str_of(value)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Rule::from("must be an IPv4 address"))?;
    usable(IpAddr::V4(address))?;
    Ok(address)
}

/// Parses a cluster ID (RFC 4456): four octets in the form of an IPv4 address, not 0.0.0.0.
pub fn cluster_id(value: &Value) -> Result<Ipv4Addr, Rule> {
    str_of(value)
        .and_then(|text| text.parse().ok())
        .filter(|id| *id != Ipv4Addr::UNSPECIFIED)
        .ok_or_else(|| "must be a cluster ID in the form of an IPv4 address, not 0.0.0.0".into())
}

/// Checks that a host can have the address: not unspecified, multicast or broadcast.
fn usable(address: IpAddr) -> Result<(), Rule> {
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_unspecified() || address.is_multicast() || broadcast {
        return Err("must be an address that a host can have".into());
    }
    Ok(())
}

/// Parses `ADDRESS`, `ADDRESS:PORT` or `[IPV6]:PORT`.
pub fn peer_address(value: &Value) -> Result<(IpAddr, Option<u16>), Rule> {
    let rule = || Rule::from("must be an address, with a port as in 10.0.0.1:179 or [fd00::1]:179");
    let text = str_of(value).ok_or_else(rule)?;
    let (address, port) = match text.parse::<IpAddr>() {
        Ok(address) => (address, None),
        Err(_) => {
            let with_port: std::net::SocketAddr = text.parse().map_err(|_| rule())?;
            if with_port.port() == 0 {
                return Err(rule());
            }
            (with_port.ip(), Some(with_port.port()))
        }
    };
    usable(address)?;
    Ok((address, port))
}

/// Parses a unicast MAC address: six octets in hexadecimal, not all zero, without the group bit.
pub fn mac(value: &Value) -> Result<[u8; 6], Rule> {
    let parse = |text: &str| {
        let mut mac = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut mac {
            let part = parts.next().filter(|part| (1..=2).contains(&part.len()) && !part.starts_with('+'))?;
            *octet = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then_some(mac)
    };
    str_of(value)
        .and_then(parse)
        .filter(|mac| *mac != [0; 6] && mac[0] & 1 == 0)
        .ok_or_else(|| "must be a unicast MAC address such as 66:10:2a:33:4c:5d".into())
}

/// The longest duration that a field accepts, one day.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Parses a duration such as `10s`, `1m30s`, `500ms` or `1h`, at most one day.
pub fn duration(value: &Value) -> Result<Duration, Rule> {
    str_of(value)
        .and_then(parse_duration)
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| "must be a duration such as 10s, 1m30s or 500ms, at most 24h".into())
}

/// The default restart time that nodes advertise to peers (RFC 4724), Calico's default.
pub const DEFAULT_RESTART_TIME: Duration = Duration::from_secs(120);

/// Parses a restart time: twelve bits of seconds, not 0 (RFC 4724 §3).
pub fn restart_time(value: &Value) -> Result<Duration, Rule> {
    let time = duration(value)?;
    if time.subsec_nanos() == 0 && (1..=4095).contains(&time.as_secs()) {
        Ok(time)
    } else {
        Err("must be whole seconds from 1s to 4095s".into())
    }
}

/// Parses a duration such as `90s`, `1m30s` or `0`. Returns `None` for any other text.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = digits(rest.get(..unit_at)?).filter(|_| unit_at > 0)?;
        rest = rest.get(unit_at..)?;
        // "ms" before "m": the longer unit first.
        let (unit, millis) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)]
            .into_iter()
            .find(|(unit, _)| rest.starts_with(unit))?;
        rest = rest.get(unit.len()..)?;
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
    }
    (!text.is_empty()).then_some(total)
}

/// Parses a label selector.
pub fn selector(value: &Value) -> Result<Selector, Rule> {
    let text = str_of(value).ok_or_else(|| Rule::from("must be a selector such as all() or zone == 'a'"))?;
    Selector::parse(text).map_err(|error| rule!("must be a selector: {error}"))
}

/// Returns a parser of `names` that yields the value of the name.
pub fn one_of<T: Copy>(names: &'static [(&'static str, T)]) -> impl Fn(&Value) -> Result<T, Rule> {
    move |value| {
        let found = str_of(value).and_then(|text| names.iter().find(|(name, _)| *name == text));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            rule!("must be one of {}", names.join(", "))
        })
    }
}

/// Parses the name of a resource: letters, digits, `.`, `_` and `-`, at most 253, a letter or digit
/// first and last.
pub fn name(value: &Value) -> Result<String, Rule> {
    let text = text(value)?;
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inside = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if text.len() > 253 || !inside || !edge(text.chars().next()) || !edge(text.chars().next_back()) {
        return Err("must be letters, digits, '.', '_' and '-' (at most 253), beginning and ending with a letter or digit".into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_value(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn durations_are_read_in_parts_and_bounded() {
        for (text, millis) in
            [("10s", 10_000), ("1m30s", 90_000), ("500ms", 500), ("24h", 86_400_000), ("0", 0)]
        {
            assert_eq!(duration(&text_value(text)), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "+1s",
            "1.5s",
            "1d",
            "25h",
            "99999999999999999999h",
            "18446744073709551615h",
        ] {
            assert!(duration(&text_value(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn as_numbers_are_plain_or_dotted_and_not_zero() {
        assert_eq!(as_number(&Value::Integer(64512)), Ok(64512));
        assert_eq!(as_number(&text_value("1.10")), Ok(65546));
        for value in [
            Value::Integer(0),
            Value::Integer(1 << 32),
            Value::Float(1.1),
            text_value("+5"),
            text_value("0.0"),
        ] {
            assert!(as_number(&value).is_err(), "{value:?}");
        }
    }

    #[test]
    fn prefixes_with_host_bits_are_answered_with_the_masked_one() {
        assert_eq!(
            prefix(&text_value("10.1.2.3/26")),
            Err("must have no host bits: write 10.1.2.0/26".into())
        );
        assert!(prefix(&text_value("10.1.2.0/33")).is_err());
        assert!(prefix(&text_value("10.1.2.0")).is_err());
    }

    #[test]
    fn peer_addresses_may_have_a_port() {
        assert_eq!(peer_address(&text_value("10.0.0.1")), Ok(("10.0.0.1".parse().unwrap(), None)));
        assert_eq!(peer_address(&text_value("[fd00::1]:1790")), Ok(("fd00::1".parse().unwrap(), Some(1790))));
        for text in ["", "10.0.0.1:0", "10.0.0.1:x", "host", "224.0.0.1", "0.0.0.0"] {
            assert!(peer_address(&text_value(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn macs_are_unicast() {
        assert_eq!(mac(&text_value("66:10:2a:33:4c:5d")), Ok([0x66, 0x10, 0x2a, 0x33, 0x4c, 0x5d]));
        for text in [
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "66:10:2a:33:4c",
            "66:10:2a:33:4c:5d:1",
            "66:+1:2a:33:4c:5d",
        ] {
            assert!(mac(&text_value(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_safe_as_file_names() {
        assert!(name(&text_value("node-1.example")).is_ok());
        for text in ["", "..", "a/b", "-a", "a-", "é"] {
            assert!(name(&text_value(text)).is_err(), "{text}");
        }
    }
}
