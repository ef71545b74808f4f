//! CIDRs and addresses, as the API server reads them.
//!
//! What Go's sloppy parser takes and strict validation refuses (Kubernetes 1.36: leading zeros, IPv4 inside IPv6, bits
//! beyond the prefix) is told apart from what nobody can read. IPv4 inside IPv6 becomes IPv4.

use super::reader::{Reader, cut};
use crate::finding::place::Place;
use ipnet::{IpNet, Ipv4Net};
use std::net::{IpAddr, Ipv4Addr};

/// An address, an IPv4 one written as IPv6 made IPv4.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// A range without bits beyond its prefix, an IPv4 one written as IPv6 made IPv4.
pub(super) fn range(text: &str) -> Option<IpNet> {
    parse(text).map(canonical)
}

/// The CIDR of an ipBlock, and what a server says about it.
pub(super) fn read(reader: &mut Reader, text: &str, path: &Place<'_>) -> Option<IpNet> {
    let Some(net) = parse(text) else {
        let (rule, message, help) = match without_zeros(text).map(|right| (parse(&right), right)) {
            Some((Some(_), right)) => (
                "cidr-leading-zeros",
                format!("{} has leading zeros, which some read as octal", cut(text)),
                format!("write {right}"),
            ),
            _ => ("invalid-cidr", format!("{} is no CIDR", cut(text)), advice(text)),
        };
        reader.refuse(rule, path, message, help);
        return None;
    };
    let right = canonical(net);
    if let IpAddr::V6(address) = net.addr()
        && address.to_ipv4_mapped().is_some()
    {
        reader.ambiguous(
            "cidr-ipv4-mapped",
            path,
            format!("{text} is an IPv4 range written as IPv6"),
            format!("write {right}"),
        );
    } else if net.addr() != net.network() {
        let message = format!("{text} has bits set beyond its prefix length");
        let one = if net.addr().is_ipv4() { 32 } else { 128 };
        reader.ambiguous(
            "cidr-host-bits",
            path,
            message,
            format!("write {right}, or {}/{one} for the one address", net.addr()),
        );
    }
    Some(right)
}

/// Go's `netip.ParsePrefix`: no zeros before a number, no sign.
fn parse(text: &str) -> Option<IpNet> {
    let (address, prefix) = text.split_once('/')?;
    let plain = is_number(prefix) && (prefix == "0" || !prefix.starts_with('0'));
    IpNet::new(address.parse().ok()?, prefix.parse().ok().filter(|_| plain)?).ok()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn canonical(net: IpNet) -> IpNet {
    if let IpNet::V6(v6) = net
        && let (Some(address), Some(prefix)) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96))
        && let Ok(v4) = Ipv4Net::new(address, prefix)
    {
        return IpNet::V4(v4.trunc());
    }
    net.trunc()
}

fn advice(text: &str) -> String {
    if let Ok(address) = text.parse::<IpAddr>() {
        return format!("write {address}/{} for the one address", if address.is_ipv4() { 32 } else { 128 });
    }
    match text.split_once('/') {
        Some((address, _)) if address.parse::<Ipv4Addr>().is_ok() => "write a prefix length from 0 to 32".to_owned(),
        Some((address, _)) if address.parse::<IpAddr>().is_ok() => "write a prefix length from 0 to 128".to_owned(),
        _ => "write a range of addresses: 10.9.8.0/24 or 2001:db8::/64 (names are not resolved)".to_owned(),
    }
}

/// An IPv4 range without the zeros before its numbers.
fn without_zeros(text: &str) -> Option<String> {
    let (address, prefix) = text.split_once('/')?;
    let number = |part: &str| part.parse::<u8>().ok().filter(|_| is_number(part)).map(|n| n.to_string());
    match address.parse::<std::net::Ipv6Addr>() {
        Ok(address) => Some(format!("{address}/{}", number(prefix)?)),
        Err(_) => {
            let parts: Option<Vec<String>> = address.split('.').map(number).collect();
            Some(format!("{}/{}", parts?.join("."), number(prefix)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> (Option<String>, Vec<&'static str>) {
        let mut reader = Reader::default();
        let net = read(&mut reader, text, &Place::Root);
        (net.map(|n| n.to_string()), reader.findings.iter().map(|f| f.rule).collect())
    }

    #[test]
    fn a_range_is_read_as_the_server_reads_it() {
        assert_eq!(rules("10.0.0.0/8"), (Some("10.0.0.0/8".into()), vec![]));
        assert_eq!(rules("FD00:0::/64"), (Some("fd00::/64".into()), vec![]));
        for text in [
            "10.0.0.1",
            "10.0.0.0/33",
            "",
            "/8",
            "10.0.0.0/",
            "10.0/8",
            "example.com",
            "10.0.0.0/+8",
            "fe80::1%eth0/64",
        ] {
            assert_eq!(rules(text), (None, vec!["invalid-cidr"]), "{text}");
        }
    }

    #[test]
    fn what_strict_servers_refuse_is_told_apart() {
        assert_eq!(rules("10.0.0.1/8"), (Some("10.0.0.0/8".into()), vec!["cidr-host-bits"]));
        assert_eq!(rules("::ffff:10.0.0.0/104"), (Some("10.0.0.0/8".into()), vec!["cidr-ipv4-mapped"]));
        assert_eq!(rules("010.0.0.0/8"), (None, vec!["cidr-leading-zeros"]));
        assert_eq!(rules("10.0.0.0/08"), (None, vec!["cidr-leading-zeros"]));
    }

    #[test]
    fn ipv4_inside_ipv6_is_ipv4() {
        assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
        assert_eq!(range("::ffff:10.0.0.1/120"), range("10.0.0.0/24"));
        assert_eq!(range("::/0"), "::/0".parse().ok());
    }
}
