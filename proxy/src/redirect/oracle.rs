//! An independent reading of the rules, for tests: once of the plan, packet by packet, and once of
//! the netlink messages by a small nftables machine. Both must agree, and neither may ever send the
//! proxy's own traffic back to it.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's enums are open; whatever this machine does not know fails the test"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use heddle_model::names::Port;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_core::NetlinkPayload;
use netlink_packet_netfilter::NetfilterMessageInner;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Meta,
    MetaKey, NfTablesMessage, Operator, Payload, RuleAttribute,
};
use proptest::prelude::*;

use crate::redirect::messages::{self, Step};
use crate::redirect::plan::{
    ADMIN_PORT, Condition, INBOUND_CHAIN, OUTBOUND_CHAIN, PROBE_ADDRESSES, Plan, Rule, Verdict,
};
use crate::redirect::settings::{Exemption, PortRange, Settings};

/// The first packet of a connection, as far as the rules can see it.
#[derive(Clone, Debug)]
struct Packet {
    tcp: bool,
    destination: SocketAddr,
    interface: &'static str,
    mark: u32,
    user: u32,
}

/// Where the packet goes by the plan: a port of the proxy, or on.
fn judge(rules: &[Rule], packet: &Packet) -> Option<u16> {
    let holds = |condition: &Condition| match condition {
        Condition::Tcp => packet.tcp,
        Condition::DestinationPort(range) => {
            packet.tcp
                && (range.first().number()..=range.last().number())
                    .contains(&packet.destination.port())
        }
        Condition::Destination(network) => network.contains(&packet.destination.ip()),
        Condition::FromLoopback => packet.interface == "lo",
        Condition::Exempt(Exemption::Mark(mark)) => packet.mark == mark.get(),
        Condition::Exempt(Exemption::User(user)) => packet.user == *user,
    };
    match rules.iter().find(|rule| rule.conditions.iter().all(holds))?.verdict {
        Verdict::Pass => None,
        Verdict::Redirect(port) => Some(port.number()),
    }
}

/// Where the packet goes by the messages that the kernel is given.
fn execute(steps: &[Step], chain: &str, packet: &Packet) -> Option<u16> {
    for step in steps {
        let NetlinkPayload::InnerMessage(message) = &step.message.payload else { continue };
        let NetfilterMessageInner::NfTables(NfTablesMessage::NewRule(rule)) = &message.inner else {
            continue;
        };
        if !rule.attributes.contains(&RuleAttribute::Chain(chain.to_owned())) {
            continue;
        }
        let expressions = rule.attributes.iter().find_map(|attribute| match attribute {
            RuleAttribute::Expressions(list) => Some(list),
            _ => None,
        });
        match run_rule(expressions.unwrap(), packet) {
            Outcome::Next => {}
            Outcome::Accept => return None,
            Outcome::Redirect(port) => return Some(port),
        }
    }
    None
}

enum Outcome {
    Next,
    Accept,
    Redirect(u16),
}

/// One register is all that the rules use.
fn run_rule(list: &[ListAttribute<ExpressionAttribute>], packet: &Packet) -> Outcome {
    let mut register: Vec<u8> = Vec::new();
    for element in list {
        let ListAttribute::Element(attributes) = element else {
            panic!("not an element: {element:?}")
        };
        let [ExpressionAttribute::Name(_), ExpressionAttribute::Data(expression)] =
            attributes.as_slice()
        else {
            panic!("not an expression: {attributes:?}")
        };
        match expression {
            Expressions::Meta(attributes) => register = meta(attributes, packet),
            Expressions::Payload(attributes) => register = payload(attributes, packet),
            Expressions::Bitwise(attributes) => register = bitwise(attributes, &register),
            Expressions::Cmp(attributes) => {
                if !compare(attributes, &register) {
                    return Outcome::Next;
                }
            }
            Expressions::Immediate(attributes) => match &attributes[1] {
                Immediate::Data(DataAttribute::Value(value)) => register = value.clone(),
                Immediate::Data(DataAttribute::Verdict(_)) => return Outcome::Accept,
                other => panic!("not a value: {other:?}"),
            },
            Expressions::Other { expression_type, .. } => {
                assert_eq!(expression_type, "redir");
                return Outcome::Redirect(u16::from_be_bytes(register.try_into().unwrap()));
            }
            other => panic!("not used: {other:?}"),
        }
    }
    Outcome::Next
}

