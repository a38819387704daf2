//! Settings → rules. Decides what is redirected; how the kernel is told is in messages.rs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use heddle_model::names::Port;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::redirect::settings::{Exemption, PortRange, PortRanges, Settings};

/// All rules of one workload. A connection meets one of the two chains, and there the first rule
/// that matches decides; if none does, it goes on unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// For connections that arrive from outside.
    pub inbound: Vec<Rule>,
    /// For connections that a process of this network namespace opens, also to itself.
    pub outbound: Vec<Rule>,
}

/// One rule: if all of `conditions` hold, `verdict` is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What the connection's first packet must look like.
    pub conditions: Vec<Condition>,
    /// What then happens.
    pub verdict: Verdict,
    /// Why the rule is there; an operator sees it in `nft list ruleset`. Below 128 bytes.
    pub reason: &'static str,
}

/// Something that holds or does not hold for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is TCP.
    Tcp,
    /// It is TCP, to one of these ports.
    DestinationPort(PortRange),
    /// It goes to this network.
    Destination(IpNet),
    /// It arrived over the loopback interface.
    FromLoopback,
    /// It is the proxy's.
    Exempt(Exemption),
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes where it was going.
    Pass,
    /// It goes to this port of this network namespace.
    Redirect(Port),
}

/// The table that holds the rules, in the family `inet` (IPv4 and IPv6 at once). All of it is ours.
pub const TABLE: &str = "heddle";
/// The chain of `Plan::inbound`.
pub const INBOUND_CHAIN: &str = "inbound";
/// The chain of `Plan::outbound`.
pub const OUTBOUND_CHAIN: &str = "outbound";

/// The proxy's admin port, which peers reach past the proxy: metrics, readiness and liveness.
pub const ADMIN_PORT: u16 = 15190;

/// A port on which nothing listens: a connection of the proxy itself to this port of the loopback
/// addresses is redirected to its outbound port. This is how an unprivileged proxy finds out
/// whether the rules are there.
pub const PROBE_PORT: u16 = 15199;

/// The addresses that the proxy connects to in its check at start, and that its outbound side must
/// never dial.
pub const PROBE_ADDRESSES: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PROBE_PORT),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), PROBE_PORT),
];

/// Addresses that never leave the network namespace: 127.0.0.0/8 (RFC 1122, 3.2.1.3) and ::1 (RFC
/// 4291, 2.5.3).
const LOOPBACK_NETWORKS: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
];

impl Plan {
    /// Makes the rules. A rule that lets a connection pass stands before all that redirect; only
    /// the probe's, which matches nothing but the proxy's own connection to `PROBE_ADDRESSES`,
    /// comes first.
    pub fn new(settings: &Settings) -> Self {
        Self { inbound: inbound(settings), outbound: outbound(settings) }
    }
}

fn inbound(settings: &Settings) -> Vec<Rule> {
    let own_ports =
        [settings.inbound_port, settings.outbound_port].into_iter().chain(Port::new(ADMIN_PORT));
    let own_ports: PortRanges = own_ports.map(PortRange::from).collect();
    let mut rules =
        vec![pass(Condition::FromLoopback, "local connections were judged as outbound")];
    rules.extend(ports(&own_ports, "the proxy's own ports"));
    rules.extend(ports(&settings.skip_inbound_ports, "skipped inbound port"));
    rules.push(Rule {
        conditions: vec![Condition::Tcp],
        verdict: Verdict::Redirect(settings.inbound_port),
        reason: "everything else goes to the proxy",
    });
    rules
}

fn outbound(settings: &Settings) -> Vec<Rule> {
    let mut rules: Vec<Rule> =
        PROBE_ADDRESSES.iter().filter_map(|address| probe(settings, address)).collect();
    rules.push(pass(Condition::Exempt(settings.exemption), "the proxy's own connections"));
    // By address, not by interface: what the workload sends to its own pod address also leaves over
    // `lo`, and that goes to the proxy like all other traffic, while 127.0.0.1 stays between the
    // processes of the workload.
    rules
        .extend(LOOPBACK_NETWORKS.map(|network| pass(Condition::Destination(network), "loopback")));
    rules.extend(
        settings
            .skip_outbound_networks
            .iter()
            .map(|network| pass(Condition::Destination(*network), "skipped outbound network")),
    );
    rules.extend(ports(&settings.skip_outbound_ports, "skipped outbound port"));
    rules.push(Rule {
        conditions: vec![Condition::Tcp],
        verdict: Verdict::Redirect(settings.outbound_port),
        reason: "everything else goes to the proxy",
    });
    rules
}

fn probe(settings: &Settings, address: &SocketAddr) -> Option<Rule> {
    let port = Port::new(address.port())?;
    Some(Rule {
        conditions: vec![
            Condition::Exempt(settings.exemption),
            Condition::Destination(IpNet::from(address.ip())),
            Condition::DestinationPort(PortRange::from(port)),
        ],
        verdict: Verdict::Redirect(settings.outbound_port),
        reason: "the proxy's check at start",
    })
}

fn ports(ranges: &PortRanges, reason: &'static str) -> impl Iterator<Item = Rule> {
    ranges.as_slice().iter().map(move |range| pass(Condition::DestinationPort(*range), reason))
}

fn pass(condition: Condition, reason: &'static str) -> Rule {
    Rule { conditions: vec![condition], verdict: Verdict::Pass, reason }
}
