//! The flags of `heddle-proxy redirect`, from as typed to as meant. Knows no rules: see plan.rs.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;

use heddle_model::names::Port;
use ipnet::IpNet;

use crate::redirect::command::RedirectArguments;

/// What to do with the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Put these in place of whatever was there.
    Install(Settings),
    /// Take them away.
    Remove,
}

/// Which traffic goes where. `inbound_port` and `outbound_port` differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where connections to the workload go.
    pub inbound_port: Port,
    /// Where connections from the workload go.
    pub outbound_port: Port,
    /// How the proxy's own connections are told apart.
    pub exemption: Exemption,
    /// The workload's ports that are not redirected, beside the proxy's own.
    pub skip_inbound_ports: PortRanges,
    /// Destination ports that are not redirected.
    pub skip_outbound_ports: PortRanges,
    /// Destination networks that are not redirected; each without host bits.
    pub skip_outbound_networks: Vec<IpNet>,
}

/// How the proxy's own connections are told from the workload's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exemption {
    /// Its sockets carry this mark. Never zero, which is the mark of a socket that has none.
    Mark(NonZeroU32),
    /// Its sockets belong to this user.
    User(u32),
}

/// Ports from `first` to `last`, both included; `first` is not above `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    first: Port,
    last: Port,
}

/// A set of ports, as the fewest ranges in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortRanges(Vec<PortRange>);

/// Everything that is wrong with the flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSettings(Vec<InvalidSetting>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct InvalidSetting {
    flag: &'static str,
    value: String,
    want: String,
}

/// How many entries a list may have. Each becomes a rule of about 300 bytes, and all of them must
/// fit into one netlink message, whose usual limit (`net.core.wmem_default`) is 212,992 bytes.
pub const LIST_LIMIT: usize = 128;

const WANT_PORT: &str = "want 1-65535";

impl TryFrom<&RedirectArguments> for Request {
    type Error = InvalidSettings;

    /// Reads all flags, and fails with everything that is wrong with them.
    fn try_from(arguments: &RedirectArguments) -> Result<Self, InvalidSettings> {
        if arguments.remove {
            return Ok(Self::Remove);
        }
        let mut problems = Problems::default();
        let inbound_port = problems.one("--inbound-port", &arguments.inbound_port, port);
        let outbound_port = problems.one("--outbound-port", &arguments.outbound_port, port);
        if inbound_port.is_some() && inbound_port == outbound_port {
            problems.add(
                "--outbound-port",
                &arguments.outbound_port,
                "want another than --inbound-port",
            );
        }
        let exemption = problems.exemption(arguments);
        let skip_inbound_ports = problems.list(
            "--skip-inbound-ports",
            &arguments.skip_inbound_ports,
            PortRange::from_str,
        );
        let skip_outbound_ports = problems.list(
            "--skip-outbound-ports",
            &arguments.skip_outbound_ports,
            PortRange::from_str,
        );
        let skip_outbound_networks =
            problems.list("--skip-outbound-networks", &arguments.skip_outbound_networks, network);
        match (inbound_port, outbound_port, exemption) {
            (Some(inbound_port), Some(outbound_port), Some(exemption)) if problems.0.is_empty() => {
                Ok(Self::Install(Settings {
                    inbound_port,
                    outbound_port,
                    exemption,
                    skip_inbound_ports: skip_inbound_ports.into_iter().collect(),
                    skip_outbound_ports: skip_outbound_ports.into_iter().collect(),
                    skip_outbound_networks: IpNet::aggregate(&skip_outbound_networks),
                }))
            }
            _ => Err(InvalidSettings(problems.0)),
        }
    }
}

#[derive(Default)]
struct Problems(Vec<InvalidSetting>);

impl Problems {
    fn add(&mut self, flag: &'static str, value: &str, want: impl Into<String>) {
        self.0.push(InvalidSetting { flag, value: value.to_owned(), want: want.into() });
    }

    fn one<T>(
        &mut self,
        flag: &'static str,
        text: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        parse(text.trim()).map_err(|want| self.add(flag, text, want)).ok()
    }

    fn list<T>(
        &mut self,
        flag: &'static str,
        text: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        if text.trim().is_empty() {
            return Vec::new();
        }
        let count = text.split(',').count();
        if count > LIST_LIMIT {
            self.add(flag, &format!("{count} entries"), format!("want at most {LIST_LIMIT}"));
            return Vec::new();
        }
        text.split(',').filter_map(|item| self.one(flag, item, &parse)).collect()
    }

    fn exemption(&mut self, arguments: &RedirectArguments) -> Option<Exemption> {
        match (&arguments.exempt_mark, &arguments.exempt_uid) {
            (Some(text), None) => self.one("--exempt-mark", text, mark),
            (None, Some(text)) => self.one("--exempt-uid", text, user),
            (Some(_), Some(text)) => {
                self.add(
                    "--exempt-uid",
                    text,
                    "want either --exempt-mark or --exempt-uid, not both",
                );
                None
            }
            (None, None) => {
                let want = "want it, or --exempt-uid: without either, the proxy's own traffic would go in circles";
                self.add("--exempt-mark", "", want);
                None
            }
        }
    }
}

fn port(text: &str) -> Result<Port, String> {
    text.parse().ok().and_then(Port::new).ok_or_else(|| WANT_PORT.to_owned())
}