fn meta(attributes: &[Meta], packet: &Packet) -> Vec<u8> {
    let Meta::Key(key) = &attributes[0] else { panic!("no key: {attributes:?}") };
    match key {
        MetaKey::L4Proto => vec![if packet.tcp { 6 } else { 17 }],
        MetaKey::Nfproto => vec![if packet.destination.is_ipv4() { 2 } else { 10 }],
        MetaKey::Mark => packet.mark.to_ne_bytes().to_vec(),
        MetaKey::SocketUserId => packet.user.to_ne_bytes().to_vec(),
        MetaKey::Iifname => {
            let mut name = packet.interface.as_bytes().to_vec();
            name.resize(16, 0);
            name
        }
        other => panic!("not used: {other:?}"),
    }
}

/// Real headers, so that a wrong offset reads a wrong field.
fn payload(attributes: &[Payload], packet: &Packet) -> Vec<u8> {
    let [
        Payload::DestinationRegister(_),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ] = attributes
    else {
        panic!("not a load: {attributes:?}")
    };
    let mut network = vec![0xee; 16];
    match packet.destination.ip() {
        IpAddr::V4(address) => network.extend(address.octets()),
        IpAddr::V6(address) => {
            network.resize(24, 0xee);
            network.extend(address.octets());
        }
    }
    let mut transport = vec![0xee; 2];
    transport.extend(packet.destination.port().to_be_bytes());
    let header = match base {
        1 => network,
        2 => transport,
        other => panic!("not a header: {other}"),
    };
    header[*offset as usize..][..*length as usize].to_vec()
}

fn bitwise(attributes: &[Bitwise], register: &[u8]) -> Vec<u8> {
    let Bitwise::Mask(DataAttribute::Value(mask)) = &attributes[3] else {
        panic!("no mask: {attributes:?}")
    };
    assert_eq!(mask.len(), register.len());
    register.iter().zip(mask).map(|(byte, mask)| byte & mask).collect()
}

fn compare(attributes: &[Cmp], register: &[u8]) -> bool {
    let [Cmp::SourceRegister(_), Cmp::Op(operator), Cmp::Data(DataAttribute::Value(value))] =
        attributes
    else {
        panic!("not a comparison: {attributes:?}")
    };
    assert_eq!(value.len(), register.len());
    match operator {
        Operator::Equal => register == value,
        Operator::GreatherThanEqual => register >= value.as_slice(),
        Operator::LessThanEqual => register <= value.as_slice(),
        other => panic!("not used: {other:?}"),
    }
}

const PORTS: [u16; 10] = [1, 22, 80, 8080, 8081, ADMIN_PORT, 15101, 15106, 15199, 65535];

fn a_port() -> impl Strategy<Value = u16> {
    prop_oneof![prop::sample::select(&PORTS), 1_u16..]
}

fn a_range() -> impl Strategy<Value = PortRange> {
    (a_port(), a_port())
        .prop_map(|(one, other)| format!("{}-{}", one.min(other), one.max(other)).parse().unwrap())
}

fn an_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        prop::sample::select(vec![
            "127.0.0.1",
            "127.9.9.9",
            "10.42.0.3",
            "10.43.0.9",
            "::1",
            "fd42::3",
            "fd43::9"
        ])
        .prop_map(|text| text.parse().unwrap()),
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
    ]
}

fn a_network() -> impl Strategy<Value = IpNet> {
    (an_address(), 0_u8..=128).prop_map(|(address, length)| match address {
        IpAddr::V4(address) => IpNet::V4(Ipv4Net::new(address, length % 33).unwrap()).trunc(),
        IpAddr::V6(address) => IpNet::V6(Ipv6Net::new(address, length).unwrap()).trunc(),
    })
}

fn an_exemption() -> impl Strategy<Value = Exemption> {
    prop_oneof![
        (1_u32..4).prop_map(|mark| Exemption::Mark(NonZeroU32::new(mark).unwrap())),
        (0_u32..4).prop_map(Exemption::User),
    ]
}

prop_compose! {
    fn any_settings()(
        inbound in a_port(),
        apart in 1_u16..u16::MAX,
        exemption in an_exemption(),
        skip_inbound in prop::collection::vec(a_range(), 0..4),
        skip_outbound in prop::collection::vec(a_range(), 0..4),
        networks in prop::collection::vec(a_network(), 0..4),
    ) -> Settings {
        // Any other port than the inbound one, in the circle of 1 to 65535.
        let outbound = u16::try_from((u32::from(inbound) - 1 + u32::from(apart)) % 65535 + 1).unwrap();
        Settings {
            inbound_port: Port::new(inbound).unwrap(),
            outbound_port: Port::new(outbound).unwrap(),
            exemption,
            skip_inbound_ports: skip_inbound.into_iter().collect(),
            skip_outbound_ports: skip_outbound.into_iter().collect(),
            skip_outbound_networks: networks,
        }
    }
}

