//! Where this network namespace sends what is for nobody near: on most networks of pods that is the node's own
//! address there, which the kubelet calls from. Reads the kernel's routes once; what is made of it is in
//! probes.rs.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The next hops of the default routes, IPv4 and IPv6. None that can be read: none.
pub(super) fn gateways() -> Vec<IpAddr> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (four, six) = (read("/proc/net/route"), read("/proc/net/ipv6_route"));
    let four = four.lines().filter_map(gateway_v4).map(IpAddr::from);
    let six = six.lines().filter_map(gateway_v6).map(IpAddr::from);
    four.chain(six).take(GATEWAYS_LIMIT).collect()
}

/// `Iface Destination Gateway Flags …`: addresses as the machine keeps them, in hexadecimal.
fn gateway_v4(line: &str) -> Option<Ipv4Addr> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (destination, gateway) = (fields.next()?, fields.next()?);
    let gateway = u32::from_str_radix(gateway, 16).ok()?;
    (destination == "00000000" && gateway != 0).then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
}

/// `destination length source length next-hop …`, in hexadecimal.
fn gateway_v6(line: &str) -> Option<Ipv6Addr> {
    let mut fields = line.split_ascii_whitespace();
    let (destination, length) = (fields.next()?, fields.next()?);
    let gateway = u128::from_str_radix(fields.nth(2)?, 16).ok()?;
    let is_default = length == "00" && destination.bytes().all(|digit| digit == b'0');
    (is_default && gateway != 0).then(|| Ipv6Addr::from(gateway))
}

/// More than any pod has.
const GATEWAYS_LIMIT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_routes_of_ipv4_are_found() {
        for (case, line, expected) in [
            ("head", "Iface\tDestination\tGateway \tFlags\tRefCnt", None),
            (
                "default",
                "eth0\t00000000\t0101F40A\t0003\t0\t0\t0\t00000000\t0\t0\t0",
                Some([10, 244, 1, 1]),
            ),
            ("a network", "eth0\t0001F40A\t0101F40A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0", None),
            ("a link", "eth0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0", None),
            ("half", "eth0\t00000000", None),
            ("nonsense", "eth0 00000000 gateway", None),
        ] {
            assert_eq!(gateway_v4(line), expected.map(Ipv4Addr::from), "case: {case}");
        }
    }

    #[test]
    fn the_default_routes_of_ipv6_are_found() {
        let zero = "0".repeat(32);
        let hop = "fd000001000000000000000000000001";
        let rest = "00000400 00000001 00000000 00000003 eth0";
        for (case, line, expected) in [
            ("default", format!("{zero} 00 {zero} 00 {hop} {rest}"), Some("fd00:1::1")),
            ("a network", format!("{hop} 40 {zero} 00 {hop} {rest}"), None),
            ("no hop", format!("{zero} 00 {zero} 00 {zero} {rest}"), None),
            ("half", zero, None),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(gateway_v6(&line), expected, "case: {case}");
        }
    }
}