fn mark(text: &str) -> Result<Exemption, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number
        .ok()
        .and_then(NonZeroU32::new)
        .map(Exemption::Mark)
        .ok_or_else(|| "want 1-4294967295, or hexadecimal such as 0x1e".to_owned())
}

fn user(text: &str) -> Result<Exemption, String> {
    // The highest number is (uid_t)-1, which means "no user" to the kernel.
    let number = text.parse().ok().filter(|user| *user != u32::MAX);
    number.map(Exemption::User).ok_or_else(|| "want a numeric user id, 0-4294967294".to_owned())
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => text.parse::<IpAddr>().map(IpNet::from).map_err(|_| {
            "want an address or network such as 10.96.0.0/12 or fd00::/8".to_owned()
        })?,
    };
    if network == network.trunc() {
        Ok(network)
    } else {
        Err(format!("has host bits: want {} or {}", network.trunc(), network.addr()))
    }
}

impl PortRange {
    /// The lowest port.
    pub fn first(self) -> Port {
        self.first
    }

    /// The highest port.
    pub fn last(self) -> Port {
        self.last
    }
}

impl From<Port> for PortRange {
    fn from(port: Port) -> Self {
        Self { first: port, last: port }
    }
}

impl FromStr for PortRange {
    type Err = String;

    /// Reads `80` or `8000-8100`.
    fn from_str(text: &str) -> Result<Self, String> {
        let want = "want a port such as 80 or a range such as 8000-8100";
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (port(first.trim()), port(last.trim())) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(want.to_owned()),
        }
    }
}

impl PortRanges {
    /// The ranges, ascending, with at least one port between two of them.
    pub fn as_slice(&self) -> &[PortRange] {
        &self.0
    }
}

impl FromIterator<PortRange> for PortRanges {
    fn from_iter<I: IntoIterator<Item = PortRange>>(ranges: I) -> Self {
        let mut sorted: Vec<PortRange> = ranges.into_iter().collect();
        sorted.sort_unstable();
        let mut merged: Vec<PortRange> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match merged.last_mut() {
                Some(before) if range.first.number() <= before.last.number().saturating_add(1) => {
                    before.last = before.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }
}

impl fmt::Display for InvalidSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "{count} bad setting{}: ", if count == 1 { "" } else { "s" })?;
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}={:?} ({})", problem.flag, problem.value, problem.want)?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidSettings {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(text: &str) -> Vec<(u16, u16)> {
        let ranges: PortRanges = text.split(',').map(|item| item.parse().unwrap()).collect();
        ranges
            .as_slice()
            .iter()
            .map(|range| (range.first().number(), range.last().number()))
            .collect()
    }

    #[test]
    fn port_lists_become_the_fewest_ranges() {
        for (text, expected) in [
            ("80", vec![(80, 80)]),
            ("81,80", vec![(80, 81)]),
            ("1-10,5-20", vec![(1, 20)]),
            ("1-20,5-10", vec![(1, 20)]),
            ("1-10,12", vec![(1, 10), (12, 12)]),
            ("65535,1-65535", vec![(1, 65535)]),
        ] {
            assert_eq!(ranges(text), expected, "case: {text}");
        }
    }

    #[test]
    fn marks_and_users_are_read_as_the_kernel_means_them() {
        let one = NonZeroU32::new(1).unwrap();
        assert_eq!(mark("0x1"), Ok(Exemption::Mark(one)));
        assert_eq!(mark("1"), Ok(Exemption::Mark(one)));
        assert_eq!(user("0"), Ok(Exemption::User(0)));
        for bad in ["", "0", "0x0", "-1", "0x", "4294967296", "1.5"] {
            assert!(mark(bad).is_err(), "case: {bad}");
        }
        for bad in ["", "root", "4294967295", "-1"] {
            assert!(user(bad).is_err(), "case: {bad}");
        }
    }

    #[test]
    fn too_long_a_list_is_refused_and_not_cut() {
        let mut problems = Problems::default();
        let text = vec!["80"; LIST_LIMIT + 1].join(",");
        assert!(problems.list("--skip-inbound-ports", &text, PortRange::from_str).is_empty());
        assert_eq!(problems.0.len(), 1);
    }

    proptest! {
        #[test]
        fn merging_port_ranges_keeps_exactly_their_ports(
            list in prop::collection::vec((1_u16..40, 0_u16..10), 0..12),
        ) {
            let given: Vec<PortRange> = list
                .iter()
                .map(|(first, length)| PortRange {
                    first: Port::new(*first).unwrap(),
                    last: Port::new(first + length).unwrap(),
                })
                .collect();
            let holds = |ranges: &[PortRange], port| ranges.iter().any(|range| range.first <= port && port <= range.last);
            let merged: PortRanges = given.iter().copied().collect();
            for port in (1..60).filter_map(Port::new) {
                prop_assert_eq!(holds(&given, port), holds(merged.as_slice(), port));
            }
        }

        #[test]
        fn no_text_makes_the_lists_panic(text in "\\PC{0,40}") {
            let mut problems = Problems::default();
            problems.list("--skip-inbound-ports", &text, PortRange::from_str);
            problems.list("--skip-outbound-networks", &text, network);
        }
    }
}