prop_compose! {
    fn any_packet()(
        tcp in prop::bool::weighted(0.9),
        address in an_address(),
        port in a_port(),
        interface in prop::sample::select(vec!["lo", "eth0", "lo0"]),
        mark in 0_u32..4,
        user in 0_u32..4,
    ) -> Packet {
        Packet { tcp, destination: SocketAddr::new(address, port), interface, mark, user }
    }
}

fn own(settings: &Settings, mut packet: Packet) -> Packet {
    match settings.exemption {
        Exemption::Mark(mark) => packet.mark = mark.get(),
        Exemption::User(user) => packet.user = user,
    }
    packet
}

proptest! {
    #[test]
    fn the_proxys_own_traffic_is_never_redirected_but_for_its_check(settings in any_settings(), packet in any_packet()) {
        let packet = own(&settings, packet);
        let plan = Plan::new(&settings);
        let probe = packet.tcp && PROBE_ADDRESSES.contains(&packet.destination);
        let expected = probe.then(|| settings.outbound_port.number());
        prop_assert_eq!(judge(&plan.outbound, &packet), expected);
    }

    #[test]
    fn the_proxys_own_ports_are_never_redirected(settings in any_settings(), packet in any_packet()) {
        let plan = Plan::new(&settings);
        for port in [settings.inbound_port.number(), settings.outbound_port.number(), ADMIN_PORT] {
            let mut packet = packet.clone();
            packet.destination.set_port(port);
            prop_assert_eq!(judge(&plan.inbound, &packet), None);
        }
    }

    #[test]
    fn what_the_settings_do_not_exempt_goes_to_the_proxy(settings in any_settings(), packet in any_packet()) {
        let plan = Plan::new(&settings);
        let within = |ranges: &[PortRange]| ranges.iter().any(|range| {
            range.first().number() <= packet.destination.port() && packet.destination.port() <= range.last().number()
        });
        let address = packet.destination.ip();
        let local = match address {
            IpAddr::V4(address) => address.octets()[0] == 127,
            IpAddr::V6(address) => address == Ipv6Addr::LOCALHOST,
        };
        let skipped = settings.skip_outbound_networks.iter().any(|network| network.contains(&address))
            || within(settings.skip_outbound_ports.as_slice());
        let exempt = match settings.exemption {
            Exemption::Mark(mark) => packet.mark == mark.get(),
            Exemption::User(user) => packet.user == user,
        };
        if !exempt {
            let expected = (packet.tcp && !local && !skipped).then(|| settings.outbound_port.number());
            prop_assert_eq!(judge(&plan.outbound, &packet), expected);
        }
        let port = packet.destination.port();
        let own = [settings.inbound_port.number(), settings.outbound_port.number(), ADMIN_PORT].contains(&port);
        let passes = packet.interface == "lo" || own || within(settings.skip_inbound_ports.as_slice());
        let expected = (packet.tcp && !passes).then(|| settings.inbound_port.number());
        prop_assert_eq!(judge(&plan.inbound, &packet), expected);
    }

    #[test]
    fn the_messages_mean_what_the_plan_says(settings in any_settings(), packet in any_packet()) {
        let plan = Plan::new(&settings);
        let steps = messages::install(&plan);
        for packet in [packet.clone(), own(&settings, packet)] {
            prop_assert_eq!(execute(&steps, INBOUND_CHAIN, &packet), judge(&plan.inbound, &packet));
            prop_assert_eq!(execute(&steps, OUTBOUND_CHAIN, &packet), judge(&plan.outbound, &packet));
        }
    }
}

#[test]
fn the_machine_tells_a_redirect_from_a_pass() {
    let settings = Settings {
        inbound_port: Port::new(15106).unwrap(),
        outbound_port: Port::new(15101).unwrap(),
        exemption: Exemption::User(15100),
        skip_inbound_ports: std::iter::empty().collect(),
        skip_outbound_ports: std::iter::empty().collect(),
        skip_outbound_networks: vec!["10.96.0.0/12".parse().unwrap()],
    };
    let steps = messages::install(&Plan::new(&settings));
    let packet = |a: u8, b: u8, user: u32| Packet {
        tcp: true,
        destination: SocketAddr::from((Ipv4Addr::new(a, b, 0, 9), 80)),
        interface: "eth0",
        mark: 0,
        user,
    };
    for (case, packet, expected) in [
        ("the workload", packet(10, 43, 0), Some(15101)),
        ("the proxy", packet(10, 43, 15100), None),
        ("a skipped network", packet(10, 97, 0), None),
        ("just beside it", packet(10, 112, 0), Some(15101)),
        ("loopback", packet(127, 3, 0), None),
    ] {
        assert_eq!(execute(&steps, OUTBOUND_CHAIN, &packet), expected, "case: {case}");
    }
}
