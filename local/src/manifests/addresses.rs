//! Which number, and so which addresses, a pod or a service has. Who has it at the moment is in `manifests`.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The families of addresses that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv6 is compiled out or switched off.
    V4,
    /// Both.
    V4AndV6,
}

/// The addresses of one pod or one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6, where the machine has it.
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// Those of the bridge, which is the gateway of every pod.
    pub fn of_bridge(families: Families) -> Self {
        Self::of_pod(BRIDGE_NUMBER, families)
    }

    /// Those of the pod with this number.
    pub fn of_pod(number: u32, families: Families) -> Self {
        Self::numbered(PODS_V4, PODS_V6, number, families)
    }

    /// Those of the service with this number.
    pub fn of_service(number: u32, families: Families) -> Self {
        Self::numbered(SERVICES_V4, SERVICES_V6, number, families)
    }

    /// All of them, IPv4 first.
    pub fn all(self) -> Vec<IpAddr> {
        std::iter::once(IpAddr::V4(self.v4)).chain(self.v6.map(IpAddr::V6)).collect()
    }

    fn numbered(v4: Ipv4Addr, v6: Ipv6Addr, number: u32, families: Families) -> Self {
        Self {
            v4: Ipv4Addr::from_bits(v4.to_bits() | number),
            v6: match families {
                Families::V4 => None,
                Families::V4AndV6 => Some(Ipv6Addr::from_bits(v6.to_bits() | u128::from(number))),
            },
        }
    }
}

/// The number whose service would have this address.
pub fn number_of_service(address: IpAddr) -> Option<u32> {
    let number = match address {
        IpAddr::V4(address) => address.to_bits() ^ SERVICES_V4.to_bits(),
        IpAddr::V6(address) => u32::try_from(address.to_bits() ^ SERVICES_V6.to_bits()).ok()?,
    };
    (number <= LAST_NUMBER).then_some(number)
}

/// Numbers to give. One that was given back is given again only when there is no other: a reused address would inherit
/// what others remember of it.
#[derive(Clone, Debug)]
pub struct Pool {
    next: u32,
    reserved: BTreeSet<u32>,
    given_back: VecDeque<u32>,
}

impl Pool {
    /// The numbers of pods.
    pub fn of_pods() -> Self {
        Self::from(BRIDGE_NUMBER + 1)
    }

    /// The numbers of services.
    pub fn of_services() -> Self {
        Self::from(1)
    }

    /// Gives one.
    pub fn take(&mut self) -> Result<u32, Exhausted> {
        while self.next <= LAST_NUMBER {
            let number = self.next;
            self.next += 1;
            if !self.reserved.contains(&number) {
                return Ok(number);
            }
        }
        self.given_back.pop_front().ok_or(Exhausted)
    }

    /// Takes one back.
    pub fn give_back(&mut self, number: u32) {
        debug_assert!(number < self.next, "{number} was never given");
        self.given_back.push_back(number);
    }

    /// Keeps one from being given.
    pub fn reserve(&mut self, number: u32) {
        self.reserved.insert(number);
    }

    fn from(next: u32) -> Self {
        Self { next, reserved: BTreeSet::new(), given_back: VecDeque::new() }
    }
}

/// No number is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {LAST_NUMBER} addresses are in use; remove some objects")]
pub struct Exhausted;

/// `10.42.0.0/16`, the pods' network.
pub const PODS_V4: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 0);
/// The length of the prefix of [`PODS_V4`].
pub const PODS_V4_PREFIX_BITS: u8 = 16;
/// `fd42::/64`, the pods' network.
pub const PODS_V6: Ipv6Addr = Ipv6Addr::new(0xfd42, 0, 0, 0, 0, 0, 0, 0);
/// The length of the prefix of [`PODS_V6`].
pub const PODS_V6_PREFIX_BITS: u8 = 64;
/// `10.43.0.0/16`, the services' virtual addresses.
pub const SERVICES_V4: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 0);
/// The length of the prefix of [`SERVICES_V4`].
pub const SERVICES_V4_PREFIX_BITS: u8 = 16;
/// `fd43::/112`, the services' virtual addresses.
pub const SERVICES_V6: Ipv6Addr = Ipv6Addr::new(0xfd43, 0, 0, 0, 0, 0, 0, 0);
/// The length of the prefix of [`SERVICES_V6`].
pub const SERVICES_V6_PREFIX_BITS: u8 = 112;
const BRIDGE_NUMBER: u32 = 1;
/// The one after it is the broadcast address of the /16.
const LAST_NUMBER: u32 = 65_534;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_addresses() {
        for (case, addresses, v4, v6) in [
            ("bridge", Addresses::of_bridge(Families::V4AndV6), "10.42.0.1", Some("fd42::1")),
            ("pod", Addresses::of_pod(258, Families::V4AndV6), "10.42.1.2", Some("fd42::102")),
            ("service", Addresses::of_service(1, Families::V4AndV6), "10.43.0.1", Some("fd43::1")),
            ("no IPv6", Addresses::of_service(1, Families::V4), "10.43.0.1", None),
        ] {
            assert_eq!(addresses.v4.to_string(), v4, "case: {case}");
            assert_eq!(addresses.v6.map(|v6| v6.to_string()).as_deref(), v6, "case: {case}");
        }
    }

    #[test]
    fn a_number_is_given_again_only_when_there_is_no_other() {
        let mut pool = Pool::of_services();
        pool.reserve(3);
        assert_eq!([pool.take(), pool.take(), pool.take()], [Ok(1), Ok(2), Ok(4)]);
        pool.give_back(2);
        pool.give_back(1);
        let rest: Vec<_> = std::iter::from_fn(|| pool.take().ok()).collect();
        assert_eq!(rest.len(), 65_534 - 4 + 2);
        assert_eq!(rest[rest.len() - 3..], [65_534, 2, 1]);
        assert_eq!(pool.take(), Err(Exhausted));
    }

    proptest! {
        #[test]
        fn a_services_number_is_found_by_its_addresses(number in 1..=65_534_u32) {
            for address in Addresses::of_service(number, Families::V4AndV6).all() {
                prop_assert_eq!(number_of_service(address), Some(number));
            }
            for address in Addresses::of_pod(number, Families::V4AndV6).all() {
                prop_assert_eq!(number_of_service(address), None);
            }
        }
    }
}
